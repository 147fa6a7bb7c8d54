package conduit

import (
	"sync"
	"sync/atomic"
	"time"
)

// Watch ends what nothing moves on. Make it with NewWatch, and stop it.
type Watch struct {
	limit time.Duration
	moved atomic.Bool

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// NewWatch calls expire, once, in a goroutine of its own, if Touch is not called for the limit. It may take up to twice that time.
// expire must not call Stop.
func NewWatch(limit time.Duration, expire func()) *Watch {
	w := &Watch{limit: limit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.ended:
		case w.moved.Swap(false):
			w.timer.Reset(w.limit) // so it may take up to twice the time
		default:
			w.ended = true
			expire()
		}
	})
	return w
}

// Touch says that something moved. It is cheap enough for every read and write.
func (w *Watch) Touch() { w.moved.Store(true) }

// Stop ends the watch. expire is not called after it returns. It may be called again.
func (w *Watch) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}
