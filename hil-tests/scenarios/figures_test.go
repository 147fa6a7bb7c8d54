//go:build hil

package scenarios_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry/skerry/hil-tests/bench"
)

// TestFiguresAreAdded: sizes stay beside the times, and a newer time replaces an older one.
func TestFiguresAreAdded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.json")
	if err := os.WriteFile(file, []byte(`{"image_armv7_mb":{"value":79.46,"unit":"MB"},"machine":{"go":"old"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, seconds := range []float64{70.04, 42.61} {
		if err := addFigures(file, map[string]float64{"boot_to_pod_s": seconds}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bench.Figure{"image_armv7_mb": {Value: 79.46, Unit: "MB"}, "boot_to_pod_s": {Value: 42.6, Unit: "s"}} {
		var got bench.Figure
		if err := json.Unmarshal(doc[name], &got); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	var machine map[string]any
	if err := json.Unmarshal(doc["machine"], &machine); err != nil || machine["go"] == "old" || machine["load_now"] == nil {
		t.Errorf("machine: %v, %v", machine, err)
	}
}
