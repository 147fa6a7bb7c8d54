package devices

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSchedulerIsAlive with nothing to do.
func TestSchedulerIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		s := newScheduler()
		s.alive = func() { beats.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.run(ctx) }()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if n := beats.Swap(0); n != 5 {
			t.Errorf("%d signs of life in a minute, want one every 15 s", n)
		}
		cancel()
		<-done
	})
}

// TestHostIsAlive without devices, and without any change of them.
func TestHostIsAlive(t *testing.T) {
	simulate(t, func(w *world) {
		var beats atomic.Int64
		w.watching = func() { beats.Add(1) }
		w.start()
		defer w.stop()
		w.settle(time.Second)
		beats.Store(0)
		w.settle(time.Minute)
		if n := beats.Load(); n != 4 {
			t.Errorf("%d signs of life in a minute, want one every 15 s", n)
		}
	})
}
