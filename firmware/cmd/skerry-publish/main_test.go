package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/update/chunks"
)

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	image := make([]byte, 2<<20)
	for i := range image {
		image[i] = byte(r.Uint32())
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := write("old.img", image)
	changed := bytes.Clone(image)
	clear(changed[1<<20 : 1<<20+1000])
	bundle := write("new.raucb", changed)
	report := filepath.Join(dir, "bench", "delta.json")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-against", old, "-report", report, bundle}, &out, &out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "new"+chunks.IndexSuffix))
	if err != nil {
		t.Fatal(err)
	}
	x, err := chunks.ParseIndex(text)
	if err != nil || x.Size != int64(len(changed)) {
		t.Fatalf("index %+v, %v", x, err)
	}
	var figures struct {
		Ratio float64 `json:"delta_ratio"`
	}
	if text, err = os.ReadFile(report); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &figures); err != nil || figures.Ratio <= 0 || figures.Ratio > 0.1 || !strings.Contains(out.String(), "delta_ratio 0.0") {
		t.Errorf("figures %s (%v); said %s", text, err, out.String())
	}
	if err := run(t.Context(), nil, &out, &out); err == nil {
		t.Error("nothing was published, and all is well")
	}
}
