package kube

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	leaseWorkers  = 128 // 10,000 Leases in 20 s at an API server that takes 250 ms for each
	wheelSlots    = 256 // turns in one interval
	leasePage     = 500
	graceTime     = 90 * time.Second
	adoptEvery    = 2 * time.Second
	giveWayFor    = 2 * time.Second
	giveWayEvery  = 50 * time.Millisecond
	giveWayAfter  = 300 * time.Millisecond // agents commit and answer what they were told last
	overloadEvery = 10 * time.Minute       // how often a budget that is too small is logged
)

// wheel spreads renewals: each node has its slot of the interval, found by its name, so that they come evenly however many
// sessions began at once, and in the same order after a restart. Guarded by Sink.mu.
type wheel struct {
	tick   time.Duration
	slots  [][]*nodeState // renewed in every round
	once   [][]*nodeState // renewed when the slot comes next, besides
	pos    int64          // newest slot that is done, counted from the Unix epoch in ticks
	count  int            // nodes in slots
	graced time.Time      // until when Leases are renewed for agents that are on their way

	gaveWay time.Time     // when renewals gave way last, and the turner's own, as is waited
	waited  time.Duration // for how long they have; it runs off at a quarter of the time
	warned  time.Time
	next    int64 // when the driver turns it next, Unix ns
}

func newWheel(interval, tick time.Duration) wheel {
	n := max(1, int(interval/tick))
	return wheel{tick: tick, slots: make([][]*nodeState, n), once: make([][]*nodeState, n)}
}

// duties of this relay towards a Lease.
const (
	dutyNone    = iota
	dutySession // it stands for a session here
	dutyGrace   // it is kept fresh until its agent has had time to come back
)

// duty says why the Lease of a node is to be renewed, and for which session.
func (s *Sink) duty(n *nodeState, now time.Time) (duty int, epoch uint64) {
	switch {
	case n.session != nil && !n.session.ended:
		return dutySession, n.session.epoch
	case n.session == nil && n.newest == 0 && now.Before(s.wheel.graced) && n.lease.fresh(now) && s.orphan(n.lease.relay):
		return dutyGrace, 0
	}
	return dutyNone, 0
}

// orphan reports whether no other living relay renews the Leases that record relay.
func (s *Sink) orphan(relay string) bool {
	if relay == s.opts.Relay || s.opts.Alive == nil || relay == "" {
		return relay == s.opts.Relay
	}
	alive := s.opts.Alive()
	return alive != nil && !alive[relay]
}

// adoptOthers keeps fresh, too, what relays left that are gone, once it is known which are.
func (s *Sink) adoptOthers(ctx context.Context) {
	if s.opts.Alive == nil {
		return
	}
	s.mu.Lock()
	end := s.wheel.graced
	s.mu.Unlock()
	for ; ctx.Err() == nil && time.Now().Before(end); pause(ctx, adoptEvery) { // a relay that was killed is found out after a while
		if kept := s.adopt(time.Now()); kept > 0 {
			s.log.Info("Leases of relays that are gone are kept fresh until their agents had time to come back", slog.Int("keptFresh", kept))
		}
	}
}

// keepRenewed gives the node a slot of the wheel, unless it has one.
func (s *Sink) keepRenewed(n *nodeState) {
	if n.slotted {
		return
	}
	n.slotted = true
	w := &s.wheel
	slot := w.slotOf(n.name)
	w.slots[slot] = append(w.slots[slot], n)
	w.count++
	if need := float64(w.count) / s.opts.LeaseInterval.Seconds(); s.opts.QPS > 0 && need > s.opts.QPS && time.Since(w.warned) >= overloadEvery {
		w.warned = time.Now()
		s.log.Warn(fmt.Sprintf("renewing Leases needs more requests than allowed: %d nodes / %v = %.0f requests a second, api.qps allows %.0f: raise api.qps to %.0f, or lease.interval (with lease.duration), or nodes will be counted as gone",
			w.count, s.opts.LeaseInterval, need, s.opts.QPS, 1.2*need+1))
	}
	s.wound()
}

func (w *wheel) slotOf(node string) int {
	h := fnv.New32a()
	h.Write([]byte(node))
	return int(h.Sum32() % uint32(len(w.slots)))
}

// wound tells who turns the wheel that there is something in it.
func (s *Sink) wound() {
	if s.driver == nil {
		select {
		case s.turn <- struct{}{}:
		default:
		}
		return
	}
	w, now := &s.wheel, time.Now()
	d := s.untilNext(now)
	if at := now.UnixNano() + int64(d); d >= 0 && (w.next <= now.UnixNano() || at < w.next) {
		w.next = at
		s.driver(d, "renewals", s.turnOnce)
	}
}

// soon renews the node once more after a time.
func (s *Sink) soon(n *nodeState, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.extra {
		return
	}
	n.extra = true
	w := &s.wheel
	ticks := min(max(1, int64(after/w.tick)), int64(len(w.once))-1)
	slot := int((time.Now().UnixNano()/int64(w.tick) + ticks) % int64(len(w.once)))
	w.once[slot] = append(w.once[slot], n)
	s.wound()
}

// untilNext returns how long it is until a slot that is not empty; negative if all are empty.
func (s *Sink) untilNext(now time.Time) time.Duration {
	w := &s.wheel
	at := now.UnixNano() / int64(w.tick)
	if w.pos == 0 {
		w.pos = at
	}
	w.pos = max(w.pos, at-int64(len(w.slots))) // after a standstill each is due once
	for i := range int64(len(w.slots)) {
		slot := (w.pos + 1 + i) % int64(len(w.slots))
		if len(w.slots[slot])+len(w.once[slot]) > 0 {
			return max(0, time.Duration((w.pos+1+i)*int64(w.tick)-now.UnixNano()))
		}
	}
	return -1
}

// due takes the nodes whose slots have come since the last call.
func (s *Sink) due(now time.Time) []*nodeState {
	w := &s.wheel
	at := now.UnixNano() / int64(w.tick)
	w.pos = max(w.pos, at-int64(len(w.slots)))
	var out []*nodeState
	for ; w.pos < at; w.pos++ {
		slot := (w.pos + 1) % int64(len(w.slots))
		kept := w.slots[slot][:0]
		for _, n := range w.slots[slot] {
			if d, _ := s.duty(n, now); d == dutyNone {
				n.slotted = false
				w.count--
				s.release(n)
				continue
			}
			kept = append(kept, n)
			out = append(out, n)
		}
		clear(w.slots[slot][len(kept):])
		w.slots[slot] = kept
		for _, n := range w.once[slot] {
			n.extra = false
			out = append(out, n)
		}
		w.once[slot] = nil
	}
	return out
}

// giveWay waits while agents are being told something that many of them wait for. A renewal may come a little late, of ten
// thousand each second's cost a core of the API server, and a change is awaited: but not for more than giveWayFor, nor in all for more
// than a quarter of the time, so that no amount of changes costs a node its Lease.
func (s *Sink) giveWay(ctx context.Context) {
	if s.opts.Busy == nil || !s.opts.Busy() {
		return
	}
	w := &s.wheel
	begun := time.Now()
	if !w.gaveWay.IsZero() {
		w.waited = max(0, w.waited-begun.Sub(w.gaveWay)/4)
	}
	end := begun.Add(min(giveWayFor, s.opts.LeaseInterval/4-w.waited))
	for last := begun; ctx.Err() == nil && time.Now().Before(end) && time.Since(last) < giveWayAfter; pause(ctx, giveWayEvery) {
		if s.opts.Busy() {
			last = time.Now()
		}
	}
	w.gaveWay = time.Now()
	w.waited += w.gaveWay.Sub(begun)
}

// turnWheel hands out renewals until ctx ends.
func (s *Sink) turnWheel(ctx context.Context, jobs chan<- *nodeState) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		s.mu.Lock()
		d := s.untilNext(time.Now())
		s.mu.Unlock()
		if d < 0 {
			d = time.Hour
		}
		t.Reset(d)
		select {
		case <-ctx.Done():
			return
		case <-s.turn:
			continue
		case <-t.C:
		}
		s.giveWay(ctx)
		now := time.Now()
		s.mu.Lock()
		due := s.due(now)
		s.mu.Unlock()
		for _, n := range due {
			if time.Since(now) > s.opts.LeaseInterval/4 {
				s.opts.Metrics.late()
			}
			select {
			case jobs <- n:
			case <-ctx.Done():
				return
			}
		}
	}
}

// renewer renews until ctx ends. A request that hangs must not keep the node's Lease locked for ever.
func (s *Sink) renewer(ctx context.Context, jobs <-chan *nodeState) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-jobs:
			limited, cancel := context.WithTimeout(ctx, s.opts.LeaseDuration/2)
			again := s.renew(limited, n)
			cancel()
			if again > 0 {
				s.soon(n, again)
			}
		}
	}
}

// turnOnce is one round of turnWheel and the renewers, for who drives the sink without goroutines.
func (s *Sink) turnOnce(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.due(time.Now()) {
		s.driver(0, "renew "+n.name, func(ctx context.Context) {
			if again := s.renew(ctx, n); again > 0 {
				s.soon(n, again)
			}
		})
	}
	s.wheel.next = 0
	s.wound()
}

// readLeases reads all Leases of the nodes once, so that later claims and renewals need no reads; and it keeps those fresh whose
// agents were connected a moment ago: to this relay before it was started anew, or to one that is gone. Without that, the nodes
// of a relay that takes a minute to start would be counted as gone. It returns when to try again; 0: done.
func (s *Sink) readLeases(ctx context.Context) (again time.Duration) {
	opts := metav1.ListOptions{ResourceVersion: "0", Limit: leasePage}
	now := time.Now()
	found := 0
	for {
		list, err := s.opts.Leases.List(ctx, opts)
		if err != nil {
			s.firstRead()
			if ctx.Err() == nil && s.trouble.allow() {
				why := "cannot list the nodes' Leases; each session that begins reads its own meanwhile"
				if apierrors.IsForbidden(err) {
					why += ": run `skerryctl init` of this release, which gives the relay the right"
				}
				s.log.Warn(why, slog.Any("error", err))
			}
			return s.opts.LeaseInterval
		}
		s.mu.Lock()
		for i := range list.Items {
			lease := &list.Items[i]
			if _, ok := lease.Annotations[relayAnnotation]; !ok {
				continue // of a kubelet
			}
			n := s.node(lease.Name)
			if n.lease.rv != 0 || n.claims > 0 {
				continue // known better
			}
			n.lease = s.leaseOf(n, lease)
			found++
		}
		s.mu.Unlock()
		if list.Continue == "" {
			break
		}
		opts = metav1.ListOptions{Limit: leasePage, Continue: list.Continue}
	}
	s.listed.Store(true)
	kept := s.adopt(now)
	s.firstRead()
	s.log.Info("the nodes' Leases are known", slog.Int("leases", found), slog.Int("keptFresh", kept))
	return 0
}

// adopt gives the Leases that are kept fresh their first renewal, in time and not all at once.
func (s *Sink) adopt(now time.Time) (kept int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wheel.graced.IsZero() {
		s.wheel.graced = now.Add(graceTime)
	}
	for _, name := range sortedNames(s.nodes) {
		n := s.nodes[name]
		if d, _ := s.duty(n, now); d != dutyGrace || n.slotted {
			continue
		}
		kept++
		s.keepRenewed(n)
		left := time.Duration(n.lease.renewed + int64(n.lease.seconds)*int64(time.Second) - now.UnixNano())
		if left > s.opts.LeaseInterval {
			continue // its slot comes before it expires
		}
		w := &s.wheel
		part := float64(w.slotOf(name)) / float64(len(w.once))
		ticks := 1 + int64(float64(left)*0.8*part/float64(w.tick))
		slot := (now.UnixNano()/int64(w.tick) + ticks) % int64(len(w.once))
		w.once[slot] = append(w.once[slot], n)
		n.extra = true
	}
	s.wound()
	return kept
}

// renewForAnother keeps a Lease fresh without changing whose it is.
func (s *Sink) renewForAnother(ctx context.Context, n *nodeState) (again time.Duration) {
	err := s.putLease(ctx, n, n.lease)
	switch {
	case err == nil:
		s.opts.Metrics.keptFresh()
		return 0
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		// Claimed, or kept fresh, by another relay. What stands there is read when it is needed.
		l := n.lease
		l.renewed = 0
		s.setLease(n, l)
		return 0
	}
	return s.opts.LeaseInterval / 5
}

// firstRead lets SessionStarted go on.
func (s *Sink) firstRead() { s.firstOnce.Do(func() { close(s.first) }) }

// leasesRead waits until Run, if it runs, has tried to read the Leases.
func (s *Sink) leasesRead(ctx context.Context) error {
	if !s.running.Load() {
		return ctx.Err()
	}
	select {
	case <-s.first:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func uidOf(s string) types.UID { return types.UID(s) }
