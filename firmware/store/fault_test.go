package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/processtest"
)

// faultFS fails every writing call from number from on, for as many calls as last. A failing write stores half of its bytes
// first, as a disk that fills up does.
type faultFS struct {
	osFS
	calls      int
	from, last int
	err        error
	truncates  bool // Truncate fails, too

	mu sync.Mutex // of the counters
}

func (f *faultFS) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls > f.from && f.calls <= f.from+f.last {
		return &os.PathError{Op: "write", Path: "injected", Err: f.err}
	}
	return nil
}

// begin has calls fail from now on, for as many as last.
func (f *faultFS) begin(last int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from, f.last, f.err = f.calls, last, err
}

// made returns how many calls there were.
func (f *faultFS) made() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *faultFS) create(path string) (file, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.wrap(f.osFS.create(path))
}

func (f *faultFS) open(path string) (file, error) { return f.wrap(f.osFS.open(path)) }

func (f *faultFS) wrap(inner file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f}, nil
}

func (f *faultFS) syncDir(string) error { return f.fail() }

type faultFile struct {
	file
	fs *faultFS
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.fail(); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

func (f *faultFile) Datasync() error { return f.fs.fail() }

func (f *faultFile) Truncate(size int64) error {
	if f.fs.truncates {
		if err := f.fs.fail(); err != nil {
			return err
		}
	}
	return f.file.Truncate(size)
}

// TestFullDiskAtEveryWrite lets each write of a history be the first of several that fail. A commit that failed has no
// effect, one that succeeded lasts, and once there is space everything works again without a restart.
func TestFullDiskAtEveryWrite(t *testing.T) {
	for cause, lasts := range map[syscall.Errno][]int{syscall.ENOSPC: {1, 2, 5}, syscall.EFBIG: {1}, syscall.EIO: {1, 3}} {
		for _, last := range lasts {
			for from := 0; ; from++ {
				f := &faultFS{from: from, last: last, err: cause, truncates: cause == syscall.EIO}
				if !fullDiskRun(t, f, cause) {
					break
				}
			}
		}
	}
}

// fullDiskRun reports whether a fault was hit.
func fullDiskRun(t *testing.T, f *faultFS, cause syscall.Errno) bool {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	opt := fastOptions(t, dir)
	opt.fs = f
	s, err := Open(context.Background(), opt)
	if err != nil {
		t.Fatalf("Open while the disk is full: %v", err)
	}
	model, doubtful, failures := map[string]string{}, map[string]string{}, 0
	commit := func(i int) {
		var b Batch
		key, value := fmt.Sprint("k", i%4), fmt.Sprint("v", i)
		b.Put(SpaceTwin, key, []byte(value))
		b.Put(SpacePod, key, []byte(value))
		err := s.Commit(context.Background(), b)
		if err == nil {
			model["twin "+key], model["pod "+key] = value, value
			clear(doubtful)
			return
		}
		failures++
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("from %d: the error does not tell the cause and the place: %v", f.from, err)
		}
		if s.Err() == nil && f.calls <= f.from+f.last {
			t.Errorf("from %d: Err is nil", f.from)
		}
		doubtful[key] = value
		wantState(t, s, model, f.from)
	}
	for i := range 5 {
		commit(i)
	}
	for range 3 {
		if s.Checkpoint() == nil {
			break
		}
		failures++
		wantState(t, s, model, f.from)
	}
	for i := 5; i < 9; i++ {
		commit(i)
	}
	wantState(t, s, model, f.from)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, fastOptions(t, dir))
	got := all(t, s)
	for k, v := range doubtful {
		// The very last commit failed, and the failing disk did not let it be cut off either: it may be there, but whole.
		if f.truncates && got["twin "+k] == v && got["pod "+k] == v {
			model["twin "+k], model["pod "+k] = v, v
		}
	}
	wantState(t, s, model, f.from)
	if r := s.Recovery(); !r.Clean() {
		t.Fatalf("from %d: %v", f.from, r)
	}
	mustClose(t, s)
	return f.calls > f.from
}

func wantState(t *testing.T, s *Store, model map[string]string, from int) {
	t.Helper()
	got := all(t, s)
	if len(got) != len(model) {
		t.Fatalf("from %d: %v, want %v", from, got, model)
	}
	for k, v := range model {
		if got[k] != v {
			t.Fatalf("from %d: %s = %q, want %q", from, k, got[k], v)
		}
	}
}

func TestLazyChangesOutliveAFullDisk(t *testing.T) {
	f := &faultFS{from: 0, last: 1 << 30, err: syscall.ENOSPC}
	opt := fastOptions(t, t.TempDir())
	opt.fs = f
	s := mustOpen(t, opt)
	lazy := func(key, value string) {
		t.Helper()
		var b Batch
		b.Put(SpaceTwin, key, []byte(value))
		if err := s.CommitLazy(b); err != nil {
			t.Fatal(err)
		}
	}
	lazy("a", "1")
	lazy("b", "1")
	if err := s.flushAll(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("flush: %v", err)
	}
	lazy("a", "2")
	var b Batch
	b.Put(SpaceTwin, "a", []byte("never"))
	if err := s.Commit(context.Background(), b); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Commit: %v", err)
	}
	want(t, s, SpaceTwin, "a", "2")
	want(t, s, SpaceTwin, "b", "1")
	f.last = 0
	put(t, s, SpaceTwin, "c", "1")
	if err := s.Err(); err != nil {
		t.Errorf("Err after a write: %v", err)
	}
	mustClose(t, s)
	s = mustOpen(t, fastOptions(t, opt.Dir))
	want(t, s, SpaceTwin, "a", "2")
	want(t, s, SpaceTwin, "b", "1")
	want(t, s, SpaceTwin, "c", "1")
}

func TestLazyBacklogIsBounded(t *testing.T) {
	f := &faultFS{from: 0, last: 1 << 30, err: syscall.ENOSPC}
	opt := fastOptions(t, t.TempDir())
	opt.fs = f
	s := mustOpen(t, opt)
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		var b Batch
		b.Put(SpaceTwin, fmt.Sprint(i), make([]byte, 64<<10))
		err = s.CommitLazy(b)
	}
	if !errors.Is(err, ErrBacklog) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("CommitLazy: %v", err)
	}
	if m := s.Metrics(); m.LazyBytes > maxLazyBytes+1<<20 {
		t.Errorf("%d bytes wait", m.LazyBytes)
	}
	f.last = 0
	var b Batch
	b.Put(SpaceTwin, "again", nil)
	if err := s.CommitLazy(b); err != nil {
		t.Errorf("CommitLazy with space: %v", err)
	}
	if m := s.Metrics(); m.LazyBytes > 1<<10 {
		t.Errorf("%d bytes wait", m.LazyBytes)
	}
}

// TestFileSizeLimit uses the kernel's own refusal, for bbolt's file too.
func TestFileSizeLimit(t *testing.T) {
	if inParent(t) {
		return
	}
	opt := testOptions(t, t.TempDir())
	opt.CheckpointBytes = 24 << 10
	s := mustOpen(t, opt)
	for i := range 20 {
		put(t, s, SpaceTwin, fmt.Sprint(i), strings.Repeat("x", 1000))
	}
	restore := limitFileSize(t, 64<<10)
	defer restore()
	var failed error
	for i := 20; i < 1000 && failed == nil; i++ {
		var b Batch
		b.Put(SpaceTwin, fmt.Sprint(i), bytes.Repeat([]byte("x"), 1000))
		if failed = s.Commit(context.Background(), b); failed == nil {
			continue
		}
		if !errors.Is(failed, syscall.EFBIG) {
			t.Fatalf("Commit %d: %v", i, failed)
		}
		wantNone(t, s, SpaceTwin, fmt.Sprint(i))
		want(t, s, SpaceTwin, fmt.Sprint(i-1), strings.Repeat("x", 1000))
	}
	if failed == nil {
		t.Fatal("the limit was never hit")
	}
	n := len(all(t, s))
	restore()
	put(t, s, SpaceTwin, "after", "1")
	if err := s.Checkpoint(); err != nil {
		t.Errorf("checkpoint with space: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
	mustClose(t, s)
	s = mustOpen(t, opt)
	if got := len(all(t, s)); got != n+1 || !s.Recovery().Clean() {
		t.Errorf("%d records, want %d; %v", got, n+1, s.Recovery())
	}
}

const limitChild = "SKERRY_STORE_LIMIT_CHILD"

// inParent runs the test again in a child process, which may limit its file sizes, and reports whether this is the parent.
func inParent(t *testing.T) bool {
	t.Helper()
	if os.Getenv(limitChild) != "" {
		return false
	}
	cmd := processtest.Again(t)
	cmd.Args = append(cmd.Args, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), limitChild+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in the child: %v\n%s", err, out)
	}
	return true
}

// limitFileSize sets the limit of this process.
func limitFileSize(t *testing.T, n uint64) (restore func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedCheckpointOnAFullDisk: the store must open and serve what is readable though it cannot be rebuilt yet.
func TestDamagedCheckpointOnAFullDisk(t *testing.T) {
	if inParent(t) {
		return
	}
	opt := testOptions(t, t.TempDir())
	full := checkpointed(t, opt, 160)
	path := filepath.Join(opt.Dir, dbName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[4096+20] ^= 1 // one meta page: everything else is readable
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	restore := limitFileSize(t, 8<<10)
	defer restore()
	for range 2 { // a restart meanwhile changes nothing
		s := mustOpen(t, opt)
		if lost := subset(t, all(t, s), full); lost > 0 {
			t.Errorf("%d records are missing", lost)
		}
		if err := s.Checkpoint(); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("Checkpoint: %v", err)
		}
		mustClose(t, s)
	}
	restore()
	s := mustOpen(t, opt)
	put(t, s, SpacePod, "after", "1")
	mustClose(t, s)
	s = mustOpen(t, opt)
	full["pod after"] = "1"
	if got := all(t, s); subset(t, got, full) != 0 || len(s.Recovery().Findings) != 0 {
		t.Errorf("%d of %d records, %v", len(got), len(full), s.Recovery())
	}
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
		t.Errorf("set aside: %v", aside)
	}
}
