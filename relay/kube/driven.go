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

// Questions hands to run what the index wants to ask of the API server, which in Run goroutines do. See NewDrivenSink about run.
func (x *Index) Questions(run func(after time.Duration, what string, work func(ctx context.Context))) {
	for {
		select {
		case key := <-x.absent.queue:
			run(0, "confirm "+string(key), func(ctx context.Context) { x.confirm(ctx, key) })
		default:
			return
		}
	}
}

// driver calls work once, after a time; what names it.
type driver func(after time.Duration, what string, work func(ctx context.Context))

// NewDrivenSink returns a sink without goroutines: Run must not be called. Whatever it has to do is given to run, which
// calls work once, after that time; what names the work, so that a simulator can order what comes at once. work may block in
// opts.Client and opts.Leases only, and all work and all methods must be called one at a time: a simulator that suspends a call
// of the client may go on with other work meanwhile. ReadLeases does what Run does first.
//
// pause is called where work has to wait for other work: it must let that go on, and return after a while.
//
// Leases are renewed at whole seconds, so that the same calls give the same requests.
func NewDrivenSink(opts SinkOptions, run func(after time.Duration, what string, work func(ctx context.Context)), pause func()) *Sink {
	s := NewSink(opts)
	s.driver, s.pause = run, pause
	s.wheel = newWheel(s.opts.LeaseInterval, time.Second)
	return s
}

// ReadLeases reads all Leases once, as Run does when it starts, and returns when to try again; 0: done. Without it, each session
// that begins reads its own.
func (s *Sink) ReadLeases(ctx context.Context) (again time.Duration) { return s.readLeases(ctx) }

// lockLease takes the lock of a node's Lease, which is held through requests: there, a driven sink must not block.
func (s *Sink) lockLease(n *nodeState) {
	if s.driver == nil {
		n.leaseMu.Lock()
		return
	}
	for !n.leaseMu.TryLock() {
		s.pause()
	}
}
