package session_test

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

const node = "gw-1"

// faults says how bad the connections are. hil-tests/sim has worlds with all that can go wrong; here are single scenes.
type faults struct {
	drop float64       // the connection breaks when a frame is sent, both ends learn it; per frame
	slow time.Duration // longest time that one step takes
}

// sim drives both machines single-threaded in virtual time: a queue of timed callbacks stands for network, disk and timers. What it
// is asked for are exact counts: what is sent, how often, after which event.
type sim struct {
	t      testing.TB
	r      *rand.Rand
	now    time.Time
	queue  timeline
	order  int
	faults faults

	store   *linktest.Store
	cluster *sessiontest.Cluster
	views   []*sessiontest.View // one per relay
	sink    *sessiontest.Sink
	limits  session.Limits

	agent     *link.Machine
	agentLife int
	agentWake time.Time
	conns     map[uint64]*simConn // of the agent's present life, by its number
	open      []*simConn          // whose relay end lives
	epoch     uint64
	current   map[wire.Key][]byte // what the agent reported last
	totals    session.Stats
	notes     []string
	closes    map[wire.CloseCode]int
	// passes, if set, sees every frame on its way, and may change it.
	passes func(wire.Frame)
}

// simConn is one connection with its relay end.
type simConn struct {
	s        *sim
	life     int
	number   uint64
	view     *sessiontest.View
	relay    *session.Machine
	epoch    uint64
	wake     time.Time
	cancel   func()
	cut      bool // broken for both
	lastUp   time.Time
	lastDown time.Time
}

type timed struct {
	at    time.Time
	order int
	fn    func()
}

type timeline []timed

func (q timeline) Len() int { return len(q) }
func (q timeline) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || (q[i].at.Equal(q[j].at) && q[i].order < q[j].order)
}
func (q timeline) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *timeline) Push(x any)   { *q = append(*q, x.(timed)) }
func (q *timeline) Pop() any     { o := *q; x := o[len(o)-1]; *q = o[:len(o)-1]; return x }

func newSim(t testing.TB, seed uint64, relays int, f faults, limits session.Limits) *sim {
	s := &sim{
		t: t, r: rand.New(rand.NewPCG(seed, 77)), faults: f, limits: limits,
		now:   time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC),
		store: linktest.NewStore(), cluster: sessiontest.NewCluster(), sink: sessiontest.NewSink(),
		conns: map[uint64]*simConn{}, current: map[wire.Key][]byte{}, closes: map[wire.CloseCode]int{},
	}
	for range relays {
		s.views = append(s.views, s.cluster.View())
	}
	s.boot()
	return s
}

func (s *sim) after(d time.Duration, fn func()) {
	s.order++
	heap.Push(&s.queue, timed{at: s.now.Add(d), order: s.order, fn: fn})
}

// delay is how long one step takes.
func (s *sim) delay() time.Duration {
	if s.faults.slow == 0 {
		return time.Millisecond
	}
	return time.Duration(s.r.Int64N(int64(s.faults.slow)))
}

func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		e := heap.Pop(&s.queue).(timed)
		s.now = e.at
		e.fn()
	}
	s.now = end
}

// boot starts an agent with an empty memory over what is stored.
func (s *sim) boot() {
	s.agentLife++
	for _, c := range s.conns {
		c.breakNow()
	}
	s.conns = map[uint64]*simConn{}
	s.agentWake = time.Time{}
	addresses := make([]string, len(s.views))
	for i := range addresses {
		addresses[i] = fmt.Sprintf("relay-%d:443", i)
	}
	s.agent = link.NewMachine(link.Options{Addresses: addresses, Node: node, Version: "test", Desired: s.store, Outbox: s.store}, s.r.Uint64())
	for k, b := range s.current {
		s.stepAgent(link.Reported{Key: k, Body: b})
	}
	s.stepAgent(link.Start{})
}

func (s *sim) report(k wire.Key, body []byte) {
	s.current[k] = body
	s.stepAgent(link.Reported{Key: k, Body: body})
}

func (s *sim) stepAgent(ev link.Event) {
	acts := append([]link.Action(nil), s.agent.Step(ev, s.now)...)
	for _, a := range acts {
		s.agentDoes(a)
	}
	life := s.agentLife
	if w := s.agent.Wake(); !w.IsZero() && !w.Equal(s.agentWake) {
		s.agentWake = w
		s.after(max(w.Sub(s.now), 0), func() {
			if life == s.agentLife {
				s.agentWake = time.Time{}
				s.stepAgent(link.Tick{})
			}
		})
	}
}

func (s *sim) agentDoes(a link.Action) {
	life := s.agentLife
	later := func(fn func()) {
		s.after(s.delay(), func() {
			if life == s.agentLife {
				fn()
			}
		})
	}
	switch t := a.(type) {
	case link.Dial:
		later(func() { s.dial(t) })
	case link.Send:
		if c := s.conns[t.Conn]; c != nil {
			c.toRelay(t.Frame)
		}
	case link.Hangup:
		if c := s.conns[t.Conn]; c != nil {
			c.after(&c.lastUp, func() { c.breakNow() })
		}
	case link.Apply:
		later(func() {
			err := s.store.Apply(context.Background(), t.Commit)
			s.stepAgent(link.Applied{Conn: t.Conn, ID: t.Commit.ID, Err: err})
		})
	case link.ReadOutbox:
		later(func() { s.stepAgent(link.OutboxRead{Conn: t.Conn, Items: s.store.Pending(0, t.Limit)}) })
	case link.ForgetOutbox:
		_ = s.store.Ack(t.Epoch, t.Seq)
	case link.Note:
		s.notes = append(s.notes, t.Text)
	}
}

func (s *sim) dial(d link.Dial) {
	var relay int
	if _, err := fmt.Sscanf(d.To, "relay-%d:443", &relay); err != nil {
		s.t.Fatalf("%s was dialled: %v", d.To, err)
	}
	s.epoch++
	c := &simConn{s: s, life: s.agentLife, number: d.Conn, view: s.views[relay], epoch: s.epoch}
	c.relay = session.New(session.Config{Node: node, Relay: "r", Epoch: c.epoch, Source: c.view, Rules: 1, Limits: s.limits}, s.now)
	c.cancel = c.view.Subscribe(node, func(k wire.Key) {
		s.after(0, func() { c.stepRelay(session.Dirty{Keys: []wire.Key{k}}) })
	})
	s.conns[d.Conn] = c
	s.open = append(s.open, c)
	s.stepAgent(link.Opened{Conn: d.Conn})
}

// after runs fn after what went the same way before.
func (c *simConn) after(last *time.Time, fn func()) {
	at := c.s.now.Add(c.s.delay())
	if at.Before(*last) {
		at = *last
	}
	*last = at
	c.s.after(at.Sub(c.s.now), fn)
}

// unlucky decides about the connection's fate when a frame is sent.
func (c *simConn) unlucky() bool {
	if c.s.r.Float64() < c.s.faults.drop {
		c.breakNow()
	}
	return c.cut
}

func (c *simConn) toRelay(f wire.Frame) {
	if c.s.passes != nil {
		c.s.passes(f)
	}
	b, err := wire.Encode(f)
	if err != nil {
		c.s.t.Fatal(err)
	}
	if c.unlucky() {
		return
	}
	c.after(&c.lastUp, func() {
		if c.cut {
			return
		}
		got, err := wire.Decode(b)
		if err != nil {
			c.s.t.Fatalf("%v: %v", f.Type(), err)
		}
		c.stepRelay(session.Received{Frame: got, Size: len(b)})
	})
}

func (c *simConn) toAgent(f wire.Frame) {
	if c.s.passes != nil {
		c.s.passes(f)
	}
	b, err := wire.Encode(f)
	if err != nil {
		c.s.t.Fatal(err)
	}
	if c.unlucky() {
		return
	}
	c.after(&c.lastDown, func() {
		if c.cut || c.life != c.s.agentLife {
			return
		}
		got, err := wire.Decode(b)
		if err != nil {
			c.s.t.Fatalf("%v: %v", f.Type(), err)
		}
		c.s.stepAgent(link.Received{Conn: c.number, Frame: got, Size: len(b)})
	})
}

// breakNow breaks the connection; both ends learn it a little later.
func (c *simConn) breakNow() {
	if c.cut {
		return
	}
	c.cut = true
	c.s.after(c.s.delay(), func() { c.stepRelay(session.Lost{}) })
	c.s.after(c.s.delay(), func() {
		if c.life == c.s.agentLife {
			c.s.stepAgent(link.Lost{Conn: c.number, Err: errors.New("the connection broke")})
		}
	})
}

func (c *simConn) stepRelay(ev session.Event) {
	if c.relay.Closed() {
		return
	}
	for _, a := range append([]session.Action(nil), c.relay.Step(ev, c.s.now)...) {
		c.relayDoes(a)
	}
	if w := c.relay.Wake(); !w.IsZero() && !w.Equal(c.wake) {
		c.wake = w
		c.s.after(max(w.Sub(c.s.now), 0), func() { c.wake = time.Time{}; c.stepRelay(session.Tick{}) })
	}
}

func (c *simConn) relayDoes(a session.Action) {
	s := c.s
	switch t := a.(type) {
	case session.Start:
		s.after(s.delay(), func() {
			err := s.sink.SessionStarted(context.Background(), node, c.epoch)
			if err == nil { // the hub ends older sessions of the node
				for _, o := range append([]*simConn(nil), s.open...) {
					if o != c && o.epoch < c.epoch {
						o.stepRelay(session.Shut{Code: wire.CloseReplaced})
					}
				}
			}
			c.stepRelay(session.Started{Err: err})
		})
	case session.Send:
		c.toAgent(t.Frame)
	case session.Report:
		s.sink.Report(node, c.epoch, t.Key, t.Body)
	case session.OfferAll:
		c.stepRelay(session.Wanted{Seq: t.Seq, List: !s.sink.OfferedAll(node, c.epoch, t.Sum)})
	case session.Offer:
		c.stepRelay(session.Wanted{Seq: t.Seq, Keys: s.sink.Offered(node, c.epoch, t.Items)})
	case session.StoreOutbox:
		s.after(s.delay(), func() {
			c.stepRelay(session.OutboxStored{Err: s.sink.Outbox(context.Background(), node, t.Items)})
		})
	case session.Hangup:
		s.closes[t.Code]++
		c.ended()
		c.after(&c.lastDown, func() { c.breakNow() })
	case session.Note:
		s.notes = append(s.notes, t.Text)
	}
}

func (c *simConn) ended() {
	c.cancel()
	st := c.relay.Stats()
	c.s.totals.ObjectsSent += st.ObjectsSent
	c.s.totals.ObjectsResumed += st.ObjectsResumed
	c.s.totals.DeletesSent += st.DeletesSent
	c.s.totals.ReportsRefused += st.ReportsRefused
	for i, o := range c.s.open {
		if o == c {
			c.s.open = append(c.s.open[:i], c.s.open[i+1:]...)
			return
		}
	}
}
