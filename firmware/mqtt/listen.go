package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/localhttp"
)

// reopenEvery is how long a listener that cannot be opened is left alone.
const reopenEvery = 15 * time.Second

// WebSocketPath is where WebSocket clients ask for the protocol.
const WebSocketPath = "/mqtt"

func openSocket(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	l, err := localhttp.Listen(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("mqtt.listeners.socketMode: %w", err), l.Close())
	}
	return l, nil
}

// listen serves one listener until ctx ends, whatever happens to it.
func (b *Broker) listen(ctx context.Context, l Listener) {
	said := ""
	for ctx.Err() == nil {
		err := b.serve(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			b.log.Error("an MQTT listener cannot be opened; trying again until it works, everything else goes on", "key", "mqtt.listeners."+l.Kind, "address", l.Address, "error", err, "every", reopenEvery)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenEvery):
		}
	}
}

func (b *Broker) serve(ctx context.Context, l Listener) error {
	var secure *tls.Config
	if l.Kind == KindTLS || l.Kind == KindWSS {
		var err error
		if secure, err = b.opt.TLS.config(); err != nil {
			return err
		}
	}
	raw, err := l.open(ctx)
	if err != nil {
		return err
	}
	b.bound(l.Kind, raw.Addr())
	admitting := &admitting{Listener: raw, broker: b}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if l.Kind == KindWS || l.Kind == KindWSS {
		return b.serveWeb(ctx, l.Kind, admitting, secure)
	}
	for {
		c, err := admitting.Accept()
		if err != nil {
			return errors.Join(fmt.Errorf("accept: %w", err), raw.Close())
		}
		b.running.Go(func() { b.attend(ctx, l.Kind, c.(*admitted), secure) }) //nolint:errcheck,forcetypeassert // it gives no other
	}
}

// attend serves one connection that is no WebSocket.
func (b *Broker) attend(ctx context.Context, kind string, c *admitted, secure *tls.Config) {
	var names []string
	var over net.Conn = c
	if secure != nil {
		over, names = secured(ctx, c, secure)
	}
	if over == nil {
		_ = c.Close()
		return
	}
	b.establish(ctx, over, c, origin{listener: kind, source: c.source, local: c.local, names: names})
}

// secured makes the TLS handshake, within the time that a stranger has.
func secured(ctx context.Context, c net.Conn, config *tls.Config) (net.Conn, []string) {
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	t := tls.Server(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, nil
	}
	return t, provenNames(t.ConnectionState())
}

func provenNames(s tls.ConnectionState) []string {
	if len(s.VerifiedChains) == 0 {
		return nil
	}
	return certificateNames(s.PeerCertificates[0])
}

type admittedKey struct{}

// serveWeb serves MQTT over WebSocket (MQTT 3.1.1, 6).
func (b *Broker) serveWeb(ctx context.Context, kind string, l net.Listener, secure *tls.Config) error {
	mux := http.NewServeMux()
	mux.HandleFunc(WebSocketPath, func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(admittedKey{}).(*admitted)
		if !ok {
			http.Error(w, "not a connection of this listener", http.StatusInternalServerError)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt"}, CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			return // it has answered
		}
		ws.SetReadLimit(-1) // frames are read in pieces; packets have a limit of their own
		var names []string
		if r.TLS != nil {
			names = provenNames(*r.TLS)
		}
		b.running.Go(func() {
			b.establish(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), c, origin{listener: kind, source: c.source, local: c.local, names: names})
		})
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: helloWithin, IdleTimeout: helloWithin, MaxHeaderBytes: 8 << 10, TLSConfig: secure,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			return context.WithValue(ctx, admittedKey{}, c)
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	var err error
	if secure != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	return errors.Join(fmt.Errorf("accept: %w", err), srv.Close())
}

// admitting is a listener that closes connections beyond the limits.
type admitting struct {
	net.Listener
	broker *Broker
}

// admitted is a connection with a place.
type admitted struct {
	net.Conn
	source      string
	local       bool
	known, gone func()
}

func (a *admitting) Accept() (net.Conn, error) {
	for {
		c, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source, local := sourceOf(c.RemoteAddr())
		known, gone, err := a.broker.admission.admit(source)
		if err == nil {
			return &admitted{c, source, local, known, gone}, nil
		}
		a.broker.stats.refused.admission.Add(1)
		a.broker.complain("an MQTT connection was closed at once", "source", source, "why", err)
		_ = c.Close()
	}
}

// Close gives the place back.
func (c *admitted) Close() error {
	c.gone()
	return c.Conn.Close()
}

// sourceOf is whom a connection is counted by.
func sourceOf(a net.Addr) (source string, local bool) {
	if t, ok := a.(*net.TCPAddr); ok {
		ip := t.AddrPort().Addr().Unmap()
		if ip.Is6() && !ip.IsLoopback() {
			if p, err := ip.Prefix(64); err == nil { // one subscriber of a network has as many addresses as it likes
				return p.String(), false
			}
		}
		return ip.String(), ip.IsLoopback()
	}
	return "unix", true
}
