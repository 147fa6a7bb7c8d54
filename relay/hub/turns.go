package hub

import (
	"context"
	"sync/atomic"
	"time"
)

// After a power cut all agents of a relay come back at once. Each session begins with requests to the Kubernetes API; ten thousand
// of them at once all time out, come again, and never get anywhere. So few claim their node at a time, a bounded number waits
// its turn, and the others are told to come back.
const (
	startsAtOnce  = 64
	startsWaiting = 2048 // at 100 starts a second they wait 20 s; an agent gives up after two heartbeats, 30 s
	startsRetry   = 5 * time.Second
)

// turns lets a number of things happen at a time, in the order in which they asked. Safe for concurrent use.
type turns struct {
	free  chan struct{}
	queue atomic.Int64
}

func newTurns(n int) *turns { return &turns{free: make(chan struct{}, n)} }

// begin waits for a turn, which end gives back. It fails with ctx's error.
func (t *turns) begin(ctx context.Context) error {
	t.queue.Add(1)
	defer t.queue.Add(-1)
	select {
	case t.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turns) end() { <-t.free }

// waiting returns how many wait.
func (t *turns) waiting() int64 { return t.queue.Load() }
