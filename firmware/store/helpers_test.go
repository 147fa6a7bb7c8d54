package store

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func testSealer(t testing.TB) Sealer {
	t.Helper()
	s, err := NewSealer(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testOptions(t testing.TB, dir string) Options {
	return Options{Dir: dir, Sealer: testSealer(t), Log: quiet()}
}

// fastOptions leaves out all syncs, for tests that open thousands of stores and do not test durability against the kernel.
func fastOptions(t testing.TB, dir string) Options {
	opt := testOptions(t, dir)
	opt.fs, opt.noSync = lazyFS{}, true
	return opt
}

type lazyFS struct{ osFS }

func (lazyFS) syncDir(string) error { return nil }

func (l lazyFS) create(path string) (file, error) { return lazily(l.osFS.create(path)) }
func (l lazyFS) open(path string) (file, error)   { return lazily(l.osFS.open(path)) }

func lazily(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return lazyFile{f}, nil
}

type lazyFile struct{ file }

func (lazyFile) Datasync() error { return nil }

func mustOpen(t testing.TB, opt Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), opt)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func put(t testing.TB, s *Store, space Space, key, value string) {
	t.Helper()
	var b Batch
	b.Put(space, key, []byte(value))
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatalf("Commit %s: %v", key, err)
	}
}

func remove(t testing.TB, s *Store, space Space, key string) {
	t.Helper()
	var b Batch
	b.Delete(space, key)
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func want(t testing.TB, s *Store, space Space, key, value string) {
	t.Helper()
	got, ok, err := s.Get(space, key)
	if err != nil || !ok || string(got) != value {
		t.Fatalf("Get(%v, %s) = %q, %v, %v; want %q", space, key, got, ok, err, value)
	}
}

func wantNone(t testing.TB, s *Store, space Space, key string) {
	t.Helper()
	if got, ok, err := s.Get(space, key); ok || err != nil {
		t.Fatalf("Get(%v, %s) = %q, %v, %v; want nothing", space, key, got, ok, err)
	}
}

// all returns everything in the store, by space and key.
func all(t testing.TB, s *Store) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, sp := range Spaces() {
		if err := s.Scan(sp, "", func(k string, v []byte) error { m[sp.String()+" "+k] = string(v); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// eachFlip opens, for each of the first n bytes of a closed store's only segment (all if n is negative), a copy of the store with one bit of that byte flipped. look
// judges what has come up; a second start has to bring the same.
func eachFlip(t *testing.T, opt Options, n int, look func(at int, s *Store, got map[string]string)) {
	t.Helper()
	path := oneSegment(t, opt.Dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n < 0 {
		n = len(whole)
	}
	for at := range n {
		dir := copyDir(t, opt.Dir)
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, fastOptions(t, dir))
		got := all(t, s)
		look(at, s, got)
		mustClose(t, s)
		s = mustOpen(t, fastOptions(t, dir))
		if again := all(t, s); !maps.Equal(got, again) || !s.Recovery().Clean() {
			t.Fatalf("flip at %d: a second start finds %v, %v", at, again, s.Recovery())
		}
		mustClose(t, s)
		_ = os.RemoveAll(dir)
	}
}

// copyDir copies the files of a closed store.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "log-*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
