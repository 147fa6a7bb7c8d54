package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// maxReason bounds what is told of the other side or to it, in bytes.
const maxReason = 256

// phase is where a session stands.
type phase uint8

const (
	phaseStopped phase = iota
	phaseWaiting       // for the next attempt
	phaseDialing
	phaseSettling // connected; an older session's commit is still being applied, so the digest is not known yet
	phaseGreeting // Hello sent
	phaseUp       // Welcome received
)

// Machine is the agent's end of the link without I/O. It is not safe for concurrent use: Client serialises its calls.
//
// Desired is only read by it (Digest, Bucket, Revisions), and never while an Apply is under way.
type Machine struct {
	opts  Options
	rand  *rand.Rand
	out   []Action
	phase phase
	conn  uint64 // number of the current connection

	address   int // index of the configured address in use, or due next
	elsewhere elsewhere
	failures  int // attempts in a row that did not lead to a lasting session
	round     int // attempts since the last back-off
	retryAt   time.Time
	opened    time.Time
	heartbeat time.Duration
	peerFrame int    // largest frame the relay takes, bytes
	peerKinds uint32 // how many kinds the relay knows
	streams   bool   // the relay has streams
	lastSent  time.Time
	lastHeard time.Time
	pinged    bool
	st        Status
	notes     noteLimiter
	down      inbound
	up        outbound
	outboxUp  outboxState
}

// NewMachine returns a stopped machine. seed decides its jitter.
func NewMachine(opts Options, seed uint64) *Machine {
	m := &Machine{opts: opts.withDefaults(), rand: rand.New(rand.NewPCG(seed, 0x5ce44))}
	m.up.reports = map[wire.Key]*report{}
	m.heartbeat = m.opts.Heartbeat
	return m
}

// Status returns a snapshot.
func (m *Machine) Status() Status {
	s := m.st
	s.ReportsPending = m.up.pending()
	return s
}

// Step takes one event at a time and returns what is to be done. The returned slice is valid until the next call.
func (m *Machine) Step(ev Event, now time.Time) []Action {
	m.out = m.out[:0]
	switch e := ev.(type) {
	case Start:
		if m.phase == phaseStopped {
			m.dial(now)
		}
	case Stop:
		m.stop(e.Reason, now)
	case Opened:
		if e.Conn == m.conn && m.phase == phaseDialing {
			m.connected(now)
		}
	case Lost:
		if e.Conn == m.conn && m.phase > phaseWaiting {
			m.fail(e.Err, e.RetryAfter, now)
		}
	case Received:
		if e.Conn == m.conn && m.phase > phaseDialing {
			m.st.FramesReceived++
			m.st.BytesReceived += uint64(e.Size)
			m.received(e.Frame, now)
		}
	case Heard:
		if e.Conn == m.conn && m.phase > phaseDialing {
			m.heard(now)
		}
	case Applied:
		m.applied(e, now)
	case Reported:
		m.report(e.Key, e.Body, now)
	case Withdrawn:
		m.withdraw(e.Key)
	case OutboxChanged:
		m.readOutbox()
	case OutboxRead:
		m.outboxRead(e, now)
	case StreamSent:
		if e.Conn == m.conn && m.phase == phaseUp {
			m.lastSent = now
		}
		m.st.FramesSent++
		m.st.BytesSent += uint64(e.Size)
	case StreamBroke:
		if e.Conn == m.conn && m.phase == phaseUp {
			m.refuse(e.Err, now)
		}
	}
	m.due(now)
	return m.out
}

// Wake returns when Tick is due next, or the zero time if nothing but events can change anything.
func (m *Machine) Wake() time.Time {
	var at time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	switch m.phase {
	case phaseWaiting:
		soonest(m.retryAt)
	case phaseSettling, phaseGreeting:
		soonest(m.deadAt())
	case phaseUp:
		soonest(m.deadAt())
		soonest(m.pingAt())
		soonest(m.flushAt())
	}
	soonest(m.down.retryAt)
	return at
}

// due does everything whose time has come.
func (m *Machine) due(now time.Time) {
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if reached(m.down.retryAt) {
		m.applyNext(now)
	}
	if m.phase == phaseWaiting && reached(m.retryAt) {
		m.dial(now)
	}
	if m.phase >= phaseSettling && reached(m.deadAt()) {
		m.fail(fmt.Errorf("relay %s: nothing was heard for %v: the network or the relay is down; the agent goes on trying",
			m.st.Address, 2*m.heartbeat), 0, now)
	}
	if m.phase != phaseUp {
		return
	}
	if reached(m.flushAt()) {
		m.flush(now)
	}
	if reached(m.pingAt()) {
		m.pinged = true
		m.send(&wire.Ping{}, now)
		m.readOutbox() // finds items of an outbox that cannot notify
	}
}

func (m *Machine) deadAt() time.Time { return m.lastHeard.Add(2 * m.heartbeat) }

// pingAt is a heartbeat after the last frame in the direction that is silent for longer, so that a dead relay is noticed
// in two heartbeats even while the agent sends, and the relay hears something in every heartbeat.
func (m *Machine) pingAt() time.Time {
	if m.pinged {
		return time.Time{}
	}
	last := m.lastSent
	if m.lastHeard.Before(last) {
		last = m.lastHeard
	}
	return last.Add(m.heartbeat)
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) send(f wire.Frame, now time.Time) {
	m.lastSent = now
	m.st.FramesSent++
	m.do(Send{Conn: m.conn, Frame: f})
}

func (m *Machine) dial(now time.Time) {
	m.conn++
	m.phase = phaseDialing
	m.st.Attempts++
	m.opened = now
	d := Dial{Conn: m.conn, To: m.opts.Addresses[m.address], Address: m.address}
	if to, ok := m.elsewhere.next(); ok {
		d.To, d.Address = to, -1
	}
	m.st.Address = d.To
	m.do(d)
}

func (m *Machine) connected(now time.Time) {
	m.opened, m.lastHeard, m.lastSent = now, now, now
	m.heartbeat = m.opts.Heartbeat
	m.peerFrame = wire.MinFrame
	m.phase = phaseSettling
	if !m.down.applying {
		m.greet(now)
	}
}

func (m *Machine) greet(now time.Time) {
	m.phase = phaseGreeting
	m.down = inbound{}
	d := m.opts.Desired.Digest()
	h := &wire.Hello{
		ProtoMin: wire.ProtoMin, ProtoMax: wire.ProtoMax,
		Node: m.opts.Node, Agent: m.opts.Version,
		Heartbeat: uint32(m.opts.Heartbeat / time.Millisecond),
		MaxFrame:  wire.MaxFrame,
		Rules:     d.Rules, Digest: d.Outline(),
		Revisions: wire.PackRevisions(m.opts.Desired.Revisions()),
		Kinds:     wire.KindsKnown(),
		Streams:   wire.StreamPipe,
	}
	m.send(h, now)
}

// heard notes that the relay lives. The answer to a ping may wait behind a large message for minutes: the relay must hear the next
// ping in the meantime.
func (m *Machine) heard(now time.Time) {
	m.lastHeard = now
	m.pinged = false
}

func (m *Machine) received(f wire.Frame, now time.Time) {
	m.heard(now)
	if c, ok := f.(*wire.Close); ok {
		m.closedByRelay(c, now)
		return
	}
	if m.phase == phaseGreeting {
		w, ok := f.(*wire.Welcome)
		if !ok {
			m.refuse(fmt.Errorf("a %v frame came before welcome", f.Type()), now)
			return
		}
		m.welcome(w, now)
		return
	}
	if m.phase != phaseUp {
		m.refuse(fmt.Errorf("a %v frame came before hello", f.Type()), now)
		return
	}
	switch t := f.(type) {
	case *wire.Compare:
		m.compare(t, now)
	case *wire.CommitPart:
		m.commitPart(t, now)
	case *wire.Synced:
		m.st.InSync = true
	case *wire.ReportAck:
		m.reportAck(t, now)
	case *wire.Want:
		m.wanted(t, now)
	case *wire.OutboxAck:
		m.outboxAck(t)
	case *wire.Pong:
	case wire.StreamFrame:
		if !m.streams {
			m.refuse(fmt.Errorf("a %v frame came, and its welcome did not speak of streams", f.Type()), now)
			return
		}
		m.do(Streamed{Conn: m.conn, Frame: t})
	default:
		m.refuse(fmt.Errorf("a relay does not send %v frames", f.Type()), now)
	}
}

func (m *Machine) welcome(w *wire.Welcome, now time.Time) {
	if w.Proto < wire.ProtoMin || w.Proto > wire.ProtoMax {
		m.refuse(fmt.Errorf("chose protocol version %d, offered were %d to %d", w.Proto, wire.ProtoMin, wire.ProtoMax), now)
		return
	}
	if hb := time.Duration(w.Heartbeat) * time.Millisecond; hb >= time.Second {
		m.heartbeat = hb
	}
	m.peerFrame = min(max(int(w.MaxFrame), wire.MinFrame), wire.MaxFrame)
	m.peerKinds = w.Kinds
	m.phase = phaseUp
	m.st.Connected, m.st.InSync, m.st.Since = true, false, now
	m.st.Relay, m.st.Epoch = w.Relay, w.Epoch
	m.st.Sessions++
	m.elsewhere.queue = nil
	m.notes.forget()
	m.do(Note{Text: fmt.Sprintf("connected to relay %s (%s), session %d", m.st.Address, w.Relay, w.Epoch)})
	if w.Time != 0 {
		if off := now.Sub(time.UnixMilli(w.Time)); off.Abs() > 5*time.Minute {
			m.do(Note{Warn: true, Text: fmt.Sprintf("this gateway's clock says %s and the relay's %s: set the clock (NTP), or certificates and times in the status will be wrong",
				now.UTC().Format(time.RFC3339), time.UnixMilli(w.Time).UTC().Format(time.RFC3339))})
		}
	}
	if m.streams = w.Streams > 0; m.streams {
		m.do(StreamsUp{Conn: m.conn, Peer: w.Streams, Relay: w.Relay})
	}
	m.beginOffer(now)
	m.outboxUp = outboxState{reading: m.outboxUp.reading}
	m.readOutbox()
}

// refuse ends the session because the relay broke the protocol.
func (m *Machine) refuse(err error, now time.Time) {
	m.send(&wire.Close{Code: wire.CloseProtocol, Reason: wire.ClipText(err.Error(), maxReason)}, now)
	m.fail(fmt.Errorf("relay %s broke the protocol: %w: is it a relay of the same release?", m.st.Address, err), m.opts.MaxBackoff, now)
}

// maxRetryAfter bounds what a relay may ask for: the field's largest value would park a gateway for seven weeks.
const maxRetryAfter = time.Hour

func (m *Machine) closedByRelay(c *wire.Close, now time.Time) {
	retry := min(time.Duration(c.RetryAfter)*time.Millisecond, maxRetryAfter)
	what, remedy := "ended the session", ""
	switch c.Code {
	case wire.CloseGoingAway:
		what, remedy = "shuts down", m.elsewhere.follow(c, m.st.Address)
	case wire.CloseOverloaded:
		what, remedy = "takes no more agents", m.elsewhere.follow(c, m.st.Address)
	case wire.CloseReplaced:
		retry = max(retry, m.opts.MaxBackoff)
		what, remedy = "gave this node's session to another agent", ": is the same identity installed on two gateways?"
	case wire.CloseVersion:
		retry = max(retry, m.opts.MaxBackoff)
		what, remedy = fmt.Sprintf("speaks no protocol version from %d to %d", wire.ProtoMin, wire.ProtoMax), ": update the older of the two"
	case wire.CloseRevoked:
		retry = max(retry, m.opts.MaxBackoff)
		what, remedy = fmt.Sprintf("does not accept node %s", m.opts.Node), ": "+joinAgain(m.opts.Node)
	case wire.CloseForbidden: // the certificate is another node's
		retry = max(retry, m.opts.MaxBackoff)
		what, remedy = fmt.Sprintf("does not accept node %s", m.opts.Node), ": join again with a token from 'skerryctl token create --node "+m.opts.Node+"'"
	case wire.CloseOlderState:
		// It may be this relay's cache only. The relay has waited before it said so, which is pause enough for the next address.
		if retry = max(retry, m.opts.MaxBackoff); len(m.opts.Addresses) > 1 {
			retry = 0
		}
		what = "serves a cluster that is older than what this gateway holds; nothing was changed here"
	case wire.CloseCertificate:
		what = "ends the session with its certificate"
	case wire.CloseUnavailable:
		what = "cannot reach the Kubernetes API"
	}
	text := fmt.Sprintf("relay %s %s (%v)", m.st.Address, what, c.Code)
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	m.fail(errors.New(text+remedy), retry, now)
}

// fail ends the attempt or session and plans the next one.
func (m *Machine) fail(err error, retryAfter time.Duration, now time.Time) {
	wasUp, unreached := m.phase == phaseUp, m.phase == phaseDialing
	m.endSession(err)
	// A session that ends at once is no success: without this, a relay that accepts and closes would be dialled in a loop.
	if wasUp && now.Sub(m.st.Since) >= m.heartbeat {
		m.failures, m.round = 0, 0
	}
	if m.st.Connected {
		m.st.Connected, m.st.InSync, m.st.Since = false, false, now
	}
	wait := m.pause(unreached)
	if retryAfter > wait {
		wait = retryAfter + time.Duration(m.rand.Int64N(int64(retryAfter)/4+1))
	}
	m.failures++
	if !m.elsewhere.dialled {
		m.address = (m.address + 1) % len(m.opts.Addresses)
	}
	m.elsewhere.dialled = false
	m.retryAt = now.Add(wait)
	m.phase = phaseWaiting
	if err != nil {
		m.st.LastError, m.st.ErrorAt = err.Error(), now
		m.noteCause(causeOf(err), err.Error(), now)
	}
}

func (m *Machine) endSession(why error) {
	if m.phase > phaseWaiting {
		m.do(Hangup{Conn: m.conn, Why: why})
	}
	m.streams = false
	m.down.drop()
	m.outboxUp.inFlight = false
	m.pinged = false
}

func (m *Machine) stop(reason string, now time.Time) {
	if m.phase >= phaseGreeting {
		m.send(&wire.Close{Code: wire.CloseGoingAway, Reason: reason}, now)
	}
	m.endSession(errors.New(reason))
	if m.st.Connected {
		m.st.Connected, m.st.InSync, m.st.Since = false, false, now
	}
	m.phase = phaseStopped
}

// pause returns the wait before the next attempt. Of several relays each is tried before the back-off is waited for: one with which no link
// could be opened must not keep an agent from the others for half a minute. A session that a relay ends is another matter: relays
// that send their agents to each other would be dialled in circles. RetryAfter of either holds in any case.
func (m *Machine) pause(unreached bool) time.Duration {
	if m.round++; unreached && m.round < len(m.opts.Addresses) {
		return time.Duration(m.rand.Int64N(int64(time.Second)))
	}
	m.round = 0
	return m.backoff()
}

// backoff returns the wait before the next attempt: at first somewhere within a second, because most drops are short and
// all agents of a relay drop together; then doubling from 1 s, between half and all of it.
func (m *Machine) backoff() time.Duration {
	if m.failures == 0 {
		return time.Duration(m.rand.Int64N(int64(time.Second)))
	}
	d := m.opts.MaxBackoff
	if shift := m.failures - 1; shift < 10 {
		d = min(d, time.Second<<shift)
	}
	return d/2 + time.Duration(m.rand.Int64N(int64(d)/2+1))
}

// noteLimiter lets a text pass when it was not said within five minutes. It remembers a few: addresses that fail in
// different ways take turns.
type noteLimiter struct {
	said []saidNote
}

type saidNote struct {
	text string
	at   time.Time
}

func (l *noteLimiter) forget() { l.said = nil }

func (l *noteLimiter) pass(text string, now time.Time) bool {
	for i := range l.said {
		if l.said[i].text == text {
			if now.Sub(l.said[i].at) < 5*time.Minute {
				return false
			}
			l.said[i].at = now
			return true
		}
	}
	if len(l.said) == 16 {
		l.said = append(l.said[:0], l.said[1:]...)
	}
	l.said = append(l.said, saidNote{text, now})
	return true
}

func (m *Machine) note(text string, now time.Time) { m.noteCause(text, text, now) }

// noteCause warns, unless the same cause was warned of a short while ago.
func (m *Machine) noteCause(cause, text string, now time.Time) {
	if m.notes.pass(cause, now) {
		m.do(Note{Warn: true, Text: text})
	}
}
