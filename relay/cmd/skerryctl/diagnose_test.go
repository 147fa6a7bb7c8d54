package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// withAPI returns clients of an API server that answers all requests with answer.
func withAPI(t *testing.T, answer http.HandlerFunc) *clients {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	k, err := kubernetes.NewForConfig(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	c := newClients()
	c.slow = k.CoreV1().RESTClient()
	return c
}

func TestDiagnose(t *testing.T) {
	const bundle = "\x1f\x8b a bundle"
	asked := ""
	c := withAPI(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		_, _ = w.Write([]byte(bundle))
	})
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	out, _ := must(t, c, "node", "diagnose", "gw-1", "-o", file)
	if asked != "GET /api/v1/nodes/gw-1/proxy/diagnose" || !strings.Contains(out, file) {
		t.Errorf("asked %q, said %q", asked, out)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != bundle {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: a bundle is not for everybody", info.Mode(), err)
	}
	if out, _ := must(t, c, "node", "diagnose", "gw-1", "-o", "-"); out != bundle {
		t.Errorf("to standard output: %q", out)
	}
}

func TestDiagnoseFails(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"forbidden":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "administrator"},
		"unknown":       {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }, "not in this cluster"},
		"not connected": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, "run skerryctl diagnose on the gateway"},
		"no bundle":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }, "is no .tar.gz"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("\x1f\x8b"))
		}, "was cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "b.tar.gz")
			code, _, stderr := ctl(t, withAPI(t, c.answer), "node", "diagnose", "gw-1", "-o", file)
			if code != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("%d %q, want %q", code, stderr, c.want)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("a file was written")
			}
		})
	}
}
