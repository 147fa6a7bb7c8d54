//go:build integration

package deploy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/relay/config"
	"github.com/skerry/skerry/relay/setup"
)

// values are sets of values that a user may give. What each must and must not become is beside it.
var values = []struct {
	name, text string
	has, lacks []string
}{
	{name: "defaults", has: []string{"type: LoadBalancer", "replicas: 2", "maxUnavailable: 1", "kind: ValidatingAdmissionPolicyBinding", "'system:serviceaccount:skerry-system:skerry-relay'"}, lacks: []string{"hostPort", "HorizontalPodAutoscaler", "--address", "GOMEMLIMIT", "FlowSchema"}},
	{name: "node ports, and replicas with addresses of their own", text: `
service: {type: NodePort, nodePort: 30743, externalTrafficPolicy: Cluster, ipFamilyPolicy: SingleStack}
ownAddress: {from: hostIP, port: 17443}
`, has: []string{"nodePort: 30743", "hostPort: 17443", "--address=[$(HOST_IP)]:17443"}},
	{name: "a flat network", text: `
service: {type: ClusterIP}
ownAddress: {from: podIP}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
rbac: {create: false}
serviceAccount: {create: false, name: mine}
`, has: []string{"--address=[$(POD_IP)]:7443", "serviceAccountName: mine"}, lacks: []string{"NetworkPolicy", "PodDisruptionBudget", "ClusterRole", "ValidatingAdmission", "kind: ServiceAccount", "externalTrafficPolicy"}},
	{name: "a large fleet", text: `
autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 20, agentsPerReplica: 5000}
drainSeconds: 60
config:
  advertise: [relay.example.org, 192.0.2.7]
  api: {qps: 2000, burst: 4000, writers: 64}
  lease: {duration: 40s, interval: 20s}
  limits: {objects: 5000, ackPatience: 1m30s}
  memory: {gcPercent: 40}
resources: {requests: {cpu: "2", memory: 1Gi}, limits: {cpu: "4", memory: 2Gi}}
goMemoryLimit: 1800MiB
podDisruptionBudget: {maxUnavailable: 25%}
`, has: []string{"kind: HorizontalPodAutoscaler", "terminationGracePeriodSeconds: 80", "period: 60s", "averageValue: \"5000\"", "value: \"1800MiB\""}, lacks: []string{"\n  replicas:"}},
	{name: "a priority level of the API server", text: `
apiPriority: {enabled: true, concurrencyShares: 60}
serviceAccount: {name: mine}
`, has: []string{"kind: PriorityLevelConfiguration", "nominalConcurrencyShares: 60", "name: skerry-relay-leases", "matchingPrecedence: 700", "namespaces: [kube-node-lease, skerry-system]"}},
	{name: "the kubelet API at an address of the cluster", text: `
kubelet: {enabled: true, address: 10.96.0.250}
`, has: []string{
		"name: skerry-relay-kubelet", "type: ClusterIP", `clusterIP: "10.96.0.250"`, "listen: :10250", "address: 10.96.0.250", "--kubelet-peer-address=[$(POD_IP)]:10250",
		"{name: kubelet, port: 10250, targetPort: kubelet, protocol: TCP}", "{port: kubelet, protocol: TCP}",
	}, lacks: []string{"nodePorts", "certFile", "clientCAFile", "kubelet-tls", "kubelet-client-ca"}},
	{name: "the kubelet API behind a load balancer, with ports and names of nodes and certificates of others", text: `
ownAddress: {from: hostIP, port: 17443}
kubelet:
  enabled: true
  address: 192.0.2.10
  port: 443
  domain: edge.example.org
  nodePorts: 20000-20099
  tlsSecret: relay-kubelet
  clientCASecret: api-server-ca
  idleTimeout: 30m
  service: {type: LoadBalancer, annotations: {example.org/internal: "true"}, loadBalancerClass: example.org/lb}
networkPolicy:
  kubeletFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]
`, has: []string{
		"name: skerry-relay-kubelet", "address: 192.0.2.10", "domain: edge.example.org", "nodePorts: 20000-20099", "idleTimeout: 30m",
		"certFile: /etc/skerry-kubelet/tls.crt", "clientCAFile: /etc/skerry-kubelet-ca/ca.crt", "secretName: relay-kubelet", "secretName: api-server-ca",
		"{name: kubelet, port: 443, targetPort: kubelet, protocol: TCP}", "endPort: 20099", `example.org/internal: "true"`, "cidr: 192.0.2.0/24",
	}, lacks: []string{`clusterIP: "`}},
	{name: "everything else", text: `
image: {repository: registry.invalid/skerry/relay, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
imagePullSecrets: [{name: pull}]
service: {port: 443, annotations: {example.org/a: b}, loadBalancerClass: example.org/lb, loadBalancerSourceRanges: [192.0.2.0/24]}
serviceAccount: {annotations: {example.org/a: b}}
networkPolicy:
  metricsFrom: []
  apiServer: {cidrs: [192.0.2.1/32], ports: [6443]}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [relays]}]}]
podAnnotations: {example.org/a: b}
podLabels: {team: edge}
priorityClassName: system-cluster-critical
env: [{name: GOGC, value: "75"}]
`, has: []string{"relay@sha256:0123", "loadBalancerClass: example.org/lb", "nodeAffinity", "name: GOGC"}, lacks: []string{"podAntiAffinity", "monitoring"}},
}

// TestDeploy runs all of it on one control plane.
func TestDeploy(t *testing.T) {
	r := newRig(t)
	part := func(name string, fn func()) {
		t.Run(name, func(t *testing.T) {
			old := r.t
			r.t = t
			defer func() { r.t = old }()
			fn()
		})
	}
	part("Helm leaves to init what init has made", r.testLookup)
	part("every set of values is accepted", r.testValues)
	part("the plain YAML runs pods under the restricted standard", r.testPlain)
	part("rights", r.testRights)
	part("a relay and an agent work with them", r.testRelay)
}

// testLookup: after `skerryctl init`, the account and its rights are not Helm's to make; if Helm has made them, they are.
func (r *rig) testLookup() {
	kinds := func() map[string]bool {
		text, err := render(r.t, r.tool, "", "-kubeconfig", r.Kube.Kubeconfig())
		if err != nil {
			r.t.Fatal(err)
		}
		out := map[string]bool{}
		for _, u := range objects(r.t, text) {
			out[u.GetKind()] = true
		}
		return out
	}
	rights := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	have := kinds()
	for _, kind := range rights {
		if have[kind] {
			r.t.Errorf("Helm would make a %s that `skerryctl init` has made, and fail", kind)
		}
	}
	if !have["Deployment"] || !have["Service"] {
		r.t.Errorf("rendered only %v", slices.Sorted(maps.Keys(have)))
	}
	r.removeRights()
	have = kinds()
	for _, kind := range rights {
		if !have[kind] {
			r.t.Errorf("nobody makes a %s", kind)
		}
	}
}

// removeRights deletes what init has granted.
func (r *rig) removeRights() {
	r.t.Helper()
	for _, file := range []string{"rbac.yaml", "policies.yaml"} {
		text, err := render(r.t, r.tool, "", "-only", file)
		if err != nil {
			r.t.Fatal(err)
		}
		r.remove(text)
	}
	account, err := render(r.t, r.tool, "", "-only", "serviceaccount.yaml")
	if err != nil {
		r.t.Fatal(err)
	}
	r.remove(account)
}

func (r *rig) testValues() {
	for _, v := range values {
		r.t.Run(v.name, func(t *testing.T) {
			old := r.t
			r.t = t
			defer func() { r.t = old }()
			text, err := render(t, r.tool, v.text)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range v.has {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in what was rendered", want)
				}
			}
			for _, no := range v.lacks {
				if strings.Contains(text, no) {
					t.Errorf("%q is in what was rendered", no)
				}
			}
			r.start(text)
			r.apply(text, true)
			r.apply(text, false)
			r.remove(text)
		})
	}
	if _, err := render(r.t, r.tool, "kubelet: {enabled: true}"); err == nil || !strings.Contains(err.Error(), "kubelet.address: the IP address at which the API server reaches the relays") {
		r.t.Errorf("without an address: %v", err)
	}
	text, err := render(r.t, r.tool, "serviceMonitor: {enabled: true, labels: {release: prometheus}}", "-only", "servicemonitor.yaml")
	if err != nil {
		r.t.Fatal(err)
	}
	if all := objects(r.t, text); len(all) != 1 || all[0].GetKind() != "ServiceMonitor" { // its kind is not the rig's to know
		r.t.Errorf("rendered:\n%s", text)
	}
}

// start reads the configuration and the flags as the relay of a pod does.
func (r *rig) start(text string) {
	r.t.Helper()
	var settings string
	var given []string
	for _, u := range objects(r.t, text) {
		switch u.GetKind() {
		case "ConfigMap":
			if s, ok, _ := unstructured.NestedString(u.Object, "data", "relay.yaml"); ok {
				settings = s
			}
		case "Deployment":
			list, _, err := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
			if err != nil || len(list) != 1 {
				r.t.Fatalf("containers: %v %v", list, err)
			}
			given, _, err = unstructured.NestedStringSlice(list[0].(map[string]any), "args")
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
	file := filepath.Join(r.t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		r.t.Fatal(err)
	}
	pod := strings.NewReplacer("/etc/skerry/relay.yaml", file, "$(POD_NAME)", "skerry-relay-6d5f7-x2", "$(POD_IP)", "192.0.2.7", "$(HOST_IP)", "192.0.2.8")
	for i := range given {
		given[i] = pod.Replace(given[i])
	}
	c, err := config.Parse(given, io.Discard)
	if err != nil {
		r.t.Fatalf("the relay does not take what was rendered: %v\n%s", err, settings)
	}
	if serves := strings.Contains(settings, "kubelet:"); c.Name != "skerry-relay-6d5f7-x2" || serves != (c.Kubelet.Listen != "") || serves != (c.Kubelet.PeerAddress == "[192.0.2.7]:10250") {
		r.t.Errorf("the relay takes it as %+v", c)
	}
}

// testPlain applies the files of the repository, and waits for the pods that they ask for: with the restricted Pod Security Standard
// enforced, those that it does not allow are never made.
func (r *rig) testPlain() {
	label := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := r.api.Core.CoreV1().Namespaces().Patch(r.t.Context(), namespace, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		r.t.Fatal(err)
	}
	for _, file := range []string{"skerry-relay.yaml", "autoscaling.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "relay", "deploy", file))
		if err != nil {
			r.t.Fatal(err)
		}
		r.apply(string(text), true)
		r.apply(string(text), false)
	}
	r.eventually("two pods are made", func() error {
		pods, err := r.api.Core.CoreV1().Pods(namespace).List(r.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=skerry-relay"})
		if err == nil && len(pods.Items) != 2 {
			d, _ := r.api.Core.AppsV1().Deployments(namespace).Get(r.t.Context(), "skerry-relay", metav1.GetOptions{})
			err = fmt.Errorf("there are %d; the Deployment says %v", len(pods.Items), d.Status.Conditions)
		}
		return err
	})
	r.eventually("the disruption budget finds them", func() error {
		p, err := r.api.Core.PolicyV1().PodDisruptionBudgets(namespace).Get(r.t.Context(), "skerry-relay", metav1.GetOptions{})
		if err == nil && p.Status.ExpectedPods != 2 {
			err = fmt.Errorf("it expects %d", p.Status.ExpectedPods)
		}
		return err
	})
}

// may asks the API server whether the relay's account may do something.
func (r *rig) may(verb, group, resource, ns string) bool {
	r.t.Helper()
	resource, sub, _ := strings.Cut(resource, "/")
	answer, err := r.api.Core.AuthorizationV1().SubjectAccessReviews().Create(r.t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + namespace + ":" + setup.ServiceAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: ns},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.Status.Allowed
}

var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

// testRights asks for every verb on everything that the relay has to do with, and on what it must never touch: only what relay/setup
// lists is allowed.
func (r *rig) testRights() {
	rights := setup.Rights()
	grants := func(rules []rbacv1.PolicyRule, verb, group, resource string) bool {
		return slices.ContainsFunc(rules, func(p rbacv1.PolicyRule) bool {
			return slices.Contains(p.APIGroups, group) && slices.Contains(p.Resources, resource) && slices.Contains(p.Verbs, verb)
		})
	}
	asked, allowed := 0, 0
	for _, gr := range []schema.GroupResource{
		{Resource: "secrets"}, {Resource: "configmaps"}, {Resource: "nodes"}, {Resource: "nodes/status"}, {Resource: "nodes/proxy"},
		{Resource: "pods"}, {Resource: "pods/status"}, {Resource: "pods/exec"}, {Resource: "pods/log"}, {Resource: "pods/eviction"}, {Resource: "pods/ephemeralcontainers"},
		{Resource: "events"}, {Resource: "namespaces"}, {Resource: "serviceaccounts"}, {Resource: "serviceaccounts/token"}, {Resource: "services"},
		{Resource: "devices", Group: "devices.kubeedge.io"}, {Resource: "devices/status", Group: "devices.kubeedge.io"},
		{Resource: "devicemodels", Group: "devices.kubeedge.io"}, {Resource: "devicestatuses", Group: "devices.kubeedge.io"},
		{Resource: "leases", Group: "coordination.k8s.io"}, {Resource: "deployments", Group: "apps"}, {Resource: "deployments/scale", Group: "apps"},
		{Resource: "roles", Group: rbacv1.GroupName}, {Resource: "rolebindings", Group: rbacv1.GroupName},
		{Resource: "clusterroles", Group: rbacv1.GroupName}, {Resource: "clusterrolebindings", Group: rbacv1.GroupName},
		{Resource: "customresourcedefinitions", Group: "apiextensions.k8s.io"}, {Resource: "certificatesigningrequests", Group: "certificates.k8s.io"},
		{Resource: "certificatesigningrequests/approval", Group: "certificates.k8s.io"}, {Resource: "validatingwebhookconfigurations", Group: "admissionregistration.k8s.io"},
	} {
		for _, ns := range []string{"default", "kube-system", "kube-node-lease", namespace} {
			for _, verb := range verbs {
				want := grants(rights.Cluster, verb, gr.Group, gr.Resource)
				for _, n := range rights.Namespaces {
					want = want || n.Namespace == ns && grants(n.Rules, verb, gr.Group, gr.Resource)
				}
				if got := r.may(verb, gr.Group, gr.Resource, ns); got != want {
					r.t.Errorf("%s %s in %s: allowed %v, want %v", verb, gr, ns, got, want)
				}
				asked++
				if want {
					allowed++
				}
			}
		}
	}
	for _, v := range [][3]string{
		{"bind", rbacv1.GroupName, "clusterroles"}, {"escalate", rbacv1.GroupName, "clusterroles"}, {"impersonate", "", "users"}, {"impersonate", "", "serviceaccounts"},
		{"sign", "certificates.k8s.io", "signers"}, {"approve", "certificates.k8s.io", "signers"}, {"*", "*", "*"},
		// Said again, in case somebody grants them above: these are never right. (To create pods, which are mirrors of static ones, and tokens
		// of service accounts, is granted knowingly: threats P-08 and P-04, ADR 8.)
		{"delete", "", "nodes"}, {"update", "", "pods"}, {"create", "", "pods/exec"}, {"create", "", "secrets"}, {"patch", "", "secrets"}, {"delete", "", "secrets"},
		{"create", "", "serviceaccounts"}, {"patch", "", "serviceaccounts"}, {"patch", "devices.kubeedge.io", "devices"}, {"delete", "devices.kubeedge.io", "devicestatuses"},
	} {
		for _, ns := range []string{"", "default", namespace} {
			if r.may(v[0], v[1], v[2], ns) {
				r.t.Errorf("it may %s %s in namespace %q", v[0], v[2], ns)
			}
		}
	}
	if r.may("update", "", "secrets", "kube-system") {
		r.t.Error("it may update secrets of kube-system")
	}
	r.t.Logf("%d questions, %d allowed", asked, allowed)
}

// testRelay: the rights are those of the plain YAML; init's were deleted. A relay that runs with them serves an agent.
func (r *rig) testRelay() {
	for _, step := range []func(context.Context) error{r.StartRelay, r.Join, r.StartAgent} {
		if err := step(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	r.eventually("the agent is in sync", func() error {
		st, err := r.Status(r.t.Context())
		if err == nil && !st.Link.InSync {
			err = fmt.Errorf("its link: %+v", st.Link)
		}
		return err
	})
	r.eventually("its Node is made", func() error {
		_, err := r.api.Core.CoreV1().Nodes().Get(r.t.Context(), r.Node, metav1.GetOptions{})
		return err
	})
	r.eventually("the relay has joined the others", func() error {
		list, err := r.api.Core.CoordinationV1().Leases(namespace).List(r.t.Context(), metav1.ListOptions{LabelSelector: "skerry.dev/relay=true"})
		if err == nil && len(list.Items) != 1 {
			err = fmt.Errorf("there are %d Leases of relays", len(list.Items))
		}
		return err
	})
}

// TestWrongValues: a typo is an error that names the key.
func TestWrongValues(t *testing.T) {
	tool := buildTool(t)
	for text, want := range map[string][]string{
		"replcas: 3":                              {"replcas"},
		"replicas: many":                          {"/replicas", "integer"},
		"service: {type: Loadbalancer}":           {"/service/type", "LoadBalancer"},
		"config: {lease: {intervall: 10s}}":       {"/config/lease", "intervall"},
		"config: {lease: {interval: 10}}":         {"/config/lease/interval", "string"},
		"config: {listen: ':1'}":                  {"/config", "listen"},
		"ownAddress: {from: nodeIP}":              {"/ownAddress/from", "hostIP"},
		"goMemoryLimit: 1Gi":                      {"/goMemoryLimit"},
		"networkPolicy: {apiServer: {cidrs: []}}": {"/networkPolicy/apiServer/cidrs"},
		"apiPriority: {concurrencyShares: 0}":     {"/apiPriority/concurrencyShares"},
		"image: {digest: 0123}":                   {"/image/digest"},
	} {
		_, err := render(t, tool, text)
		if err == nil {
			t.Errorf("%q was accepted", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %q is not in: %v", text, w, err)
			}
		}
	}
	if _, err := render(t, tool, "", "-namespace", "default"); err == nil || !strings.Contains(err.Error(), "--namespace skerry-system") {
		t.Errorf("another namespace: %v", err)
	}
}
