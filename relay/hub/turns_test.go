package hub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		var mu sync.Mutex
		running, most, ran := 0, 0, 0
		for range 20 {
			go func() {
				if err := turns.begin(t.Context()); err != nil {
					t.Error(err)
					return
				}
				defer turns.end()
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				ran++
				mu.Unlock()
			}()
		}
		synctest.Wait()
		if n := turns.waiting(); n != 18 {
			t.Errorf("%d wait, want 18", n)
		}
		given, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := turns.begin(given); err == nil {
			t.Error("a turn was given although none was free")
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if most != 2 || ran != 20 || turns.waiting() != 0 {
			t.Errorf("%d ran, at most %d at once, %d still wait", ran, most, turns.waiting())
		}
	})
}
