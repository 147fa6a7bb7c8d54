package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestAgainstModel compares random histories with a map: commits, lazy commits, deletions, checkpoints, restarts, crashes.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		modelRun(t, seed)
	}
}

func modelRun(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	opt := fastOptions(t, t.TempDir())
	opt.CheckpointBytes = 1 << (10 + rng.IntN(8))
	s := mustOpen(t, opt)
	model := map[string]string{}
	keys := 1 + rng.IntN(400)
	batch := func() Batch {
		var b Batch
		for range 1 + rng.IntN(6) {
			sp := Spaces()[rng.IntN(5)]
			key := fmt.Sprintf("%s/%d", []string{"a", "bb", "a/b"}[rng.IntN(3)], rng.IntN(keys))
			if rng.IntN(4) == 0 {
				b.Delete(sp, key)
				delete(model, sp.String()+" "+key)
				continue
			}
			value := make([]byte, rng.IntN(1<<rng.IntN(13)))
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			b.Put(sp, key, value)
			model[sp.String()+" "+key] = string(value)
		}
		return b
	}
	for step := range 300 {
		switch p := rng.IntN(100); {
		case p < 60:
			if err := s.Commit(context.Background(), batch()); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		case p < 90:
			if err := s.CommitLazy(batch()); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		case p < 95:
			if err := s.Checkpoint(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			walkClean(t, opt.Dir)
		default:
			mustClose(t, s)
			s = mustOpen(t, opt)
			if r := s.Recovery(); len(r.Findings) > 0 {
				t.Fatalf("seed %d step %d: %v", seed, step, r)
			}
		}
		if step%20 == 0 {
			if got := all(t, s); !maps.Equal(got, model) {
				t.Fatalf("seed %d step %d: %d records, model %d", seed, step, len(got), len(model))
			}
		}
	}
	if got := all(t, s); !maps.Equal(got, model) {
		t.Fatalf("seed %d: %d records, model %d", seed, len(got), len(model))
	}
	mustClose(t, s)
}

// walkClean holds our reader of bbolt's format to what bbolt writes.
func walkClean(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, dbName))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	w, err := walkBolt(f, info.Size(), func(string, []byte, []byte) {})
	if err != nil || w.bad > 0 {
		t.Fatalf("a sound file is found damaged: %v, %v", err, w.damage)
	}
}
