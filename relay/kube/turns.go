package kube

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Who may write next. Nodes take turns, whatever each has to say, in two lanes: readiness (conditions of nodes, pods and
// devices, deletions) goes before statistics (device values, node status that only brings figures up to date), which get every
// eighth turn at least. A node that has used up its share goes on, behind all that have not, with what they leave (see shares.go).

const (
	laneReadiness = iota
	laneStatistics
	laneBeyond // reports on devices, of both kinds, beyond their node's share
	lanes

	statisticsTurn = 8 // every so many turns, statistics go first

	// deviceWrites is how many devices' reports of one node may be written at once: one write takes the API server longer than the
	// time from one change to the next at 100 a second, and much longer when the server is busy. Of
	// nodes there is one, and of a node's pods one after the other are fast enough.
	deviceWrites = 8
)

// turn is a node's place in the queue. Guarded by Sink.mu.
type turn struct {
	queued [lanes]bool // it stands in the ring
	busy   [3]uint8    // writes under way, by kindIndex
	under  []wire.Key  // what is being written: an entry may be forgotten meanwhile, and made again
	// leaving says that the node is to be forgotten as soon as nothing of it is being written.
	leaving bool
	alarm   int64  // Unix time, ns, at which the node is looked at again; 0: none
	slot    int    // where its alarm stands in the heap, from 1; 0: nowhere
	share   bucket // what it is assured
	all     bucket // what it causes, shares or not
}

// job is one thing to do: to write a report, or to ask an agent for some.
type job struct {
	n    *nodeState
	work work
	ask  []wire.Key
}

// alarmAt is a node to look at again; nil: those that wait beyond their shares.
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
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].stands(i + 1)
	a[j].stands(j + 1)
}

// Push implements heap.Interface.
func (a *alarms) Push(x any) {
	one := x.(alarmAt)
	*a = append(*a, one)
	one.stands(len(*a))
}

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = alarmAt{}
	*a = (*a)[:len(*a)-1]
	last.stands(0)
	return last
}

// stands tells the node where its alarm stands, so that it is moved and not joined by another one.
func (a alarmAt) stands(slot int) {
	if a.n != nil {
		a.n.slot = slot
	}
}

// scheduler is the queue's state. Guarded by Sink.mu.
type scheduler struct {
	rings    [lanes][]*nodeState
	turns    uint
	underWay int  // jobs
	waking   bool // there is an alarm for those that wait for room beyond their shares
	alarms   alarms
	timer    *time.Timer
	closed   bool
}

// enlist gives the node a place in the rings.
func (s *Sink) enlist(n *nodeState) {
	s.join(n, laneReadiness)
	s.join(n, laneStatistics)
}

// join puts the node behind the others in a ring, unless it stands there already.
func (s *Sink) join(n *nodeState, lane int) {
	if !n.queued[lane] {
		n.queued[lane] = true
		s.rings[lane] = append(s.rings[lane], n)
		s.called(1)
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
	for {
		lane, ok := s.lane(now)
		if !ok {
			return job{}, false
		}
		n := s.rings[lane][0]
		s.rings[lane] = s.rings[lane][1:]
		n.queued[lane] = false
		if j, ok := s.pickOf(n, lane, now); ok {
			s.turns++
			s.underWay++
			s.join(n, lane) // behind the others
			return j, true
		}
	}
}

// lane returns the ring whose turn it is.
func (s *Sink) lane(now time.Time) (lane int, ok bool) {
	readiness, statistics := len(s.rings[laneReadiness]) > 0, len(s.rings[laneStatistics]) > 0
	switch {
	case statistics && (!readiness || s.turns%statisticsTurn == statisticsTurn-1):
		return laneStatistics, true
	case readiness:
		return laneReadiness, true
	}
	return laneBeyond, len(s.rings[laneBeyond]) > 0 && s.room(now)
}

// pickOf looks for something that the node may do now in a lane; failing that it sees to it that the node is looked at again when it may.
func (s *Sink) pickOf(n *nodeState, lane int, now time.Time) (job, bool) {
	if lane == laneReadiness && n.session != nil && !n.session.ended {
		if keys := n.asking(); len(keys) > 0 {
			return job{n: n, work: work{epoch: n.session.epoch}, ask: keys}, true
		}
	}
	next, later := s.oldest(n, lane, now)
	soonest := func(wait time.Duration) {
		if t := now.Add(wait); later.IsZero() || t.Before(later) {
			later = t
		}
	}
	if next != nil {
		share, all := n.assured(next.work.low, now), s.ceiling(n, now)
		switch {
		case share == 0:
			return s.jobOf(n, next, false), true
		case all == 0 && lane == laneBeyond:
			return s.jobOf(n, next, true), true
		case all == 0:
			s.join(n, laneBeyond)
		default:
			soonest(all)
		}
		soonest(share)
	}
	if !later.IsZero() {
		s.alarmNode(n, later)
	}
	return job{}, false
}

// oldest returns what has waited longest of what the node may write in the lane, readiness first, and if there is nothing, when to look
// again.
func (s *Sink) oldest(n *nodeState, lane int, now time.Time) (next *entry, later time.Time) {
	if n.session == nil {
		return nil, later
	}
	var free [3]bool
	for kind := range free {
		free[kind] = n.busy[kind] == 0
	}
	if device := kindIndex(wire.KindDevice); !free[device] && n.busy[device] < deviceWrites {
		free[device] = s.spare()
	}
	for i := range n.entries {
		e := &n.entries[i]
		p := e.work
		if p == nil || e.busy || !free[kindIndex(e.key.Kind())] {
			continue
		}
		if lane == laneBeyond && e.key.Kind() != wire.KindDevice || lane != laneBeyond && p.low != (lane == laneStatistics) {
			continue
		}
		if p.notBefore.After(now) {
			if later.IsZero() || p.notBefore.Before(later) {
				later = p.notBefore
			}
			continue
		}
		if next == nil || next.work.low && !p.low || next.work.low == p.low && p.since < next.work.since {
			next = e
		}
	}
	return next, later
}

// jobOf takes e's report for an attempt to write it.
func (s *Sink) jobOf(n *nodeState, e *entry, beyond bool) job {
	p := e.work
	e.busy, p.seen = true, 0
	n.busy[kindIndex(e.key.Kind())]++
	n.under = append(n.under, e.key)
	return job{n: n, work: work{
		item: item{n.name, e.key}, n: n, epoch: n.session.epoch, body: p.body, hash: p.hash, serial: p.serial, stated: p.stated, low: p.low,
		base: e.base, settled: n.settled[e.key], hasNode: n.session.hasNode,
		foreign: e.foreign, beyond: beyond,
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

// done gives the node's turn back after a write.
func (s *Sink) done(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay--
	if len(s.rings[laneBeyond]) > 0 {
		s.called(1) // there may be room
	}
	if j.ask != nil {
		return
	}
	j.n.busy[kindIndex(j.work.key.Kind())]--
	j.n.under = slices.DeleteFunc(j.n.under, func(k wire.Key) bool { return k == j.work.key })
	if e := j.n.entry(j.work.key); e != nil {
		e.busy = false
	}
	if j.n.pendingReports() > 0 {
		s.enlist(j.n)
	}
	if j.n.leaving {
		s.release(j.n)
	}
}

// alarmNode looks at the node again at a time.
func (s *Sink) alarmNode(n *nodeState, at time.Time) {
	t := at.UnixNano()
	if n.alarm != 0 && n.alarm <= t {
		return
	}
	n.alarm = t
	s.setAlarm(n, at)
}

func (s *Sink) setAlarm(n *nodeState, at time.Time) {
	if n != nil && n.slot > 0 {
		s.alarms[n.slot-1].at = at.UnixNano()
		heap.Fix(&s.alarms, n.slot-1)
	} else {
		heap.Push(&s.alarms, alarmAt{at.UnixNano(), n})
	}
	switch first := s.alarms[0]; {
	case s.driver == nil:
		s.wind(time.Until(time.Unix(0, first.at)))
	case first.n == n:
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
		if a.n == nil {
			s.waking = false
			s.called(1)
			continue
		}
		a.n.alarm = 0
		s.enlist(a.n)
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
	} else {
		s.process(ctx, &j.work)
	}
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
