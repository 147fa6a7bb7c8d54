package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// played is a relay whose frames the test writes and reads.
type played struct {
	t  *testing.T
	ws chan *websocket.Conn // one for each connection
}

// play runs such a relay and an agent that comes to it.
func play(t *testing.T, edit ...func(*link.Options)) (*played, *link.Client) {
	t.Helper()
	ca := newAuthority(t)
	p := &played{t, make(chan *websocket.Conn, 8)}
	done := make(chan struct{})
	cert := ca.server(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1))
	address := web(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			return
		}
		ws.SetReadLimit(wire.MaxFrame)
		p.ws <- ws
		<-done
		_ = ws.CloseNow()
	})
	store := linktest.NewStore()
	o := link.Options{
		Addresses: []string{address}, Node: "gw-1", Desired: store, Outbox: store, Heartbeat: time.Minute, MaxBackoff: 10 * time.Millisecond,
		TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS13}, nil },
	}
	for _, f := range edit {
		f(&o)
	}
	c := link.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { defer close(ran); _ = c.Run(ctx) }()
	t.Cleanup(func() { close(done); cancel(); <-ran })
	return p, c
}

// session takes the next connection's hello and answers it.
func (p *played) session(streams uint32) *websocket.Conn {
	p.t.Helper()
	ws := <-p.ws
	h, ok := p.next(ws).(*wire.Hello)
	if !ok || h.Streams == 0 {
		p.t.Fatalf("hello: %+v", h)
	}
	p.send(ws, &wire.Welcome{Proto: 1, Relay: "relay-a", Epoch: 1, Heartbeat: 60_000, MaxFrame: wire.MaxFrame, Streams: streams})
	return ws
}

func (p *played) next(ws *websocket.Conn) wire.Frame {
	p.t.Helper()
	_, b, err := ws.Read(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := wire.Decode(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *played) send(ws *websocket.Conn, f wire.Frame) {
	p.t.Helper()
	b, err := wire.Encode(f)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := ws.Write(p.t.Context(), websocket.MessageBinary, b); err != nil {
		p.t.Fatal(err)
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about")
		}
	}
}

// TestDialSaysWhyNot: no relay, one of an older release, one that breaks the rules of streams.
func TestDialSaysWhyNot(t *testing.T) {
	p, c := play(t)
	if _, err := c.Dial(t.Context(), wire.ServiceCloud); !errors.Is(err, link.ErrNotConnected) {
		t.Errorf("without a relay: %v", err)
	}
	p.session(0)
	until(t, func() bool { return c.Status().Connected })
	if _, err := c.Dial(t.Context(), wire.ServiceCloud); !errors.Is(err, stream.ErrUnsupported) || !strings.Contains(err.Error(), c.Status().Address) {
		t.Errorf("with an older relay: %v", err)
	}
}

// TestRelayThatBreaksTheRulesOfStreams is left, and so is one that has none and sends their frames.
func TestRelayThatBreaksTheRulesOfStreams(t *testing.T) {
	for _, announced := range []uint32{0, wire.StreamPipe} {
		p, c := play(t)
		ws := p.session(announced)
		until(t, func() bool { return c.Status().Connected })
		p.send(ws, &wire.StreamData{ID: 2, Data: []byte("x")})
		for {
			f := p.next(ws)
			if bye, ok := f.(*wire.Close); ok {
				if bye.Code != wire.CloseProtocol || !strings.Contains(bye.Reason, "stream") {
					t.Errorf("the agent says %v: %s", bye.Code, bye.Reason)
				}
				break
			}
		}
	}
}

// narrow is a network that takes no more than so many bytes until it is opened.
type narrow struct {
	net.Conn
	left   int           // bytes; only the writer's
	full   chan struct{} // closed when a write waits
	opened chan struct{}
	open   func() // may be repeated
}

func newNarrow(c net.Conn, most int) *narrow {
	n := &narrow{Conn: c, left: most, full: make(chan struct{}), opened: make(chan struct{})}
	n.open = sync.OnceFunc(func() { close(n.opened) })
	return n
}

func (n *narrow) Write(b []byte) (int, error) {
	if n.left >= 0 {
		if n.left -= len(b); n.left < 0 { // once
			close(n.full)
			<-n.opened
		}
	}
	return n.Conn.Write(b)
}

func (n *narrow) Close() error {
	n.open()
	return n.Conn.Close()
}

// TestReportsGoBeforeStreams has a network that takes nothing more while the agent has endless data of a stream. A report that comes
// then goes before all that was not written yet.
func TestReportsGoBeforeStreams(t *testing.T) {
	dialed := make(chan *narrow, 1)
	p, c := play(t, func(o *link.Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			n := newNarrow(conn, 120_000)
			dialed <- n
			return n, nil
		}
	})
	network := <-dialed
	ws := p.session(wire.MaxStreamWindow)
	until(t, func() bool { return c.Status().Connected })
	dialled := make(chan net.Conn, 1)
	go func() {
		conn, err := c.Dial(t.Context(), wire.ServiceCloud)
		for errors.Is(err, link.ErrNotConnected) { // the welcome is being handled
			conn, err = c.Dial(t.Context(), wire.ServiceCloud)
		}
		if err != nil {
			t.Error(err)
		}
		dialled <- conn
	}()
	for {
		if o, ok := p.next(ws).(*wire.StreamOpen); ok {
			p.send(ws, &wire.StreamAccept{ID: o.ID, Window: wire.MaxStreamWindow})
			break
		}
	}
	conn := <-dialled
	defer conn.Close()
	go func() {
		for {
			if _, err := conn.Write(make([]byte, 10_000)); err != nil {
				return
			}
		}
	}()
	<-network.full
	before := c.Status()
	if before.BytesSent < 100_000 {
		t.Fatalf("the network takes nothing more after %d bytes", before.BytesSent)
	}
	c.Report("nodes//gw-1", linktest.Body(1))
	until(t, func() bool { return c.Status().FramesSent > before.FramesSent }) // it waits for the writer
	network.open()
	for received := 0; ; {
		switch f := p.next(ws).(type) {
		case *wire.StreamData:
			received += len(f.Data)
			if limit := int(before.BytesSent) + wire.MaxStreamData; received > limit { // one frame is being written
				t.Fatalf("after %d bytes that were written before the report, bytes of the stream come first", limit)
			}
			continue
		case *wire.Report:
			return
		}
	}
}
