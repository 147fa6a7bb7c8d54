package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/skerry/skerry/firmware/store/storetest"
)

// powerFS forgets, when the power is cut, what was written to the log and not synced, and files whose directory was not synced.
type powerFS struct {
	osFS
	mu     sync.Mutex
	synced map[string]int64 // by path: bytes that are durable
	fresh  map[string]bool  // files whose names are not
	err    error            // writes fail with it
}

func (p *powerFS) failing() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *powerFS) create(path string) (file, error) {
	if err := p.failing(); err != nil {
		return nil, err
	}
	f, err := p.osFS.create(path)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced[path], p.fresh[path] = 0, true
	return &powerFile{f, p, path}, nil
}

func (p *powerFS) open(path string) (file, error) {
	f, err := p.osFS.open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.synced[path]; !known {
		p.synced[path] = size
	}
	return &powerFile{f, p, path}, nil
}

func (p *powerFS) syncDir(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.fresh)
	return nil
}

// cut leaves on the disk what is durable.
func (p *powerFS) cut() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, size := range p.synced {
		var err error
		if p.fresh[path] {
			err = os.Remove(path)
		} else {
			err = os.Truncate(path, size)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	p.synced, p.fresh = map[string]int64{}, map[string]bool{}
	return nil
}

type powerFile struct {
	file
	fs   *powerFS
	path string
}

func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.failing(); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

func (f *powerFile) Datasync() error {
	if err := f.fs.failing(); err != nil {
		return err
	}
	size, err := f.Size()
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.synced[f.path] = size
	return err
}

func (f *powerFile) Truncate(size int64) error {
	err := f.file.Truncate(size)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.synced[f.path] = min(f.fs.synced[f.path], size)
	return err
}

// realSubject puts a Store under the suite.
type realSubject struct {
	opt    Options
	fs     *powerFS
	limits OutboxLimits
	s      *Store
	o      *Outbox
}

func (r *realSubject) Open(t *testing.T) (storetest.Desired, storetest.Outbox) {
	t.Helper()
	s, err := Open(context.Background(), r.opt)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	if r.o, err = NewOutbox(s, r.limits); err != nil {
		t.Fatal(err)
	}
	return mustDesired(t, s), r.o
}

func (r *realSubject) Dropped() uint64 { return r.o.Stats().Dropped }

// Crash leaves the store as it is, without a Close, and lets go of what the kernel would let go of.
func (r *realSubject) Crash(t *testing.T) {
	t.Helper()
	r.s.mu.Lock()
	r.s.closed = true
	db := r.s.db
	r.s.mu.Unlock()
	if db != nil { // there is one after the first checkpoint
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.s.lock.release(), r.fs.cut()); err != nil {
		t.Fatal(err)
	}
}

func (r *realSubject) Window(t *testing.T) {
	t.Helper()
	if err := r.s.flushAll(); err != nil {
		t.Fatal(err)
	}
}

func (r *realSubject) Fail(err error) {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	r.fs.err = err
}

// TestContract holds the store to the suite that simulators' models are held to, too.
func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, limits storetest.Limits) storetest.Subject {
		fs := &powerFS{synced: map[string]int64{}, fresh: map[string]bool{}}
		opt := testOptions(t, filepath.Join(t.TempDir(), "store"))
		opt.fs, opt.noSync = fs, true
		opt.CheckpointBytes = 8 << 10 // so that some histories span checkpoints
		r := &realSubject{opt: opt, fs: fs, limits: OutboxLimits{Items: limits.Items, Bytes: limits.Bytes}}
		t.Cleanup(func() { _ = r.s.Close() })
		return r
	})
}
