package kube

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/skerry/skerry/firmware/wire"
)

// Feed returns what a reflector of kind fills. Run's reflectors have their own; this is for a simulator that plays the
// reflector itself, one call at a time.
func (x *Index) Feed(kind wire.Kind) cache.ReflectorStore {
	res, _ := resourceOf(kind)
	return &kindStore{index: x, res: res, log: x.opts.Log.With(slog.String("resource", res.gvr.Resource))}
}

// NewDrivenSink returns a sink without goroutines: Run must not be called. Whatever it has to do is given to run, which
// calls work once, after that time. work may block in opts.Client and opts.Leases only, and all work and all methods must be
// called one at a time: a simulator that suspends a call of the client may go on with other work meanwhile.
//
// What is random in a sink (the jitter of Lease renewals) is taken out, so that the same calls give the same requests.
func NewDrivenSink(opts SinkOptions, run func(after time.Duration, work func(ctx context.Context))) *Sink {
	s := NewSink(opts)
	s.queue.ShutDown()
	s.renewals.ShutDown()
	s.queue = newDrivenQueue(run, s.process)
	s.renewals = newDrivenQueue(
		func(after time.Duration, work func(ctx context.Context)) {
			run((after + time.Second - 1).Truncate(time.Second), work)
		},
		func(ctx context.Context, r renewal) {
			if delay := s.renew(ctx, r); delay > 0 {
				s.renewals.AddAfter(r, delay)
			}
		})
	return s
}

// drivenQueue does what a workqueue and its workers do: an item waits once, however often it is added, and is never worked
// on twice at a time.
type drivenQueue[T comparable] struct {
	run      func(time.Duration, func(context.Context))
	work     func(context.Context, T)
	waiting  map[T]bool // to be worked on, or again
	working  map[T]bool
	delayed  map[T]time.Time
	failures map[T]int
}

func newDrivenQueue[T comparable](run func(time.Duration, func(context.Context)), work func(context.Context, T)) *drivenQueue[T] {
	return &drivenQueue[T]{
		run: run, work: work,
		waiting: map[T]bool{}, working: map[T]bool{}, delayed: map[T]time.Time{}, failures: map[T]int{},
	}
}

// Add implements workqueue.TypedInterface.
func (q *drivenQueue[T]) Add(it T) {
	if q.waiting[it] {
		return
	}
	q.waiting[it] = true
	if !q.working[it] {
		q.start(it)
	}
}

func (q *drivenQueue[T]) start(it T) {
	q.run(0, func(ctx context.Context) {
		delete(q.waiting, it)
		q.working[it] = true
		q.work(ctx, it)
		delete(q.working, it)
		if q.waiting[it] {
			q.start(it)
		}
	})
}

// AddAfter implements workqueue.TypedDelayingInterface: of several delays the shortest counts.
func (q *drivenQueue[T]) AddAfter(it T, d time.Duration) {
	at := time.Now().Add(d)
	if old, ok := q.delayed[it]; ok && !at.Before(old) {
		return
	}
	q.delayed[it] = at
	q.run(d, func(context.Context) {
		if q.delayed[it].Equal(at) {
			delete(q.delayed, it)
			q.Add(it)
		}
	})
}

// AddRateLimited implements workqueue.TypedRateLimitingInterface with the sink's own limits.
func (q *drivenQueue[T]) AddRateLimited(it T) {
	d := min(50*time.Millisecond<<min(q.failures[it], 20), 30*time.Second)
	q.failures[it]++
	q.AddAfter(it, d)
}

// Forget implements workqueue.TypedRateLimitingInterface.
func (q *drivenQueue[T]) Forget(it T) { delete(q.failures, it) }

// NumRequeues implements workqueue.TypedRateLimitingInterface.
func (q *drivenQueue[T]) NumRequeues(it T) int { return q.failures[it] }

// Len implements workqueue.TypedInterface.
func (q *drivenQueue[T]) Len() int { return len(q.waiting) }

// Get implements workqueue.TypedInterface. Nobody asks: the queue calls.
func (q *drivenQueue[T]) Get() (it T, shutdown bool) { return it, true }

// Done implements workqueue.TypedInterface.
func (q *drivenQueue[T]) Done(T) {}

// ShutDown implements workqueue.TypedInterface.
func (q *drivenQueue[T]) ShutDown() {}

// ShutDownWithDrain implements workqueue.TypedInterface.
func (q *drivenQueue[T]) ShutDownWithDrain() {}

// ShuttingDown implements workqueue.TypedInterface.
func (q *drivenQueue[T]) ShuttingDown() bool { return false }
