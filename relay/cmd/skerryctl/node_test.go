package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
)

// withNodes returns a prepared cluster with some Nodes.
func withNodes(t *testing.T, names ...string) *clients {
	t.Helper()
	c := newClients()
	must(t, c, "init")
	for _, name := range names {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{overview.AgentLabel: "true"}}}
		if _, err := c.core.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestRevoke(t *testing.T) {
	c := withNodes(t, "gw-1", "gw-2")
	must(t, c, "token", "create", "--node", "gw-1")
	must(t, c, "token", "create", "--node", "gw-2")
	must(t, c, "node", "revoke", "gw-1", "--reason", "stolen")
	if list, _ := must(t, c, "token", "list"); strings.Contains(list, "gw-1") || !strings.Contains(list, "gw-2") {
		t.Errorf("after a revocation these tokens are left:\n%s", list)
	}
	if list, _ := must(t, c, "node", "revoked"); !strings.Contains(list, "stolen") || strings.Count(list, "\n") != 2 {
		t.Errorf("revoked:\n%s", list)
	}
	if code, _, stderr := ctl(t, c, "node", "restore", "gw-2"); code != 1 || !strings.Contains(stderr, "gw-2") {
		t.Errorf("restoring a node that is not revoked = %d, %q", code, stderr)
	}
	out, _ := must(t, c, "node", "restore", "gw-1")
	if !strings.Contains(out, "skerryctl token create --node gw-1") {
		t.Errorf("restore says %q", out)
	}
	text, _ := must(t, c, "node", "revoked", "-o", "json")
	var list map[string]enroll.Revocation
	if err := json.Unmarshal([]byte(text), &list); err != nil || list["gw-1"].Restored.IsZero() || list["gw-1"].Reason != "stolen" {
		t.Errorf("revoked: %s (%v)", text, err)
	}
	must(t, c, "node", "restore", "gw-1", "--trust-old-key")
	if list, _ := must(t, c, "node", "revoked"); strings.Contains(list, "gw-1") {
		t.Errorf("revoked:\n%s", list)
	}
	must(t, c, "node", "revoke", "gw-1")
	must(t, c, "node", "prune")
	if list, _ := must(t, c, "node", "revoked"); !strings.Contains(list, "gw-1") {
		t.Error("a new revocation is pruned")
	}
	if code, out, stderr := ctl(t, c, "node", "prune", "--older-than=-1h"); code != 1 || out != "" || !strings.Contains(stderr, "--yes") {
		t.Errorf("letting gateways in again = %d, %q, %q", code, out, stderr)
	}
	if out, _ := must(t, c, "node", "prune", "--older-than=-1h", "--yes"); out != "forgot gw-1\n" {
		t.Errorf("prune says %q", out)
	}
}

// TestRevokeTypingError: it must not look as if the gateway were out.
func TestRevokeTypingError(t *testing.T) {
	c := withNodes(t, "gw-plant-7", "gw-plant-8", "pump-house")
	must(t, c, "token", "create", "--node", "gw-joining")
	code, out, stderr := ctl(t, c, "node", "revoke", "gw-plnat-7")
	if code != 1 || out != "" || !strings.Contains(stderr, "did you mean gw-plant-7") || strings.Contains(stderr, "pump-house") {
		t.Errorf("= %d, %q, %q", code, out, stderr)
	}
	if code, _, stderr := ctl(t, c, "node", "revoke", "unheard-of"); code != 1 || strings.Contains(stderr, "did you mean") || !strings.Contains(stderr, "--force") {
		t.Errorf("= %d, %q", code, stderr)
	}
	if _, _, stderr := ctl(t, c, "node", "revoke", "pump"); !strings.Contains(stderr, "pump-house") {
		t.Errorf("part of a name: %q", stderr)
	}
	must(t, c, "node", "revoke", "unheard-of", "--force")
	must(t, c, "node", "revoke", "unheard-of") // on the list already
	must(t, c, "node", "revoke", "gw-joining") // has a token
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"gw-1", "gw-1", 0}, {"gw-1", "gw-2", 1}, {"gw-12", "gw-21", 2}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want || distance(c.b, c.a) != got {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("gw-%02d", i))
	}
	if got := near("gw-1x", many); len(got) != 3 {
		t.Errorf("near names %v", got)
	}
}

// TestInitAfterTheListWasDeleted: an upgrade must not restore everybody.
func TestInitAfterTheListWasDeleted(t *testing.T) {
	c := withNodes(t, "gw-1")
	must(t, c, "node", "revoke", "gw-1")
	if err := c.core.CoreV1().ConfigMaps(enroll.Namespace).Delete(t.Context(), enroll.RevokedMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init"}, {"node", "revoke", "gw-1"}, {"node", "revoked"}} {
		if code, _, stderr := ctl(t, c, args...); code != 1 || !strings.Contains(stderr, "--new-revocation-list") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v = %d, %q", args, code, stderr)
		}
	}
	if out, _ := must(t, c, "status"); !strings.HasPrefix(out, "WARNING: the list of revoked nodes is missing") {
		t.Errorf("status:\n%s", out)
	}
	must(t, c, "init", "--new-revocation-list")
	must(t, c, "init")
	if out, _ := must(t, c, "status"); strings.Contains(out, "WARNING") {
		t.Errorf("status:\n%s", out)
	}
}
