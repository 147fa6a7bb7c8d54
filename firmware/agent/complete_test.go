package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/store"
)

// TestCompleteness: nothing is taken for unwanted before a relay has told everything, and a damage counts until then, over restarts.
func TestCompleteness(t *testing.T) {
	dir := t.TempDir()
	sealer, err := store.OpenKeyFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "store")
	var inSync atomic.Bool
	// start opens the store, waits until the view is whole if it should become so, and closes the store.
	start := func(synced bool) (atStart, atEnd bool) {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{Dir: folder, Sealer: sealer, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		inSync.Store(synced)
		c := newCompleteness(t.Context(), s, func() (uint64, bool) { return 1, inSync.Load() }, slog.New(slog.DiscardHandler))
		atStart = c.Complete()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		for begin := time.Now(); synced && !c.Complete() && time.Since(begin) < 10*time.Second; {
			time.Sleep(10 * time.Millisecond)
		}
		atEnd = c.Complete()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return atStart, atEnd
	}
	for _, step := range []struct {
		what           string
		damage         func(t *testing.T, folder string)
		synced         bool
		atStart, atEnd bool
	}{
		{"a new store, no relay", nil, false, false, false},
		{"a relay told everything", nil, true, false, true},
		{"restarted without a relay", nil, false, true, true},
		{"damaged, without a relay", flip, false, false, false},
		{"mended, without a relay", nil, false, false, false},
		{"told everything again", nil, true, false, true},
		{"truncated, without a relay", truncate, false, false, false},
	} {
		if step.damage != nil {
			step.damage(t, folder)
		}
		if b, e := start(step.synced); b != step.atStart || e != step.atEnd {
			t.Errorf("%s: whole at the start %v, then %v; want %v, %v", step.what, b, e, step.atStart, step.atEnd)
		}
	}
}

// truncate cuts the last bytes off the newest log.
func truncate(t *testing.T, folder string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(folder, "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	newest := logs[len(logs)-1]
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(newest, info.Size()-5); err != nil {
		t.Fatal(err)
	}
}

// flip flips a bit in the middle of every file of the store.
func flip(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			b[len(b)/2] ^= 1
			if err := os.WriteFile(f, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCompletenessLostWhileRunning: a record that no longer opens counts until a session that began afterwards is in sync; the one
// that was open cannot know of the loss.
func TestCompletenessLostWhileRunning(t *testing.T) {
	dir := t.TempDir()
	sealer, err := store.OpenKeyFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, "store"), Sealer: sealer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Bool
	var sessions atomic.Uint64
	sessions.Store(1)
	c := newCompleteness(t.Context(), s, func() (uint64, bool) { return sessions.Load(), true }, slog.New(slog.DiscardHandler))
	c.found = func() store.Recovery {
		if lost.Load() {
			return store.Recovery{Findings: []store.Finding{{What: store.RecordDropped, Where: "pods/x"}}}
		}
		return store.Recovery{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}()
	becomes := func(want bool, what string) {
		t.Helper()
		for begin := time.Now(); c.Complete() != want; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%s: whole stays %v", what, !want)
			}
		}
	}
	becomes(true, "in sync")
	lost.Store(true)
	if c.Complete() {
		t.Error("whole although a record was just lost")
	}
	for begin := time.Now(); c.seen.Load() != 1; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the loss was not taken into account")
		}
	}
	if c.Complete() {
		t.Error("the session in which the record was lost counts as having brought it again")
	}
	sessions.Store(2)
	becomes(true, "a new session")
}
