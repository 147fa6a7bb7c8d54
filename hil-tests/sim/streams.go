package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// Ends of a connection.
const (
	atAgent = iota
	atRelay
)

// sides names them.
var sides = [2]string{atAgent: "agent", atRelay: "relay"}

// Of the shells that send streams (relay/hub, firmware/link), and of the streams here.
const (
	streamPiece  = 8 << 10                                // bytes that the relay's pump sends before it looks for something more important
	streamAhead  = wire.StreamPipe + 2*wire.MaxStreamData // of streams on their way before a state frame: what one side allows, and what frames cost
	streamBuffer = 32 << 10                               // that one stream takes from its writer ahead of the network
	streamWindow = 48 << 10                               // of one stream: six of them fill the window of all
	streamRate   = 48 << 10                               // bytes a second that a relay takes of an agent's streams
	streamRoom   = 1 << 20                                // in the network's buffers, for streams: so much that windows bound what is on its way
	streamPoll   = 50 * time.Millisecond                  // how soon a pump looks again whether the network takes more
	keptBack     = stream.Pipe/4 + wire.MaxStreamData     // of the window of all streams, by a receiver
	openStreams  = 12                                     // that each side may have open
	opensASecond = 2                                      // that an agent may open, sustained
	framesLimit  = 1000                                   // without data that a relay takes a second, as by default
	lingerTime   = 15 * time.Second                       // as by default
)

// streams are those of one connection, both ends. The muxes are the code that ships; the pumps beside them do what the shells do.
type streams struct {
	c     *conn
	mux   [2]*stream.Mux
	over  [2]bool
	wake  [2]time.Time // that is planned for the mux
	pumps [2]bool      // is planned to run; of the relay, conn.pumping is it

	flow  [2]flow // of what each end sends
	list  []*pair // in the order in which they were opened
	byID  map[uint32]*pair
	dials [2]uint32 // streams that each end has opened
}

// flow is one direction of all streams: bytes of data, with what each frame costs beside them.
type flow struct {
	sent           int
	arrived        int // at the other mux
	given, granted int // given back by the receiver; and that has arrived at the sender
}

// begin makes an end usable, when its machine says that the session has streams.
func (c *conn) begin(end int, peer uint32) {
	limits := stream.Limits{Streams: openStreams, Window: streamWindow, OpensPerSecond: -1}
	if end == atRelay {
		limits.OpensPerSecond, limits.BytesPerSecond, limits.FramesPerSecond = opensASecond, streamRate, framesLimit
	}
	x := &c.streams
	x.mux[end] = stream.NewMux(stream.Config{Agent: end == atAgent, Peer: peer, Limits: limits, Serves: func(service string) string {
		if service == "nobody" {
			return "nobody serves it"
		}
		return ""
	}})
	if x.byID == nil {
		x.c, x.byID = c, map[uint32]*pair{}
		c.s.after(c.s.upTo(time.Second), x.live)
	}
}

// agentStreams is the agent's shell when its machine says that a session has streams: those of older sessions must be over.
func (a *agent) agentStreams(t link.StreamsUp) {
	for _, old := range a.streamed {
		if old.alive(atAgent) {
			a.s.fail("outlives", "%s has streams of session #%d when #%d begins", a.node, old.c.id, t.Conn)
		}
	}
	a.streamed = nil
	if c := a.conns[t.Conn]; c != nil {
		c.begin(atAgent, t.Peer)
		a.streamed = append(a.streamed, &c.streams)
	}
}

// relayStreams returns the relay's mux, which is made when it is needed first, nil without a session that has streams.
func (c *conn) relayStreams() *stream.Mux {
	if x := &c.streams; x.mux[atRelay] == nil && !c.ended && !c.r.dead {
		if peer, open := c.machine.Streams(); open && peer > 0 {
			c.begin(atRelay, peer)
		}
	}
	return c.streams.mux[atRelay]
}

func (x *streams) alive(end int) bool { return x.mux[end] != nil && !x.over[end] }

func (x *streams) now(end int) time.Time {
	if end == atRelay {
		return x.c.r.now()
	}
	return x.c.s.now
}

// endAt ends one end's streams with its session, as both shells do, and checks that nothing of them is left.
func (x *streams) endAt(end int, why string) {
	if !x.alive(end) {
		return
	}
	if end == atAgent && x.c.s.broken(KeepStreams) {
		return
	}
	x.mux[end].End(errors.New(why))
	x.over[end] = true
	if n := x.mux[end].Stats().Open; n != 0 {
		x.c.s.fail("outlives", "%s: %d streams are open at the %s after the session's end", x.c.who, n, sides[end])
	}
	if f := x.mux[end].Next(x.now(end)); f != nil {
		x.c.s.fail("outlives", "%s: the %s still sends %v after the session's end", x.c.who, sides[end], f.Type())
	}
	for _, p := range x.list {
		x.ended(p, end)
	}
}

// gone is the death of an end's process: nobody is left to be told.
func (x *streams) gone(end int) { x.over[end] = true }

// receive hands a frame to an end's mux.
func (x *streams) receive(end int, f wire.StreamFrame) error {
	if !x.alive(end) {
		return nil
	}
	s := x.c.s
	from := &x.flow[1-end]
	switch t := f.(type) {
	case *wire.StreamData:
		from.arrived += len(t.Data) + wire.StreamCost
		if p := x.byID[t.ID]; p != nil {
			p.taps[end].came += len(t.Data)
		}
	case *wire.StreamAccept:
		if end == atRelay && s.broken(IgnoreWindows) {
			f = &wire.StreamAccept{ID: t.ID, Window: 4 * t.Window}
		}
	case *wire.StreamWindow:
		if s.broken(LoseWindows) && s.chance(0.3) {
			return nil
		}
		if t.ID == 0 {
			x.flow[end].granted += int(t.Bytes)
		}
	}
	out, err := x.mux[end].Receive(f, x.now(end))
	if out.Opened != nil {
		x.opened(end, f.Stream(), out.Opened)
	}
	if err != nil {
		s.fail("stream protocol", "%s: the %s refuses %v: %v", x.c.who, sides[end], f.Type(), err)
	}
	if fl := &x.flow[end]; fl.granted > fl.sent {
		s.fail("credit", "%s: the %s was given back %d bytes of the %d that it has sent", x.c.who, sides[end], fl.granted, fl.sent)
	}
	x.rouse(end)
	return err
}

// rouse plans what an end's mux wants: its pump, and the time that it waits for.
func (x *streams) rouse(end int) {
	if !x.alive(end) {
		return
	}
	m, s := x.mux[end], x.c.s
	if m.Pending(x.now(end)) {
		x.pump(end, 0)
	}
	at := m.Wake()
	if at.IsZero() || at.Equal(x.wake[end]) {
		return
	}
	x.wake[end] = at
	s.after(at.Sub(x.now(end)), func() {
		if x.alive(end) && x.wake[end].Equal(at) {
			x.wake[end] = time.Time{}
			m.Tick(x.now(end))
			x.rouse(end)
		}
	})
}

// pump plans an end's pump.
func (x *streams) pump(end int, in time.Duration) {
	if x.pumps[end] {
		return
	}
	x.pumps[end] = true
	x.c.s.after(in, func() {
		x.pumps[end] = false
		if end == atRelay {
			x.c.wakePump() // which sends them when it has nothing else to do
			return
		}
		x.pumpAgent()
	})
}

// pumpAgent sends as firmware/link does: a frame of a stream at a time, whenever no other waits. Others never wait here.
func (x *streams) pumpAgent() {
	for x.alive(atAgent) && !x.c.cut && x.c.agent.conns[x.c.number] == x.c {
		if x.c.up.bytes >= streamRoom {
			x.pump(atAgent, streamPoll)
			return
		}
		f := x.next(atAgent)
		if f == nil {
			return
		}
		x.c.toRelay(f)
		b, err := wire.Encode(f)
		if err != nil {
			return // toRelay has said so
		}
		x.c.agent.step(link.StreamSent{Conn: x.c.number, Size: len(b)})
	}
}

// sendPiece sends as relay/hub does: a piece, when nothing else is to be done.
func (x *streams) sendPiece() {
	for sent := 0; sent < streamPiece && x.alive(atRelay) && !x.c.ended; {
		if x.c.down.bytes >= streamRoom && !x.c.cut && !x.c.silent {
			x.pump(atRelay, streamPoll)
			return
		}
		before := x.flow[atRelay].sent
		f := x.next(atRelay)
		if f == nil {
			return
		}
		x.c.toAgent(f)
		sent += x.flow[atRelay].sent - before + wire.StreamCost
	}
	x.rouse(atRelay)
}

// next takes the next frame of an end's mux, and notes what it carries.
func (x *streams) next(end int) wire.StreamFrame {
	f := x.mux[end].Next(x.now(end))
	own, s := &x.flow[end], x.c.s
	switch t := f.(type) {
	case *wire.StreamData:
		s.count.streamed += uint64(len(t.Data))
		own.sent += len(t.Data) + wire.StreamCost
		if p := x.byID[t.ID]; p != nil {
			p.taps[end].sent += len(t.Data)
		}
		if n := own.sent - own.granted; n > wire.StreamPipe {
			s.fail("credit", "%s: the %s has %d bytes on their way, %d are allowed", x.c.who, sides[end], n, wire.StreamPipe)
		}
	case *wire.StreamWindow:
		if t.ID == 0 {
			other := &x.flow[1-end]
			if other.given += int(t.Bytes); other.given > other.arrived {
				s.fail("credit", "%s: the %s gives back %d bytes of %d that have arrived", x.c.who, sides[end], other.given, other.arrived)
			}
		}
		if end == atRelay && s.broken(GiveTwice) {
			x.c.toAgent(t)
		}
	}
	return f
}

// idle says what an end's streams leave undone, or "": it is asked when the users of all streams have gone and all is quiet.
func (x *streams) idle() string {
	for _, p := range x.list {
		if !p.done() {
			return fmt.Sprintf("%s: stream %d is not over: %v", x.c.who, p.id, p.taps)
		}
	}
	for end := range sides {
		if !x.alive(end) || !x.alive(1-end) {
			continue
		}
		if n := x.mux[end].Stats().Open; n != 0 {
			return fmt.Sprintf("%s: %d streams are left at the %s", x.c.who, n, sides[end])
		}
		if fl := x.flow[end]; fl.sent-fl.granted > keptBack {
			return fmt.Sprintf("%s: credit of the %s is lost: it has sent %d bytes and got %d back", x.c.who, sides[end], fl.sent, fl.granted)
		}
	}
	return ""
}
