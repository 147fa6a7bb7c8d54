package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestQuantile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5, 0.2: 1, 0.4: 2} {
		if got := Quantile(v, q); got != want {
			t.Errorf("Quantile(%v, %v) = %v, want %v", v, q, got, want)
		}
	}
	if got := Median(nil); got != 0 {
		t.Errorf("Median of nothing = %v", got)
	}
	if v[0] != 5 {
		t.Error("Quantile sorted its caller's slice")
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := New("x", &out)
	r.Add("a_mb", 1.5, "MB")
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "a_mb 1.5 MB\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	b, err := os.ReadFile(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["a_mb"]["value"] != 1.5 || doc["a_mb"]["unit"] != "MB" {
		t.Errorf("a_mb = %v", doc["a_mb"])
	}
	if doc["machine"]["go"] == nil {
		t.Error("the machine is not described")
	}
}
