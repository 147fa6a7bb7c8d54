package main

import (
	"encoding/json"
	"errors"
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

// TestInitAfterTheCAWasDeleted: relays that run take up a new CA at once, and every gateway would be out.
func TestInitAfterTheCAWasDeleted(t *testing.T) {
	traces := map[string]func(c *clients){
		"list of revoked nodes": func(c *clients) {
			if err := c.core.CoreV1().Nodes().Delete(t.Context(), "gw-1", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		"Node gw-1": func(c *clients) {
			if err := c.core.CoreV1().ConfigMaps(enroll.Namespace).Delete(t.Context(), enroll.RevokedMap, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	}
	for trace, loseTheOther := range traces {
		c := withNodes(t, "gw-1")
		loseTheOther(c)
		secrets := c.core.CoreV1().Secrets(enroll.Namespace)
		backup, err := secrets.Get(t.Context(), enroll.CASecret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lose := func() {
			if err := secrets.Delete(t.Context(), enroll.CASecret, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		lose()
		code, _, stderr := ctl(t, c, "init")
		for _, want := range []string{trace, "restore Secret skerry-system/skerry-ca from a backup", "--new-ca", "join anew"} {
			if code != 1 || !strings.Contains(stderr, want) {
				t.Errorf("init = %d, %q, want one with %q", code, stderr, want)
			}
		}
		if _, err := enroll.LoadCA(t.Context(), c.core); !errors.Is(err, enroll.ErrNoCA) {
			t.Fatalf("after an init that was refused: %v", err)
		}
		was := backup.DeepCopy()
		was.ResourceVersion, was.UID = "", ""
		if _, err := secrets.Create(t.Context(), was, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		must(t, c, "init", "--new-ca", "--new-revocation-list") // what is there stays
		if now, err := secrets.Get(t.Context(), enroll.CASecret, metav1.GetOptions{}); err != nil || string(now.Data["tls.crt"]) != string(backup.Data["tls.crt"]) {
			t.Errorf("init --new-ca replaced a CA that is there: %v", err)
		}
		lose()
		must(t, c, "init", "--new-ca")
		must(t, c, "init")
	}
}
