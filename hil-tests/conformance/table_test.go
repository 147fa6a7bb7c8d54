package conformance

import (
	"strings"
	"testing"
)

// examples are values of the placeholders, as good as any.
func examples() map[string]string {
	out := map[string]string{}
	for k := range Placeholders {
		out[k] = "v-" + strings.Trim(k, "<>")
	}
	out["<regport>"] = "5000"
	return out
}

func TestCompileAll(t *testing.T) {
	names := map[string]bool{}
	for _, r := range Rows() {
		if names[r.PodName()] {
			t.Errorf("%s is there twice", r.PodName())
		}
		names[r.PodName()] = true
		if _, err := r.Pod("ns", examples()); err != nil {
			t.Error(err)
		}
		if r.Objects != "" {
			if _, err := Documents(r.Objects); err != nil {
				t.Errorf("%s: %v", r.PodName(), err)
			}
		}
		all := r.Never
		for _, s := range r.Steps {
			all = append(all, s.Want...)
		}
		for _, text := range all {
			if _, err := Compile(text); err != nil {
				t.Errorf("%s: %v", r.PodName(), err)
			}
		}
	}
	t.Log(len(names), "rows")
}
