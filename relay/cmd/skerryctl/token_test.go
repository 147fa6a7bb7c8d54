package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/enroll"
)

// lines splits what token create prints for many nodes.
func lines(t *testing.T, out string) map[string]join.Token {
	t.Helper()
	got := map[string]join.Token{}
	for line := range strings.Lines(out) {
		node, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		tok, err := join.ParseToken(text)
		if !ok || err != nil || tok.Node != node {
			t.Fatalf("line %q: %v", line, err)
		}
		got[node] = tok
	}
	return got
}

// TestTokensForAProductionLine makes many at once, from a file and by count.
func TestTokensForAProductionLine(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	file := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(file, []byte("# shift 7\ngw-a\n\n  gw-b\r\ngw-c"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, explanation := must(t, c, "token", "create", "--nodes", file, "--ttl", "720h")
	if got := lines(t, out); len(got) != 3 || got["gw-b"].Node != "gw-b" || got["gw-a"].ID == got["gw-c"].ID {
		t.Errorf("tokens for %v", got)
	}
	if !strings.Contains(explanation, "3 tokens") || strings.Contains(explanation, "skt1.") {
		t.Errorf("stderr = %q", explanation)
	}
	out, _ = must(t, c, "token", "create", "--count", "12", "--prefix", "line-", "-o", "json")
	var list []created
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 12 || list[0].Node != "line-01" || list[11].Node != "line-12" {
		t.Fatalf("%s: %v", out, err)
	}
	if tok, err := join.ParseToken(list[4].Token); err != nil || tok.ID != list[4].ID {
		t.Errorf("token in JSON: %v", err)
	}
	text, _ := must(t, c, "token", "list", "-o", "json")
	var states []struct{ ID, Node, State string }
	if err := json.Unmarshal([]byte(text), &states); err != nil || len(states) != 15 || states[0].State != "unused" {
		t.Errorf("%s: %v", text, err)
	}
	must(t, c, "token", "revoke", list[0].ID, list[1].ID)
	if text, _ := must(t, c, "token", "list"); strings.Count(text, "unused") != 13 {
		t.Errorf("list:\n%s", text)
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, x := range map[string]struct {
		args []string
		says string
	}{
		"two ways at once":  {[]string{"--node", "gw-1", "--count", "2", "--prefix", "x"}, "--nodes FILE"},
		"count alone":       {[]string{"--count", "2"}, "--prefix"},
		"prefix alone":      {[]string{"--prefix", "x"}, "--count"},
		"too many":          {[]string{"--count", "2001", "--prefix", "x"}, "1 to 2000"},
		"less than none":    {[]string{"--count", "-1", "--prefix", "x"}, "1 to 2000"},
		"no file":           {[]string{"--nodes", filepath.Join(dir, "none")}, "no such file"},
		"empty file":        {[]string{"--nodes", file("empty", "# nothing\n")}, "one a line"},
		"twice":             {[]string{"--nodes", file("twice", "gw-1\ngw-2\ngw-1\n")}, `name 3: "gw-1" is there twice`},
		"one bad name":      {[]string{"--nodes", file("bad", "gw-1\nGW 2\n")}, "name 2"},
		"a prefix too long": {[]string{"--count", "2", "--prefix", strings.Repeat("x", 63)}, "at most 63"},
	} {
		if code, out, stderr := ctl(t, c, append([]string{"token", "create"}, x.args...)...); code != 1 || out != "" || !strings.Contains(stderr, x.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d, %q, %q", name, code, out, stderr)
		}
	}
	if list, _ := must(t, c, "token", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("a mistake left tokens: %s", list)
	}
}

// TestTokensOfRevokedNodes could not be used, so none is made, of others in the same list neither, until the nodes are restored.
func TestTokensOfRevokedNodes(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	file := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(file, []byte("gw-1\ngw-2\ngw-3\ngw-4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gw-2", "gw-3", "gw-4"} {
		must(t, c, "node", "revoke", name, "--force")
	}
	must(t, c, "node", "restore", "gw-4") // its old certificates stay refused; a token is what it needs
	for names, args := range map[string][]string{"gw-2": {"--node", "gw-2"}, "gw-2, gw-3": {"--nodes", file}} {
		code, out, stderr := ctl(t, c, append([]string{"token", "create"}, args...)...)
		if code != 1 || out != "" || !strings.Contains(stderr, "revoked nodes: "+names+":") || !strings.Contains(stderr, "skerryctl node restore") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: %d, %q, %q", args, code, out, stderr)
		}
	}
	if list, _ := must(t, c, "token", "list", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("there are tokens: %s", list)
	}
	must(t, c, "node", "restore", "gw-2")
	must(t, c, "node", "restore", "gw-3")
	if out, _ := must(t, c, "token", "create", "--nodes", file); len(lines(t, out)) != 4 {
		t.Errorf("created %q", out)
	}
	if err := c.core.CoreV1().ConfigMaps(enroll.Namespace).Delete(t.Context(), enroll.RevokedMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t, c, "token", "create", "--node", "gw-5") // without a list the relays decide
}

// TestTokensUpToAFailure: what was printed before is good, and the error says where it ended.
func TestTokensUpToAFailure(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	n := 0
	c.core.(*fake.Clientset).PrependReactor("create", "secrets", func(ktesting.Action) (bool, runtime.Object, error) {
		n++
		return n > 2, nil, apierrors.NewInternalError(os.ErrDeadlineExceeded)
	})
	code, out, stderr := ctl(t, c, "token", "create", "--count", "4", "--prefix", "gw-")
	if code != 1 || len(lines(t, out)) != 2 || !strings.Contains(stderr, `token 3 of 4, for node "gw-3"`) {
		t.Errorf("= %d, %q, %q", code, out, stderr)
	}
}

// TestExpiredTokensGo with the next token, two weeks after their end, or at once when asked.
func TestExpiredTokensGo(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	secrets := c.core.CoreV1().Secrets(enroll.Namespace)
	aged := func(node string, ago time.Duration) {
		t.Helper()
		out, _ := must(t, c, "token", "create", "--node", node, "-o", "json")
		var made created
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			t.Fatal(err)
		}
		s, err := secrets.Get(t.Context(), "skerry-join-"+made.ID, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Data["expires"] = []byte(time.Now().Add(-ago).UTC().Format(time.RFC3339))
		if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	aged("gw-yesterday", 24*time.Hour)
	aged("gw-long-ago", enroll.KeepExpired+time.Hour)
	must(t, c, "token", "create", "--node", "gw-now")
	list, _ := must(t, c, "token", "list")
	if strings.Contains(list, "gw-long-ago") || !strings.Contains(list, "gw-yesterday") || !strings.Contains(list, "expired") {
		t.Errorf("list:\n%s", list)
	}
	if out, _ := must(t, c, "token", "prune"); out != "1 tokens deleted\n" {
		t.Errorf("prune says %q", out)
	}
	if list, _ := must(t, c, "token", "list"); strings.Contains(list, "gw-yesterday") || !strings.Contains(list, "gw-now") {
		t.Errorf("list:\n%s", list)
	}
}
