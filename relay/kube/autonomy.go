package kube

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"

	"github.com/skerry/skerry/firmware/wire"
)

// AutonomyOptions configures Autonomy. Index, Client, Relay and Log are required.
type AutonomyOptions struct {
	Index   *Index
	Client  dynamic.Interface
	Relay   string // this relay's name
	Log     *slog.Logger
	Metrics *Metrics // nil: not measured

	// Alive returns the names of the living relays, nil while they are not known: each node is looked after by one of them. nil: this relay is the only one.
	Alive func() map[string]bool
	// Duration is how long the pods of a node that is cut off stay, and Services keep them; 0: for ever.
	Duration time.Duration
	QPS      float64 // writes a second, on average; 0: not limited
	Burst    int     // and at once; default QPS
}

const (
	autonomyWorkers = 4
	// restoreAgain is how long a pod that was made Ready, and marked once more, is left so.
	restoreAgain = 5 * time.Minute
	// lookPeriod is how often nodes that are away are looked at for what only time brings, and whether relays came or went.
	lookPeriod = 10 * time.Second
	lookSoon   = 250 * time.Millisecond // while it is not known which relays live
	// overtakenWait is what the watch has for showing what somebody else wrote.
	overtakenWait = 200 * time.Millisecond
)

// Autonomy keeps what runs on nodes that are cut off from being replaced: docs/autonomy.md. Of a node that is one of Skerry's, and does
// not opt out,
//
//   - each pod that is bound to it is made to tolerate that the node is away, for as long as is configured: before it ever is, because nobody
//     may be there to do it then;
//   - each pod that the node controller marks as not Ready when it stops hearing from the node, is made Ready again, if its own node said last that it was.
//
// It works on what the API shows, and remembers nothing: which relay does it, and whether one was away for a while, makes no
// difference.
//
// Run may be called once. There are no other methods; it hears of changes from the Index.
type Autonomy struct {
	opts   AutonomyOptions
	index  *Index
	log    *slog.Logger
	quiet  throttle
	budget *rate.Limiter // nil: not limited
	queue  workqueue.TypedRateLimitingInterface[string]

	mu    sync.Mutex
	alive []string // as of the last look
}

// NewAutonomy returns Autonomy that works once Run is called. It must be made before Index.Run is called.
func NewAutonomy(opts AutonomyOptions) *Autonomy {
	a := &Autonomy{
		opts: opts, index: opts.Index, log: opts.Log, quiet: throttle{every: 30 * time.Second},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, 10*time.Minute)),
	}
	if opts.QPS > 0 {
		a.budget = rate.NewLimiter(rate.Limit(opts.QPS), max(cmp.Or(opts.Burst, int(opts.QPS)), 1))
	}
	opts.Index.notice = a.notice
	opts.Metrics.gauge("skerry_relay_autonomy_queue_depth", func() float64 { return float64(a.queue.Len()) })
	return a
}

// Run works until ctx ends, and returns nil once it has stopped.
func (a *Autonomy) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range autonomyWorkers {
		wg.Go(func() {
			for a.next(ctx) {
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-timer.C:
			if a.look() {
				timer.Reset(lookPeriod)
			} else {
				timer.Reset(lookSoon)
			}
		}
	}
	a.queue.ShutDown()
	wg.Wait()
	return nil
}

// notice hears of every change of a pod or node. body says that more than its status has changed.
func (a *Autonomy) notice(key wire.Key, now *record, body bool) {
	if now == nil || now.node == "" {
		return
	}
	switch t := now.traits; key.Kind() {
	case wire.KindPod:
		if !now.deleting && !t.has(traitFixed) && (body && now.patience < forever || t.has(traitMarked)) {
			a.queue.Add(now.node)
		}
	case wire.KindNode:
		if t.has(traitAgent) && (body || t.has(traitLost)) {
			a.queue.Add(now.node)
		}
	}
}

// look queues the nodes that are away, and all nodes if relays came or went. It reports whether it is known which relays live.
func (a *Autonomy) look() (known bool) {
	alive, known := a.relays()
	if !known {
		return false
	}
	a.mu.Lock()
	changed := !slices.Equal(alive, a.alive)
	a.alive = alive
	a.mu.Unlock()
	for _, node := range a.index.nodesWith(traitAgent) {
		if rec := a.index.get(nodeKeyOf(node)); changed || rec != nil && rec.traits.has(traitLost) {
			a.queue.Add(node)
		}
	}
	return true
}

// relays returns the living relays, sorted.
func (a *Autonomy) relays() (names []string, known bool) {
	if a.opts.Alive == nil {
		return []string{a.opts.Relay}, true
	}
	alive := a.opts.Alive()
	if alive == nil {
		return nil, false
	}
	names = append(names, a.opts.Relay)
	for name := range alive {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// mine reports whether this relay looks after the node: each of the living has its share (rendezvous hashing), and only the
// nodes of one that died change hands. While relays disagree on who lives, two may do the same.
func (a *Autonomy) mine(node string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	weight := func(relay string) uint64 {
		h := fnv.New64a()
		_, _ = io.WriteString(h, relay+"\x00"+node)
		return mix(h.Sum64())
	}
	return len(a.alive) > 0 && a.opts.Relay == slices.MaxFunc(a.alive, func(x, y string) int { return cmp.Compare(weight(x), weight(y)) })
}

// mix spreads the bits of a hash whose inputs differ little (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// next looks after one node. It makes at most one write, so that nodes take turns.
func (a *Autonomy) next(ctx context.Context) bool {
	node, over := a.queue.Get()
	if over {
		return false
	}
	defer a.queue.Done(node)
	if ctx.Err() != nil {
		return false
	}
	more, err := a.visit(ctx, node, time.Now())
	switch {
	case ctx.Err() != nil:
	case more:
		a.queue.Add(node)
	case errors.Is(err, errOvertaken):
		a.queue.AddAfter(node, overtakenWait)
	case err != nil:
		a.opts.Metrics.failure("autonomy")
		if a.quiet.allow() {
			a.log.Warn("cannot make the pods of a node outlast that it is cut off; retrying", slog.String("node", node), slog.Any("error", err))
		}
		a.queue.AddRateLimited(node)
	default:
		a.queue.Forget(node)
	}
	return true
}

// terms are what holds for a node, and for each pod unless it says otherwise.
type terms struct {
	autonomous bool
	keep       time.Duration // 0: for ever
	lost       time.Time     // when the node controller stopped hearing from it; zero: it hears
}

// visit does the first thing that the node's pods need, and reports whether it did one. A pod that cannot be written does not keep the others.
func (a *Autonomy) visit(ctx context.Context, node string, now time.Time) (did bool, failed error) {
	rec := a.index.get(nodeKeyOf(node))
	if rec == nil || !rec.traits.has(traitAgent) || !a.mine(node) || !a.index.synced(wire.KindPod) {
		return false, nil
	}
	of := a.termsOf(rec)
	for _, key := range a.index.rootsOf(node, wire.KindPod) {
		pod := a.index.get(key)
		if pod == nil || pod.deleting || ctx.Err() != nil {
			continue
		}
		did, err := a.tolerate(ctx, pod, of)
		if !did && err == nil {
			did, err = a.restore(ctx, pod, of, now)
		}
		if did {
			return true, nil
		}
		if err != nil && failed == nil {
			failed = err
		}
	}
	return false, failed
}
