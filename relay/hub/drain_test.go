package hub_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
)

// rawAgent is an agent's connection without the link.
func (w *world) rawAgent(t *testing.T, name string) *websocket.Conn {
	t.Helper()
	return w.rawAgentWith(t, &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: name, Heartbeat: 60_000, MaxFrame: wire.MaxFrame, Rules: 1})
}

func (w *world) rawAgentWith(t *testing.T, hello *wire.Hello) *websocket.Conn {
	t.Helper()
	cfg, err := w.pki.ClientTLS(w.pki.Node(hello.Node))()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	ws, _, err := websocket.Dial(t.Context(), "wss://"+w.address+wire.LinkPath, //nolint:bodyclose // Dial closes it
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	b, err := wire.Encode(hello)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, b); err != nil {
		t.Fatal(err)
	}
	return ws
}

// readClose reads up to the Close frame, and to the end of the connection after it.
func readClose(ctx context.Context, ws *websocket.Conn) (*wire.Close, error) {
	var bye *wire.Close
	for {
		_, b, err := ws.Read(ctx)
		if err != nil && bye != nil && websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return bye, nil
		}
		if err != nil {
			return nil, err
		}
		f, err := wire.Decode(b)
		if err != nil {
			return nil, err
		}
		if c, ok := f.(*wire.Close); ok {
			bye = c
		}
	}
}

// TestDrain ends a relay with agents: each is told where to go, not all to the same place and not all at once, and none is cut off
// in the middle of a frame.
func TestDrain(t *testing.T) {
	others := []string{"relay-b:7443", "relay-c:7443", "relay-d:7443"}
	const period = 600 * time.Millisecond
	w := newWorld(t, func(o *hub.Options) {
		o.Elsewhere = func() []string { return others }
		o.Drain = period
	})
	const agents = 12
	type left struct {
		bye *wire.Close
		at  time.Time
	}
	gone := make(chan left, agents)
	for i := range agents {
		ws := w.rawAgent(t, fmt.Sprintf("gw-%d", i))
		go func() {
			bye, err := readClose(t.Context(), ws)
			if err != nil {
				t.Errorf("agent %d: %v", i, err)
			}
			gone <- left{bye, time.Now()}
		}()
	}
	eventually(t, "all are connected", func() bool { return len(w.hub.Sessions()) == agents })
	w.stop()
	first := map[string]int{}
	waits := map[uint32]bool{}
	var at []time.Time
	for range agents {
		g := <-gone
		if g.bye == nil {
			continue
		}
		if g.bye.Code != wire.CloseGoingAway || len(g.bye.Elsewhere) != len(others) {
			t.Fatalf("an agent was told %+v", g.bye)
		}
		first[g.bye.Elsewhere[0]]++
		waits[g.bye.RetryAfter] = true
		at = append(at, g.at)
	}
	for _, o := range others {
		if first[o] != agents/len(others) {
			t.Errorf("first choices are %v", first)
			break
		}
	}
	if len(waits) < 3 {
		t.Errorf("%d agents come at %d different times", agents, len(waits))
	}
	slices.SortFunc(at, time.Time.Compare)
	if d := at[len(at)-1].Sub(at[0]); d < period/2 {
		t.Errorf("all were told within %v, the period is %v", d, period)
	}
}

// TestRequestsEndBeforeTheRelay: a gateway that is being given its certificate gets it.
func TestRequestsEndBeforeTheRelay(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(o *hub.Options) {
		o.Enroll = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-goOn
			_, _ = rw.Write([]byte("a certificate"))
		})
	})
	answer := make(chan string, 1)
	go func() {
		_, body, _ := w.get(t, "/v1/enroll", nil)
		answer <- body
	}()
	<-begun
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	if got := <-answer; got != "a certificate" {
		t.Errorf("the answer is %q", got)
	}
	<-stopped
}
