package hub_test

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/relay/hub"
)

// wallet is a gateway's identity that is renewed.
type wallet struct {
	w    *world
	mu   sync.Mutex
	cert tls.Certificate
}

func (p *wallet) set(cert tls.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cert = cert
}

func (p *wallet) tls() (*tls.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.pki.ClientTLS(p.cert)()
}

// TestSessionEndsWithItsCertificate: an old key keeps no session open for ever. An agent that has renewed comes again at once, and
// nothing is sent to it anew; one that has not is told so by the handshake, and renews.
func TestSessionEndsWithItsCertificate(t *testing.T) {
	w := newWorld(t, nil)
	p := &wallet{w: w}
	end := time.Now().Add(3 * time.Second)
	p.set(w.pki.NodeUntil(node, end))
	var expired atomic.Int32
	g := w.gateway(func(o *link.Options) {
		o.TLS = p.tls
		o.Expired = func() { expired.Add(1); p.set(w.pki.NodeUntil(node, time.Now().Add(time.Hour))) }
	})
	eventually(t, "in sync", func() bool { return g.Status().InSync })
	p.set(w.pki.NodeUntil(node, end.Add(3*time.Second))) // renewed in time
	eventually(t, "in sync with the renewed one", func() bool { return g.Status().Sessions == 2 && g.Status().InSync })
	if expired.Load() != 0 {
		t.Error("it was refused, although it had renewed")
	}
	// Not renewed in time.
	eventually(t, "in sync with one that it got when it was refused", func() bool { return g.Status().Sessions == 3 && g.Status().InSync })
	if expired.Load() == 0 {
		t.Error("it was not told that its certificate had expired")
	}
	if n := w.counter(`skerry_relay_session_closes_total{reason="certificate"}`); n != 2 {
		t.Errorf("%d sessions ended with their certificates, want 2", n)
	}
}

// TestRetiredCA: sessions with certificates of a CA that is not trusted any more end, and those of others do not.
func TestRetiredCA(t *testing.T) {
	var retired atomic.Bool
	var issuer atomic.Uint64
	w := newWorld(t, func(o *hub.Options) {
		o.Trusted = func(i hub.Issuer) bool { return !retired.Load() || uint64(i) != issuer.Load() }
	})
	issuer.Store(uint64(hub.KeyOf(w.pki.CA())))
	g := w.gateway(nil)
	eventually(t, "in sync", func() bool { return g.Status().InSync })
	w.hub.RecheckAll()
	time.Sleep(20 * time.Millisecond)
	if st := g.Status(); !st.InSync || st.Sessions != 1 {
		t.Fatalf("nothing has changed, and its session is %+v", st)
	}
	retired.Store(true)
	w.hub.RecheckAll()
	eventually(t, "out", func() bool {
		return len(w.hub.Sessions()) == 0 && w.counter(`skerry_relay_connections_refused_total{reason="other-ca"}`) > 0
	})
	retired.Store(false)
	eventually(t, "in sync again", func() bool { return g.Status().InSync })
}

// TestUnfitCertificateIsCountedOnce: a handshake that ends because of the node is not also one that failed for no known reason, and the
// operator is told from where it came.
func TestUnfitCertificateIsCountedOnce(t *testing.T) {
	var text lockedBuffer
	w := newWorld(t, func(o *hub.Options) { o.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	w.revoked.Store(true)
	cfg, err := w.pki.ClientTLS(w.pki.Node(node))()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := tls.Dial("tcp", w.address, cfg)
		if err == nil { // in TLS 1.3 the client is done before the server has judged its certificate
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil {
			t.Fatal("a revoked node is served")
		}
	}
	count := func(reason string) int {
		return w.counter(`skerry_relay_connections_refused_total{reason="` + reason + `"}`)
	}
	eventually(t, "all are counted", func() bool { return count("revoked") >= 3 })
	w.stop()
	if count("revoked") != 3 || count("tls-handshake") != 0 || count("no-request") != 0 {
		t.Errorf("counted as revoked %d, tls-handshake %d, no-request %d", count("revoked"), count("tls-handshake"), count("no-request"))
	}
	for _, want := range []string{"node=" + node, "reason=revoked", "remote=127.0.0.1:", `detail="node ` + node + ` is revoked"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, text.String())
		}
	}
	if n := strings.Count(text.String(), "msg=refused"); n != 1 {
		t.Errorf("%d lines for one node in a minute:\n%s", n, text.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
