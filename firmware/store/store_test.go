package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCommitGetReopen(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceTwin, "a", "1")
	put(t, s, SpaceTwin, "b", "2")
	put(t, s, SpacePod, "a", "other space")
	remove(t, s, SpaceTwin, "b")
	want(t, s, SpaceTwin, "a", "1")
	wantNone(t, s, SpaceTwin, "b")
	mustClose(t, s)

	s = mustOpen(t, opt)
	want(t, s, SpaceTwin, "a", "1")
	want(t, s, SpacePod, "a", "other space")
	wantNone(t, s, SpaceTwin, "b")
	if r := s.Recovery(); !r.Clean() || r.String() != "" {
		t.Errorf("recovery of a sound store: %v", r)
	}
}

func TestCheckpointMovesTheLog(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	for i := range 50 {
		put(t, s, SpaceTwin, fmt.Sprint("k", i), strings.Repeat("v", i))
	}
	remove(t, s, SpaceTwin, "k7")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if segs := segments(t, opt.Dir); len(segs) != 0 {
		t.Errorf("log after the checkpoint: %v", segs)
	}
	if m := s.Metrics(); m.OverlayBytes != 0 || m.LogBytes != 0 || m.Checkpoints != 1 || m.CheckpointBytesWritten == 0 {
		t.Errorf("metrics after the checkpoint: %+v", m)
	}
	put(t, s, SpaceTwin, "k1", "after")
	remove(t, s, SpaceTwin, "k2")
	check := func() {
		t.Helper()
		want(t, s, SpaceTwin, "k1", "after")
		want(t, s, SpaceTwin, "k49", strings.Repeat("v", 49))
		wantNone(t, s, SpaceTwin, "k2")
		wantNone(t, s, SpaceTwin, "k7")
		if n := len(all(t, s)); n != 48 {
			t.Errorf("%d keys, want 48", n)
		}
	}
	check()
	epoch := s.Epoch()
	mustClose(t, s)
	s = mustOpen(t, opt)
	check()
	if s.Epoch() != epoch+1 {
		t.Errorf("epoch %d after %d", s.Epoch(), epoch)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	check()
	mustClose(t, s)
	s = mustOpen(t, opt)
	check()
	if r := s.Recovery(); !r.Clean() || r.Replayed != 0 {
		t.Errorf("recovery: %+v", r)
	}
}

func TestLazyIsVisibleAtOnceAndDurableInTheWindow(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for i := range 100 {
			var b Batch
			b.Put(SpaceTwin, "x", fmt.Append(nil, i))
			if err := s.CommitLazy(b); err != nil {
				t.Fatal(err)
			}
			want(t, s, SpaceTwin, "x", fmt.Sprint(i))
		}
		if f := s.Metrics().Frames; f != 0 {
			t.Errorf("%d frames before the window ended", f)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if m := s.Metrics(); m.Frames != 1 || m.LazyBytes != 0 {
			t.Errorf("after the window: %+v", m)
		}
		// A second window, while one is never awake.
		var b Batch
		b.Delete(SpaceTwin, "x")
		if err := s.CommitLazy(b); err != nil {
			t.Fatal(err)
		}
		wantNone(t, s, SpaceTwin, "x")
		time.Sleep(time.Second)
		synctest.Wait()
		if m := s.Metrics(); m.Frames != 2 {
			t.Errorf("after the second window: %+v", m)
		}
		wantNone(t, s, SpaceTwin, "x")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		mustClose(t, s)
	})
}

func TestLazyAndDurableKeepTheirOrder(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	lazy := func(v string) {
		t.Helper()
		var b Batch
		b.Put(SpaceTwin, "x", []byte(v))
		if err := s.CommitLazy(b); err != nil {
			t.Fatal(err)
		}
	}
	lazy("1")
	put(t, s, SpaceTwin, "x", "2")
	want(t, s, SpaceTwin, "x", "2")
	lazy("3")
	want(t, s, SpaceTwin, "x", "3")
	put(t, s, SpaceTwin, "y", "flushes x, too")
	mustClose(t, s)
	s = mustOpen(t, opt)
	want(t, s, SpaceTwin, "x", "3")
}

func TestConcurrentCommitsShareSyncs(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	const workers, each = 32, 20
	// While the log is held, all commits queue; then one write takes them all.
	s.takeLead()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				var b Batch
				b.Put(SpaceTwin, fmt.Sprintf("%d/%d", w, i), []byte("v"))
				if err := s.Commit(context.Background(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for {
		s.mu.Lock()
		n := len(s.queue)
		s.mu.Unlock()
		if n == workers {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s.dropLead()
	wg.Wait()
	m := s.Metrics()
	if m.Batches != workers*each || m.Frames > workers*each/2 {
		t.Errorf("%d batches in %d frames: no group commit", m.Batches, m.Frames)
	}
	if n := len(all(t, s)); n != workers*each {
		t.Errorf("%d keys, want %d", n, workers*each)
	}
	mustClose(t, s)
	s = mustOpen(t, opt)
	if n := len(all(t, s)); n != workers*each {
		t.Errorf("%d keys after reopening, want %d", n, workers*each)
	}
}

func TestCommitWithdrawnByContext(t *testing.T) {
	s := mustOpen(t, testOptions(t, t.TempDir()))
	s.takeLead()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		var b Batch
		b.Put(SpaceTwin, "x", []byte("1"))
		done <- s.Commit(ctx, b)
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	s.dropLead()
	put(t, s, SpaceTwin, "y", "1")
	wantNone(t, s, SpaceTwin, "x")
}

func TestLimits(t *testing.T) {
	s := mustOpen(t, testOptions(t, t.TempDir()))
	for name, fill := range map[string]func(*Batch){
		"value":   func(b *Batch) { b.Put(SpaceTwin, "x", make([]byte, MaxValue+1)) },
		"key":     func(b *Batch) { b.Put(SpaceTwin, strings.Repeat("k", MaxKey+1), nil) },
		"changes": func(b *Batch) { b.ops = make([]op, maxOps+1) },
		"batch": func(b *Batch) {
			for i := range 5 {
				b.Put(SpaceTwin, fmt.Sprint(i), make([]byte, MaxValue))
			}
		},
	} {
		var b Batch
		fill(&b)
		if err := s.Commit(context.Background(), b); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: Commit: %v", name, err)
		}
		if err := s.CommitLazy(b); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: CommitLazy: %v", name, err)
		}
	}
	var b Batch
	b.Put(Space(9), "x", nil)
	if err := s.Commit(context.Background(), b); err == nil || !strings.Contains(err.Error(), "space(9)") {
		t.Errorf("unknown space: %v", err)
	}
	// The largest batch goes through, and comes back.
	b = Batch{}
	for i := range 3 {
		b.Put(SpaceTwin, fmt.Sprint(i), make([]byte, MaxValue))
	}
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	dir := s.opt.Dir
	mustClose(t, s)
	s = mustOpen(t, testOptions(t, dir))
	want(t, s, SpaceTwin, "2", string(make([]byte, MaxValue)))
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, testOptions(t, dir))
	_, err := Open(context.Background(), testOptions(t, dir))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open: %v", err)
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, testOptions(t, dir)))
}

func TestClosedStoreRefusesWrites(t *testing.T) {
	s := mustOpen(t, testOptions(t, t.TempDir()))
	mustClose(t, s)
	mustClose(t, s)
	var b Batch
	b.Put(SpaceTwin, "x", nil)
	if err := s.Commit(context.Background(), b); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if err := s.CommitLazy(b); !errors.Is(err, ErrClosed) {
		t.Errorf("CommitLazy: %v", err)
	}
	if segs := segments(t, s.opt.Dir); len(segs) != 0 {
		t.Errorf("segments of an unused store: %v", segs)
	}
}

func TestScanPrefixAcrossLayers(t *testing.T) {
	s := mustOpen(t, testOptions(t, t.TempDir()))
	put(t, s, SpaceTwin, "a/1", "old")
	put(t, s, SpaceTwin, "a/2", "x")
	put(t, s, SpaceTwin, "b/1", "x")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	put(t, s, SpaceTwin, "a/1", "new")
	put(t, s, SpaceTwin, "a/0", "x")
	remove(t, s, SpaceTwin, "a/2")
	var b Batch
	b.Put(SpaceTwin, "a/3", []byte("lazy"))
	if err := s.CommitLazy(b); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := s.Scan(SpaceTwin, "a/", func(k string, v []byte) error { got = append(got, k+"="+string(v)); return nil })
	if err != nil || strings.Join(got, " ") != "a/0=x a/1=new a/3=lazy" {
		t.Errorf("Scan: %v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := s.Scan(SpaceTwin, "", func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Scan returned %v", err)
	}
}

func TestRunCheckpointsInTheBackground(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	opt.CheckpointBytes = 4 << 10
	s := mustOpen(t, opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for i := 0; s.Metrics().Checkpoints < 3; i++ {
		if time.Now().After(deadline) {
			t.Fatalf("no checkpoints: %+v", s.Metrics())
		}
		put(t, s, SpaceTwin, fmt.Sprint(i%10), strings.Repeat("x", 500))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	if n := len(segments(t, opt.Dir)); n > 2 {
		t.Errorf("%d segments left", n)
	}
	s = mustOpen(t, opt)
	if n := len(all(t, s)); n != 10 {
		t.Errorf("%d keys, want 10", n)
	}
}

func TestCrashLoopLeavesFewSegments(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	for i := range 3 * maxSegments {
		s := mustOpen(t, opt)
		put(t, s, SpaceMeta, "starts", fmt.Sprint(i))
		mustClose(t, s)
		if n := len(segments(t, opt.Dir)); n > maxSegments {
			t.Fatalf("%d segments after %d starts", n, i+1)
		}
	}
	want(t, mustOpen(t, opt), SpaceMeta, "starts", fmt.Sprint(3*maxSegments-1))
}

func TestDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	s := mustOpen(t, testOptions(t, dir))
	put(t, s, SpaceTwin, "x", "1")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the folder: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
}
