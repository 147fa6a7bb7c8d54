//go:build integration

package opcua

import (
	"encoding/json"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
)

// start runs a server that lives as long as the test.
func start(t *testing.T, opt opcuapeer.Options) *opcuapeer.Peer {
	t.Helper()
	opt.Folder = t.TempDir()
	p, err := opcuapeer.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Errorf("end the peer: %v", err)
		}
	})
	return p
}

// TestPeer: the server is the one that the other tests mean.
func TestPeer(t *testing.T) {
	p := start(t, opcuapeer.Options{})
	for node, want := range map[string]any{"Int64": "-9007199254740993", "N2000": json.Number("2000"), "String": "pump"} {
		if h, err := p.Get(t.Context(), node); err != nil || h.Value != want {
			t.Errorf("%s: %+v %v, want %v", node, h, err, want)
		}
	}
	if err := p.Set(t.Context(), "Int32", 12); err != nil {
		t.Fatal(err)
	}
	if h, err := p.Get(t.Context(), "Int32"); err != nil || h.Value != json.Number("12") {
		t.Errorf("%+v %v", h, err)
	}
}
