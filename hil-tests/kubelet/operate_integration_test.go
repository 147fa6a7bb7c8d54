//go:build integration

package kubelet_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/wire"
)

// TestDiagnoseFromTheOffice: a bundle comes whole through API server, relay and link, with the agent's own files and without its keys.
func TestDiagnoseFromTheOffice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gw.tar.gz")
	if said, err := w.Ctl(t.Context(), "node", "diagnose", node, "-o", path); err != nil {
		t.Fatal(err, said)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "skerry-diagnose/")] = string(b)
	}
	var st agent.Status
	if err := json.Unmarshal([]byte(files["agent/status.json"]), &st); err != nil {
		t.Errorf("agent/status.json: %v", err)
	}
	for name, want := range map[string]string{"summary.txt": "agent/status.json", "config.yaml": "name: " + node, "agent/goroutines.txt": "goroutine ", "agent/metrics.txt": "skerry_", "versions.txt": "kernel "} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: %.200q, want %q in it", name, files[name], want)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "PRIVATE KEY") && !strings.Contains(text, "REDACTED PRIVATE KEY") || strings.Contains(text, "skt1.") {
			t.Errorf("%s holds a secret", name)
		}
	}
	if _, err := w.Ctl(t.Context(), "node", "diagnose", "no-such-gateway", "-o", path+".none"); err == nil {
		t.Error("a gateway that is not there has sent a bundle")
	}
}

// TestUpdateOfAGatewayWithoutSlots: the order is in the Node, the gateway says on the spot why nothing comes of it, and it can be withdrawn.
func TestUpdateOfAGatewayWithoutSlots(t *testing.T) {
	if _, err := w.Ctl(t.Context(), "node", "update", node, "--status"); err == nil || !strings.Contains(err.Error(), "says nothing of updates") {
		t.Errorf("--status: %v", err)
	}
	if _, err := w.Ctl(t.Context(), "node", "update", node, "--bundle", "https://127.0.0.1:1/x.raucb"); err == nil {
		t.Error("a bundle that is no index was ordered")
	}
	defer func() { must(t, "annotate", "node", node, wire.AnnotationUpdate+"-") }() // nothing is left to remove if all goes well
	if said, err := w.Ctl(t.Context(), "node", "update", node, "--bundle", "https://127.0.0.1:1/x.skidx", "--version", "9.9"); err != nil || !strings.Contains(said, "is ordered") {
		t.Fatal(err, said)
	}
	text := must(t, "get", "node", node, "-o", `jsonpath={.metadata.annotations.node\.skerry\.dev/update}`)
	var o wire.UpdateOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Bundle != "https://127.0.0.1:1/x.skidx" || o.Version != "9.9" || o.ID == "" {
		t.Errorf("the order is %s (%v)", text, err)
	}
	if said, err := w.Ctl(t.Context(), "node", "update", node, "--cancel"); err != nil {
		t.Fatal(err, said)
	}
	if text := must(t, "get", "node", node, "-o", `jsonpath={.metadata.annotations.node\.skerry\.dev/update}`); text != "" {
		t.Errorf("after it was withdrawn the order is %s", text)
	}
}
