package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
	"github.com/skerry/skerry/relay/tickets"
)

// reports writes what a node's agent says of its certificate.
func reports(t *testing.T, c *clients, node, ca string) {
	t.Helper()
	nodes := c.core.CoreV1().Nodes()
	n, err := nodes.Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Annotations = map[string]string{join.AnnotationCA: ca}
	if _, err := nodes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func authorities(t *testing.T, c *clients) overview.CAs {
	t.Helper()
	out, _ := must(t, c, "ca", "status", "-o", "json")
	var cas overview.CAs
	if err := json.Unmarshal([]byte(out), &cas); err != nil || len(cas.Authorities) == 0 {
		t.Fatalf("%s: %v", out, err)
	}
	return cas
}

// TestRotateAndFinish goes through a rotation as an operator sees it.
func TestRotateAndFinish(t *testing.T) {
	var names []string
	for i := range 14 {
		names = append(names, fmt.Sprintf("gw-%02d", i))
	}
	c := withNodes(t, names...)
	first := authorities(t, c).Authorities[0].Name
	for _, n := range names[:13] {
		reports(t, c, n, first)
	}
	if out, _ := must(t, c, "ca", "status"); !strings.Contains(out, "signing") || !strings.Contains(out, "unknown") || strings.Contains(out, "under way") {
		t.Errorf("before:\n%s", out)
	}
	for _, verb := range []string{"finish", "abort"} {
		if code, _, stderr := ctl(t, c, "ca", verb); code != 1 || !strings.Contains(stderr, "no rotation") {
			t.Errorf("%s without a rotation = %d, %q", verb, code, stderr)
		}
	}
	if out, help := must(t, c, "ca", "rotate"); !strings.Contains(out, "signs from now on") || !strings.Contains(help, "ca finish") {
		t.Errorf("rotate says %q, %q", out, help)
	}
	if code, _, stderr := ctl(t, c, "ca", "rotate"); code != 1 || !strings.Contains(stderr, "under way since") {
		t.Errorf("a second rotation = %d, %q", code, stderr)
	}
	if out, _ := must(t, c, "status"); !strings.Contains(out, "WARNING: a rotation of the CA is under way") {
		t.Errorf("status:\n%s", out)
	}
	code, _, stderr := ctl(t, c, "ca", "finish")
	if code != 1 || !strings.Contains(stderr, "14 nodes") || !strings.Contains(stderr, "gw-09 and 4 more") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("finish too early = %d, %q", code, stderr)
	}
	second := authorities(t, c).Authorities[0].Name
	for _, n := range names[:12] {
		reports(t, c, n, second)
	}
	must(t, c, "node", "revoke", "gw-12") // the old CA's, and out of the count
	code, _, stderr = ctl(t, c, "ca", "finish")
	if code != 1 || !strings.Contains(stderr, "1 nodes") || !strings.Contains(stderr, "gw-13") {
		t.Errorf("finish with one node left = %d, %q", code, stderr)
	}
	reports(t, c, "gw-13", second)
	if out, _ := must(t, c, "ca", "status"); !strings.Contains(out, "previous") || !strings.Contains(out, "skerryctl ca finish") {
		t.Errorf("when all have renewed:\n%s", out)
	}
	must(t, c, "ca", "finish")
	after := authorities(t, c)
	if len(after.Authorities) != 2 || after.Authorities[0].Name != second || after.Authorities[1].State != enroll.StateRetired || !after.Rotating.IsZero() {
		t.Errorf("after: %+v", after)
	}
	if out, _ := must(t, c, "status"); strings.Contains(out, "WARNING") {
		t.Errorf("status:\n%s", out)
	}
}

func TestRotateAndAbort(t *testing.T) {
	c := withNodes(t, "gw-1")
	first := authorities(t, c).Authorities[0].Name
	must(t, c, "ca", "rotate")
	reports(t, c, "gw-1", authorities(t, c).Authorities[0].Name)
	must(t, c, "ca", "abort")
	if a := authorities(t, c); a.Authorities[0].Name != first || len(a.Dependent()) != 1 {
		t.Errorf("after abort: %+v", a)
	}
	if code, _, stderr := ctl(t, c, "ca", "finish"); code != 1 || !strings.Contains(stderr, "gw-1") {
		t.Errorf("finish = %d, %q", code, stderr)
	}
	must(t, c, "ca", "finish", "--force")
}

// TestCompromisedCA: nothing is left by which somebody who has read the old Secrets could come in.
func TestCompromisedCA(t *testing.T) {
	c := withNodes(t, "gw-1")
	must(t, c, "token", "create", "--node", "gw-1")
	secrets := c.core.CoreV1().Secrets(enroll.Namespace)
	s, err := secrets.Get(t.Context(), tickets.Secret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Data = map[string][]byte{"keys": []byte("[]")}
	if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	first := authorities(t, c).Authorities[0].Name
	if code, _, stderr := ctl(t, c, "ca", "rotate", "--compromised"); code != 1 || !strings.Contains(stderr, "--yes") || authorities(t, c).Authorities[0].Name != first {
		t.Errorf("without --yes = %d, %q", code, stderr)
	}
	out, help := must(t, c, "ca", "rotate", "--compromised", "--yes")
	if !strings.Contains(out, "nothing else is trusted") || !strings.Contains(help, "join anew") {
		t.Errorf("says %q, %q", out, help)
	}
	if a := authorities(t, c); len(a.Authorities) != 1 || a.Authorities[0].Name == first {
		t.Errorf("CAs: %+v", a)
	}
	if list, _ := must(t, c, "token", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("tokens are left: %s", list)
	}
	if s, err = secrets.Get(t.Context(), tickets.Secret, metav1.GetOptions{}); err != nil || len(s.Data) > 0 {
		t.Errorf("keys of TLS sessions are left: %v", err)
	}
}
