package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// history makes a store of n keyed frames beyond a checkpoint of c, closes it, and returns its state after each frame.
func history(t *testing.T, opt Options, c, n int) []map[string]string {
	t.Helper()
	s := mustOpen(t, opt)
	step := func(i int) {
		if i%5 == 4 {
			remove(t, s, SpaceTwin, fmt.Sprint("k", i-1))
			return
		}
		var b Batch
		b.Put(SpaceTwin, fmt.Sprint("k", i), fmt.Appendf(nil, "value %d", i))
		b.Put(SpaceMeta, "last", fmt.Append(nil, i))
		if err := s.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c {
		step(i)
	}
	if c > 0 {
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	states := []map[string]string{all(t, s)}
	for i := range n {
		step(c + i)
		states = append(states, all(t, s))
	}
	mustClose(t, s)
	return states
}

func oneSegment(t *testing.T, dir string) string {
	t.Helper()
	segs := segments(t, dir)
	if len(segs) != 1 {
		t.Fatalf("segments: %v", segs)
	}
	return segs[0]
}

func TestTornTailAtEveryByte(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	states := history(t, opt, 7, 4)
	path := oneSegment(t, opt.Dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, garbage := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		seen := map[int]bool{}
		step := 1 + 6*min(1, len(garbage))
		for cut := len(whole); cut >= 0; cut -= step {
			dir := copyDir(t, opt.Dir)
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), append(whole[:cut:cut], garbage...), 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, fastOptions(t, dir))
			got := all(t, s)
			at := -1
			for i, st := range states {
				if maps.Equal(st, got) {
					at = i
				}
			}
			if at < 0 {
				t.Fatalf("cut at %d of %d: the state is none that ever was: %v", cut, len(whole), got)
			}
			seen[at] = true
			if !s.Recovery().Clean() && cut >= segHeaderSize {
				t.Errorf("cut at %d: %v", cut, s.Recovery())
			}
			// The store goes on, and what follows the tear is found again.
			put(t, s, SpacePod, "after", "x")
			mustClose(t, s)
			s = mustOpen(t, fastOptions(t, dir))
			want(t, s, SpacePod, "after", "x")
			if len(s.Recovery().Findings) > 0 {
				t.Fatalf("cut at %d: found again: %v", cut, s.Recovery())
			}
			mustClose(t, s)
			_ = os.RemoveAll(dir)
		}
		if step == 1 && len(seen) != len(states) {
			t.Errorf("cuts led to %d states of %d", len(seen), len(states))
		}
	}
}

// TestBitFlipsInTheLog flips a bit in every byte: what comes up is the whole history, or it without the frame that was hit.
func TestBitFlipsInTheLog(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	states := history(t, opt, 0, 5)
	final := states[len(states)-1]
	eachFlip(t, opt, -1, func(at int, s *Store, got map[string]string) {
		lost := 0
		for k, v := range final {
			if got[k] != v {
				lost++
			}
		}
		// One frame holds two records; a lost deletion shows as one key too many.
		if lost > 2 || len(got) > len(final)+1 {
			t.Fatalf("flip at %d: %v of %v", at, got, final)
		}
		if len(s.Recovery().Findings) == 0 {
			t.Errorf("flip at %d was not noticed", at)
		}
	})
}

func TestDamagedSegmentIsSetAside(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	for range keptDamaged + 2 {
		s := mustOpen(t, opt)
		put(t, s, SpaceTwin, "a", "1")
		put(t, s, SpaceTwin, "b", "1")
		put(t, s, SpaceTwin, "a", "2")
		mustClose(t, s)
		path := oneSegment(t, opt.Dir)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[segHeaderSize+frameHeader+20] ^= 4
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, opt)
		want(t, s, SpaceTwin, "a", "2")
		want(t, s, SpaceTwin, "b", "1")
		if r := s.Recovery().String(); !strings.Contains(r, string(LogDamaged)) || !strings.Contains(r, filepath.Base(path)) {
			t.Errorf("recovery: %v", r)
		}
		mustClose(t, s)
	}
	aside, err := filepath.Glob(filepath.Join(opt.Dir, "*.damaged-*"))
	if err != nil || len(aside) != keptDamaged {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// checkpointed makes a closed store with n records in bbolt only.
func checkpointed(t *testing.T, opt Options, n int) map[string]string {
	t.Helper()
	s := mustOpen(t, opt)
	var b Batch
	for i := range n {
		b.Put(Spaces()[i%5], fmt.Sprintf("key-%04d", i), bytes.Repeat([]byte{byte(i)}, 40+i%200))
	}
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	m := all(t, s)
	mustClose(t, s)
	return m
}

// subset checks that got has nothing that was never in full, and returns how much is missing.
func subset(t *testing.T, got, full map[string]string) int {
	t.Helper()
	for k, v := range got {
		if full[k] != v {
			t.Fatalf("%s = %q was never stored", k, v)
		}
	}
	return len(full) - len(got)
}

func TestBitFlipsInTheCheckpoint(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	full := checkpointed(t, opt, 160)
	whole, err := os.ReadFile(filepath.Join(opt.Dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var places []int
	for page := 0; page < len(whole); page += 4096 {
		if page > 0 && bytes.Count(whole[page:page+4096], []byte{0}) == 4096 {
			continue
		}
		for i := page / 4096 % 3; i < 24; i += 3 { // the page's header and its first elements
			places = append(places, page+i)
		}
		places = append(places, page+24+rng.IntN(200), page+rng.IntN(4096), page+rng.IntN(4096))
	}
	for _, at := range places {
		dir := copyDir(t, opt.Dir)
		b := bytes.Clone(whole)
		b[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(filepath.Join(dir, dbName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, fastOptions(t, dir))
		got := all(t, s)
		lost := subset(t, got, full)
		if lost > 0 && len(s.Recovery().Findings) == 0 {
			t.Fatalf("flip at %d: %d records are missing and nothing was noticed", at, lost)
		}
		put(t, s, SpacePod, "after", "x")
		if err := s.Checkpoint(); err != nil {
			t.Fatalf("flip at %d: %v", at, err)
		}
		mustClose(t, s)
		s = mustOpen(t, fastOptions(t, dir))
		got["pod after"] = "x"
		if again := all(t, s); !maps.Equal(again, got) || len(s.Recovery().Findings) > 0 {
			t.Fatalf("flip at %d: a second start finds %d records of %d, %v", at, len(again), len(got), s.Recovery())
		}
		mustClose(t, s)
		_ = os.RemoveAll(dir)
	}
}

func TestTruncatedCheckpoint(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	full := checkpointed(t, opt, 160)
	s := mustOpen(t, opt)
	put(t, s, SpaceTwin, "in the log", "kept")
	born := s.Epoch()
	mustClose(t, s)
	full["twin in the log"] = "kept"
	whole, err := os.ReadFile(filepath.Join(opt.Dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 79, 80, 4096, 4200, 8192, 12288, len(whole) / 2, 40000} {
		dir := copyDir(t, opt.Dir)
		if err := os.WriteFile(filepath.Join(dir, dbName), whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, fastOptions(t, dir))
		got := all(t, s)
		if lost := subset(t, got, full); lost > 0 && s.Recovery().Clean() {
			t.Errorf("cut to %d: %d records are missing and nothing was noticed", size, lost)
		}
		if got["twin in the log"] != "kept" {
			t.Errorf("cut to %d: the log was lost", size)
		}
		if epoch := s.Epoch(); epoch <= born {
			t.Errorf("cut to %d: epoch %d after %d", size, epoch, born)
		}
		aside, _ := filepath.Glob(filepath.Join(dir, dbName+".damaged-*"))
		if !s.Recovery().Clean() && len(aside) != 1 {
			t.Errorf("cut to %d: set aside: %v", size, aside)
		}
		mustClose(t, s)
		_ = os.RemoveAll(dir)
	}
}

// TestShreddedCheckpoint opens files with many random changes; it must neither crash nor make anything up.
func TestShreddedCheckpoint(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	full := checkpointed(t, opt, 120)
	whole, err := os.ReadFile(filepath.Join(opt.Dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:min(len(whole), 64<<10)]
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := bytes.Clone(whole)
		for range 1 + rng.IntN(30) {
			switch at := rng.IntN(len(b)); rng.IntN(3) {
			case 0:
				b[at] = byte(rng.Uint32())
			case 1: // a page in another's place
				copy(b[at&^4095:], bytes.Clone(b[(rng.IntN(len(b)) &^ 4095):][:4096]))
			case 2: // a header field
				b[at&^4095+rng.IntN(32)] = byte(rng.Uint32())
			}
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, dbName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, fastOptions(t, dir))
		subset(t, all(t, s), full)
		put(t, s, SpacePod, "after", "x")
		if err := s.Checkpoint(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		mustClose(t, s)
		_ = os.RemoveAll(dir)
	}
}

func TestInterruptedRebuildIsFinished(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	full := checkpointed(t, opt, 50)
	// Between setting the damaged file aside and the new one taking its place.
	if err := os.Rename(filepath.Join(opt.Dir, dbName), filepath.Join(opt.Dir, newName)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, opt)
	if got := all(t, s); !maps.Equal(got, full) {
		t.Errorf("%d records of %d", len(got), len(full))
	}
	mustClose(t, s)
	// Before: the new file does not count.
	if err := os.WriteFile(filepath.Join(opt.Dir, newName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, opt)
	if got := all(t, s); !maps.Equal(got, full) || !s.Recovery().Clean() {
		t.Errorf("%d records of %d, %v", len(got), len(full), s.Recovery())
	}
}

func TestLostCheckpointIsNoticed(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	history(t, opt, 5, 3)
	if err := os.Remove(filepath.Join(opt.Dir, dbName)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, opt)
	want(t, s, SpaceMeta, "last", "7")
	if r := s.Recovery(); r.Clean() || r.Findings[0].What != LogGap {
		t.Errorf("recovery: %v", r)
	}
}
