package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/skerry/skerry/relay/enroll"
)

// echo is a TLS server of the relay's kind that answers one byte with one byte, and counts what passes its sockets.
type echo struct {
	address string
	plain   chan []byte
	raw     chan net.Conn
}

func newEcho(t *testing.T, ca *enroll.CA) *echo {
	t.Helper()
	cert, err := ca.IssueServing(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{address: l.Addr().String(), plain: make(chan []byte, 16), raw: make(chan net.Conn, 16)}
	done := make(chan struct{})
	cfg := ca.ServerTLS(cert)
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			e.raw <- raw
			go func() {
				c := tls.Server(raw, cfg)
				defer func() { _ = c.Close() }()
				buf := make([]byte, 100)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					e.plain <- append([]byte(nil), buf[:n]...)
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return e
}

func newIdentity(t *testing.T, ca *enroll.CA, name string) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.IssueNode(name, key, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{Node: name, Certificate: cert}
}

func dialTLS(t *testing.T, n *network, cfg *tls.Config, address string) *tls.Conn {
	t.Helper()
	raw, err := n.dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, cfg)
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func roundTrip(t *testing.T, c net.Conn, size int) {
	t.Helper()
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
}

// TestTrafficSeparatesTheHandshake: one record each way of 50 bytes costs 50 + 5 header + 16 tag + 1 type (RFC 8446, section 5.2).
func TestTrafficSeparatesTheHandshake(t *testing.T) {
	ca, err := enroll.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := newEcho(t, ca)
	cfg := clientTLS(ca.Pool(), newIdentity(t, ca, "gw").Certificate)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	var n network
	for round, name := range []string{"full", "resumed"} {
		before := n.traffic()
		c := dialTLS(t, &n, cfg, e.address)
		roundTrip(t, c, 50)
		if resumed := c.ConnectionState().DidResume; resumed != (round == 1) {
			t.Errorf("%s handshake: resumed is %v", name, resumed)
		}
		d := n.traffic().Sub(before)
		if d.Beyond() != 2*(50+22) {
			t.Errorf("%s handshake: %d bytes beyond it, want %d (%+v)", name, d.Beyond(), 2*(50+22), d)
		}
		if d.Handshake < 500 || d.Dials != 1 {
			t.Errorf("%s handshake: %+v", name, d)
		}
		t.Logf("%s handshake: %d bytes", name, d.Handshake)
	}
}

func TestSilentNetwork(t *testing.T) {
	ca, err := enroll.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := newEcho(t, ca)
	var n network
	c := dialTLS(t, &n, clientTLS(ca.Pool(), newIdentity(t, ca, "gw").Certificate), e.address)
	roundTrip(t, c, 10)
	<-e.plain
	n.set(Silent)
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	server := <-e.raw
	// The other end hears neither the bytes nor the end: its socket is still readable for nothing.
	if err := server.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte{0}); err != nil {
		t.Errorf("the other end knows that the agent closed: %v", err)
	}
	select {
	case b := <-e.plain:
		t.Errorf("%q came through a silent network", b)
	case <-time.After(100 * time.Millisecond):
	}
	n.set(Normal)
	again := dialTLS(t, &n, clientTLS(ca.Pool(), newIdentity(t, ca, "gw").Certificate), e.address)
	roundTrip(t, again, 10)
}

func TestStalledNetwork(t *testing.T) {
	ca, err := enroll.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := newEcho(t, ca)
	var n network
	c := dialTLS(t, &n, clientTLS(ca.Pool(), newIdentity(t, ca, "gw").Certificate), e.address)
	roundTrip(t, c, 10)
	<-e.plain
	n.set(Stalled)
	if _, err := c.Write([]byte("said")); err != nil {
		t.Fatal(err)
	}
	if got := <-e.plain; string(got) != "said" {
		t.Errorf("what a stalled agent writes arrives as %q", got)
	}
	read := make(chan []byte, 1)
	go func() {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil {
			b = nil
		}
		read <- b
	}()
	select {
	case b := <-read:
		t.Errorf("a stalled agent read %q", b)
	case <-time.After(100 * time.Millisecond):
	}
	n.set(Normal)
	if b := <-read; string(b) != "said" {
		t.Errorf("after the stall the agent read %q", b)
	}
}
