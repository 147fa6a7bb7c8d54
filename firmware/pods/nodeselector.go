package pods

import (
	"slices"
	"strconv"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// matchesNodeSelector reports whether a node with these labels and this name is one that a selector wants: any of its terms matches,
// and of a term all requirements. A term without requirements matches none, and a selector that is not there every node.
func matchesNodeSelector(s *corev1.NodeSelector, labels map[string]string, node string) bool {
	if s == nil {
		return true
	}
	return slices.ContainsFunc(s.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
			return false
		}
		for _, r := range t.MatchExpressions {
			if value, has := labels[r.Key]; !matchesRequirement(&r, value, has) {
				return false
			}
		}
		for _, r := range t.MatchFields {
			if r.Key != "metadata.name" || !matchesRequirement(&r, node, true) {
				return false
			}
		}
		return true
	})
}

// matchesRequirement compares one label, as k8s.io/apimachinery's labels.Requirement does.
func matchesRequirement(r *corev1.NodeSelectorRequirement, value string, has bool) bool {
	switch r.Operator {
	case "In":
		return has && slices.Contains(r.Values, value)
	case "NotIn":
		return !has || !slices.Contains(r.Values, value)
	case "Exists":
		return has
	case "DoesNotExist":
		return !has
	case "Gt", "Lt":
		return has && len(r.Values) == 1 && compares(r.Operator, value, r.Values[0])
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
