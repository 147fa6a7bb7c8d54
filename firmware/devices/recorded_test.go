package devices

import (
	"strings"
	"testing"
)

func TestRecorded(t *testing.T) {
	for _, c := range []struct {
		host   map[string]any
		pushed bool
		want   bool
		wrong  string
	}{
		{nil, false, false, ""},
		{nil, true, true, ""},
		{map[string]any{"history": true}, false, true, ""},
		{map[string]any{"history": "True"}, false, true, ""},
		{map[string]any{"history": false}, true, false, ""},
		{map[string]any{"history": 5}, false, false, `spec.properties[speed].visitors.configData.history: "5": allowed: true`},
	} {
		p := &plan{}
		got := p.recorded(&property{host: c.host}, c.pushed, "spec.properties[speed].visitors.configData")
		if got != c.want || (c.wrong == "") != (len(p.problems) == 0) {
			t.Errorf("%v, pushed %v: %v, %v", c.host, c.pushed, got, p.problems)
		}
		if c.wrong != "" && !strings.HasPrefix(p.problems[0].message, c.wrong) {
			t.Errorf("%v: %q", c.host, p.problems[0].message)
		}
	}
}
