package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// beats notes what a store says of its disk.
type beats struct {
	mu    sync.Mutex
	said  []string // "alive", or an error's text
	alive int
}

func (b *beats) Alive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alive++
	b.said = append(b.said, "alive")
}

func (b *beats) Failing(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, err.Error())
}

func (b *beats) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.said
	b.said = nil
	return out
}

// watched runs a store that is watched, in a bubble of its own time.
func watched(t *testing.T, f *faultFS, test func(t *testing.T, s *Store, b *beats)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := new(beats)
		opt := fastOptions(t, dir)
		opt.fs, opt.Beat = f, b
		s, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(t, s, b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestIdleStoreProvesItsDisk(t *testing.T) {
	f := &faultFS{}
	watched(t, f, func(t *testing.T, _ *Store, b *beats) {
		b.take()
		before := f.made()
		time.Sleep(10*probeEvery + time.Second)
		synctest.Wait()
		said := b.take()
		if len(said) != 10 || slices.ContainsFunc(said, func(s string) bool { return s != "alive" }) {
			t.Errorf("said %q", said)
		}
		if f.made()-before != 10 {
			t.Errorf("%d calls of the disk in 10 rounds, want one sync each", f.made()-before)
		}
	})
}

func TestStoreInUseIsNotProbed(t *testing.T) {
	f := &faultFS{}
	watched(t, f, func(t *testing.T, s *Store, b *beats) {
		b.take()
		for range 20 {
			var batch Batch
			batch.Put(SpaceTwin, "k", []byte("v"))
			if err := s.Commit(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			time.Sleep(probeEvery / 2)
		}
		syncs := s.count.fsyncs.Load()
		if syncs != 20+2+1 { // those of the commits, of the new segment, and of the first look at the disk
			t.Errorf("%d syncs for 20 commits", syncs)
		}
		if n := len(b.take()); n < 9 {
			t.Errorf("%d signs of life", n)
		}
	})
}

func TestFailingSyncIsTold(t *testing.T) {
	f := &faultFS{}
	watched(t, f, func(t *testing.T, s *Store, b *beats) {
		b.take()
		f.begin(1<<30, syscall.EIO)
		time.Sleep(4*probeEvery + time.Second)
		synctest.Wait()
		said := b.take()
		if len(said) < 3 || !strings.Contains(said[len(said)-1], "input/output error") || slices.Contains(said, "alive") {
			t.Errorf("said %q", said)
		}
		if s.Err() == nil {
			t.Error("Err does not tell of it")
		}
		f.begin(0, nil) // the card answers again
		time.Sleep(2*probeEvery + time.Second)
		synctest.Wait()
		if said = b.take(); len(said) == 0 || said[len(said)-1] != "alive" || s.Err() != nil {
			t.Errorf("said %q, error %v", said, s.Err())
		}
	})
}

// A reset does not make room on a disk, and whether it mends one that is read-only is another's business.
func TestFullDiskIsNoWedge(t *testing.T) {
	for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS} {
		t.Run(cause.Error(), func(t *testing.T) { diskIsNoWedge(t, cause) })
	}
}

func diskIsNoWedge(t *testing.T, cause syscall.Errno) {
	f := &faultFS{}
	watched(t, f, func(t *testing.T, s *Store, b *beats) {
		b.take()
		f.begin(1<<30, cause)
		for range 4 {
			var batch Batch
			batch.Put(SpaceTwin, "k", []byte("v"))
			if err := s.Commit(t.Context(), batch); err == nil {
				t.Fatal("a full disk took a commit")
			}
			time.Sleep(probeEvery)
		}
		f.begin(0, nil)
		if said := b.take(); len(said) < 3 || slices.ContainsFunc(said, func(s string) bool { return s != "alive" }) {
			t.Errorf("said %q", said)
		}
	})
}

// hungFS has syncs that do not return until the test lets them.
type hungFS struct {
	faultFS
	hang chan struct{} // nil: they return
}

func (f *hungFS) create(path string) (file, error) {
	inner, err := f.faultFS.create(path)
	return &hungFile{inner, f}, err
}

func (f *hungFS) syncDir(string) error {
	if f.hang != nil {
		<-f.hang
	}
	return nil
}

type hungFile struct {
	file
	fs *hungFS
}

func (f *hungFile) Datasync() error { return f.fs.syncDir("") }

func TestHungSyncIsSilence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b, f := new(beats), new(hungFS)
		opt := fastOptions(t, dir)
		opt.fs, opt.Beat = f, b
		s, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		f.hang = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2 * time.Minute)
		if said := b.take(); len(said) > 0 {
			t.Errorf("said %q while a sync hangs", said)
		}
		close(f.hang)
		synctest.Wait()
		if said := b.take(); len(said) == 0 {
			t.Error("no sign of life after it came back")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
