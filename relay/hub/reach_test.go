package hub_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/link"
	httpproxy "github.com/skerry/skerry/firmware/proxy"
	"github.com/skerry/skerry/firmware/proxy/proxytest"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/hub"
)

// TestWaysToARelay opens sessions, and asks for certificates, over IPv4 and IPv6, directly and through a proxy that wants a password.
func TestWaysToARelay(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		asked := make(chan string, 4)
		w := newWorld(t, func(o *hub.Options) {
			o.Enroll = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				asked <- r.URL.Path
				rw.WriteHeader(http.StatusForbidden)
				_, _ = rw.Write([]byte(`{"code":"node_revoked","message":"this one is asked, and says no"}`))
			})
		})
		w.stop()
		w.start(net.JoinHostPort(host, "0")) // fails, and says so, where the loopback interface has no IPv6
		p := proxytest.Start(t, host, "Basic Z3c6cGFzcw==")
		for _, through := range []string{"", "http://gw:pass@" + p.Address()} {
			t.Run(host+" "+through, func(t *testing.T) {
				var dial func(ctx context.Context, network, address string) (net.Conn, error)
				if through != "" {
					d, err := httpproxy.Parse(through)
					if err != nil {
						t.Fatal(err)
					}
					dial = d.DialContext
				}
				before := p.Passed()
				g := w.gateway(func(o *link.Options) { o.Dial = dial })
				eventually(t, "in sync", func() bool { return g.Status().InSync })
				g.stop()

				token := join.Token{ID: "abc", Node: node, CA: w.pki.CA()}
				_, err := identity.Enroll(t.Context(), identity.EnrollOptions{Addresses: []string{w.address}, Token: token.String(), Dir: t.TempDir(), Dial: dial})
				if err == nil || !strings.Contains(err.Error(), "this one is asked") || <-asked != join.Path {
					t.Errorf("joining: %v", err)
				}
				if passed := p.Passed() - before; (through == "") != (passed == 0) || through != "" && passed < 2 {
					t.Errorf("%d connections went through the proxy", passed)
				}
			})
		}
		w.stop()
	}
}

// TestProxyTrouble shows what the link says of a proxy that is in the way.
func TestProxyTrouble(t *testing.T) {
	w := newWorld(t, nil)
	hang, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hang.Close()
	for address, want := range map[string]string{
		"gw:geheim@" + proxytest.Start(t, "127.0.0.1", "Basic x").Address(): "does not accept the user and password in relay.proxy (HTTP 407)",
		hang.Addr().String(): "takes the connection and does not answer",
	} {
		d, err := httpproxy.Parse("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		g := w.gateway(func(o *link.Options) { o.Dial, o.DialTimeout = d.DialContext, 600*time.Millisecond })
		eventually(t, want, func() bool { return strings.Contains(g.Status().LastError, want) })
		if e := g.Status().LastError; !strings.Contains(e, "relay "+w.address) || strings.Contains(e, "geheim") || strings.Contains(g.log.String(), "geheim") {
			t.Errorf("the link says %q", e)
		}
		g.stop()
	}
}

// TestTheRelaysClockIsHeard holds the link's hooks to what a relay says about time: its clock, and that a certificate has expired.
func TestTheRelaysClockIsHeard(t *testing.T) {
	w := newWorld(t, nil)
	clock := make(chan time.Time, 16)
	g := w.gateway(func(o *link.Options) { o.Clock = func(t time.Time) { clock <- t } })
	if off := time.Since(<-clock).Abs(); off > 5*time.Second {
		t.Errorf("the relay's clock is heard as %v off", off)
	}
	g.stop()
	eventually(t, "the session is over", func() bool { return len(w.hub.Sessions()) == 0 })
	expired := make(chan struct{}, 16)
	old := w.pki.NodeUntil(node, time.Now().Add(-time.Hour))
	g = w.gateway(func(o *link.Options) {
		o.TLS = w.pki.ClientTLS(old)
		o.Expired = func() { expired <- struct{}{} }
	})
	<-expired
	eventually(t, "the link says so", func() bool { return strings.Contains(g.Status().LastError, "the agent renews it by itself") })
	g.stop()
	if n := len(w.hub.Sessions()); n != 0 {
		t.Errorf("%d sessions with an expired certificate", n)
	}
}
