package kube

import (
	"container/heap"
	"context"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Who may write next. Nodes take turns, whatever each has to say, in two lanes: readiness (conditions of nodes, pods and
// devices, deletions) goes before statistics (device values, node status that only brings figures up to date), which get every
// eighth turn at least. One node has at most one write under way for each kind of object, and a budget of its own.

const (
	laneReadiness = iota
	laneStatistics
	lanes

	statisticsTurn      = 8   // every so many turns, statistics go first
	nodeWritesPerSecond = 20  // requests that the reports of one node may cause, on average
	nodeWriteBurst      = 100 // and at once. Readiness may go as much again into debt
)

// turn is a node's place in the queue. Guarded by Sink.mu.
type turn struct {
	queued [lanes]bool // it stands in the ring
	kinds  uint8       // bit set of kinds with a write under way
	alarm  int64       // Unix time, ns, at which the node is looked at again; 0: none
	spent  float32     // of the node's budget, requests
	paid   int64       // when spent was brought up to date, Unix ns
}

func kindBit(k wire.Kind) uint8 {
	switch k {
	case wire.KindNode:
		return 1
	case wire.KindPod:
		return 2
	}
	return 4
}

// job is one thing to do: to write a report, or to ask an agent for some.
type job struct {
	n    *nodeState
	work work
	ask  []wire.Key
}

// alarmAt is a node to look at again.
type alarmAt struct {
	at int64
	n  *nodeState
}

type alarms []alarmAt

// Len implements heap.Interface.
func (a alarms) Len() int { return len(a) }

// Less implements heap.Interface.
func (a alarms) Less(i, j int) bool { return a[i].at < a[j].at }

// Swap implements heap.Interface.
func (a alarms) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *alarms) Push(x any) { *a = append(*a, x.(alarmAt)) }

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// scheduler is the queue's state. Guarded by Sink.mu.
type scheduler struct {
	rings  [lanes][]*nodeState
	turns  uint
	alarms alarms
	timer  *time.Timer
	closed bool
}

// enlist gives the node a place in the rings.
func (s *Sink) enlist(n *nodeState) {
	for lane := range lanes {
		if !n.queued[lane] {
			n.queued[lane] = true
			s.rings[lane] = append(s.rings[lane], n)
			s.called(1)
		}
	}
}

// called tells n workers that there may be something to do.
func (s *Sink) called(n int) {
	switch {
	case s.driver != nil:
		for range n {
			s.driver(0, "write", s.step)
		}
	case n == 1:
		s.more.Signal()
	default:
		s.more.Broadcast()
	}
}

// pick takes the next thing to do out of the rings.
func (s *Sink) pick(now time.Time) (job, bool) {
	for len(s.rings[laneReadiness])+len(s.rings[laneStatistics]) > 0 {
		lane := laneReadiness
		if len(s.rings[lane]) == 0 || s.turns%statisticsTurn == statisticsTurn-1 && len(s.rings[laneStatistics]) > 0 {
			lane = laneStatistics
		}
		n := s.rings[lane][0]
		s.rings[lane] = s.rings[lane][1:]
		n.queued[lane] = false
		if j, ok := s.pickOf(n, lane, now); ok {
			s.turns++
			n.queued[lane] = true // behind the others
			s.rings[lane] = append(s.rings[lane], n)
			s.called(1)
			return j, true
		}
	}
	return job{}, false
}

// pickOf looks for something that the node may do now in a lane; failing that it sets the alarm for when it may.
func (s *Sink) pickOf(n *nodeState, lane int, now time.Time) (job, bool) {
	if lane == laneReadiness && n.session != nil && !n.session.ended {
		if keys := n.asking(); len(keys) > 0 {
			return job{n: n, work: work{epoch: n.session.epoch}, ask: keys}, true
		}
	}
	var later time.Time
	soonest := func(t time.Time) {
		if later.IsZero() || t.Before(later) {
			later = t
		}
	}
	var next *entry // what has waited longest
	for i := range n.entries {
		e := &n.entries[i]
		p := e.work
		if p == nil || e.busy || n.session == nil || p.low != (lane == laneStatistics) || n.kinds&kindBit(e.key.Kind()) != 0 {
			continue
		}
		if p.notBefore.After(now) {
			soonest(p.notBefore)
			continue
		}
		if next == nil || p.since < next.work.since {
			next = e
		}
	}
	switch {
	case next == nil:
	case n.budget(now, lane) > 0:
		soonest(now.Add(n.budget(now, lane)))
	default:
		return s.jobOf(n, next), true
	}
	if !later.IsZero() {
		s.alarmNode(n, later)
	}
	return job{}, false
}

// jobOf takes e's report for an attempt to write it.
func (s *Sink) jobOf(n *nodeState, e *entry) job {
	p := e.work
	e.busy, p.seen = true, 0
	n.kinds |= kindBit(e.key.Kind())
	return job{n: n, work: work{
		item: item{n.name, e.key}, n: n, epoch: n.session.epoch, body: p.body, hash: p.hash, serial: p.serial, stated: p.stated, low: p.low,
		base: e.base, settled: n.settled[e.key], hasNode: n.session.hasNode,
		foreign: e.foreign,
	}}
}

// asking returns the keys that the agent is to be asked for, and notes that it has been.
func (n *nodeState) asking() []wire.Key {
	var keys []wire.Key
	for i := range n.entries {
		if e := &n.entries[i]; e.ask {
			e.ask = false
			if e.work == nil {
				e.asked = true
				keys = append(keys, e.key)
			}
		}
	}
	return keys
}

// budget returns how long the node has to wait until its reports may cause another request.
func (n *nodeState) budget(now time.Time, lane int) time.Duration {
	limit := float32(nodeWriteBurst)
	if lane == laneReadiness {
		limit *= 2
	}
	over := n.owes(now) + 1 - limit
	if over <= 0 {
		return 0
	}
	return time.Duration(over / nodeWritesPerSecond * float32(time.Second))
}

func (n *nodeState) owes(now time.Time) float32 {
	if n.spent > 0 {
		n.spent = max(0, n.spent-float32(float64(now.UnixNano()-n.paid)/float64(time.Second)*nodeWritesPerSecond))
	}
	n.paid = now.UnixNano()
	return n.spent
}

// spend is called before every write of a report: it records the session's claim, if that is in memory only, and takes a request out
// of the budgets, that of the node and that of the relay, for which it waits.
func (s *Sink) spend(ctx context.Context, w *work) error {
	if err := s.record(ctx, w.n, w.epoch); err != nil {
		return err
	}
	n := w.n
	s.mu.Lock()
	n.spent = n.owes(time.Now()) + 1
	s.mu.Unlock()
	if s.budget == nil {
		return nil
	}
	return s.budget.Wait(ctx)
}

// done gives the node's turn back after a write.
func (s *Sink) done(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.ask != nil {
		return
	}
	j.n.kinds &^= kindBit(j.work.key.Kind())
	if e := j.n.entry(j.work.key); e != nil {
		e.busy = false
	}
	if j.n.pendingReports() > 0 {
		s.enlist(j.n)
	}
}

// alarmNode looks at the node again at a time.
func (s *Sink) alarmNode(n *nodeState, at time.Time) {
	t := at.UnixNano()
	if n.alarm != 0 && n.alarm <= t {
		return
	}
	n.alarm = t
	heap.Push(&s.alarms, alarmAt{t, n})
	if s.alarms[0].n == n {
		s.wind(time.Until(at))
	}
}

// wind sets the one timer of all alarms.
func (s *Sink) wind(d time.Duration) {
	switch {
	case s.driver != nil:
		s.driver(d, "alarm", func(context.Context) { s.ring() })
	case s.closed:
	case s.timer == nil:
		s.timer = time.AfterFunc(d, s.ring)
	default:
		s.timer.Reset(d)
	}
}

// ring enlists the nodes whose alarm is due.
func (s *Sink) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	for len(s.alarms) > 0 && s.alarms[0].at <= now {
		a := heap.Pop(&s.alarms).(alarmAt)
		if a.n.alarm == a.at {
			a.n.alarm = 0
			s.enlist(a.n)
		}
	}
	if len(s.alarms) > 0 {
		s.wind(time.Duration(s.alarms[0].at - now))
	}
}

// writer works until the queue is closed.
func (s *Sink) writer(ctx context.Context) {
	for {
		s.mu.Lock()
		j, ok := s.pick(time.Now())
		for !ok && !s.closed {
			s.more.Wait()
			j, ok = s.pick(time.Now())
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		s.perform(ctx, j)
	}
}

// step does one thing, if there is one to do: a worker's round, for who drives the sink without goroutines.
func (s *Sink) step(ctx context.Context) {
	s.mu.Lock()
	j, ok := s.pick(time.Now())
	s.mu.Unlock()
	if ok {
		s.perform(ctx, j)
	}
}

func (s *Sink) perform(ctx context.Context, j job) {
	if len(j.ask) > 0 {
		if s.opts.Want != nil {
			s.opts.Metrics.asked(len(j.ask))
			s.opts.Want(j.n.name, j.work.epoch, j.ask)
		}
		return
	}
	s.process(ctx, &j.work)
	s.done(j)
}

// stop ends the writers.
func (s *Sink) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.more.Broadcast()
}
