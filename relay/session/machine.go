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
	// BytesPerSecond are received, sustained; 4 MiB, with a burst of four times that. Data of streams have as much again, and wait
	// for it.
	BytesPerSecond int
	// MessagesPerSecond are frames received, sustained; 1,000, with a burst of five times that. An agent that exceeds it, or
	// BytesPerSecond, is disconnected. Frames of streams that carry no data have as many again.
	MessagesPerSecond int
	// ReportsPerSecond are status documents received, sustained; 500, with a burst of ten times that. An agent with more to
	// say waits for its acknowledgement, and sends the newest of each then.
	ReportsPerSecond int
	Streams          int           // that either side may have open at a time; 64
	StreamsPerSecond int           // that an agent may open, sustained; 10, with a burst of ten times that. The others are refused
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
	set(&l.Streams, 64)
	set(&l.StreamsPerSecond, 10)
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

// Config describes one session. Either Shared is set, or the fields after it.
type Config struct {
	Node  string // from the client certificate
	Epoch uint64
	// Shared is what all sessions of a relay have in common: kept once, not for each.
	Shared *Shared

	Relay  string // this relay's name, for people
	Source Source
	Rules  wire.Rules // version of the trim rules behind Source
	Limits Limits
}

// Shared is what the sessions of a relay have in common. It is not changed any more, and safe for concurrent use.
type Shared struct {
	relay  string
	source Source
	rules  wire.Rules
	limits Limits
}

// Share makes what sessions of cfg have in common; Node and Epoch do not count.
func Share(cfg Config) *Shared {
	return &Shared{relay: cfg.Relay, source: cfg.Source, rules: cfg.Rules, limits: cfg.Limits.withDefaults()}
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
//
// There are ten thousand of them, nearly all idle: what only a busy one needs is nil meanwhile (memory_test.go).
type Machine struct {
	*Shared
	node  string
	epoch uint64
	begun time.Time // that moments count from
	out   []Action
	stats Stats

	heartbeat time.Duration
	lastHeard moment
	peerFrame uint32
	streams   uint32 // what the agent announced of streams, 0 if it has none
	proto     uint16
	peerKinds uint8 // how many kinds the agent knows
	phase     phase
	synced    bool
	offering  bool // the Sink has not answered the newest offer yet
	quota     quota

	outline     *wire.Outline        // of what the agent holds; until it is known
	agentRevs   map[wire.Kind]uint64 // until the caches are not behind them
	behindSince moment
	recheck     moment         // when to ask a Source again that was not ready
	comparing   wire.BucketSet // entries of these may come
	asked       wire.BucketSet // entries of these were asked for so far

	held     holdings // what the agent holds once it has applied what is in flight
	dirty    map[wire.Key]struct{}
	inFlight []sentCommit
	bytes    int // of inFlight
	lastID   uint64
	acked    uint64
	tooLarge map[wire.Key]wire.Version // left out: they, or a reference, are larger than a frame

	report *wire.Report // waiting until the caches know what the agent knows
	offer  uint64       // newest that came
	outbox *outboxState // the batch on its way to the Sink, nil if there is none
}

type sentCommit struct {
	id    uint64
	bytes int
}

// New returns the machine of a session whose connection was opened at now.
func New(cfg Config, now time.Time) *Machine {
	shared := cfg.Shared
	if shared == nil {
		shared = Share(cfg)
	}
	return &Machine{
		Shared: shared, node: cfg.Node, epoch: cfg.Epoch,
		begun: now, heartbeat: 15 * time.Second, lastHeard: 1, peerFrame: wire.MinFrame,
	}
}

// moment is a time as nanoseconds since the session began, plus one; 0 is never. A third of a time.Time, and as monotonic.
type moment int64

func (m *Machine) moment(t time.Time) moment { return max(moment(t.Sub(m.begun)), 0) + 1 }

func (m *Machine) time(x moment) time.Time {
	if x == 0 {
		return time.Time{}
	}
	return m.begun.Add(time.Duration(x - 1))
}

func (x moment) add(d time.Duration) moment { return x + moment(d) }

func (x moment) since(y moment) time.Duration { return time.Duration(x - y) }

// reached reports whether the moment at, if there is one, has come.
func (x moment) reached(at moment) bool { return at != 0 && x >= at }

// Stats returns the counters so far.
func (m *Machine) Stats() Stats { return m.stats }

// Closed reports whether the session has ended.
func (m *Machine) Closed() bool { return m.phase == phaseClosed }

// Streams reports whether the session is open, and what the agent announced of streams, 0 if it is of a release without.
func (m *Machine) Streams() (window uint32, open bool) {
	return m.streams, m.phase >= phaseCatching && m.phase < phaseClosed
}

// Limits returns the limits, defaults filled in.
func (m *Machine) Limits() Limits { return m.limits }

// Synced reports whether the agent has acknowledged everything that was known for it when the session began.
func (m *Machine) Synced() bool { return m.synced }

// Step takes one event at a time and returns what is to be done. The returned slice is valid until the next call.
func (m *Machine) Step(ev Event, at time.Time) []Action {
	clear(m.out) // an idle session keeps no frames alive
	if m.out = m.out[:0]; cap(m.out) > 2 {
		m.out = nil
	}
	if m.phase == phaseClosed {
		return nil
	}
	now := m.moment(at)
	switch e := ev.(type) {
	case Received:
		m.lastHeard = now
		if f, ok := e.Frame.(wire.StreamFrame); ok {
			m.streamed(f)
			break
		}
		if why := m.quota.received(e.Size, &m.limits, now); why != "" {
			m.close(wire.CloseLimit, why, LimitRetry)
			return m.out
		}
		if e.Frame != nil {
			m.received(e.Frame, now)
		}
	case Heard:
		m.lastHeard = now
		if m.phase >= phaseCatching { // the agent's pings wait behind the message: what answers them must not
			m.send(&wire.Pong{})
		}
	case Dirty:
		for _, k := range e.Keys {
			m.mark(k)
		}
		switch m.phase {
		case phaseCatching:
			m.catchUp(now)
		case phaseUp: // whatever the Source was not sure about may be what changed
			m.recheck = 0
			m.takeReport(now)
		}
	case Started:
		m.started(e.Err, now)
	case Wanted:
		m.wanted(e)
	case OutboxStored:
		m.outboxStored(e.Err, now)
	case Shut:
		m.goodbye(&wire.Close{Code: e.Code, Reason: e.Reason, RetryAfter: milliseconds(e.RetryAfter), Elsewhere: addresses(e.Elsewhere)})
	case Lost:
		m.end(Hangup{Reason: "the connection was lost"})
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
	for _, x := range []moment{m.recheck, m.outbox.due(), m.quota.wake(m.limits.AckPatience)} {
		if x != 0 && x < at {
			at = x
		}
	}
	return m.time(at)
}

func (m *Machine) deadAt() moment { return m.lastHeard.add(2 * m.heartbeat) }

func (m *Machine) due(now moment) {
	if m.phase == phaseClosed {
		return
	}
	if now.reached(m.deadAt()) {
		m.close(wire.CloseHeartbeat, fmt.Sprintf("nothing was heard for %v", 2*m.heartbeat), 0)
		return
	}
	if now.reached(m.recheck) {
		m.recheck = 0
		if m.phase == phaseCatching {
			m.catchUp(now)
		} else {
			m.takeReport(now)
		}
	}
	if now.reached(m.outbox.due()) {
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
	c.Reason = wire.ClipText(c.Reason, wire.MaxText)
	m.send(c)
	m.end(Hangup{Code: c.Code, Reason: c.Reason, RetryAfter: time.Duration(c.RetryAfter) * time.Millisecond})
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

func (m *Machine) end(why Hangup) {
	m.do(why)
	m.phase = phaseClosed
	m.held, m.dirty, m.report = nil, nil, nil
	m.outbox, m.inFlight, m.outline, m.agentRevs = nil, nil, nil, nil
}

func (m *Machine) violation(format string, args ...any) {
	m.close(wire.CloseProtocol, fmt.Sprintf(format, args...), 0)
}

func (m *Machine) received(f wire.Frame, now moment) {
	switch t := f.(type) {
	case *wire.Hello:
		m.hello(t)
		return
	case *wire.Ping:
		m.send(&wire.Pong{})
		return
	case *wire.Close:
		m.end(Hangup{Reason: "the agent ended the session: " + t.Reason})
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

// streamed lets a frame of a stream pass. It is charged to nothing here: what streams may cost is counted where they are, and
// state must not wait because of them.
func (m *Machine) streamed(f wire.StreamFrame) {
	switch _, open := m.Streams(); {
	case !open:
		m.violation("a %v frame came before the session was open", f.Type())
	case m.streams == 0:
		m.violation("a %v frame came, and the agent's hello did not speak of streams", f.Type())
	default:
		m.do(Streamed{Frame: f})
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
	if h.Node != m.node {
		m.close(wire.CloseForbidden, fmt.Sprintf("the certificate is for node %q, the agent calls itself %q: correct node.name in the agent's configuration, or let it join under this name", m.node, h.Node), 0)
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
	l := &m.limits
	m.proto = min(h.ProtoMax, wire.ProtoMax)
	m.peerFrame = min(h.MaxFrame, wire.MaxFrame)
	m.peerKinds = uint8(min(h.Kinds, 255))
	m.streams = h.Streams
	m.heartbeat = min(max(time.Duration(h.Heartbeat)*time.Millisecond, l.MinHeartbeat), l.MaxHeartbeat)
	m.outline, m.agentRevs = outline, wire.UnpackRevisions(h.Revisions)
	m.phase = phaseStarting
	m.do(Start{})
}

func (m *Machine) started(err error, now moment) {
	if m.phase != phaseStarting {
		return
	}
	if err != nil {
		m.close(wire.CloseUnavailable, err.Error(), 2*time.Second)
		return
	}
	welcome := &wire.Welcome{
		Proto: m.proto, Relay: m.relay, Epoch: m.epoch,
		Heartbeat: uint32(m.heartbeat / time.Millisecond),
		MaxFrame:  uint32(m.limits.MaxFrame), Time: m.time(now).UnixMilli(), Kinds: wire.KindsKnown(),
	}
	if m.streams > 0 {
		welcome.Streams = wire.StreamPipe
	}
	m.send(welcome)
	m.phase = phaseCatching
	m.catchUp(now)
}
