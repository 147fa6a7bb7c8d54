package pods

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnThatDoesNotEndIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w worker
		if w.turn.stuck(time.Now()) {
			t.Fatal("a worker that waits is stuck")
		}
		w.turn.begin(nil)
		time.Sleep(stuckAfter + defaultGrace*time.Second)
		if w.turn.stuck(time.Now()) {
			t.Fatal("stuck too early")
		}
		time.Sleep(time.Second)
		if !w.turn.stuck(time.Now()) {
			t.Fatal("not stuck")
		}
		w.turn.end()
		if w.turn.stuck(time.Now()) {
			t.Fatal("stuck after its turn")
		}
	})
}

// A pull over a slow line takes a day, and a hook as long as its author wants.
func TestPullsAndHooksAreNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w worker
		w.turn.begin(nil)
		back := w.turn.elsewhere()
		time.Sleep(24 * time.Hour)
		if w.turn.stuck(time.Now()) {
			t.Fatal("stuck during a pull")
		}
		back()
		if w.turn.stuck(time.Now()) {
			t.Fatal("stuck right after a pull")
		}
		time.Sleep(stuckAfter + time.Minute)
		if !w.turn.stuck(time.Now()) {
			t.Fatal("not stuck long after a pull")
		}
	})
}

func TestStuckWorkerTakesTheSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats := 0
		m := newStuckManager(func() { beats++ })
		m.signOfLife()
		if beats != 1 {
			t.Fatalf("%d signs of life", beats)
		}
		m.workers["uid-1"].turn.begin(nil)
		time.Sleep(stuckAfter + time.Minute)
		m.signOfLife()
		if beats != 1 || len(m.Stuck()) != 1 {
			t.Fatalf("%d signs of life, stuck %v", beats, m.Stuck())
		}
		m.workers["uid-1"].turn.end()
		m.signOfLife()
		if beats != 2 {
			t.Fatalf("%d signs of life", beats)
		}
	})
}

func newStuckManager(alive func()) *Manager {
	m := &Manager{workers: map[string]*worker{"uid-1": {}, "uid-2": {}}}
	m.o.Alive, m.o.Log = alive, slog.New(slog.DiscardHandler)
	return m
}
