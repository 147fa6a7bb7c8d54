package devices

import (
	"errors"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// Back-off of a subscription that ended. Meanwhile the points are polled.
const (
	subscribeBase  = time.Second
	subscribeLimit = time.Minute
)

// subscription is what the device tells of by itself. A point counts as watched from its first good value on; all others are polled.
type subscription struct {
	call     *call // nil: there is none
	items    []int32
	inbox    *inbox
	polled   map[string]bool // properties that the device does not tell of
	none     bool            // there is nothing to subscribe to
	retryAt  time.Time
	failures int // in a row
}

func (s *subscription) active() bool { return s.call != nil }

// told is a value that a subscription brought.
type told struct {
	item  int32
	round int32 // how many older values of the item stand before it; or finalRound
	value device.Value
}

// finalRound marks the values before which others are missing.
const finalRound = -1

// Limits of what waits in inboxes beyond the newest value of each point. Further values are conflated, and counted as lost to the history.
const (
	maxBurst     = 4096  // of one device
	maxHostBurst = 16384 // of all
)

// inbox takes values from a driver and never blocks it: of a point that changes faster than the worker looks, only the newest value is
// kept, unless the history wants every one. It is safe for concurrent use.
type inbox struct {
	worker *worker

	mu     sync.Mutex
	slots  []int32 // where in queue the newest value of an item stands, from 1; 0: nowhere
	every  []bool  // items of which each value is wanted; nil: none
	queue  *[]told // nil: empty
	burst  int     // values in queue beyond the newest of each item
	lost   uint64  // values that were wanted, and for which there was no room
	closed bool
}

// want says of which items each value is wanted, in the order of the subscription's points.
func (b *inbox) want(every []bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.every = every
}

func (b *inbox) notify(i int, v device.Value) {
	b.mu.Lock()
	if b.closed || i < 0 || i >= len(b.slots) {
		b.mu.Unlock()
		return
	}
	first := b.queue == nil
	if first {
		b.queue = b.worker.host.buffers.takeTold()
	}
	b.put(i, v)
	b.mu.Unlock()
	if first {
		b.worker.deliver(func(m *mail) { m.told = true })
	}
}

// put queues a value. The lock is held.
func (b *inbox) put(i int, v device.Value) {
	next := told{int32(i), 0, v} //nolint:gosec // an index
	if at := b.slots[i]; at > 0 {
		newest := &(*b.queue)[at-1]
		wanted := b.every != nil && b.every[i]
		if !wanted || !b.room() {
			if wanted {
				b.lost++
			}
			newest.value = v
			return
		}
		next.round = newest.round + 1
	}
	*b.queue = append(*b.queue, next)
	b.slots[i] = int32(len(*b.queue)) //nolint:gosec // bounded by the points and maxBurst
}

// room reserves room for a value beyond the newest of each point. The lock is held.
func (b *inbox) room() bool {
	host := &b.worker.host.burst
	if b.burst >= maxBurst {
		return false
	}
	if host.Add(1) > maxHostBurst {
		host.Add(-1)
		return false
	}
	b.burst++
	return true
}

// take empties the inbox. The queue that it returns, nil for nothing, goes back to the host's buffers; lost is how many values the history misses: they came
// before the newest ones of their points. The newest of each point are the queue's end then, in finalRound.
func (b *inbox) take() (queue *[]told, lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue, lost = b.queue, b.lost
	if lost > 0 {
		b.newestLast()
	}
	b.empty()
	if queue != nil {
		for _, x := range *queue {
			b.slots[x.item] = 0
		}
	}
	return queue, lost
}

// newestLast moves the newest value of each point behind all older ones, whose order stays. The lock is held.
func (b *inbox) newestLast() {
	all := *b.queue
	older, newest := all[:0], make([]told, 0, min(len(all), len(b.slots)))
	for n, x := range all {
		if int(b.slots[x.item]) == n+1 {
			x.round = finalRound
			newest = append(newest, x)
		} else {
			older = append(older, x)
		}
	}
	*b.queue = append(older, newest...)
}

// empty forgets what is queued. The lock is held.
func (b *inbox) empty() {
	b.worker.host.burst.Add(-int64(b.burst))
	b.queue, b.burst, b.lost = nil, 0, 0
}

// close takes nothing more, and returns how many values the history misses for it.
func (b *inbox) close() (lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost = b.lost
	if b.queue != nil && b.every != nil {
		for _, x := range *b.queue {
			if b.every[x.item] {
				lost++
			}
		}
	}
	b.closed = true
	b.empty()
	return lost
}

// subscribe starts a subscription to all points that the device may tell of.
func (w *worker) subscribe(now time.Time) {
	s := &w.sub
	subscriber, able := w.session.(device.Subscriber)
	if !able || s.call != nil || s.none || now.Before(s.retryAt) || w.hanging >= maxHanging {
		return
	}
	var points []device.Point
	s.items = nil
	for i := range w.plan.properties {
		if prop := &w.plan.properties[i]; prop.readable() && !s.polled[prop.name] {
			s.items = append(s.items, int32(i))
			points = append(points, prop.point)
		}
	}
	if len(points) == 0 {
		s.none = true
		return
	}
	box := &inbox{worker: w, slots: make([]int32, len(points)), every: w.everyValue(s.items)}
	c, ctx := w.begin(callSubscribe, 0, now)
	s.call, s.inbox = c, box
	w.start(c, func() result { return result{err: subscriber.Subscribe(ctx, points, box.notify)} })
}

// unsubscribe ends the subscription, if there is one; everything is polled from now on.
func (w *worker) unsubscribe() {
	s := &w.sub
	if s.call == nil {
		return
	}
	s.call.cancel()
	for i, c := range w.calls {
		if c == s.call {
			w.calls = append(w.calls[:i:i], w.calls[i+1:]...)
			w.hanging++ // until it comes back
			break
		}
	}
	w.unwatch()
}

// unwatch brings all points back to polling.
func (w *worker) unwatch() {
	w.missed(w.sub.inbox.close())
	w.sub.call, w.sub.inbox, w.sub.items = nil, nil, nil
	for i := range w.twins {
		w.twins[i].watched = false
	}
	for _, g := range w.groups {
		g.batch, g.pending = nil, true
	}
}

// resubscribe keeps a subscription over a change of the plan if all of its points are the same and are wanted as often: a driver may ask the
// device for changes as often as the property would be read.
func (w *worker) resubscribe(old *plan) {
	s := &w.sub
	s.none = false
	if s.call == nil || old == nil {
		s.polled = nil
		return
	}
	moved := make([]int32, 0, len(s.items))
	for _, i := range s.items {
		if j := w.current(old, int(i)); j >= 0 && w.plan.properties[j].readable() && w.plan.properties[j].collect == old.properties[i].collect {
			moved = append(moved, int32(j))
		}
	}
	wanted := 0
	for i := range w.plan.properties {
		if prop := &w.plan.properties[i]; prop.readable() && !s.polled[prop.name] {
			wanted++
		}
	}
	if len(moved) == len(s.items) && len(moved) == wanted {
		s.items = moved
		s.inbox.want(w.everyValue(moved))
		return
	}
	w.unsubscribe()
	s.polled, s.retryAt, s.failures = nil, time.Time{}, 0
}

// everyValue says of which properties the history wants every value; nil: of none.
func (w *worker) everyValue(items []int32) []bool {
	if w.host.opt.History == nil {
		return nil
	}
	var every []bool
	for n, i := range items {
		if w.plan.properties[i].recorded {
			if every == nil {
				every = make([]bool, len(items))
			}
			every[n] = true
		}
	}
	return every
}

// listen takes over what the subscription brought. Values of one point that came one after the other pass through the stage, the twin and the history
// one after the other; the twin is reported once.
func (w *worker) listen(now time.Time) {
	s := &w.sub
	if s.call == nil {
		return
	}
	brought, lost := s.inbox.take()
	if brought == nil {
		return
	}
	defer w.host.buffers.giveTold(brought)
	room := w.host.buffers.takeFresh(0)
	fresh, answered, round := (*room)[:0], false, int32(0)
	for _, x := range *brought {
		if x.round != round { // values with the same number are of different points
			w.take(fresh, now)
			clear(fresh)
			fresh, round = fresh[:0], x.round
			if round == finalRound {
				w.missed(lost)
			}
		}
		i := s.items[x.item]
		prop, t := &w.plan.properties[i], &w.twins[i]
		if x.value.Server.IsZero() {
			x.value.Server = now
		} else if t.readBack != nil && x.value.Server.Before(t.readBack.at) {
			continue // on its way since before a write, whose read-back is newer
		}
		v := converted(prop, t.doubted(x.value), nil, now)
		good := v.Quality == device.Good
		if good != t.watched {
			w.rewatch(prop, t, good)
		}
		answered = answered || good
		fresh = append(fresh, reading{prop, t, v})
	}
	w.take(fresh, now)
	w.host.buffers.giveFresh(room, fresh)
	if answered {
		s.failures = 0
		w.online(now)
	}
}

// missed tells the history of values that it did not get.
func (w *worker) missed(n uint64) {
	if n > 0 && w.host.opt.History != nil {
		w.host.opt.History.Missed(w.key.Namespace(), w.key.Name(), n)
	}
}

// rewatch notes that a point is watched from now on, or has to be polled.
func (w *worker) rewatch(prop *property, t *propertyTwin, watched bool) {
	t.watched = watched
	for _, g := range w.groups {
		if g.period == prop.collect {
			g.batch = nil
			g.pending = g.pending || !watched // look what is the matter
		}
	}
}

// finishSubscribe takes over the end of a subscription that nobody here has ended.
func (w *worker) finishSubscribe(r result, now time.Time) {
	s := &w.sub
	w.listen(now) // what it brought before it ended
	items := s.items
	w.unwatch()
	var refused *device.NotSubscribableError
	if errors.As(r.err, &refused) && len(refused.Points) > 0 {
		if s.polled == nil {
			s.polled = make(map[string]bool)
		}
		known := len(s.polled)
		for _, n := range refused.Points {
			if n >= 0 && n < len(items) {
				s.polled[w.plan.properties[items[n]].name] = true
			}
		}
		if len(s.polled) > known {
			return // the others are subscribed to at once
		}
	}
	s.failures++
	delay := jitter(twin.Backoff(s.failures, subscribeBase, subscribeLimit))
	s.retryAt = now.Add(delay)
	w.host.sched.set(w, taskSubscribe, s.retryAt, 0)
	if s.failures == 1 {
		why := "the driver gave no reason"
		if r.err != nil {
			why = oneLine(r.err)
		}
		w.log.Warn("the subscription ended; the device is polled until it is back", "why", why, "in", delay)
	}
}
