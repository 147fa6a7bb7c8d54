package session

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// DefaultMaxFrame is the largest frame that a relay takes from an agent unless Limits says otherwise, bytes.
const DefaultMaxFrame = 512 << 10

// Limits bounds what one agent can make the relay hold or do. Zero fields take the defaults.
type Limits struct {
	MaxFrame       int // largest frame from the agent, bytes; DefaultMaxFrame
	InFlight       int // commits that are sent and not acknowledged; 4
	InFlightBytes  int // encoded bytes of them, exceeded by at most one commit; 1 MiB
	CommitBytes    int // a commit is cut when it has so many bytes, except between a pod and its references; 256 KiB
	MaxCommitBytes int // one pod with its references; larger sets travel in several commits, references first; 8 MiB
	PartBytes      int // a commit is split into frames of about this size; 64 KiB
	MaxEntries     int // keys that an agent may claim to hold; 20,000
	BytesPerSecond int // received, sustained; 4 MiB, with a burst of four times that
	// MessagesPerSecond are frames received, sustained; 1,000, with a burst of five times that. An agent that exceeds it, or
	// BytesPerSecond, is disconnected.
	MessagesPerSecond int
	// ReportsPerSecond are status documents received, sustained; 500, with a burst of ten times that. An agent with more to
	// say waits for its acknowledgement, and sends the newest of each then.
	ReportsPerSecond int
	AckPatience      time.Duration // after so long without an acknowledgement the operator is told; 2 min
	MinHeartbeat     time.Duration // 1 s
	MaxHeartbeat     time.Duration // 5 min
	OlderAfter       time.Duration // how long the cache may stay behind what the agent has seen; 60 s
}

func (l Limits) withDefaults() Limits {
	set(&l.MaxFrame, DefaultMaxFrame)
	set(&l.InFlight, 4)
	set(&l.InFlightBytes, 1<<20)
	set(&l.CommitBytes, 256<<10)
	set(&l.MaxCommitBytes, 8<<20)
	set(&l.PartBytes, 64<<10)
	set(&l.MaxEntries, 20_000)
	set(&l.BytesPerSecond, 4<<20)
	set(&l.MessagesPerSecond, 1000)
	set(&l.ReportsPerSecond, 500)
	set(&l.AckPatience, 2*time.Minute)
	set(&l.MinHeartbeat, time.Second)
	set(&l.MaxHeartbeat, 5*time.Minute)
	set(&l.OlderAfter, 60*time.Second)
	return l
}

func set[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Config describes one session.
type Config struct {
	Node   string // from the client certificate
	Relay  string // this relay's name, for people
	Epoch  uint64
	Source Source
	Rules  wire.Rules // version of the trim rules behind Source
	Limits Limits
}

// Stats counts what a session did.
type Stats struct {
	ObjectsSent    uint64 // put by commits, absent references included
	DeletesSent    uint64
	ObjectsResumed uint64 // that the agent held when the session began, and that were not sent
	CommitsSent    uint64
	Reports        uint64 // accepted
	ReportsRefused uint64 // not the node's to write, or gone
	Offered        uint64 // documents of earlier sessions that were offered one by one, not all by one sum
	Wanted         uint64 // of these and of others, those whose bodies were asked for
	OutboxItems    uint64 // stored
}

type phase uint8

const (
	phaseNew       phase = iota // waiting for Hello
	phaseStarting               // claiming the session
	phaseCatching               // waiting for the caches to be ready and not behind the agent
	phaseComparing              // waiting for Entries
	phaseUp
	phaseClosed
)

// Machine is the relay's end of one session without I/O. It is not safe for concurrent use: relay/hub serialises its calls.
type Machine struct {
	cfg   Config
	out   []Action
	phase phase
	stats Stats

	proto     uint16
	peerFrame int
	heartbeat time.Duration
	lastHeard time.Time
	quota     quota

	outline     *wire.Outline        // of what the agent holds; until it is known
	agentRevs   map[wire.Kind]uint64 // until the caches are not behind them
	behindSince time.Time
	recheck     time.Time      // when to ask a Source again that was not ready
	comparing   wire.BucketSet // entries of these may come
	asked       wire.BucketSet // entries of these were asked for so far

	held     map[wire.Key]wire.Version // what the agent holds once it has applied what is in flight
	dirty    map[wire.Key]struct{}
	inFlight []sentCommit
	bytes    int // of inFlight
	lastID   uint64
	acked    uint64
	synced   bool
	tooLarge map[wire.Key]wire.Version // left out: they, or a reference, are larger than a frame

	report *wire.Report // waiting until the caches know what the agent knows
	offer  uint64       // that the Sink has not answered yet, 0 if there is none
	outbox outboxState
}

type sentCommit struct {
	id    uint64
	bytes int
}

// New returns the machine of a session whose connection was opened at now.
func New(cfg Config, now time.Time) *Machine {
	cfg.Limits = cfg.Limits.withDefaults()
	return &Machine{
		cfg: cfg, heartbeat: 15 * time.Second, lastHeard: now,
		peerFrame: wire.MinFrame,
		dirty:     map[wire.Key]struct{}{},
		quota:     newQuota(&cfg.Limits, now),
	}
}

// Stats returns the counters so far.
func (m *Machine) Stats() Stats { return m.stats }

// Closed reports whether the session has ended.
func (m *Machine) Closed() bool { return m.phase == phaseClosed }

// Synced reports whether the agent has acknowledged everything that was known for it when the session began.
func (m *Machine) Synced() bool { return m.synced }

// Step takes one event at a time and returns what is to be done. The returned slice is valid until the next call.
func (m *Machine) Step(ev Event, now time.Time) []Action {
	clear(m.out) // an idle session keeps no frames alive
	m.out = m.out[:0]
	if m.phase == phaseClosed {
		return nil
	}
	switch e := ev.(type) {
	case Received:
		m.lastHeard = now
		if why := m.quota.received(e.Size, &m.cfg.Limits, now); why != "" {
			m.close(wire.CloseLimit, why, limitRetry)
			return m.out
		}
		if e.Frame != nil {
			m.received(e.Frame, now)
		}
	case Dirty:
		for _, k := range e.Keys {
			m.dirty[k] = struct{}{}
		}
		switch m.phase {
		case phaseCatching:
			m.catchUp(now)
		case phaseUp: // whatever the Source was not sure about may be what changed
			m.recheck = time.Time{}
			m.takeReport(now)
		}
	case Started:
		m.started(e.Err, now)
	case Wanted:
		m.wanted(e)
	case OutboxStored:
		m.outboxStored(e.Err, now)
	case Shut:
		m.goodbye(&wire.Close{Code: e.Code, Reason: e.Reason, RetryAfter: uint32(e.RetryAfter / time.Millisecond), Elsewhere: e.Elsewhere})
	case Lost:
		m.end(0, "the connection was lost")
	}
	m.due(now)
	m.pump(now)
	return m.out
}

// Wake returns when Tick is due next, or the zero time.
func (m *Machine) Wake() time.Time {
	if m.phase == phaseClosed {
		return time.Time{}
	}
	at := m.deadAt()
	for _, t := range []time.Time{m.recheck, m.outbox.retryAt, m.quota.wake(m.cfg.Limits.AckPatience)} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

func (m *Machine) deadAt() time.Time { return m.lastHeard.Add(2 * m.heartbeat) }

func (m *Machine) due(now time.Time) {
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if m.phase == phaseClosed {
		return
	}
	if reached(m.deadAt()) {
		m.close(wire.CloseHeartbeat, fmt.Sprintf("nothing was heard for %v", 2*m.heartbeat), 0)
		return
	}
	if reached(m.recheck) {
		m.recheck = time.Time{}
		if m.phase == phaseCatching {
			m.catchUp(now)
		} else {
			m.takeReport(now)
		}
	}
	if reached(m.outbox.retryAt) {
		m.storeOutbox()
	}
	m.dueQuota(now)
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) send(f wire.Frame) { m.do(Send{Frame: f}) }

// close ends the session with a reason for the agent.
func (m *Machine) close(code wire.CloseCode, reason string, retryAfter time.Duration) {
	m.goodbye(&wire.Close{Code: code, Reason: reason, RetryAfter: milliseconds(retryAfter)})
}

func (m *Machine) goodbye(c *wire.Close) {
	if len(c.Reason) > wire.MaxText {
		c.Reason = c.Reason[:wire.MaxText]
	}
	m.send(c)
	m.end(c.Code, c.Reason)
}

func milliseconds(d time.Duration) uint32 { return uint32(max(d, 0) / time.Millisecond) }

// addresses leaves out what an agent would take for a malformed frame.
func addresses(all []string) (out []string) {
	for _, a := range all {
		if len(out) < wire.MaxElsewhere && wire.CheckAddress(a) == nil {
			out = append(out, a)
		}
	}
	return out
}

func (m *Machine) end(code wire.CloseCode, reason string) {
	m.do(Hangup{Code: code, Reason: reason})
	m.phase = phaseClosed
	m.held, m.dirty, m.report = nil, nil, nil
	m.outbox = outboxState{}
}

func (m *Machine) violation(format string, args ...any) {
	m.close(wire.CloseProtocol, fmt.Sprintf(format, args...), 0)
}

func (m *Machine) received(f wire.Frame, now time.Time) {
	switch t := f.(type) {
	case *wire.Hello:
		m.hello(t)
		return
	case *wire.Ping:
		m.send(&wire.Pong{})
		return
	case *wire.Close:
		m.end(0, "the agent ended the session: "+t.Reason)
		return
	}
	if m.phase < phaseCatching {
		m.violation("a %v frame came before the session was open", f.Type())
		return
	}
	switch t := f.(type) {
	case *wire.Entries:
		m.entries(t)
	case *wire.Ack:
		m.ack(t)
	case *wire.Report:
		m.reported(t, now)
	case *wire.Offer:
		m.offered(t)
	case *wire.Outbox:
		m.outboxReceived(t)
	default:
		m.violation("an agent does not send %v frames", f.Type())
	}
}

func (m *Machine) hello(h *wire.Hello) {
	if m.phase != phaseNew {
		m.violation("a second hello")
		return
	}
	if h.ProtoMax < wire.ProtoMin || h.ProtoMin > wire.ProtoMax {
		m.close(wire.CloseVersion, fmt.Sprintf("the agent speaks protocol versions %d to %d, this relay %d to %d", h.ProtoMin, h.ProtoMax, wire.ProtoMin, wire.ProtoMax), 0)
		return
	}
	if h.Node != m.cfg.Node {
		m.close(wire.CloseForbidden, fmt.Sprintf("the certificate is for node %q, the agent calls itself %q: correct the agent's configuration or enrol it for this name", m.cfg.Node, h.Node), 0)
		return
	}
	if h.MaxFrame < wire.MinFrame {
		m.violation("the agent takes frames of %d bytes, at least %d are needed", h.MaxFrame, wire.MinFrame)
		return
	}
	outline, err := wire.ParseOutline(h.Digest)
	if err != nil {
		m.violation("%v", err)
		return
	}
	l := &m.cfg.Limits
	m.proto = min(h.ProtoMax, wire.ProtoMax)
	m.peerFrame = int(min(h.MaxFrame, wire.MaxFrame))
	m.heartbeat = min(max(time.Duration(h.Heartbeat)*time.Millisecond, l.MinHeartbeat), l.MaxHeartbeat)
	m.outline, m.agentRevs = outline, wire.UnpackRevisions(h.Revisions)
	m.phase = phaseStarting
	m.do(Start{})
}

func (m *Machine) started(err error, now time.Time) {
	if m.phase != phaseStarting {
		return
	}
	if err != nil {
		m.close(wire.CloseUnavailable, err.Error(), 2*time.Second)
		return
	}
	m.send(&wire.Welcome{
		Proto: m.proto, Relay: m.cfg.Relay, Epoch: m.cfg.Epoch,
		Heartbeat: uint32(m.heartbeat / time.Millisecond),
		MaxFrame:  uint32(m.cfg.Limits.MaxFrame), Time: now.UnixMilli(),
	})
	m.phase = phaseCatching
	m.catchUp(now)
}
