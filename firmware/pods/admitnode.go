package pods

import (
	"slices"
	"strconv"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// matchesNode reports whether a pod's node selector and required node affinity match the node.
func matchesNode(s *corev1.PodSpec, labels map[string]string, node string) bool {
	for k, v := range s.NodeSelector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil || s.Affinity.NodeAffinity.Required == nil {
		return true
	}
	return slices.ContainsFunc(s.Affinity.NodeAffinity.Required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
			return false
		}
		for i := range t.MatchExpressions {
			v, ok := labels[t.MatchExpressions[i].Key]
			if !meets(&t.MatchExpressions[i], v, ok) {
				return false
			}
		}
		for i := range t.MatchFields {
			if !meets(&t.MatchFields[i], node, t.MatchFields[i].Key == "metadata.name") {
				return false
			}
		}
		return true
	})
}

// meets reports whether a value meets one requirement; there says whether the label exists.
func meets(r *corev1.NodeSelectorRequirement, value string, there bool) bool {
	switch r.Operator {
	case "In":
		return there && slices.Contains(r.Values, value)
	case "NotIn":
		return !there || !slices.Contains(r.Values, value)
	case "Exists":
		return there
	case "DoesNotExist":
		return !there
	case "Gt", "Lt":
		if !there || len(r.Values) != 1 {
			return false
		}
		return compares(r.Operator, value, r.Values[0])
	}
	return false
}

// compares compares two whole numbers: value > than, or value < than.
func compares(operator, value, than string) bool {
	a, err := strconv.ParseInt(value, 10, 64)
	b, err2 := strconv.ParseInt(than, 10, 64)
	if err != nil || err2 != nil {
		return false
	}
	return operator == "Gt" && a > b || operator == "Lt" && a < b
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
