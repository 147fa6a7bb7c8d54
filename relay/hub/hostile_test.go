package hub_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// smallBuffers makes the kernel take little of what is written to a peer that does not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// TestAgentThatDoesNotRead sends without ever reading: the relay stops reading from it, rather than queueing its answers.
func TestAgentThatDoesNotRead(t *testing.T) {
	pki := hubtest.NewPKI(t)
	cluster := sessiontest.NewCluster()
	view := cluster.View()
	view.Follow()
	set := metrics.NewSet()
	h := hub.New(hub.Options{
		Name: "relay-a", TLS: pki.ServerTLS(), Source: view, Sink: sessiontest.NewSink(), Rules: 1, Metrics: set,
		Limits: session.Limits{BytesPerSecond: 1 << 29, MessagesPerSecond: 1 << 29},
	})
	l, err := hub.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, smallBuffers{l}) }()

	cfg, err := pki.ClientTLS(pki.Node(node))()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel would let its receive buffer grow to megabytes, which hold as many answers as the test sends.
	small := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: small}
	defer tr.CloseIdleConnections()
	ws, _, err := websocket.Dial(ctx, "wss://"+l.Addr().String()+wire.LinkPath, //nolint:bodyclose // Dial closes it
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(ctx context.Context, f wire.Frame) error {
		b, err := wire.Encode(f)
		if err != nil {
			t.Error(err)
		}
		return ws.Write(ctx, websocket.MessageBinary, b)
	}
	if err := send(ctx, &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: node, Heartbeat: 60_000, MaxFrame: wire.MaxFrame, Rules: 1}); err != nil {
		t.Fatal(err)
	}
	const pings = 50_000
	flooding, enough := context.WithTimeout(ctx, 20*time.Second)
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for range pings {
			if send(flooding, &wire.Ping{}) != nil {
				return
			}
		}
	}()
	received := set.GetOrCreateCounter("skerry_relay_frames_received_total")
	last := uint64(0)
	eventually(t, "the relay stops reading", func() bool {
		before := received.Get()
		time.Sleep(time.Second)
		last = received.Get()
		return before > 100 && last == before
	})
	t.Logf("%d of %d frames were read", last, pings)
	if last > 20_000 {
		t.Errorf("%d of %d frames were read, and nearly as many answers are queued", last, pings)
	}
	enough()
	<-flooded
	_ = ws.CloseNow()
	eventually(t, "the session is gone", func() bool { return len(h.Sessions()) == 0 })
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestRevokedWhileConnecting: the revocation comes between the check of the certificate and the session.
func TestRevokedWhileConnecting(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, func(o *hub.Options) {
		// The handshake and the request pass; then the node is revoked, when there is no session yet that could be ended.
		o.Refused = func(n string, _ time.Time) string {
			if n == node && asked.Add(1) > 2 {
				return "node " + n + " is revoked"
			}
			return ""
		}
	})
	w.pods()
	g := w.gateway(nil)
	eventually(t, "out", func() bool { return strings.Contains(g.Status().LastError, "node restore") })
	eventually(t, "no session", func() bool { return len(w.hub.Sessions()) == 0 })
}
