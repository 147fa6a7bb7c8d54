package pods

import (
	"slices"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// matchesNode reports whether a pod's node selector and required node affinity match the node.
func matchesNode(s *corev1.PodSpec, labels map[string]string, node string) bool {
	for k, v := range s.NodeSelector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	a := s.Affinity
	return a == nil || a.NodeAffinity == nil || matchesNodeSelector(a.NodeAffinity.Required, labels, node)
}

// tolerates reports whether a toleration matches a taint.
func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", "Equal":
		return t.Key != "" && t.Value == taint.Value
	case "Exists":
		return true
	case "Gt", "Lt":
		return compares(t.Operator, taint.Value, t.Value)
	}
	return false
}

// untolerated reports whether a NoExecute taint keeps a pod off. The other effects are the scheduler's business: a pod that was bound
// all the same, as a DaemonSet's, is let in.
func untolerated(taints []corev1.Taint, tolerations []corev1.Toleration) bool {
	return slices.ContainsFunc(taints, func(taint corev1.Taint) bool {
		return taint.Effect == "NoExecute" && !slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(&t, &taint) })
	})
}
