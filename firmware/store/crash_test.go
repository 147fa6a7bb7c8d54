package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/processtest"
)

const crashDir = "SKERRY_STORE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := crashChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashChild commits until it is killed, and prints "worker counter" after each commit that was acknowledged. Every batch
// writes the counter under two keys, and lets go of an older one.
func crashChild(dir string) error {
	sealer, err := NewSealer(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		return err
	}
	s, err := Open(context.Background(), Options{
		Dir: dir, Sealer: sealer, Log: slog.New(slog.DiscardHandler), CheckpointBytes: 32 << 10, Window: 5 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	if r := s.Recovery(); !r.Clean() {
		return fmt.Errorf("recovery: %v", r)
	}
	go func() { _ = s.Run(context.Background()) }()
	failed := make(chan error)
	for w := range crashWorkers {
		go func() { failed <- crashWorker(s, strconv.Itoa(w)) }()
	}
	return <-failed
}

const crashWorkers = 4

func crashWorker(s *Store, w string) error {
	start := 0
	if v, ok, err := s.Get(SpaceTwin, w); err != nil {
		return err
	} else if ok {
		if start, err = strconv.Atoi(string(v)); err != nil {
			return err
		}
	}
	for i := start + 1; ; i++ {
		value := fmt.Append(nil, i)
		var b Batch
		b.Put(SpaceTwin, w, value)
		b.Put(SpacePod, w, value)
		b.Put(SpaceOutbox, w+"/"+string(value), bytes.Repeat([]byte("x"), i%300))
		b.Delete(SpaceOutbox, w+"/"+strconv.Itoa(i-20))
		if err := s.Commit(context.Background(), b); err != nil {
			return err
		}
		fmt.Printf("%s %d\n", w, i)
		var lazy Batch
		lazy.Put(SpaceMeta, w, value)
		lazy.Put(SpaceDesired, w, value)
		if err := s.CommitLazy(lazy); err != nil {
			return err
		}
	}
}

// TestKilledAtRandom kills a committing process again and again: everything that it had acknowledged is there, and whole.
func TestKilledAtRandom(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]int{}
	for round := range 8 {
		runAndKill(t, dir, time.Duration(rand.IntN(120))*time.Millisecond, acked)
		s := mustOpen(t, testOptions(t, dir))
		if r := s.Recovery(); !r.Clean() {
			t.Fatalf("round %d: %v", round, r)
		}
		got := all(t, s)
		for w, n := range acked {
			have, err := strconv.Atoi(got["twin "+w])
			if err != nil || have < n {
				t.Errorf("round %d: worker %s has %q, %d was acknowledged", round, w, got["twin "+w], n)
			}
			if got["pod "+w] != got["twin "+w] || got["meta "+w] != got["desired "+w] {
				t.Errorf("round %d: worker %s: a batch is half there", round, w)
			}
			for i := max(1, have-19); i <= have; i++ {
				if len(got[fmt.Sprintf("outbox %s/%d", w, i)]) != i%300 {
					t.Errorf("round %d: worker %s: item %d is not whole", round, w, i)
				}
			}
			if _, there := got[fmt.Sprintf("outbox %s/%d", w, have-20)]; there {
				t.Errorf("round %d: worker %s: item %d should be deleted", round, w, have-20)
			}
		}
		mustClose(t, s)
	}
	for w := range crashWorkers {
		if acked[strconv.Itoa(w)] < 8 {
			t.Errorf("worker %d was acknowledged only %d times", w, acked[strconv.Itoa(w)])
		}
	}
}

func runAndKill(t *testing.T, dir string, after time.Duration, acked map[string]int) {
	t.Helper()
	cmd := processtest.Again(t)
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	first := map[string]bool{}
	killed := false
	for lines.Scan() {
		var w string
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &w, &n); err != nil {
			break // cut off by the kill
		}
		acked[w] = n
		if first[w] = true; len(first) == crashWorkers && !killed {
			killed = true
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	if !killed {
		t.Fatalf("the child ended by itself: %s", stderr.String())
	}
}
