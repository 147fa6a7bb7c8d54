package setup

import rbacv1 "k8s.io/api/rbac/v1"

// RelayRights are what a relay may do; Apply grants them to ServiceAccount, and the Helm chart is made from them. Policies name the account
// (Account).
type RelayRights struct {
	Cluster    []rbacv1.PolicyRule `json:"cluster"` // in all namespaces
	Namespaces []NamespaceRights   `json:"namespaces"`
	Policies   []Policy            `json:"policies"` // what of that it may do
}

// NamespaceRights are rights in one namespace.
type NamespaceRights struct {
	Namespace string              `json:"namespace"`
	Rules     []rbacv1.PolicyRule `json:"rules"`
}

// Rights returns the relay's rights.
func Rights() RelayRights {
	out := RelayRights{Cluster: clusterRules(), Policies: Policies()}
	for _, n := range namespaceRules() {
		out.Namespaces = append(out.Namespaces, NamespaceRights{Namespace: n.namespace, Rules: n.rules})
	}
	return out
}
