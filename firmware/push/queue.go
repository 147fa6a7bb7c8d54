package push

import (
	"context"
	"sync"

	"github.com/skerry/skerry/firmware/history"
)

// maxQueueBytes bounds what the values in a queue take, however long they are.
const maxQueueBytes = 256 << 10

// queue is the values of properties that no history keeps: in memory, bounded, and the newest stay. Safe for concurrent use.
type queue struct {
	most int
	wake chan struct{}

	mu      sync.Mutex
	entries []history.Entry
	bytes   int
	dropped uint64
	seq     uint64
}

func newQueue(most int) *queue { return &queue{most: most, wake: make(chan struct{}, 1)} }

func entrySize(e *history.Entry) int { return (&item{Entry: *e}).size() }

func (q *queue) put(e history.Entry) {
	q.mu.Lock()
	q.seq++
	q.entries = append(q.entries, e)
	q.bytes += entrySize(&e)
	n := 0
	for len(q.entries)-n > q.most || q.bytes > maxQueueBytes && len(q.entries)-n > 1 {
		q.bytes -= entrySize(&q.entries[n])
		q.entries[n] = history.Entry{}
		n++
	}
	q.entries = q.entries[n:]
	q.dropped += uint64(n) //nolint:gosec // not negative
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next blocks until there is something, and returns the oldest values.
func (q *queue) next(ctx context.Context, limit int) ([]history.Entry, error) {
	for {
		q.mu.Lock()
		n := min(limit, len(q.entries))
		out := append([]history.Entry(nil), q.entries[:n]...)
		for i := range out {
			q.bytes -= entrySize(&out[i])
		}
		if q.entries = q.entries[n:]; len(q.entries) == 0 {
			q.entries = nil
		}
		q.mu.Unlock()
		if n > 0 {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.wake:
		}
	}
}

func (q *queue) ack(uint64) error { return nil }
func (q *queue) rewind()          {}
func (q *queue) close()           {}

// figures returns how many values wait, and how many made room for newer ones.
func (q *queue) figures() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries), q.dropped
}

// ring reads the history.
type ring struct{ r *history.Reader }

func (s ring) next(ctx context.Context, limit int) ([]history.Entry, error) {
	return s.r.Next(ctx, limit)
}
func (s ring) ack(seq uint64) error { return s.r.Ack(seq) }
func (s ring) rewind()              { s.r.Rewind() }
func (s ring) close()               { s.r.Close() }
