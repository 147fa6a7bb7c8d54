package sim

import (
	"container/heap"
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// timed is something that happens at a time. Events of one time happen in the order in which they were planned.
type timed struct {
	at    time.Time
	order uint64
	fn    func()
}

type timeline []timed

func (q timeline) Len() int { return len(q) }
func (q timeline) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || (q[i].at.Equal(q[j].at) && q[i].order < q[j].order)
}
func (q timeline) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *timeline) Push(x any)   { *q = append(*q, x.(timed)) }
func (q *timeline) Pop() any {
	o := *q
	x := o[len(o)-1]
	o[len(o)-1] = timed{}
	*q = o[:len(o)-1]
	return x
}

// after plans fn. Nothing in a simulation happens but by it.
func (s *Sim) after(d time.Duration, fn func()) {
	s.order++
	heap.Push(&s.queue, timed{at: s.now.Add(max(d, 0)), order: s.order, fn: fn})
}

// run lets d of virtual time pass. It ends early at the first violation.
func (s *Sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) && len(s.violations) == 0 {
		e := heap.Pop(&s.queue).(timed)
		s.advance(e.at)
		s.events++
		e.fn()
		s.afterEvent()
	}
	if len(s.violations) == 0 {
		s.advance(end)
	}
}

// advance moves the bubble's clock, the only one there is.
func (s *Sim) advance(to time.Time) {
	if d := to.Sub(s.now); d > 0 {
		time.Sleep(d)
	}
	s.now = time.Now()
}

// afterEvent brings into an order of its own what the last event caused in the order of some map: work of sinks, and
// notifications of sessions.
func (s *Sim) afterEvent() {
	for _, r := range s.relays {
		if !r.dead {
			r.index.Questions(r.later)
		}
	}
	for len(s.spawned) > 0 || len(s.marked) > 0 {
		spawned, marked := s.spawned, s.marked
		s.spawned, s.marked = nil, nil
		slices.SortStableFunc(spawned, func(a, b spawn) int {
			if c := a.owner.id - b.owner.id; c != 0 {
				return c
			}
			return strings.Compare(a.what, b.what)
		})
		for _, w := range spawned {
			s.after(w.after, func() { w.owner.start(w.what, w.work) })
		}
		slices.SortFunc(marked, func(a, b *conn) int { return a.id - b.id })
		for _, c := range marked {
			c.wakePump()
		}
	}
}

// spawn is work that a sink asked for.
type spawn struct {
	owner *relay
	after time.Duration
	what  string
	work  func(context.Context)
}

// proc is a call into real code that may wait for the API server. It is a coroutine: it runs only while the simulator
// waits for it, so everything still happens in one order.
type proc struct {
	s      *Sim
	owner  *relay
	what   string
	yield  func(struct{}) bool
	next   func() (struct{}, bool)
	stop   func()
	dead   bool // its relay has crashed: every call fails at once
	ended  bool
	quit   func() bool // the context was cancelled
	expiry time.Time   // of the context, zero for none
}

// killed unwinds a coroutine whose process is gone: not one more line of it runs.
type killed struct{}

// newProc starts fn as a coroutine of a relay's process.
func (s *Sim) newProc(owner *relay, what string, p *proc, fn func(ctx context.Context)) {
	p.s, p.owner, p.what = s, owner, what
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		defer func() {
			switch r := recover().(type) {
			case nil, killed:
			default: // or the stack would be the simulator's
				panic(fmt.Sprintf("%s, %s: %v\n%s", owner.who, what, r, debug.Stack()))
			}
		}()
		fn(procContext{p})
	})
	owner.procs = append(owner.procs, p)
	p.resume()
}

func (p *proc) resume() {
	if p.ended || p.dead {
		return
	}
	before := p.s.current
	p.s.current = p
	_, running := p.next()
	p.s.current = before
	if !running {
		p.finish()
	}
}

func (p *proc) finish() {
	p.ended = true
	if i := slices.Index(p.owner.procs, p); i >= 0 {
		p.owner.procs = slices.Delete(p.owner.procs, i, i+1)
	}
}

// kill ends the coroutine where it stands: the process that ran it is gone.
func (p *proc) kill() {
	p.dead = true
	before := p.s.current
	p.s.current = p
	p.stop()
	p.s.current = before
	p.ended = true
}

// wait suspends the coroutine. It does not return if its process is killed.
func (p *proc) wait(d time.Duration) {
	p.s.after(d, p.resume)
	if p.dead || !p.yield(struct{}{}) {
		panic(killed{})
	}
}

// procContext is the context of a coroutine, on virtual time and without a goroutine.
type procContext struct{ p *proc }

// Deadline implements context.Context.
func (c procContext) Deadline() (time.Time, bool) { return c.p.expiry, !c.p.expiry.IsZero() }

// Done implements context.Context. Nothing that is driven waits for it.
func (c procContext) Done() <-chan struct{} { return nil }

// Value implements context.Context.
func (c procContext) Value(any) any { return nil }

// Err implements context.Context.
func (c procContext) Err() error {
	switch {
	case c.p.dead, c.p.quit != nil && c.p.quit():
		return context.Canceled
	case !c.p.expiry.IsZero() && !c.p.s.now.Before(c.p.expiry):
		return context.DeadlineExceeded
	}
	return nil
}
