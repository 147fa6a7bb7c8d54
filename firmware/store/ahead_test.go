package store

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// powerCut copies what a store has on the disk: what a power cut leaves, if all was synced.
func powerCut(t *testing.T, opt Options) Options {
	t.Helper()
	cut := testOptions(t, t.TempDir())
	cut.Sealer = opt.Sealer
	for _, path := range segments(t, opt.Dir) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(cut.Dir, filepath.Base(path)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return cut
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestSmallFramesGoWhereZerosAre: a file that grows with each commit costs the file system's journal each time; so small frames are written where zeros have been written
// before, which is no finding after a power cut, and large ones are not.
func TestSmallFramesGoWhereZerosAre(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	const commits = 400
	sizes, value := map[int64]bool{}, bytes.Repeat([]byte("x"), 100)
	for i := range commits {
		var b Batch
		b.Put(SpaceTwin, fmt.Sprintf("device/%d", i), value)
		if err := s.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		sizes[sizeOf(t, segments(t, opt.Dir)[0])] = true
	}
	if most := int(s.wal.off/zeroAhead) + 2; len(sizes) > most {
		t.Errorf("the file grew %d times in %d commits, allowed are %d", len(sizes), commits, most)
	}
	cut := powerCut(t, opt)
	if size := sizeOf(t, segments(t, cut.Dir)[0]); size <= s.wal.off {
		t.Fatalf("the file has %d bytes, %d are frames: the test shows nothing", size, s.wal.off)
	}
	after := mustOpen(t, cut)
	if r := after.Recovery(); len(r.Findings) != 0 || r.Replayed != commits {
		t.Errorf("after a power cut: %v, %d frames", r.Findings, r.Replayed)
	}
	for i := range commits {
		if v, ok, err := after.Get(SpaceTwin, fmt.Sprintf("device/%d", i)); err != nil || !ok || !bytes.Equal(v, value) {
			t.Fatalf("commit %d: %v, %v", i, ok, err)
		}
	}
	end := s.wal.off
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if size := sizeOf(t, segments(t, opt.Dir)[0]); size != end {
		t.Errorf("after Close the file has %d bytes, %d are frames", size, end)
	}
	s = mustOpen(t, opt)
	for i := range 10 {
		put(t, s, SpaceTwin, fmt.Sprint(i), string(bytes.Repeat([]byte("x"), 2*smallFrame)))
	}
	if got := segments(t, opt.Dir); sizeOf(t, got[len(got)-1]) != s.wal.off {
		t.Errorf("zeros were written behind large frames: %d bytes, %d are frames", sizeOf(t, got[len(got)-1]), s.wal.off)
	}
}

// TestCutWhileTheNextSegmentIsBegun: the zeros behind the last frame of a segment are no damage if the one after it has no header yet; they are if its header says that there
// were more frames.
func TestCutWhileTheNextSegmentIsBegun(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceTwin, "a", "1")
	put(t, s, SpaceTwin, "b", "2")
	for name, c := range map[string]struct {
		header []byte
		clean  bool
	}{
		"nothing": {nil, true}, "a part of its header": {make([]byte, 20), true},
		"its header":                      {segHeader{id: 2, after: s.seq, epoch: 9, keyID: opt.Sealer.KeyID()}.append(nil), true},
		"a header that knows of one more": {segHeader{id: 2, after: s.seq + 1, epoch: 9, keyID: opt.Sealer.KeyID()}.append(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			cut := powerCut(t, opt)
			if err := os.WriteFile(filepath.Join(cut.Dir, segName(2)), c.header, 0o600); err != nil {
				t.Fatal(err)
			}
			after := mustOpen(t, cut)
			damaged := false
			for _, f := range after.Recovery().Findings {
				damaged = damaged || f.What == LogDamaged || f.What == LogGap
			}
			if damaged == c.clean {
				t.Errorf("findings: %v", after.Recovery().Findings)
			}
			for key, want := range map[string]string{"a": "1", "b": "2"} {
				if v, ok, err := after.Get(SpaceTwin, key); err != nil || !ok || string(v) != want {
					t.Errorf("%s: %q, %v, %v", key, v, ok, err)
				}
			}
		})
	}
}
