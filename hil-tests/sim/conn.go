package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// conn is one connection, and the relay's end of it as the hub keeps it: a pump that carries out the machine's actions in
// order, and stands still while the agent does not read.
type conn struct {
	s      *Sim
	id     int
	who    string // for the trace
	agent  *agent
	life   int    // of the agent that opened it
	number uint64 // the agent's name for it
	r      *relay

	up, down pipe
	cut      bool // both ends know, or will soon
	silent   bool // swallows everything, for ever

	machine *session.Machine
	epoch   uint64
	unsub   func()
	dirty   map[wire.Key]struct{}
	queue   []session.Action
	pumping bool
	stuck   time.Time // since when the pump waits for room in the network's buffers
	started bool
	ended   bool // the hub has let it go
	wake    time.Time
	unacked int // commits sent and not acknowledged
	streams streams
	due     []int // of the queue's actions: bytes of streams that had been sent when each came
}

// pipe is one direction. What is in it arrives in order.
type pipe struct {
	last   time.Time
	bytes  int
	stream int // of those, of streams
	frames int
	held   []func() // arrives when the partition heals
}

// networkBuffer is what fits between two ends that do not read, bytes.
const networkBuffer = 64 << 10

var errBroken = errors.New("the connection broke")

// open is the agent's dial that reached the relay.
func (s *Sim) open(a *agent, number uint64, r *relay) *conn {
	s.conns++
	c := &conn{
		s: s, id: s.conns, agent: a, life: a.life, number: number, r: r, dirty: map[wire.Key]struct{}{},
		who: fmt.Sprintf("%s~%s #%d", a.node, r.who, s.conns),
	}
	// As hub.register does: epochs grow as clocks do.
	r.epoch = max(r.epoch+1, uint64(r.now().UnixNano()))
	c.epoch = r.epoch
	old := r.sessions[a.node]
	r.sessions[a.node] = c
	r.conns = append(r.conns, c)
	if old != nil {
		old.step(session.Shut{Code: wire.CloseReplaced, Reason: "a newer session of this node was opened"})
	}
	c.machine = session.New(session.Config{
		Node: a.node, Relay: r.who, Epoch: c.epoch, Source: source{r.index, s}, Rules: 1, Limits: s.world.limits(),
	}, s.now)
	c.unsub = r.index.Subscribe(a.node, func(k wire.Key) {
		if len(c.dirty) == 0 {
			s.marked = append(s.marked, c)
		}
		c.dirty[k] = struct{}{}
	})
	a.conns[number] = c
	s.count.sessions++
	return c
}

// blocked reports whether the way between agent and relay is interrupted at present.
func (c *conn) blocked() bool { return c.s.partitioned(c.agent, c.r) }

// send puts a frame into one direction.
func (c *conn) send(p *pipe, f wire.Frame, arrive func(f wire.Frame, size int)) {
	b, err := wire.Encode(f)
	if err != nil {
		c.s.fail("encode", "%s: %v: %v", c.who, f.Type(), err)
		return
	}
	if c.unlucky() {
		return
	}
	streamed := 0
	if _, ok := f.(wire.StreamFrame); ok {
		streamed = len(b)
	} else if p.stream > streamAhead {
		c.s.fail("state delayed", "%s: %d bytes of streams are on their way before %v", c.who, p.stream, f.Type())
	}
	p.bytes += len(b)
	p.stream += streamed
	p.frames++
	c.s.count.bytes += uint64(len(b))
	c.deliver(p, len(b), func() {
		p.bytes -= len(b)
		p.stream -= streamed
		p.frames--
		if c.cut || c.silent {
			return
		}
		got, err := wire.Decode(b)
		if err != nil {
			c.s.fail("decode", "%s: %v: %v", c.who, f.Type(), err)
			return
		}
		arrive(got, len(b))
	})
}

// later runs fn when what went before it in the pipe has arrived, and the network lets it through.
func (c *conn) later(p *pipe, fn func()) { c.deliver(p, 0, fn) }

// deliver is later for something of a size, which takes its time where the network is slow.
func (c *conn) deliver(p *pipe, size int, fn func()) {
	at := c.s.now.Add(c.s.netDelay())
	if w := c.s.world.Bandwidth; w > 0 {
		if p.last.Before(c.s.now) {
			p.last = c.s.now
		}
		p.last = p.last.Add(time.Duration(size) * time.Second / time.Duration(w))
	}
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	c.s.after(at.Sub(c.s.now), func() { c.arrive(p, fn) })
}

func (c *conn) arrive(p *pipe, fn func()) {
	if len(p.held) == 0 && !c.blocked() && (p != &c.down || !c.agent.deaf()) {
		fn()
		return
	}
	p.held = append(p.held, fn)
	if len(p.held) == 1 {
		c.retry(p)
	}
}

// retry looks again whether what is held may go on.
func (c *conn) retry(p *pipe) {
	c.s.after(500*time.Millisecond, func() {
		if c.cut {
			p.held = nil
			return
		}
		for len(p.held) > 0 && !c.blocked() && (p != &c.down || !c.agent.deaf()) {
			fn := p.held[0]
			p.held = p.held[1:]
			fn()
		}
		if len(p.held) > 0 {
			c.retry(p)
		}
	})
}

// unlucky decides about the connection's fate when a frame is sent.
func (c *conn) unlucky() bool {
	w := &c.s.world
	switch x := c.s.r.Float64(); {
	case c.cut || c.silent:
	case x < w.Drop:
		c.s.note(c.who, "breaks", "")
		c.breakNow()
	case x < w.Drop+w.Silent:
		c.s.note(c.who, "goes silent", "")
		c.silent = true
	}
	return c.cut || c.silent
}

func (c *conn) toRelay(f wire.Frame) {
	what := describe(f)
	c.s.note(c.agent.node, "sends", what)
	c.send(&c.up, f, func(got wire.Frame, size int) {
		if c.ended || c.r.dead {
			return
		}
		if a, ok := got.(*wire.Ack); ok {
			c.acked(a)
		}
		c.step(session.Received{Frame: got, Size: size})
	})
}

func (c *conn) toAgent(f wire.Frame) {
	c.s.note(c.r.who, "sends", c.agent.node+" "+describe(f))
	c.send(&c.down, f, func(got wire.Frame, size int) {
		if c.life == c.agent.life {
			c.agent.step(link.Received{Conn: c.number, Frame: got, Size: size})
		}
	})
}

// breakNow resets the connection; both ends learn it a little later, unless the way is interrupted.
func (c *conn) breakNow() {
	if c.cut {
		return
	}
	c.cut = true
	if c.silent {
		return
	}
	c.s.after(c.s.netDelay(), func() { c.lostAtRelay() })
	c.s.after(c.s.netDelay(), func() { c.lostAtAgent(errBroken) })
}

func (c *conn) lostAtAgent(err error) {
	if c.life == c.agent.life && c.agent.conns[c.number] == c {
		c.streams.endAt(atAgent, err.Error())
		delete(c.agent.conns, c.number)
		c.agent.step(link.Lost{Conn: c.number, Err: err})
	}
}

func (c *conn) lostAtRelay() {
	if !c.ended && !c.r.dead {
		c.step(session.Lost{})
		c.end()
	}
}

// agentGone is the death of the agent's process: its kernel resets the connection, unless the power went with it.
func (c *conn) agentGone(power bool) {
	if c.life != c.agent.life || !c.agent.up {
		c.streams.gone(atAgent)
	}
	if power {
		c.silent = true
		return
	}
	c.cut = true
	c.s.after(c.s.netDelay(), c.lostAtRelay)
}

// relayGone is the same for the relay.
func (c *conn) relayGone() {
	c.ended = true
	c.streams.gone(atRelay)
	if c.s.chance(0.3) {
		c.silent = true
		return
	}
	c.cut = true
	c.s.after(c.s.netDelay(), func() { c.lostAtAgent(errBroken) })
}

// step feeds the relay's machine and queues what it wants.
func (c *conn) step(ev session.Event) {
	if c.ended || c.r.dead {
		return
	}
	acts := c.machine.Step(ev, c.r.now())
	c.queue = append(c.queue, acts...)
	for range acts {
		c.due = append(c.due, c.streams.flow[atRelay].sent)
	}
	c.s.check.relayQueue(c)
	if len(c.queue) > 0 {
		c.wakePump()
	}
	c.arm()
}

// arm plans the sweep that finds the machine's wake-up due: one a second.
func (c *conn) arm() {
	w := c.machine.Wake()
	if w.IsZero() || w.Equal(c.wake) {
		return
	}
	c.wake = w
	c.s.after((w.Sub(c.r.now()) + time.Second - 1).Truncate(time.Second), func() {
		if c.wake.Equal(w) {
			c.wake = time.Time{}
			c.step(session.Tick{})
		}
	})
}

func (c *conn) wakePump() {
	if c.pumping || c.ended || c.r.dead {
		return
	}
	c.pumping = true
	c.s.after(0, c.pump)
}

// pump carries out actions in order, then hands on what became dirty.
func (c *conn) pump() {
	if c.ended || c.r.dead {
		return
	}
	if c.s.broken(StreamsFirst) {
		for c.streams.alive(atRelay) && c.down.bytes < streamRoom {
			f := c.streams.next(atRelay)
			if f == nil {
				break
			}
			c.toAgent(f)
		}
	}
	for len(c.queue) > 0 {
		if send, ok := c.queue[0].(session.Send); ok && !c.writable(send) {
			c.s.after(500*time.Millisecond, c.pump)
			return
		}
		act := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if n := c.streams.flow[atRelay].sent - c.due[0]; n > 0 {
			c.s.fail("state delayed", "%s: %d bytes of streams were sent before %T, which was due", c.who, n, act)
		}
		c.due = c.due[1:]
		c.do(act)
		if c.ended {
			return
		}
	}
	c.pumping = false
	if len(c.dirty) > 0 {
		keys := sortedKeys(c.dirty)
		clear(c.dirty)
		c.step(session.Dirty{Keys: keys})
	}
	if len(c.queue) == 0 {
		c.streams.sendPiece()
	}
}

// writable reports whether the network takes another frame. A write that cannot be done for 30 s breaks the connection.
func (c *conn) writable(session.Send) bool {
	if c.down.bytes < networkBuffer || c.cut || c.silent {
		c.stuck = time.Time{}
		return true
	}
	if c.stuck.IsZero() {
		c.stuck = c.s.now
	}
	if c.s.now.Sub(c.stuck) >= 30*time.Second {
		c.s.note(c.who, "not read", "")
		c.breakNow()
		return true
	}
	return false
}

func (c *conn) do(act session.Action) {
	s, r := c.s, c.r
	switch t := act.(type) {
	case session.Start:
		s.newProc(r, "start "+c.agent.node, &proc{expiry: s.now.Add(10 * time.Second), quit: c.over}, func(ctx context.Context) {
			err := r.sink.SessionStarted(ctx, c.agent.node, c.epoch)
			if err != nil {
				s.note(c.who, "not started", err.Error())
			}
			if c.ended || r.dead {
				if err == nil && !r.dead {
					r.sink.SessionEnded(c.agent.node, c.epoch)
				}
				return
			}
			c.started = err == nil
			c.step(session.Started{Err: err})
		})
	case session.Send:
		if p, ok := t.Frame.(*wire.CommitPart); ok && !p.More {
			c.unacked++
		}
		c.toAgent(t.Frame)
	case session.Report:
		r.sink.Report(c.agent.node, c.epoch, t.Key, t.Body)
	case session.OfferAll:
		c.step(session.Wanted{Seq: t.Seq, List: !r.sink.OfferedAll(c.agent.node, c.epoch, t.Sum)})
	case session.Offer:
		c.step(session.Wanted{Seq: t.Seq, Keys: r.sink.Offered(c.agent.node, c.epoch, t.Items)})
	case session.Refused:
		s.note(c.who, "refused", t.Reason+": "+t.Detail)
	case session.StoreOutbox:
		if s.broken(EarlyOutboxAck) {
			c.step(session.OutboxStored{})
		}
		s.newProc(r, "outbox "+c.agent.node, &proc{quit: c.over}, func(ctx context.Context) {
			err := r.sink.Outbox(ctx, c.agent.node, t.Items)
			c.step(session.OutboxStored{Err: err})
		})
	case session.Streamed:
		if c.relayStreams() != nil {
			_ = c.streams.receive(atRelay, t.Frame) // it has been told of
		}
	case session.Hangup:
		s.note(c.who, "hangs up", t.Reason)
		c.streams.endAt(atRelay, t.Reason)
		s.count.closes[t.Code]++
		if t.Code == wire.CloseProtocol {
			s.fail("protocol", "%s was closed for %s", c.who, t.Reason)
		}
		if t.Code == 0 || t.Code == wire.CloseHeartbeat {
			c.breakNow()
			c.end()
			return
		}
		c.later(&c.down, c.breakNow)
		s.after(5*time.Second, func() { c.breakNow(); c.end() })
	case session.Note:
		s.note(c.who, "note", t.Text)
	default:
		s.fail("action", "%s: unknown action %T", c.who, act)
	}
}

func (c *conn) over() bool { return c.ended }

// end is the hub letting go of a connection.
func (c *conn) end() {
	if c.ended {
		return
	}
	c.ended = true
	c.streams.endAt(atRelay, "the connection was lost")
	c.unsub()
	clear(c.dirty)
	if c.started {
		c.r.sink.SessionEnded(c.agent.node, c.epoch)
	}
	if c.r.sessions[c.agent.node] == c {
		delete(c.r.sessions, c.agent.node)
	}
	if i := slices.Index(c.r.conns, c); i >= 0 {
		c.r.conns = slices.Delete(c.r.conns, i, i+1)
	}
	st := c.machine.Stats()
	c.s.count.add(st)
	c.s.note(c.who, "ended", strconv.Itoa(len(c.queue))+" actions dropped")
	c.queue, c.due = nil, nil
}

func (c *conn) acked(a *wire.Ack) {
	c.unacked = max(c.unacked-1, 0)
}
