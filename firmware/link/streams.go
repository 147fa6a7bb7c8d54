package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// ErrNotConnected says that there is no session with a relay to open a stream in.
var ErrNotConnected = errors.New("not connected to a relay")

// Listen takes the streams that relays open to a service, until the listener is closed. It may be called at any time. The
// connections are *stream.Conn; they fail with an error that wraps stream.ErrSessionEnded when the session ends.
func (c *Client) Listen(service string) (net.Listener, error) { return c.services.Listen(service) }

// Dial opens a stream to a service of the relay that the agent is connected to, in the session that is open now. It fails at once with
// ErrNotConnected if there is none, with stream.ErrUnsupported if the relay is of a release without streams, and with a
// *stream.RefusedError if the relay refuses.
func (c *Client) Dial(ctx context.Context, service string) (net.Conn, error) {
	c.mu.Lock()
	s, st, has := c.streams, c.m.Status(), c.m.streams
	c.mu.Unlock()
	switch {
	case s != nil:
		conn, err := s.Dial(ctx, service)
		if err != nil {
			return nil, fmt.Errorf("relay %s: %w", st.Address, err)
		}
		return conn, nil
	case st.Connected && !has:
		return nil, fmt.Errorf("relay %s: %w", st.Address, stream.ErrUnsupported)
	case st.LastError != "":
		return nil, fmt.Errorf("%w: %s", ErrNotConnected, st.LastError)
	}
	return nil, ErrNotConnected
}

// beginStreams makes the streams of a session usable.
func (c *Client) beginStreams(conn *connection, up StreamsUp) {
	s := stream.NewSession(stream.Options{
		Config: stream.Config{Agent: true, Peer: up.Peer, Limits: stream.Limits{OpensPerSecond: -1}}, // a relay is trusted to know what it needs
		Name:   c.opts.Node, PeerName: up.Relay, Services: &c.services,
		Send: conn.signal,
		Refused: func(r stream.Refusal) {
			c.opts.Log.Info("refused", "node", c.opts.Node, "reason", r.Reason, "detail", r.Detail)
		},
	})
	conn.mu.Lock()
	conn.streams = s
	conn.mu.Unlock()
	c.mu.Lock()
	c.streams = s
	c.mu.Unlock()
}

// endStreams ends those of conn's session.
func (c *Client) endStreams(conn *connection, why error) {
	conn.mu.Lock()
	s := conn.streams
	conn.streams = nil
	conn.mu.Unlock()
	if s == nil {
		return
	}
	c.mu.Lock()
	if c.streams == s {
		c.streams = nil
	}
	c.mu.Unlock()
	s.End(why)
}

func (n *connection) hasStreams() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.streams != nil
}

// received hands a frame to its stream.
func (n *connection) received(f wire.StreamFrame) {
	n.mu.Lock()
	s := n.streams
	n.mu.Unlock()
	if s == nil {
		return
	}
	if err := s.Receive(f); err != nil {
		n.c.step(StreamBroke{Conn: n.number, Err: err})
	}
}
