//go:build integration

package powercut

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edit replaces text, which must be there exactly once, in a file of package store.
type edit struct{ file, old, mutated string }

// TestMutants is the proof that the campaign's workloads reach what keeps a segment that is written over an earlier one from being taken for both: each mutant of the store lacks
// some of it, and is noticed.
func TestMutants(t *testing.T) {
	// Three things keep an earlier segment's frames from counting, each alone: the checksum covers the segment's number, a segment has no sequence that
	// was used before it, and replay takes none that the checkpoint has.
	stale := []edit{
		{"frame.go", "binary.LittleEndian.PutUint64(seed[:], segID)", "_ = segID"},
		{"segment.go", "if err == nil && seq > res.last {", "if err == nil {"},
		{"segment.go", "seq <= last || seq-last > maxJump", "seq > last+maxJump"},
		{"replay.go", "if seq > g.limit || seq <= res.last {", "if seq > g.limit {"},
		{"replay.go", "seq != res.last+1 && (res.frames", "seq > res.last+1 && (res.frames"},
	}
	for name, edits := range map[string][]edit{
		"frames of an earlier segment count": stale,
		"a segment is used again before its checkpoint is there": {
			{"checkpoint.go", "	err := s.writeCheckpoint()\n", "	s.takeLead()\n	_ = s.thaw()\n	s.dropLead()\n	err := s.writeCheckpoint()\n"},
			{"checkpoint.go", "	for k, r := range s.frozen {\n		s.overlay -= recSize(k, r)\n	}\n	s.frozen = nil\n", ""},
		},
		"the name comes before the header": {
			{"spare.go", "		err = f.Datasync()\n	}\n", "	}\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Run(t.Context(), Options{Cuts: 100, Windows: 45, Hours: 2, Seed: 3, Program: mutant(t, edits)})
			if err != nil {
				t.Fatal(err)
			}
			if res.Failed == 0 {
				t.Errorf("%d cuts, and nobody noticed", res.Cuts+res.DayCuts)
			}
			t.Logf("%d of %d cuts failed", res.Failed, res.Cuts+res.DayCuts)
		})
	}
}

// mutant builds this test with a changed store.
func mutant(t *testing.T, edits []edit) string {
	t.Helper()
	dir, replace := t.TempDir(), map[string]string{}
	for _, e := range edits {
		path, err := filepath.Abs(filepath.Join("..", "..", "firmware", "store", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if replace[path] != "" {
			from = replace[path]
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), e.old); n != 1 {
			t.Fatalf("%s has %q %d times: the mutant must follow the store", e.file, e.old, n)
		}
		replace[path] = filepath.Join(dir, e.file)
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(b), e.old, e.mutated, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "integration", "-overlay", list, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the mutant: %v\n%s", err, out)
	}
	return program
}
