package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
)

func TestOversizedDocuments(t *testing.T) {
	list := func(n int) []any { return make([]any, n) }
	labels := func(n, bytes int) map[string]any {
		m := map[string]any{}
		for i := range n {
			m[fmt.Sprintf("l%d", i)] = strings.Repeat("v", bytes)
		}
		return m
	}
	status := func(name string, v any) map[string]any { return map[string]any{"status": map[string]any{name: v}} }
	for _, c := range []struct {
		what string
		kind wire.Kind
		size int
		doc  map[string]any
		want string
	}{
		{"an honest node", wire.KindNode, 20 << 10, map[string]any{"labels": labels(10, 63), "status": map[string]any{"conditions": list(10), "images": list(50)}}, ""},
		{"a device with a thousand points", wire.KindDevice, 500 << 10, map[string]any{"deviceStatus": map[string]any{"twins": list(1000)}}, ""},
		{"a large node", wire.KindNode, 129 << 10, nil, "131072"},
		{"a large pod", wire.KindPod, 300 << 10, nil, "262144"},
		{"many labels", wire.KindNode, 1, map[string]any{"labels": labels(101, 1)}, "101 labels"},
		{"long annotations", wire.KindNode, 1, map[string]any{"annotations": labels(10, 2000)}, "its annotations have"},
		{"many conditions", wire.KindNode, 1, status("conditions", list(5000)), "5000 conditions"},
		{"many conditions of a device", wire.KindDevice, 1, map[string]any{"conditions": list(5000)}, "5000 conditions"},
		{"many images", wire.KindNode, 1, status("images", list(5000)), "5000 images"},
		{"many resources", wire.KindNode, 1, status("capacity", labels(200, 1)), "200 resources"},
		{"many containers", wire.KindPod, 1, status("containerStatuses", list(5000)), "5000 containerStatuses"},
		{"nothing that was expected", wire.KindNode, 1, map[string]any{"labels": "x", "status": 7, "conditions": true}, ""},
	} {
		if got := oversized(c.kind, c.size, c.doc); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestHostileEvents: fields of an event that are not clipped elsewhere, and clocks.
func TestHostileEvents(t *testing.T) {
	for s, want := range map[string]bool{"pods": true, "device-host": true, "": false, "a/b": false, "a\nb": false, strings.Repeat("x", 64): false, "ä": false} {
		if plainName(s) != want {
			t.Errorf("plainName(%q) = %v", s, !want)
		}
	}
}
