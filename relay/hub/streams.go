package hub

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/relay/session"
)

// ErrNotConnected says that a node has no session with this relay.
var ErrNotConnected = errors.New("not connected to this relay")

// Listen takes the streams that agents open to a service, until the listener is closed. The connections are *stream.Conn; the
// name of the node, as its certificate says, is their RemoteAddr, and so the RemoteAddr of an http.Request that comes over one.
func (h *Hub) Listen(service string) (net.Listener, error) { return h.services.Listen(service) }

// Dial opens a stream to a service of a node's agent. It fails at once with ErrNotConnected if the node has no session here, with
// stream.ErrUnsupported if its agent is of a release without streams, and with a *stream.RefusedError if the agent refuses. When
// the session ends, the stream fails with an error that wraps stream.ErrSessionEnded.
func (h *Hub) Dial(ctx context.Context, node, service string) (net.Conn, error) {
	h.mu.Lock()
	a := h.sessions[node]
	h.mu.Unlock()
	if a == nil {
		return nil, fmt.Errorf("node %s: %w", node, ErrNotConnected)
	}
	s, err := a.mux()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	conn, err := s.Dial(ctx, service)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	return conn, nil
}

// streams are those of one session.
type streams struct {
	*stream.Session
	counted stream.Stats // for the pump
}

// mux returns the session's streams, and makes them if these are the first: a session without any holds nothing for them.
func (a *agent) mux() (*streams, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams != nil {
		return a.streams, nil
	}
	if a.machine == nil {
		return nil, ErrNotConnected
	}
	window, open := a.machine.Streams()
	switch {
	case !open:
		return nil, ErrNotConnected
	case window == 0:
		return nil, stream.ErrUnsupported
	}
	l := a.machine.Limits()
	a.streams = &streams{Session: stream.NewSession(stream.Options{
		Config: stream.Config{Peer: window, Limits: stream.Limits{
			Streams: l.Streams, OpensPerSecond: l.StreamsPerSecond, BytesPerSecond: l.BytesPerSecond, FramesPerSecond: l.MessagesPerSecond,
		}},
		Name: a.h.opts.Name, PeerName: a.node, Services: &a.h.services,
		Send:    a.wakeStreams,
		Refused: func(r stream.Refusal) { a.refuse(r.Reason, r.Detail, false) },
	})}
	if a.leaving {
		a.streams.Leave()
	}
	return a.streams, nil
}

// wakeStreams has the pump look at what streams have to send.
func (a *agent) wakeStreams() {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	a.q.streams = true
	a.wakeLocked()
}

// streamed hands a frame from the agent to its stream.
func (a *agent) streamed(f wire.StreamFrame) {
	s, err := a.mux()
	if err != nil {
		return // the session is over
	}
	err = s.Receive(f)
	a.countStreams(s)
	if err == nil {
		return
	}
	shut := session.Shut{Code: wire.CloseProtocol, Reason: err.Error()}
	var v *stream.Violation
	if errors.As(err, &v) && v.Quota {
		shut.Code, shut.RetryAfter = wire.CloseLimit, session.LimitRetry
	}
	s.End(err) // what has come behind it is not taken any more
	a.step(shut)
}

// streamPiece is how many bytes of streams go before the pump looks for something more important, exceeded by at most one frame.
const streamPiece = 8 << 10

// sendStreams collects a piece of what streams have to send.
func (a *agent) sendStreams(out *outgoing) {
	a.mu.Lock()
	s := a.streams
	a.mu.Unlock()
	if s == nil || a.hungUp || a.broken {
		return
	}
	for len(out.frames) < streamPiece {
		f := s.Next()
		if f == nil {
			a.countStreams(s)
			return
		}
		out.add(a, f)
	}
	a.countStreams(s)
	a.wakeStreams() // there may be more
}

// endStreams ends them with the session.
func (a *agent) endStreams(why string) {
	a.mu.Lock()
	s := a.streams
	a.mu.Unlock()
	if s != nil {
		s.End(fmt.Errorf("node %s: %s", a.node, why))
		a.countStreams(s)
	}
}

// leave refuses new streams from now on, and returns how many are open.
func (a *agent) leave() int {
	a.mu.Lock()
	a.leaving = true
	s := a.streams
	a.mu.Unlock()
	if s == nil {
		return 0
	}
	s.Leave()
	return s.Stats().Open
}

// countStreams adds what has happened to the metrics. Only the pump calls it, and end after the pump has ended.
func (a *agent) countStreams(s *streams) {
	now := s.Stats()
	a.h.meter.streamed(s.counted, now)
	s.counted = now
}

// openStreams counts those of all sessions.
func (h *Hub) openStreams() (n int) {
	for _, a := range h.snapshot() {
		a.mu.Lock()
		s := a.streams
		a.mu.Unlock()
		if s != nil {
			n += s.Stats().Open
		}
	}
	return n
}
