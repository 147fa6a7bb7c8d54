package userids

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func etc(t *testing.T, subuid, subgid string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"subuid": subuid, "subgid": subgid} {
		if text == "-" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefault(t *testing.T) {
	const podman = "pi:100000:65536\n"
	for name, c := range map[string]struct {
		subuid, subgid string
		first          []uint32 // the first blocks that are free
		err            string
	}{
		"no files":           {"-", "-", []uint32{65536, 131072}, ""},
		"others' are spared": {podman + "# a comment\n\n", podman, []uint32{196608, 262144}, ""},
		"others' groups":     {"", "pi:131072:1", []uint32{65536, 196608}, ""},
		"kubelet's":          {podman + "kubelet:655360:131072", "kubelet:655360:131072\n" + podman, []uint32{655360, 720896, 0}, ""},
		"kubelet's differ":   {"kubelet:655360:131072", "kubelet:655360:65536", nil, "one and the same range"},
		"kubelet's twice":    {"kubelet:655360:65536\nkubelet:65536:65536", "kubelet:655360:65536\nkubelet:65536:65536", nil, "one and the same range"},
		"only users":         {"kubelet:655360:131072", "", nil, "one and the same range"},
		"not aligned":        {"kubelet:100000:65536", "kubelet:100000:65536", nil, "a multiple of 65536"},
		"the machine's own":  {"kubelet:0:65536", "kubelet:0:65536", nil, "the machine's own root"},
		"too few":            {"kubelet:65536:1000", "kubelet:65536:1000", nil, "1000 ids"},
		"too many":           {"kubelet:65536:4294901760", "kubelet:65536:4294901760", nil, "beyond the last id"},
		"no number":          {"pi:x:1", "", nil, "line 1"},
		"no line":            {"", "pi\n", nil, "USER:FIRST:COUNT"},
		"negative":           {"pi:-1:1", "", nil, "line 1"},
		"endless":            {strings.Repeat("#\n", maxFile/2+1), "", nil, "more than"},
	} {
		s, err := Default(etc(t, c.subuid, c.subgid))
		if c.err != "" || err != nil {
			if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		taken := map[uint32]bool{}
		for _, want := range c.first {
			got, ok := s.Free(func(first uint32) bool { return taken[first] })
			if got != want || ok != (want != 0) {
				t.Errorf("%s: %d %v, want %d", name, got, ok, want)
			}
			taken[got] = true
		}
	}
}

// TestLastBlock: all blocks of the machine can be had, and no one of them holds the id that stands for none.
func TestLastBlock(t *testing.T) {
	s, err := Default(t.TempDir())
	if err != nil || s.Own.Check() != nil {
		t.Fatal(err, s.Own.Check())
	}
	blocks, last := 0, uint32(0)
	taken := map[uint32]bool{}
	for {
		first, ok := s.Free(func(at uint32) bool { return at <= last && last != 0 })
		if !ok {
			break
		}
		if taken[first] || first%Block != 0 || first == 0 {
			t.Fatalf("block %d", first)
		}
		taken[first], last, blocks = true, first, blocks+1
		if blocks == 3 { // the ones between are like them
			last = 1<<32 - 4*Block
		}
	}
	if blocks != 5 || last != 1<<32-2*Block {
		t.Errorf("%d blocks, the last begins at %d", blocks, last)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("pi:100000:65536\nkubelet:65536:65536\n"))
	f.Add([]byte("a:1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parse(text)
		if err != nil && entries != nil {
			t.Error("entries beside an error")
		}
		s := Space{Own: Range{Block, 4 * Block}}
		for _, e := range entries {
			s.Others = append(s.Others, e.ids)
		}
		if first, ok := s.Free(func(uint32) bool { return false }); ok && (first < Block || first+Block > 5*Block || first%Block != 0) {
			t.Errorf("block %d", first)
		}
	})
}
