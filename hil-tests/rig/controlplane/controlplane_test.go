package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kubeconfig is what the script in skerry-kube's place writes.
const kubeconfig = `apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
`

// script stands in for skerry-kube: called as `up --dir DIR --port N` it runs
// body with $dir set, and as `kubectl …` it prints what it was given.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "skerry-kube")
	text := "#!/bin/sh\nif [ \"$1\" = kubectl ]; then shift; echo \"$@\"; cat; exit; fi\ndir=$3\n" + body
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const becomeReady = `cat >"$dir/admin.kubeconfig" <<'EOF'
` + kubeconfig + `EOF
echo '{"pid":'$$',"url":"https://127.0.0.1:1"}' >"$dir/ready.tmp"
mv "$dir/ready.tmp" "$dir/ready.json"
trap 'exit 0' TERM
while :; do sleep 0.05; done
`

func TestStart(t *testing.T) {
	dir := t.TempDir()
	// A killed run leaves its mark; the new process's must be waited for.
	if err := os.WriteFile(filepath.Join(dir, "ready.json"), []byte(`{"pid":1,"url":"https://127.0.0.1:9"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cp, err := Start(t.Context(), Options{Binary: script(t, "sleep 0.2\n"+becomeReady), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if cp.URL() != "https://127.0.0.1:1" || cp.REST().Host != cp.URL() || cp.REST().QPS != -1 {
		t.Errorf("URL %q, REST %+v", cp.URL(), cp.REST())
	}
	if cp.Took() < 200*time.Millisecond {
		t.Errorf("took %v", cp.Took())
	}
	out, err := cp.Apply(t.Context(), "kind: Node\n", "--server-side")
	if want := "--kubeconfig " + dir + "/admin.kubeconfig apply -f - --server-side\nkind: Node\n"; err != nil || out != want {
		t.Errorf("Apply = %q, %v; want %q", out, err, want)
	}
	if err := cp.Stop(); err != nil {
		t.Error(err)
	}
	if err := cp.Process().Err(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestStartTellsWhyItFailed(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		opts       Options
	}{
		{"nothing given", "Binary and Dir are required", Options{}},
		{"not built", "`make kube` builds it", Options{Binary: "/nonexistent/skerry-kube", Dir: t.TempDir()}},
		{"it ends", "    the port is in use", Options{Binary: script(t, "echo the port is in use >&2; exit 1"), Dir: t.TempDir()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cp, err := Start(t.Context(), tc.opts)
			if err == nil {
				t.Fatal(cp.Stop())
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q lacks %q", err, tc.want)
			}
		})
	}
}
