//go:build integration

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry/skerry/firmware/store"
)

// smallDisk mounts a file system of the given size for the time of the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a tmpfs (this test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t *testing.T, disk string, sealer store.Sealer) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{
		Dir: filepath.Join(disk, "store"), Sealer: sealer, Log: slog.New(slog.DiscardHandler), CheckpointBytes: 64 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func commit(s *store.Store, i int) error {
	var b store.Batch
	b.Put(store.SpaceTwin, fmt.Sprint(i), bytes.Repeat([]byte("x"), 2000))
	b.Put(store.SpacePod, fmt.Sprint(i), []byte("of the same batch"))
	return s.Commit(context.Background(), b)
}

func count(t *testing.T, s *store.Store, space store.Space) int {
	t.Helper()
	n := 0
	if err := s.Scan(space, "", func(string, []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFullDisk fills the store's disk from outside and from inside, and frees it again.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "4m")
	sealer, err := store.OpenKeyFile(filepath.Join(disk, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, disk, sealer)
	done := 0
	fill := func() {
		t.Helper()
		for range 2000 {
			err := commit(s, done)
			if err == nil {
				done++
				continue
			}
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") || !strings.Contains(err.Error(), disk) {
				t.Fatalf("the error does not say what is full and what to do: %v", err)
			}
			if s.Err() == nil {
				t.Error("Err is nil while the disk is full")
			}
			return
		}
		t.Fatal("the disk never became full")
	}
	check := func() {
		t.Helper()
		if twins, pods := count(t, s, store.SpaceTwin), count(t, s, store.SpacePod); twins != done || pods != done {
			t.Fatalf("%d and %d records of %d commits", twins, pods, done)
		}
	}
	ballast := filepath.Join(disk, "ballast")
	for i := range 20 {
		if err := commit(s, i); err != nil {
			t.Fatal(err)
		}
		done++
	}
	if err := os.WriteFile(ballast, make([]byte, 3500<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	fill()
	check()
	// An agent that restarts now starts from its store, too.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk, sealer)
	check()
	if err := commit(s, done); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Commit on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := commit(s, done); err != nil {
		t.Fatalf("with space again, without a restart: %v", err)
	}
	done++
	if err := s.Checkpoint(); err != nil { // Run tries again by itself
		t.Fatal(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err with space again: %v", err)
	}
	fill()
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk, sealer)
	check()
	if r := s.Recovery(); !r.Clean() {
		t.Errorf("recovery: %v", r)
	}
}
