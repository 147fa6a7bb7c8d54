package kubeedge

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// The integration tests in hil-tests/api send these documents through a real API server. They are files, because that test
// lives in the main module, which does not know KubeEdge's types. UPDATE=1 go test ./... writes them again.
func TestGoldenDocuments(t *testing.T) {
	for _, p := range pairs {
		doc, _ := filled(t, p.kind, p.theirs())
		want, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		path := filepath.Join("..", "..", "api", "testdata", p.kind+".json")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what KubeEdge's types fill to (%v): run UPDATE=1 go test ./...", path, err)
		}
	}
}
