package store

import (
	"sync"

	"github.com/skerry/skerry/firmware/wire"
)

// Watch tells one consumer which desired objects changed. C holds a token whenever Take has something to return; changes between two
// calls of Take are reported once. The first Take returns every key there was when the watch began. The owner closes it.
type Watch struct {
	owner *Desired
	kinds map[wire.Kind]bool // empty: all
	c     chan struct{}

	mu   sync.Mutex
	keys map[wire.Key]bool
}

// C returns the channel to wait on. It is never closed.
func (w *Watch) C() <-chan struct{} { return w.c }

// Take returns the keys that changed since the last Take, in no order. A key that is gone was deleted.
func (w *Watch) Take() []wire.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.keys) == 0 {
		return nil
	}
	keys := make([]wire.Key, 0, len(w.keys))
	for k := range w.keys {
		keys = append(keys, k)
	}
	w.keys = map[wire.Key]bool{}
	return keys
}

// Close ends the watch. It may be called more than once.
func (w *Watch) Close() {
	w.owner.mu.Lock()
	defer w.owner.mu.Unlock()
	delete(w.owner.watches, w)
}

// add notes changed keys and wakes the consumer.
func (w *Watch) add(keys []wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := false
	for _, k := range keys {
		if len(w.kinds) == 0 || w.kinds[k.Kind()] {
			w.keys[k] = true
			news = true
		}
	}
	if news {
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}
