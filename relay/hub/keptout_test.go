package hub_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
)

const keptOut = `skerry_relay_connections_refused_total{reason="over-limit"}`

// knock tries to open a session of a node, without obeying anything that it was told. ws is nil if the relay answers otherwise.
func (w *world) knock(t *testing.T, node string) (ws *websocket.Conn, resp *http.Response) {
	t.Helper()
	cfg, err := w.pki.ClientTLS(w.pki.Node(node))()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	ws, resp, err = websocket.Dial(t.Context(), "wss://"+w.address+wire.LinkPath,
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{wire.Subprotocol}})
	if err != nil && resp == nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Cleanup(func() { _ = ws.CloseNow() })
	}
	return ws, resp
}

// farewell reads until the relay says why it ends the session.
func farewell(t *testing.T, ws *websocket.Conn) *wire.Close {
	t.Helper()
	for {
		_, b, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := wire.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if bye, ok := f.(*wire.Close); ok {
			return bye
		}
	}
}

// TestOverALimitMeansStayingAway: whoever is disconnected for going over a quota does not get fresh quotas by coming back at once, and
// an honest agent understands the answer.
func TestOverALimitMeansStayingAway(t *testing.T) {
	ping, err := wire.Encode(&wire.Ping{})
	if err != nil {
		t.Fatal(err)
	}
	for name, overdo := range map[string]func(ctx context.Context, ws *websocket.Conn){
		"messages": func(ctx context.Context, ws *websocket.Conn) {
			for ws.Write(ctx, websocket.MessageBinary, ping) == nil {
			}
		},
		"a large message": func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageBinary, make([]byte, wire.MaxFrame+1000)) // the relay does not read to its end
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *hub.Options) { o.Limits.MessagesPerSecond = 10 })
			ws, _ := w.knock(t, node)
			if ws == nil {
				t.Fatal("the first session is refused")
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); overdo(ctx, ws) }()
			bye := farewell(t, ws)
			if bye.Code != wire.CloseLimit || bye.RetryAfter != 30_000 {
				t.Errorf("ended with %v, retry after %d ms", bye.Code, bye.RetryAfter)
			}
			again, resp := w.knock(t, node)
			if again != nil || resp.StatusCode != http.StatusTooManyRequests {
				t.Fatalf("back at once: HTTP %d", resp.StatusCode)
			}
			if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || s < 1 || s > 30 {
				t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
			}
			if w.counter(keptOut) != 1 {
				t.Errorf("%d refusals are counted", w.counter(keptOut))
			}
			if other, resp := w.knock(t, "gw-2"); other == nil {
				t.Errorf("another node is kept out: HTTP %d", resp.StatusCode)
			}
			g := w.gateway(nil)
			eventually(t, "the agent knows why", func() bool { return strings.Contains(g.Status().LastError, "told to stay away") })
			cancel()
			<-done
		})
	}
}

// TestOtherEndsKeepNobodyOut: a session that ends for another reason may be followed by the next at once.
func TestOtherEndsKeepNobodyOut(t *testing.T) {
	w := newWorld(t, nil)
	ws, _ := w.knock(t, node)
	if ws == nil {
		t.Fatal("the first session is refused")
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte{255, 255}); err != nil {
		t.Fatal(err)
	}
	if bye := farewell(t, ws); bye.Code != wire.CloseProtocol {
		t.Errorf("ended with %v", bye.Code)
	}
	if again, resp := w.knock(t, node); again == nil {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
	if w.counter(keptOut) != 0 {
		t.Errorf("%d are kept out", w.counter(keptOut))
	}
}
