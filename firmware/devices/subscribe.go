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
	item  int
	value device.Value
}

// inbox takes values from a driver and never blocks it: of a point that changes faster than the worker looks, only the newest value is
// kept. It is safe for concurrent use.
type inbox struct {
	worker *worker

	mu     sync.Mutex
	slots  []int32 // where in queue the value of an item stands, from 1; 0: nowhere
	queue  *[]told // nil: empty
	closed bool
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
	if at := b.slots[i]; at > 0 {
		(*b.queue)[at-1].value = v
	} else {
		*b.queue = append(*b.queue, told{i, v})
		b.slots[i] = int32(len(*b.queue))
	}
	b.mu.Unlock()
	if first {
		b.worker.deliver(func(m *mail) { m.told = true })
	}
}

// take empties the inbox. What it returns, nil for nothing, goes back to the host's buffers.
func (b *inbox) take() *[]told {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.queue
	b.queue = nil
	if out != nil {
		for _, x := range *out {
			b.slots[x.item] = 0
		}
	}
	return out
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.queue = true, nil
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
	box := &inbox{worker: w, slots: make([]int32, len(points))}
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
	w.sub.inbox.close()
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
		return
	}
	w.unsubscribe()
	s.polled, s.retryAt, s.failures = nil, time.Time{}, 0
}

// listen takes over what the subscription brought.
func (w *worker) listen(now time.Time) {
	s := &w.sub
	if s.call == nil {
		return
	}
	brought := s.inbox.take()
	if brought == nil {
		return
	}
	defer w.host.buffers.giveTold(brought)
	room := w.host.buffers.takeFresh(0)
	fresh, answered := (*room)[:0], false
	for _, x := range *brought {
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
