package stream

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Config describes one end of a session's streams.
type Config struct {
	Agent  bool   // this end is the agent: its streams have odd numbers
	Peer   uint32 // what the peer announced in its hello or welcome, not 0
	Limits Limits
	// Serves says whether streams to a service are taken, and if not, why. It does not block and calls nothing of the Mux.
	Serves func(service string) (refusal string)
}

// Refusal is a stream that the peer wanted and did not get.
type Refusal struct {
	Reason string // RefusedStreams …, for metrics
	Detail string
}

// The reasons in a Refusal.
const (
	RefusedStreams = "streams"        // Limits.Streams are open
	RefusedRate    = "stream-rate"    // more than Limits.OpensPerSecond
	RefusedService = "stream-service" // nobody serves it
	RefusedLeaving = "stream-leaving" // this side shuts down
)

// Mux is one end of all streams of a session, without I/O: Receive takes what came, Next gives what is to be sent, whenever there is
// nothing more important to send. It is not safe for concurrent use; Session is its shell.
type Mux struct {
	cfg     Config
	streams map[uint32]*Stream
	own     uint32 // newest number of this side's streams
	peer    uint32 // newest of the other side's
	ours    int    // open streams of this side
	theirs  int    // of the other

	control []wire.StreamFrame // answers, in order; they go before data
	turn    []*Stream          // that may have something to send, in the order of their turns
	starved []*Stream          // that wait for credit

	credit  int       // bytes of all streams that may be sent
	due     int       // bytes of all streams that the peer may send
	arrived int       // bytes of all streams that came and have not been given back
	paceAt  time.Time // when they may be

	pace, frames, opens budget

	leaving bool
	end     error // why it is over; nil before
	stats   Stats
}

// Stats counts what went through a Mux.
type Stats struct {
	Opened, Accepted   uint64 // streams of this side, and of the other, that were opened
	BytesIn, BytesOut  uint64 // of data
	FramesIn, Refusals uint64
	Open               int // streams of both sides
}

// NewMux returns one without streams.
func NewMux(cfg Config) *Mux {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Serves == nil {
		cfg.Serves = func(service string) string { return noSuchService(service) }
	}
	return &Mux{cfg: cfg, streams: map[uint32]*Stream{}, credit: int(cfg.Peer), due: Pipe}
}

// Stats returns the counters so far.
func (m *Mux) Stats() Stats {
	st := m.stats
	st.Open = len(m.streams)
	return st
}

// Leave refuses new streams from now on.
func (m *Mux) Leave() { m.leaving = true }

// Dial asks the peer for a stream. It is usable once Opened says so.
func (m *Mux) Dial(service string) (*Stream, error) {
	switch {
	case m.end != nil:
		return nil, m.end
	case m.leaving:
		return nil, &RefusedError{service, wire.ResetLeaving, "this side shuts down"}
	case m.ours >= m.cfg.Limits.Streams:
		return nil, &RefusedError{service, wire.ResetLimit, fmt.Sprintf("%d streams to this peer are open already", m.ours)}
	case len(m.control) >= maxControl:
		return nil, &RefusedError{service, wire.ResetLimit, "the peer takes nothing of what is sent to it"}
	}
	if err := wire.CheckService(service); err != nil {
		return nil, err
	}
	next := m.own + 2
	if m.own == 0 && m.cfg.Agent {
		next = 1
	}
	if next < m.own {
		return nil, &RefusedError{service, wire.ResetLimit, "this session has used up its streams"}
	}
	m.own = next
	s := m.add(next, service, true)
	m.control = append(m.control, &wire.StreamOpen{ID: next, Service: service, Window: uint32(m.cfg.Limits.Window)})
	return s, nil
}

func (m *Mux) add(id uint32, service string, ours bool) *Stream {
	s := &Stream{m: m, id: id, service: service, ours: ours, recvCredit: m.cfg.Limits.Window}
	m.streams[id] = s
	if ours {
		m.ours++
	} else {
		m.theirs++
	}
	return s
}

// Outcome is what came of a frame.
type Outcome struct {
	Opened  *Stream  // by the peer
	Refused *Refusal // the peer has been told
}

// Receive takes a frame from the peer. An error is a *Violation.
func (m *Mux) Receive(f wire.StreamFrame, now time.Time) (Outcome, error) {
	if m.end != nil {
		return Outcome{}, nil
	}
	m.stats.FramesIn++
	if err := m.charge(f, now); err != nil {
		return Outcome{}, err
	}
	switch t := f.(type) {
	case *wire.StreamOpen:
		return m.opened(t, now)
	case *wire.StreamData:
		return Outcome{}, m.data(t)
	case *wire.StreamWindow:
		if t.ID == 0 {
			return Outcome{}, m.refill(int(t.Bytes))
		}
	}
	s, err := m.find(f.Stream())
	if s == nil || err != nil {
		return Outcome{}, err // of a stream that has ended here: the peer did not know yet
	}
	switch t := f.(type) {
	case *wire.StreamAccept:
		err = s.accepted(t)
	case *wire.StreamWindow:
		err = s.refill(int(t.Bytes))
	case *wire.StreamEnd:
		err = s.ended()
	case *wire.StreamReset:
		s.reset(t)
	}
	return Outcome{}, err
}

// charge counts what costs work and is bounded by no window.
func (m *Mux) charge(f wire.StreamFrame, now time.Time) error {
	limit := m.cfg.Limits.FramesPerSecond
	if w, ok := f.(*wire.StreamWindow); limit <= 0 || f.Type() == wire.TypeStreamData || ok && w.Bytes >= freeReturn {
		return nil
	}
	if m.frames.take(1, limit, burstFrames, now) > 0 {
		return exceeded("more than %d frames of streams a second are received", limit)
	}
	return nil
}

// find returns the stream, nil if it has ended here.
func (m *Mux) find(id uint32) (*Stream, error) {
	newest := m.peer
	if (id%2 == 1) == m.cfg.Agent {
		newest = m.own
	}
	if id > newest {
		return nil, violation("a frame of stream %d, which was never opened", id)
	}
	return m.streams[id], nil
}

func (m *Mux) opened(f *wire.StreamOpen, now time.Time) (Outcome, error) {
	if (f.ID%2 == 1) == m.cfg.Agent || f.ID <= m.peer {
		return Outcome{}, violation("stream %d cannot be opened: the newest is %d", f.ID, m.peer)
	}
	m.peer = f.ID
	if len(m.control) >= maxControl {
		return Outcome{}, exceeded("%d answers about streams have not been taken", len(m.control))
	}
	l := &m.cfg.Limits
	switch rate := l.OpensPerSecond; {
	case m.leaving:
		return m.refuse(f, wire.ResetLeaving, RefusedLeaving, "it shuts down")
	case m.theirs >= l.Streams:
		return m.refuse(f, wire.ResetLimit, RefusedStreams, fmt.Sprintf("%d streams of this peer are open, which is the limit: close some", m.theirs))
	case rate > 0 && m.opens.take(1, rate, burstOpens, now) > 0:
		m.opens.spent-- // what is refused does not count, or a peer that goes on trying would get none
		return m.refuse(f, wire.ResetLimit, RefusedRate, fmt.Sprintf("more than %d streams a second are opened: try again later", rate))
	}
	if why := m.cfg.Serves(f.Service); why != "" {
		return m.refuse(f, wire.ResetService, RefusedService, why)
	}
	s := m.add(f.ID, f.Service, false)
	s.open, s.sendCredit, s.sendMax = true, int(f.Window), int(f.Window)
	m.control = append(m.control, &wire.StreamAccept{ID: f.ID, Window: uint32(l.Window)})
	m.stats.Accepted++
	return Outcome{Opened: s}, nil
}

func (m *Mux) refuse(f *wire.StreamOpen, code wire.ResetCode, reason, detail string) (Outcome, error) {
	m.stats.Refusals++
	m.control = append(m.control, &wire.StreamReset{ID: f.ID, Code: code, Reason: detail})
	return Outcome{Refused: &Refusal{Reason: reason, Detail: fmt.Sprintf("a stream to service %q: %s", f.Service, detail)}}, nil
}

func (m *Mux) data(f *wire.StreamData) error {
	cost := len(f.Data) + wire.StreamCost
	if m.due -= cost; m.due < 0 {
		return exceeded("more data of streams is under way than the %d bytes that were allowed", Pipe)
	}
	m.arrived += cost
	m.stats.BytesIn += uint64(len(f.Data))
	s, err := m.find(f.ID)
	if s == nil || err != nil {
		return err
	}
	return s.arrived(f.Data)
}

// refill takes back what the peer says has arrived.
func (m *Mux) refill(n int) error {
	if m.credit+n > int(m.cfg.Peer) {
		return violation("%d bytes of all streams are said to have arrived, %d were under way", n, int(m.cfg.Peer)-m.credit)
	}
	m.credit += n
	waiting := m.starved
	m.starved = nil
	for _, s := range waiting {
		s.starving = false
		s.enqueue()
	}
	return nil
}

// Next returns the next frame to send, nil if there is none now. Streams take turns; what it returns is not used any more here.
func (m *Mux) Next(now time.Time) wire.StreamFrame {
	if m.end != nil {
		return nil
	}
	if len(m.control) > 0 {
		f := m.control[0]
		m.control[0] = nil
		if m.control = m.control[1:]; len(m.control) == 0 {
			m.control = nil
		}
		return f
	}
	if f := m.giveBack(now); f != nil {
		return f
	}
	for len(m.turn) > 0 {
		s := m.turn[0]
		m.turn[0] = nil
		if m.turn = m.turn[1:]; len(m.turn) == 0 {
			m.turn = nil
		}
		s.queued = false
		if f := s.next(); f != nil {
			s.enqueue() // at the end, if it has more
			return f
		}
	}
	return nil
}

// Pending reports whether Next would give a frame, or may.
func (m *Mux) Pending(now time.Time) bool {
	return len(m.control) > 0 || len(m.turn) > 0 || m.arrived >= Pipe/4 && !now.Before(m.paceAt)
}

// giveBack returns what has arrived to the peer, not faster than Limits.BytesPerSecond.
func (m *Mux) giveBack(now time.Time) wire.StreamFrame {
	m.paceAt = time.Time{}
	if m.arrived < Pipe/4 {
		return nil
	}
	if rate := m.cfg.Limits.BytesPerSecond; rate > 0 {
		if wait := m.pace.take(0, rate, burstBytes, now); wait > 0 {
			m.paceAt = now.Add(wait)
			return nil
		}
		m.pace.take(m.arrived, rate, burstBytes, now)
	}
	f := &wire.StreamWindow{Bytes: uint32(m.arrived)}
	m.due += m.arrived
	m.arrived = 0
	return f
}

// Wake returns when Tick is due, or the zero time.
func (m *Mux) Wake() time.Time {
	at := m.paceAt
	for _, s := range m.streams {
		if !s.linger.IsZero() && (at.IsZero() || s.linger.Before(at)) {
			at = s.linger
		}
	}
	return at
}

// Tick does what is due. There may be something to send then.
func (m *Mux) Tick(now time.Time) {
	for _, s := range m.streams {
		if !s.linger.IsZero() && !now.Before(s.linger) {
			s.abort(wire.ResetFailed, ErrLinger.Error(), ErrLinger)
		}
	}
}

// End ends all streams with an error that wraps ErrSessionEnded and why. What has arrived whole can be read to its end.
func (m *Mux) End(why error) {
	if m.end != nil {
		return
	}
	m.end = fmt.Errorf("%w: %w", ErrSessionEnded, why)
	for _, s := range m.streams {
		s.lost(m.end)
	}
	m.streams, m.control, m.turn, m.starved = nil, nil, nil, nil
	m.ours, m.theirs, m.arrived, m.paceAt = 0, 0, 0, time.Time{}
}
