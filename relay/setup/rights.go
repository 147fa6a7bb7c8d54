package setup

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skerry/skerry/relay/enroll"
)

// The relay's rights, each with its use. What is wider here than that use (pods, tokens) admission policies narrow (policies.go). It cannot read logs, touch RBAC, or write Secrets outside
// enroll.Namespace. It can read ConfigMaps and Secrets of all namespaces, because pods of any namespace may be bound to
// its nodes; what a node gets to see of them, the relay decides for every message. The same holds for tokens of service accounts. Of
// Services, claims, volumes and runtime classes it writes nothing.

func rule(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

func clusterRules() []rbacv1.PolicyRule {
	const devices = "devices.kubeedge.io"
	return []rbacv1.PolicyRule{
		// What nodes shall hold.
		rule("", []string{"configmaps", "secrets", "services", "persistentvolumeclaims", "persistentvolumes"}, "get", "list", "watch"),
		rule("node.k8s.io", []string{"runtimeclasses"}, "get", "list", "watch"),
		rule(devices, []string{"devices", "devicemodels"}, "get", "list", "watch"),
		// Nodes register themselves, label themselves within NodeRestriction's rules, and report.
		rule("", []string{"nodes"}, "get", "list", "watch", "create", "patch"),
		rule("", []string{"nodes/status"}, "get", "patch"),
		// Pods are reported on, and removed once their containers are gone. They are patched to tolerate that their node is away (docs/autonomy.md).
		rule("", []string{"pods"}, "get", "list", "watch", "create", "delete", "patch"), // create: the mirrors of static pods
		rule("", []string{"pods/status"}, "get", "patch"),
		// Tokens of the service accounts of pods, bound to the pod (docs/adr/0008-service-account-tokens.md says why not less).
		rule("", []string{"serviceaccounts/token"}, "create"),
		rule(devices, []string{"devices/status"}, "get", "patch"),
		// DeviceStatus has no status subresource (KubeEdge's has none).
		rule(devices, []string{"devicestatuses"}, "get", "list", "watch", "create", "patch"),
		rule("", []string{"events"}, "create"),
		// Who asks for logs, exec and the like, and whether they may: as every kubelet asks.
		rule("authentication.k8s.io", []string{"tokenreviews"}, "create"),
		rule("authorization.k8s.io", []string{"subjectaccessreviews"}, "create"),
	}
}

// namespaced are rights in one namespace.
type namespaced struct {
	namespace string
	rules     []rbacv1.PolicyRule
}

func namespaceRules() []namespaced {
	return []namespaced{
		// Who holds a node's session.
		{"kube-node-lease", []rbacv1.PolicyRule{rule("coordination.k8s.io", []string{"leases"}, "get", "list", "create", "update")}},
		{enroll.Namespace, []rbacv1.PolicyRule{
			// Join tokens are bound to their keys; the keys of TLS sessions are rotated.
			rule("", []string{"secrets"}, "update"),
			// Relays know of each other by a Lease for each, and take away those of relays that were killed.
			rule("coordination.k8s.io", []string{"leases"}, "get", "list", "watch", "create", "update", "delete"),
		}},
	}
}
