package hub_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/relay/hub"
)

// puppet is an agent's connection whose frames the test writes and reads.
type puppet struct {
	t  *testing.T
	ws *websocket.Conn
}

// puppet connects an agent that has streams, of which so many bytes may be on their way to it, and takes its welcome.
func (w *world) puppet(streams uint32) (*puppet, *wire.Welcome) {
	w.t.Helper()
	p := &puppet{w.t, w.rawAgentWith(w.t, &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: node, Heartbeat: 60_000, MaxFrame: wire.MaxFrame, Rules: 1, Streams: streams})}
	p.ws.SetReadLimit(wire.MaxFrame)
	return p, p.next().(*wire.Welcome)
}

func (p *puppet) next() wire.Frame {
	p.t.Helper()
	_, b, err := p.ws.Read(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := wire.Decode(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *puppet) send(f wire.Frame) error {
	b, err := wire.Encode(f)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.ws.Write(p.t.Context(), websocket.MessageBinary, b)
}

// TestAgentWithoutStreams: one of an older release is never sent a frame of a stream, and who wants one learns why not.
func TestAgentWithoutStreams(t *testing.T) {
	w := newWorld(t, nil)
	p, welcome := w.puppet(0)
	if welcome.Streams != 0 {
		t.Error("the welcome speaks of streams to an agent that has none")
	}
	if _, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet); !errors.Is(err, stream.ErrUnsupported) || !strings.Contains(err.Error(), node) {
		t.Errorf("dialling gives %v", err)
	}
	if err := p.send(&wire.StreamOpen{ID: 1, Service: wire.ServiceCloud, Window: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	bye, err := readClose(t.Context(), p.ws)
	if err != nil || bye.Code != wire.CloseProtocol {
		t.Errorf("a stream of an agent that has none: %+v, %v", bye, err)
	}
}

// TestStreamQuotas: an agent that opens streams without end is refused with a reason, counted and told; one that goes on sending frames
// of streams is disconnected.
func TestStreamQuotas(t *testing.T) {
	log := &syncBuffer{}
	w := newWorld(t, func(o *hub.Options) {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		o.Limits.Streams, o.Limits.StreamsPerSecond, o.Limits.MessagesPerSecond = 5, 1, 100
	})
	l, err := w.hub.Listen(wire.ServiceCloud)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, _ := w.puppet(wire.StreamPipe)
	for id := uint32(1); id <= 41; id += 2 {
		if err := p.send(&wire.StreamOpen{ID: id, Service: wire.ServiceCloud, Window: 64 << 10}); err != nil {
			t.Fatal(err)
		}
	}
	accepted, refused := 0, 0
	for accepted+refused < 21 {
		switch f := p.next().(type) {
		case *wire.StreamAccept:
			accepted++
		case *wire.StreamReset:
			if refused++; f.Code != wire.ResetLimit || !strings.Contains(f.Reason, "streams") {
				t.Errorf("refused with %v: %s", f.Code, f.Reason)
			}
		}
	}
	if accepted != 5 || w.counter(`skerry_relay_refused_total{reason="streams"}`) != 16 {
		t.Errorf("%d streams are open, %d refusals are counted", accepted, w.counter(`skerry_relay_refused_total{reason="streams"}`))
	}
	eventually(t, "the operator is told", func() bool {
		return strings.Contains(log.String(), "msg=refused node="+node) && strings.Contains(log.String(), "reason=streams")
	})
	for range 5 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	go func() {
		for id := uint32(43); p.send(&wire.StreamReset{ID: 1, Code: wire.ResetCancelled}) == nil; id += 2 {
		}
	}()
	bye, err := readClose(t.Context(), p.ws)
	if err != nil || bye.Code != wire.CloseLimit || bye.RetryAfter == 0 {
		t.Errorf("a flood of frames of streams: %+v, %v", bye, err)
	}
}

// TestUnreadDataIsBounded: an agent that sends more than a reader takes is disconnected, because it may not.
func TestUnreadDataIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	l, err := w.hub.Listen(wire.ServiceCloud)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, welcome := w.puppet(wire.StreamPipe)
	if welcome.Streams != wire.StreamPipe {
		t.Fatalf("the welcome allows %d bytes", welcome.Streams)
	}
	go func() {
		if p.send(&wire.StreamOpen{ID: 1, Service: wire.ServiceCloud, Window: 64 << 10}) != nil {
			return
		}
		for p.send(&wire.StreamData{ID: 1, Data: make([]byte, wire.MaxStreamData)}) == nil {
		}
	}()
	bye, err := readClose(t.Context(), p.ws)
	if err != nil || bye.Code != wire.CloseLimit {
		t.Errorf("%+v, %v", bye, err)
	}
	if n := w.counter("skerry_relay_stream_bytes_received_total"); n > 5*wire.MaxStreamData {
		t.Errorf("%d bytes of a stream were taken that nobody reads", n)
	}
}

// TestStateGoesBeforeStreams stops reading while a stream has endless data for the agent, until nothing more is written. A change
// that comes then goes before all that was not written yet.
func TestStateGoesBeforeStreams(t *testing.T) {
	w := newWorld(t, nil)
	p, _ := w.puppet(wire.MaxStreamWindow)
	dialled := make(chan net.Conn, 1)
	go func() {
		c, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
		if err != nil {
			t.Error(err)
		}
		dialled <- c
	}()
	for synced, opened := false, false; !synced || !opened; {
		switch f := p.next().(type) {
		case *wire.Synced:
			synced = true
		case *wire.StreamOpen:
			opened = true
			if err := p.send(&wire.StreamAccept{ID: f.ID, Window: wire.MaxStreamWindow}); err != nil {
				t.Fatal(err)
			}
		}
	}
	conn := <-dialled
	go func() {
		for {
			if _, err := conn.Write(make([]byte, 10_000)); err != nil {
				return
			}
		}
	}()
	defer conn.Close()
	sent := func() int { return w.counter("skerry_relay_stream_bytes_sent_total") }
	for last := -1; ; time.Sleep(200 * time.Millisecond) { // until the network takes nothing more
		if n := sent(); n == last {
			break
		} else {
			last = n
		}
	}
	before := sent()
	w.cluster.Put(node, wire.NewKey(wire.KindDevice, "default", "pump", ""), linktest.Body(1))
	w.view.Follow()
	for received := 0; ; {
		switch f := p.next().(type) {
		case *wire.StreamData:
			if received += len(f.Data); received > before {
				t.Fatalf("after %d bytes that were written before the change, bytes of the stream come first", before)
			}
			continue
		case *wire.CommitPart:
			if before < 64<<10 {
				t.Errorf("only %d bytes were under way: nothing was shown", before)
			}
			return
		}
	}
}

// TestDrainLetsStreamsEnd: a relay that ends takes no new streams, and goes when the old ones have ended.
func TestDrainLetsStreamsEnd(t *testing.T) {
	w := newWorld(t, func(o *hub.Options) { o.Drain = time.Minute })
	g := w.connected(nil)
	al, err := g.Listen(wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	relay, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := al.Accept()
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	var refused *stream.RefusedError
	eventually(t, "no new streams", func() bool {
		c, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
		if err == nil {
			c.Close()
		}
		return errors.As(err, &refused) && refused.Code == wire.ResetLeaving
	})
	if _, err := g.Dial(t.Context(), wire.ServiceCloud); !errors.As(err, &refused) || refused.Code != wire.ResetLeaving {
		t.Errorf("the agent's: %v", err)
	}
	if _, err := io.WriteString(agent, "the rest of the log"); err != nil {
		t.Fatal(err)
	}
	agent.Close()
	if b, err := io.ReadAll(relay); err != nil || !bytes.Equal(b, []byte("the rest of the log")) {
		t.Errorf("%q, %v", b, err)
	}
	relay.Close()
	<-stopped
}

// TestDrainCutsStreams that do not end.
func TestDrainCutsStreams(t *testing.T) {
	w := newWorld(t, func(o *hub.Options) { o.Drain = 100 * time.Millisecond })
	g := w.connected(nil)
	al, err := g.Listen(wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	relay, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	agent, err := al.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	w.stop()
	for name, c := range map[string]net.Conn{"the relay's end": relay, "the agent's end": agent} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, stream.ErrSessionEnded) || !strings.Contains(err.Error(), "shuts down") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
