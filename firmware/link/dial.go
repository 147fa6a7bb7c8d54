package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
)

// dialer opens WebSockets. Its session cache outlives connections, so that a reconnect can skip most of a handshake.
type dialer struct {
	opts Options

	mu       sync.Mutex
	sessions tls.ClientSessionCache
	identity []byte // certificate that the cached sessions were opened with
}

func newDialer(opts Options) *dialer { return &dialer{opts: opts} }

// cache returns the session cache for connections with the given configuration. A resumed session speaks with the certificate
// that it was opened with, so a new certificate starts an empty one.
func (d *dialer) cache(cfg *tls.Config) tls.ClientSessionCache {
	var identity []byte
	if len(cfg.Certificates) > 0 && len(cfg.Certificates[0].Certificate) > 0 {
		identity = cfg.Certificates[0].Certificate[0]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions == nil || !bytes.Equal(identity, d.identity) {
		d.sessions, d.identity = tls.NewLRUClientSessionCache(8), bytes.Clone(identity)
	}
	return d.sessions
}

// dialFailure says why a dial failed, in words fit for people.
type dialFailure struct {
	err        error
	retryAfter time.Duration
}

func (d *dialer) dial(ctx context.Context, address string) (*websocket.Conn, *dialFailure) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &dialFailure{err: fmt.Errorf("relay address %q: %w: write it as HOST:PORT", address, err)}
	}
	cfg, err := d.opts.TLS()
	if err != nil {
		return nil, &dialFailure{err: fmt.Errorf("relay %s: no identity to connect with: %w", address, err)}
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"http/1.1"} // WebSocket needs a connection of its own
	cfg.MinVersion = tls.VersionTLS13
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if cfg.ClientSessionCache == nil {
		cfg.ClientSessionCache = d.cache(cfg)
	}
	var answered atomic.Bool // net/http gives the context's error, which does not tell how far the dial had come
	transport := &http.Transport{
		DialTLSContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return d.dialTLS(ctx, network, addr, cfg, &answered) // net/http's context has lost the deadline, which a proxy needs
		},
		ReadBufferSize: 2048, WriteBufferSize: 2048,
		DisableCompression: true, // the answer has no body, and asking costs bytes
	}
	//nolint:bodyclose // websocket.Dial has read what there is; the body needs no Close (its documentation)
	ws, resp, err := websocket.Dial(ctx, "wss://"+address+wire.LinkPath, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport, CheckRedirect: noRedirect},
		Subprotocols: []string{wire.Subprotocol},
		HTTPHeader:   http.Header{"User-Agent": {""}}, // hello says who we are; on mobile networks bytes cost money
	})
	d.hearClock(resp)
	if err != nil {
		// A certificate whose CA was retired is not even shown to the relay, which therefore misses one.
		if isExpiredAlert(err) || resp != nil && resp.StatusCode == http.StatusUnauthorized {
			d.opts.Expired()
		}
		transport.CloseIdleConnections()
		return nil, &dialFailure{err: explainDial(address, resp, err, cfg, answered.Load()), retryAfter: retryAfter(resp)}
	}
	if ws.Subprotocol() != wire.Subprotocol {
		_ = ws.CloseNow()
		return nil, &dialFailure{err: fmt.Errorf("relay %s takes WebSockets and does not speak %s: it is not a Skerry relay, or one of another release; check the address", address, wire.Subprotocol)}
	}
	ws.SetReadLimit(wire.MaxFrame + 1)
	return ws, nil
}

// hearClock passes on what time the relay has: it answers over TLS, so that it is known to be one.
func (d *dialer) hearClock(resp *http.Response) {
	if resp == nil || resp.Header.Get(wire.HeaderRelay) == "" {
		return
	}
	if t, err := time.Parse(time.RFC3339, resp.Header.Get(wire.HeaderTime)); err == nil {
		d.opts.Clock(t)
	}
}

func (d *dialer) dialTLS(ctx context.Context, network, addr string, cfg *tls.Config, answered *atomic.Bool) (net.Conn, error) {
	raw, err := d.opts.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	answered.Store(true)
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &handshakeError{err}
	}
	return &verdictConn{conn}, nil
}

// verdictConn tells why a write failed. In TLS 1.3 a client's handshake has ended before the relay has looked at its certificate: a relay
// that refuses it sends an alert and closes, and a request that is being written then meets a broken pipe. What the relay said is
// there to be read all the same.
type verdictConn struct{ *tls.Conn }

// verdictPatience bounds the wait for an alert that may not be there.
const verdictPatience = time.Second

func (c *verdictConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(verdictPatience)) // nothing that fails to be written is followed by anything else
	if _, said := c.Read(make([]byte, 1)); said != nil && isAlert(said) {
		return n, said
	}
	return n, err
}

// handshakeError marks a failure after the address had answered.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || s < 0 || s > 3600 {
		return 0
	}
	return time.Duration(s) * time.Second
}

// bodyLine returns the first line of a refused request's body: the relay says why in it.
func bodyLine(resp *http.Response) string {
	if resp.Body == nil {
		return ""
	}
	sc := bufio.NewScanner(http.MaxBytesReader(nil, resp.Body, 512))
	if sc.Scan() {
		return wire.ClipText(sc.Text(), maxReason)
	}
	return ""
}
