package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// used makes a store whose segment is written over an earlier one, which had n frames; it holds "kept", and not the deleted keys "gone-…".
func used(t *testing.T, opt Options, n int) *Store {
	t.Helper()
	s := mustOpen(t, opt)
	for i := range n {
		put(t, s, SpaceTwin, fmt.Sprint("gone-", i%7), strings.Repeat("old", 20))
	}
	put(t, s, SpaceTwin, "kept", "1")
	for i := range 7 {
		remove(t, s, SpaceTwin, fmt.Sprint("gone-", i))
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	return s
}

func spares(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, sparePrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestSegmentsAreUsedAgain: from the third segment on no file is made, none grows, and none shrinks.
func TestSegmentsAreUsedAgain(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := used(t, opt, 100)
	spare := spares(t, opt.Dir)
	if len(spare) != 1 || len(segments(t, opt.Dir)) != 0 {
		t.Fatalf("after a checkpoint: %v and %v", spare, segments(t, opt.Dir))
	}
	before, err := os.Stat(spare[0])
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		for i := range 20 {
			put(t, s, SpaceTwin, fmt.Sprint("round-", i), fmt.Sprint(round))
		}
		after, err := os.Stat(oneSegment(t, opt.Dir))
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(before, after) || after.Size() != before.Size() || len(spares(t, opt.Dir)) != 0 {
			t.Fatalf("round %d: another file, or %d bytes after %d", round, after.Size(), before.Size())
		}
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, SpaceTwin, "last", "x")
	want := all(t, s)
	mustClose(t, s)
	s = mustOpen(t, opt)
	if got := all(t, s); !maps.Equal(got, want) || len(s.Recovery().Findings) != 0 {
		t.Errorf("after a restart %v, want %v; %v", got, want, s.Recovery())
	}
	put(t, s, SpaceTwin, "a new file, since the other one still counts", "x")
	if n := len(segments(t, opt.Dir)); n != 2 {
		t.Errorf("%d segments", n)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if got := spares(t, opt.Dir); len(got) != 1 || sizeOf(t, got[0]) != before.Size() {
		t.Errorf("the largest is not the spare: %v", got)
	}
}

// TestWhatASegmentLeftNeverCounts cuts the last frame of a segment that was written over another at each byte: the rest of the old one's frames, whole ones among them, shows through,
// and nothing that was deleted comes back.
func TestWhatASegmentLeftNeverCounts(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := used(t, opt, 100)
	old, err := os.ReadFile(spares(t, opt.Dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, SpaceTwin, "kept", "2")
	from := s.wal.off
	put(t, s, SpaceTwin, "kept", "3")
	end := s.wal.off
	mustClose(t, s)
	path := oneSegment(t, opt.Dir)
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for at := from; at <= end; at++ {
		dir := copyDir(t, opt.Dir)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), append(bytes.Clone(now[:at]), old[at:]...), 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, fastOptions(t, dir))
		value := "2"
		if at == end {
			value = "3"
		}
		if got := all(t, s); len(got) != 1 || got["twin kept"] != value {
			t.Fatalf("cut at %d of %d to %d: %v", at, from, end, got)
		}
		if !s.Recovery().Clean() {
			t.Errorf("cut at %d: %v", at, s.Recovery())
		}
		torn += len(s.Recovery().Findings)
		put(t, s, SpaceTwin, "after", "x")
		mustClose(t, s)
		s = mustOpen(t, fastOptions(t, dir))
		if got := all(t, s); len(got) != 2 || len(s.Recovery().Findings) != 0 {
			t.Fatalf("cut at %d, and opened again: %v, %v", at, got, s.Recovery())
		}
		mustClose(t, s)
		_ = os.RemoveAll(dir)
	}
	if most := int(end - from - frameHeader - 8); torn != most {
		t.Errorf("%d cuts were told as a torn write, of %d that show that there was one", torn, most)
	}
}

// TestBitFlipsInASegmentThatIsUsedAgain flips a bit in every byte that counts: nothing comes back that was deleted, one frame is lost at most, and that is noticed
// unless it is the last one, which looks as if it had never been.
func TestBitFlipsInASegmentThatIsUsedAgain(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := used(t, opt, 60)
	for i := range 4 {
		put(t, s, SpaceTwin, fmt.Sprint("new-", i), "x")
	}
	last, end := int64(0), s.wal.off
	put(t, s, SpaceTwin, "new-4", "x")
	last, end = end, s.wal.off
	mustClose(t, s)
	eachFlip(t, opt, int(end), func(at int, s *Store, got map[string]string) {
		for key := range got {
			if strings.HasPrefix(key, "twin gone") {
				t.Fatalf("flip at %d: %s is back", at, key)
			}
		}
		if len(got) < 5 {
			t.Fatalf("flip at %d: %v", at, got)
		}
		if len(s.Recovery().Findings) == 0 && at < int(last) {
			t.Errorf("flip at %d was not noticed", at)
		}
	})
}

// TestCutWhileASpareBecomesASegment: the header of a new segment can be on the disk without its name. Its number is then not used again, and several spares leave one.
func TestCutWhileASpareBecomesASegment(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := used(t, opt, 30)
	spare := spares(t, opt.Dir)[0]
	put(t, s, SpaceTwin, "new", "x")
	id := s.wal.id
	mustClose(t, s)
	b, err := os.ReadFile(oneSegment(t, opt.Dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string][]byte{"whole": b[:segHeaderSize+17], "torn": b[:20]} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, opt.Dir)
			if err := os.Remove(oneSegment(t, dir)); err != nil {
				t.Fatal(err)
			}
			file := append(bytes.Clone(head), b[len(head):]...)
			if name == "torn" {
				copy(file[20:], bytes.Repeat([]byte{0xa5}, 24))
			}
			small := filepath.Join(dir, spareName(1<<20))
			for path, content := range map[string][]byte{filepath.Join(dir, filepath.Base(spare)): file, small: nil} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := mustOpen(t, fastOptions(t, dir))
			if r := s.Recovery(); len(r.Findings) != 0 {
				t.Errorf("findings: %v", r)
			}
			if got := spares(t, dir); len(got) != 1 || filepath.Base(got[0]) != filepath.Base(spare) {
				t.Errorf("spares: %v", got)
			}
			put(t, s, SpaceTwin, "after", "x")
			if s.wal.id <= max(id, 1<<20) || !s.wal.reused {
				t.Errorf("segment %d after %d, over the spare: %v", s.wal.id, id, s.wal.reused)
			}
			mustClose(t, s)
			s = mustOpen(t, fastOptions(t, dir))
			if got := all(t, s); len(got) != 2 || got["twin kept"] != "1" || got["twin after"] != "x" {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestFullDiskIsNoMatterForASpare: a segment over a spare needs no room.
func TestFullDiskIsNoMatterForASpare(t *testing.T) {
	f := &faultFS{err: syscall.ENOSPC}
	opt := fastOptions(t, t.TempDir())
	opt.fs = noNewFiles{f}
	s := mustOpen(t, opt)
	for i := range 50 {
		put(t, s, SpaceTwin, fmt.Sprint(i), "x")
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	f.from, f.last = f.calls, 1<<30 // from now on no file can be made
	for i := range 30 {
		put(t, s, SpaceTwin, fmt.Sprint(i), "y")
	}
	mustClose(t, s)
}

// noNewFiles fails only where a file is made.
type noNewFiles struct{ f *faultFS }

func (n noNewFiles) create(path string) (file, error) {
	if err := n.f.fail(); err != nil {
		return nil, err
	}
	return osFS{}.create(path)
}
func (n noNewFiles) open(path string) (file, error)    { return lazyFS{}.open(path) }
func (n noNewFiles) remove(path string) error          { return osFS{}.remove(path) }
func (n noNewFiles) rename(from, to string) error      { return osFS{}.rename(from, to) }
func (n noNewFiles) syncDir(string) error              { return nil }
func (n noNewFiles) list(dir string) ([]string, error) { return osFS{}.list(dir) }

// TestSpareThatFails: whichever step of taking the spare fails, a new file does, and nothing is lost.
func TestSpareThatFails(t *testing.T) {
	for from := 0; ; from++ {
		f := &faultFS{err: syscall.EIO, truncates: true}
		opt := fastOptions(t, t.TempDir())
		opt.fs = f
		s := used(t, opt, 30)
		f.from, f.last = f.calls+from, 1
		var b Batch
		b.Put(SpaceTwin, "new", []byte("x"))
		err := s.Commit(context.Background(), b)
		if f.calls <= f.from {
			mustClose(t, s)
			if from < 3 {
				t.Errorf("only %d steps can fail", from)
			}
			return
		}
		if from < 3 && (err != nil || s.wal.reused) {
			t.Errorf("step %d: %v, over the spare: %v", from, err, s.wal.reused)
		}
		if err != nil {
			put(t, s, SpaceTwin, "new", "x")
		}
		put(t, s, SpaceTwin, "newer", "x")
		mustClose(t, s)
		s = mustOpen(t, fastOptions(t, opt.Dir))
		if got := all(t, s); len(got) != 3 || !s.Recovery().Clean() {
			t.Errorf("step %d: %v, %v", from, got, s.Recovery())
		}
		mustClose(t, s)
	}
}

// TestTailThatCannotBeCutOff: a file system that copies on write needs room even for that, and a full one must not keep the agent from starting.
func TestTailThatCannotBeCutOff(t *testing.T) {
	for name, tail := range map[string][]byte{"zeros": make([]byte, 100), "a torn write": bytes.Repeat([]byte{7}, 100)} {
		t.Run(name, func(t *testing.T) {
			opt := fastOptions(t, t.TempDir())
			s := mustOpen(t, opt)
			put(t, s, SpaceTwin, "a", "1")
			mustClose(t, s)
			path := oneSegment(t, opt.Dir)
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, append(b, tail...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			full := fastOptions(t, opt.Dir)
			full.fs = &faultFS{last: 1 << 30, err: syscall.ENOSPC, truncates: true}
			s, err = Open(context.Background(), full)
			if err != nil {
				t.Fatalf("Open on a full disk: %v", err)
			}
			want(t, s, SpaceTwin, "a", "1")
			if n := len(s.Recovery().Findings); n != len(tail)/100-bytes.Count(tail[:1], []byte{0}) {
				t.Errorf("findings: %v", s.Recovery())
			}
			mustClose(t, s)
			s = mustOpen(t, opt)
			want(t, s, SpaceTwin, "a", "1")
			put(t, s, SpaceTwin, "b", "1")
			mustClose(t, s)
			s = mustOpen(t, opt)
			if len(s.Recovery().Findings) != 0 {
				t.Errorf("with room: %v", s.Recovery())
			}
		})
	}
}

// TestNoZerosAfterAFailedSync: on a full disk it may be the zeros that there is no room for.
func TestNoZerosAfterAFailedSync(t *testing.T) {
	f := &faultFS{err: syscall.ENOSPC}
	opt := fastOptions(t, t.TempDir())
	opt.fs = f
	s := mustOpen(t, opt)
	put(t, s, SpaceTwin, "a", "1")
	f.from, f.last = f.calls+1, 1 // the next frame's write succeeds, its sync does not
	var b Batch
	b.Put(SpaceTwin, "b", nil)
	if err := s.Commit(context.Background(), b); err == nil {
		t.Fatal("the sync did not fail")
	}
	put(t, s, SpaceTwin, "b", "1")
	segs := segments(t, opt.Dir)
	if size := sizeOf(t, segs[len(segs)-1]); size != s.wal.off {
		t.Errorf("after a failed sync the file has %d bytes, %d are frames", size, s.wal.off)
	}
	put(t, s, SpaceTwin, "c", "1")
	if size := sizeOf(t, segs[len(segs)-1]); size <= s.wal.off {
		t.Errorf("after one that succeeded the file has %d bytes, %d are frames", size, s.wal.off)
	}
}
