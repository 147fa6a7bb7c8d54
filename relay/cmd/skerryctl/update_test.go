package main

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
)

// says sets what a node says of its updates.
func says(t *testing.T, c *clients, node, status string) {
	t.Helper()
	n, err := c.core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	n.Annotations[wire.AnnotationUpdateStatus] = status
	if _, err := c.core.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func ordered(t *testing.T, c *clients, node string) (wire.UpdateOrder, bool) {
	t.Helper()
	n, err := c.core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var o wire.UpdateOrder
	text, ok := n.Annotations[wire.AnnotationUpdate]
	if ok {
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
	}
	return o, ok
}

func TestNodeUpdate(t *testing.T) {
	c := withNodes(t, "gw-1")
	must(t, c, "node", "update", "gw-1", "--bundle", "https://updates.example.org/skerry-1.2.skidx", "--version", "1.2", "--allow-downgrade")
	o, _ := ordered(t, c, "gw-1")
	if o.Bundle != "https://updates.example.org/skerry-1.2.skidx" || o.Version != "1.2" || !o.AllowDowngrade || o.Retry || o.ID == "" {
		t.Errorf("ordered %+v", o)
	}
	if code, _, stderr := ctl(t, c, "node", "update", "gw-1", "--status"); code != 1 || !strings.Contains(stderr, "says nothing of updates") {
		t.Errorf("the status of a node that says nothing: %d, %q", code, stderr)
	}
	says(t, c, "gw-1", `{"phase":"Installing","message":"version 1.2 is written to slot B","percent":40,"slot":"A","running":"1.1","version":"1.2","failed":[{"version":"1.0","reason":"did not come up","at":"2026-01-02T03:04:05Z","tried":true}]}`)
	out, _ := must(t, c, "node", "update", "gw-1", "--status")
	for _, want := range []string{"version 1.1 in slot A", "Installing, version 1.2, 40 %: version 1.2 is written to slot B", "failed    2026-01-02T03:04:05Z  1.0 : did not come up"} {
		if !strings.Contains(out, want) {
			t.Errorf("the status lacks %q:\n%s", want, out)
		}
	}
	must(t, c, "node", "update", "gw-1", "--cancel")
	if o, ok := ordered(t, c, "gw-1"); ok {
		t.Errorf("after it was withdrawn, this is ordered: %+v", o)
	}
}

func TestNodeUpdateRefuses(t *testing.T) {
	c := withNodes(t, "gw-1")
	for _, args := range [][]string{
		{"gw-1"}, {"gw-1", "--bundle", "http://updates.example.org/x.skidx"}, {"gw-1", "--bundle", "https://updates.example.org/x.raucb"}, {"gw-2", "--bundle", "https://updates.example.org/x.skidx"},
		{"gw-1", "--cancel", "--status"},
	} {
		if code, out, _ := ctl(t, c, append([]string{"node", "update"}, args...)...); code == 0 {
			t.Errorf("%v: %q", args, out)
		}
	}
	if o, ok := ordered(t, c, "gw-1"); ok {
		t.Errorf("ordered %+v", o)
	}
}
