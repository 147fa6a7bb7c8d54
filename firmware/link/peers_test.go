package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs certificates for loopback.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-10 * 365 * 24 * time.Hour),
		NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	c := a.sign(t, tmpl)
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, tmpl *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) server(t *testing.T, from, to time.Time, ip net.IP) tls.Certificate {
	return a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{ip}})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// accept serves each connection with fn until the test ends.
func accept(t *testing.T, fn func(net.Conn)) string {
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fn(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func web(t *testing.T, cfg *tls.Config, h http.HandlerFunc) string {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = cfg
	if cfg != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// taken returns an address on which nobody listens, and which no listener that comes later is given.
func taken(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}

// TestWrongPeers gives the agent each wrong relay that a technician may point it at. The message must say which address,
// what is wrong, and what to do; it must be the same text on every attempt, and be logged once.
func TestWrongPeers(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	now, loop := time.Now(), net.IPv4(127, 0, 0, 1)
	good := ca.server(t, now.Add(-time.Hour), now.Add(time.Hour), loop)
	good13 := func(more func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
		if more != nil {
			more(c)
		}
		return c
	}
	with := func(c tls.Certificate) *tls.Config {
		return good13(func(cfg *tls.Config) { cfg.Certificates = []tls.Certificate{c} })
	}
	status := func(code int, relay bool, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if relay {
				w.Header().Set(wire.HeaderRelay, "r")
			}
			http.Error(w, body, code)
		}
	}
	oldNode := ca.sign(t, &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "system:node:gw"}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})

	for name, c := range map[string]struct {
		address string
		cert    *tls.Certificate
		want    []string
	}{
		"nobody listens":   {taken(t), nil, []string{"does not answer", "connection refused"}},
		"unknown name":     {"relay.invalid:443", nil, []string{"cannot be resolved", "DNS"}},
		"no port":          {"relay", nil, []string{"HOST:PORT"}},
		"plain HTTP":       {web(t, nil, status(200, false, "hi")), nil, []string{"does not speak TLS", "check the address"}},
		"SSH":              {accept(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")); _ = c.Close() }), nil, []string{"not a Skerry relay"}},
		"hangs up":         {accept(t, func(c net.Conn) { _ = c.Close() }), nil, []string{"TLS handshake", "firewall"}},
		"says nothing":     {accept(t, func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) }), nil, []string{"takes the connection and then says nothing"}},
		"other CA":         {web(t, with(stranger.server(t, now.Add(-time.Hour), now.Add(time.Hour), loop)), status(200, false, "")), nil, []string{"not signed by the CA", "join again"}},
		"expired":          {web(t, with(ca.server(t, now.Add(-2*time.Hour), now.Add(-time.Hour), loop)), status(200, false, "")), nil, []string{"valid from", "this gateway's clock says", "NTP"}},
		"not yet valid":    {web(t, with(ca.server(t, now.Add(365*24*time.Hour), now.Add(366*24*time.Hour), loop)), status(200, false, "")), nil, []string{"valid from", "this gateway's clock says", "NTP"}},
		"other name":       {web(t, with(ca.server(t, now.Add(-time.Hour), now.Add(time.Hour), net.IPv4(10, 9, 8, 7))), status(200, false, "")), nil, []string{"certificate is for other names"}},
		"web server 404":   {web(t, good13(nil), status(404, false, "")), nil, []string{"answers HTTP 404", "not a Skerry relay"}},
		"web server 200":   {web(t, good13(nil), status(200, false, "hello")), nil, []string{"answers HTTP 200", "not a Skerry relay"}},
		"redirect":         {web(t, good13(nil), func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }), nil, []string{"answers HTTP 302", "not a Skerry relay"}},
		"relay refuses":    {web(t, good13(nil), status(403, true, "node gw is revoked")), nil, []string{"refuses this gateway", "node gw is revoked", "skerryctl node restore NAME' first; then join again", "skerryctl token create"}},
		"retired CA":       {web(t, good13(nil), status(401, true, "no client certificate was presented")), nil, []string{"refuses this gateway", "retired", "renews its certificate by itself"}},
		"relay overloaded": {web(t, good13(nil), status(503, true, "busy")), nil, []string{"takes no agents at the moment"}},
		"other WebSocket": {web(t, good13(nil), func(w http.ResponseWriter, r *http.Request) {
			if c, err := websocket.Accept(w, r, nil); err == nil {
				_ = c.CloseNow()
			}
		}), nil, []string{"does not speak skerry.v1"}},
		"own certificate expired": {web(t, good13(func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool }), status(200, true, "")),
			&oldNode, []string{"refuses this gateway's certificate", "expired", "system:node:gw", "clock says"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buf := &lockedBuffer{}
			timeout := 20 * time.Second
			if name == "says nothing" {
				timeout = 200 * time.Millisecond
			}
			cl := link.New(link.Options{
				Addresses: []string{c.address}, Node: "gw", Desired: linktest.NewStore(),
				TLS: func() (*tls.Config, error) {
					cfg := &tls.Config{RootCAs: ca.pool}
					if c.cert != nil {
						cfg.Certificates = []tls.Certificate{*c.cert}
					}
					return cfg, nil
				},
				DialTimeout: timeout, MaxBackoff: 20 * time.Millisecond,
				Log: slog.New(slog.NewTextHandler(buf, nil)),
			})
			stop := start(t, cl)
			eventually(t, "three attempts", func() bool { return cl.Status().Attempts > 3 })
			stop()
			st := cl.Status()
			for _, w := range append(c.want, c.address) {
				if !strings.Contains(st.LastError, w) {
					t.Errorf("last error %q does not say %q", st.LastError, w)
				}
			}
			if n := strings.Count(buf.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings in %d attempts, want 1:\n%s", n, st.Attempts, buf)
			}
		})
	}
}

func TestNoIdentity(t *testing.T) {
	cl := link.New(link.Options{
		Addresses: []string{"127.0.0.1:1"}, Node: "gw", Desired: linktest.NewStore(), MaxBackoff: 10 * time.Millisecond,
		TLS: func() (*tls.Config, error) { return nil, errors.New("not enrolled") },
	})
	stop := start(t, cl)
	defer stop()
	eventually(t, "said so", func() bool { return strings.Contains(cl.Status().LastError, "not enrolled") })
}

// TestOlderProtocol: a relay that shares no protocol version says so, and the agent passes it on.
func TestOlderProtocol(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1))
	address := web(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		_, _, _ = c.Read(r.Context())
		b, _ := wire.Encode(&wire.Close{Code: wire.CloseVersion, Reason: "the agent speaks protocol versions 1 to 1, this relay 2 to 3"})
		_ = c.Write(r.Context(), websocket.MessageBinary, b)
		_, _, _ = c.Read(r.Context())
	})
	cl := link.New(link.Options{Addresses: []string{address}, Node: "gw", Desired: linktest.NewStore(),
		TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: ca.pool}, nil }})
	stop := start(t, cl)
	defer stop()
	eventually(t, "said so", func() bool {
		e := cl.Status().LastError
		return strings.Contains(e, "speaks no protocol version") && strings.Contains(e, "this relay 2 to 3") && strings.Contains(e, "update")
	})
}

func start(t *testing.T, cl *link.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cl.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}
