package pods

import (
	"testing"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestMatchesNodeSelector(t *testing.T) {
	labels := map[string]string{"zone": "a", "cores": "4", "word": "x"}
	for name, c := range map[string]struct {
		is    bool
		terms []corev1.NodeSelectorTerm
	}{
		"no term":                 {false, nil},
		"a term without anything": {false, []corev1.NodeSelectorTerm{{}}},
		"in":                      {true, expressions("zone", "In", "b", "a")},
		"not in, has another":     {true, expressions("zone", "NotIn", "b")},
		"not in, has it":          {false, expressions("zone", "NotIn", "a")},
		"not in, has none":        {true, expressions("rack", "NotIn", "a")},
		"exists":                  {true, expressions("zone", "Exists")},
		"exists not":              {false, expressions("zone", "DoesNotExist")},
		"more than":               {true, expressions("cores", "Gt", "3")},
		"less than":               {false, expressions("cores", "Lt", "4")},
		"more than a word":        {false, expressions("word", "Gt", "3")},
		"an unknown operator":     {false, expressions("zone", "Like", "a")},
		"the name":                {true, []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{"gw-1"}}}}}},
		"another field":           {false, []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.uid", Operator: "Exists"}}}}},
		"the second term":         {true, append(expressions("zone", "In", "b"), expressions("zone", "In", "a")...)},
	} {
		if got := matchesNodeSelector(&corev1.NodeSelector{NodeSelectorTerms: c.terms}, labels, "gw-1"); got != c.is {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !matchesNodeSelector(nil, nil, "gw-1") {
		t.Error("no selector at all")
	}
}

func expressions(key, operator string, values ...string) []corev1.NodeSelectorTerm {
	return []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}}
}

func TestMatchesRequirement(t *testing.T) {
	for i, c := range []struct {
		operator, value string
		there           bool
		values          []string
		want            bool
	}{
		{"In", "a", true, []string{"a", "b"}, true}, {"In", "", false, []string{""}, false}, {"NotIn", "a", true, []string{"a"}, false}, {"NotIn", "", false, []string{"a"}, true},
		{"Exists", "", true, nil, true}, {"DoesNotExist", "", true, nil, false}, {"Gt", "9", true, []string{"8"}, true}, {"Lt", "9", true, []string{"8"}, false},
		{"Gt", "x", true, []string{"8"}, false}, {"Gt", "9", true, nil, false}, {"Is", "9", true, nil, false},
	} {
		if got := matchesRequirement(&corev1.NodeSelectorRequirement{Operator: c.operator, Values: c.values}, c.value, c.there); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
