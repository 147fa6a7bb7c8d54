package attack

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
)

// patience bounds everything that a test waits for at a socket.
const patience = 30 * time.Second

// Attacker dials one relay.
type Attacker struct {
	Address string           // HOST:PORT of the relay
	Roots   *x509.CertPool   // by which it verifies the relay; it gains nothing by not doing so
	Key     *tls.Certificate // the gateway's, nil for somebody without one
	From    string           // IP address to dial from; empty: the system's choice
	Tickets tls.ClientSessionCache
}

// TCP opens a bare connection.
func (a *Attacker) TCP(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if a.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.From)}
	}
	return d.DialContext(ctx, "tcp", a.Address)
}

// TLS opens a connection and shakes hands.
func (a *Attacker) TLS(ctx context.Context) (*tls.Conn, error) {
	c, err := a.TCP(ctx)
	if err != nil {
		return nil, err
	}
	return a.Over(ctx, c)
}

// Over shakes hands over a connection that is there already, and closes it if that fails.
func (a *Attacker) Over(ctx context.Context, c net.Conn) (*tls.Conn, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.Roots, ServerName: join.ServerName, ClientSessionCache: a.Tickets}
	if a.Key != nil {
		// Also when the relay says that it trusts other CAs only.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.Key, nil }
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

// Upgrade is the request that turns a connection into a link, with further header lines.
func Upgrade(headers ...string) string {
	return "GET " + wire.LinkPath + " HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// ErrHTTP is what a relay answers instead of opening the link.
type ErrHTTP struct {
	Status     int
	Body       string
	RetryAfter string
}

// Error implements error.
func (e *ErrHTTP) Error() string { return fmt.Sprintf("HTTP %d: %s", e.Status, e.Body) }

// Link opens the link without saying hello. It fails with *ErrHTTP if the relay refuses.
func (a *Attacker) Link(ctx context.Context, headers ...string) (*Session, error) {
	c, err := a.TLS(ctx)
	if err != nil {
		return nil, err
	}
	s, err := LinkOver(c, headers...)
	if err != nil {
		_ = c.Close()
	}
	return s, err
}

// LinkOver opens the link on a connection.
func LinkOver(c net.Conn, headers ...string) (*Session, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, Upgrade(headers...)); err != nil {
		return nil, err
	}
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		_ = resp.Body.Close()
		return nil, &ErrHTTP{Status: resp.StatusCode, Body: strings.TrimSpace(string(body)), RetryAfter: resp.Header.Get("Retry-After")}
	}
	_ = c.SetDeadline(time.Time{})
	return &Session{Conn: c, Header: resp.Header, br: br}, nil
}

// Hello is what an honest agent that holds nothing says first.
func Hello(node string) *wire.Hello {
	return &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: node, Agent: "attack", Heartbeat: 15_000, MaxFrame: wire.MaxFrame, Rules: 1, Streams: wire.StreamPipe}
}

// Open opens a session. The relay's frames up to welcome are read.
func (a *Attacker) Open(ctx context.Context, h *wire.Hello) (*Session, error) {
	s, err := a.Link(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(h); err != nil {
		s.Close()
		return nil, err
	}
	for {
		f, err := s.Receive(patience)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("no welcome: %w", err)
		}
		switch t := f.(type) {
		case *wire.Welcome:
			s.Welcome = t
			return s, nil
		case *wire.Close:
			s.Close()
			return nil, &Closed{*t}
		}
	}
}

// Closed is the relay's Close frame as an error.
type Closed struct{ wire.Close }

// Error implements error.
func (c *Closed) Error() string { return fmt.Sprintf("closed (%v): %s", c.Code, c.Reason) }

// Session is an open link.
type Session struct {
	Conn    net.Conn
	Header  http.Header   // of the relay's answer
	Welcome *wire.Welcome // nil before it came
	br      *bufio.Reader
}

// Opcodes and bits of WebSocket frames (RFC 6455, section 5.2).
const (
	Continuation, Text, Binary, ClosePlease, Ping = 0x0, 0x1, 0x2, 0x8, 0x9
	Fin, Compressed                               = 0x80, 0x40
)

// Header makes a WebSocket frame's header, with a mask that changes nothing.
func Header(first byte, declared uint64) []byte {
	b := []byte{first}
	switch {
	case declared < 126:
		b = append(b, 0x80|byte(declared))
	case declared < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(declared))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), declared)
	}
	return append(b, 0, 0, 0, 0)
}

// Frame makes a whole WebSocket frame.
func Frame(first byte, payload []byte) []byte {
	return append(Header(first, uint64(len(payload))), payload...)
}

// Raw sends bytes as they are.
func (s *Session) Raw(b []byte) error {
	_ = s.Conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := s.Conn.Write(b)
	return err
}

// Send sends one frame of the link.
func (s *Session) Send(f wire.Frame) error {
	b, err := wire.Encode(f)
	if err != nil {
		return err
	}
	return s.Raw(Frame(Fin|Binary, b))
}

// ErrSocket is the end of a WebSocket without a Close frame of the link; the relay's status code may be in it.
var ErrSocket = errors.New("the relay ended the connection")

// Receive returns the next frame of the link. Frames that this build does not know are skipped.
func (s *Session) Receive(within time.Duration) (wire.Frame, error) {
	_ = s.Conn.SetReadDeadline(time.Now().Add(within))
	for {
		op, payload, err := s.message()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", ErrSocket, err)
		}
		switch op {
		case Binary:
			f, err := wire.Decode(payload)
			if err != nil {
				return nil, fmt.Errorf("the relay's frame: %w", err)
			}
			if f != nil {
				return f, nil
			}
		case ClosePlease:
			code := uint16(0)
			if len(payload) >= 2 {
				code = binary.BigEndian.Uint16(payload)
				payload = payload[2:]
			}
			return nil, fmt.Errorf("%w: WebSocket status %d %q", ErrSocket, code, payload)
		}
	}
}

// message reads one WebSocket message of the relay, which never fragments.
func (s *Session) message() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(s.br, h[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	if n >= 126 {
		var ext [8]byte
		size := 2 << (2 * (n - 126)) // 2 or 8
		if _, err := io.ReadFull(s.br, ext[8-size:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	}
	if h[1]&0x80 != 0 || h[0]&0x70 != 0 || n > wire.MaxFrame {
		return 0, nil, fmt.Errorf("the relay sent a frame with header % x", h)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.br, payload)
	return h[0] & 0x0f, payload, err
}

// Seen is what a session was sent.
type Seen struct {
	Objects map[wire.Key]wire.Object
	Deleted map[wire.Key]bool
	Frames  []wire.Frame // all others
	Close   *wire.Close  // the relay's last word, if it was one
	Err     error        // what ended the reading: ErrSocket, or a timeout
}

// Drain reads until the relay ends the session, until it says nothing for quiet, or until stop returns true. Commits are
// acknowledged if ack is set.
func (s *Session) Drain(quiet time.Duration, ack bool, stop func(wire.Frame) bool) Seen {
	seen := Seen{Objects: map[wire.Key]wire.Object{}, Deleted: map[wire.Key]bool{}}
	for {
		f, err := s.Receive(quiet)
		if err != nil {
			seen.Err = err
			return seen
		}
		switch t := f.(type) {
		case *wire.CommitPart:
			for _, o := range t.Put {
				seen.Objects[o.Key] = o
			}
			for _, k := range t.Delete {
				seen.Deleted[k] = true
			}
			if ack && !t.More {
				if err := s.Send(&wire.Ack{ID: t.ID}); err != nil {
					seen.Err = err
					return seen
				}
			}
		case *wire.Close:
			seen.Close = t
			return seen
		default:
			seen.Frames = append(seen.Frames, f)
		}
		if stop != nil && stop(f) {
			return seen
		}
	}
}

// Close hangs up.
func (s *Session) Close() { _ = s.Conn.Close() }
