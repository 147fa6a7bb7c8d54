package stream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two sessions and the network between them, which encodes and decodes every frame.
type pair struct {
	t            testing.TB
	agent, relay *end
	wg           sync.WaitGroup
	done         chan struct{}
}

type end struct {
	*stream.Session
	services stream.Services
	kick     chan struct{}

	mu      sync.Mutex
	refused []stream.Refusal
	broken  error // what Receive said of the peer
	frames  []wire.StreamFrame
}

func newPair(t testing.TB, limits stream.Limits) *pair {
	t.Helper()
	p := &pair{t: t, agent: &end{}, relay: &end{}, done: make(chan struct{})}
	for _, e := range []*end{p.agent, p.relay} {
		e.kick = make(chan struct{}, 1)
		name, peer := "gw-1", "relay-a"
		if e == p.relay {
			name, peer = peer, name
		}
		e.Session = stream.NewSession(stream.Options{
			Config: stream.Config{Agent: e == p.agent, Peer: stream.Pipe, Limits: limits},
			Name:   name, PeerName: peer, Services: &e.services,
			Send: func() {
				select {
				case e.kick <- struct{}{}:
				default:
				}
			},
			Refused: func(r stream.Refusal) { e.mu.Lock(); e.refused = append(e.refused, r); e.mu.Unlock() },
		})
	}
	p.wg.Go(func() { p.carry(p.agent, p.relay) })
	p.wg.Go(func() { p.carry(p.relay, p.agent) })
	t.Cleanup(p.cut)
	return p
}

// cut ends both sessions, as a broken connection does.
func (p *pair) cut() {
	select {
	case <-p.done:
		return
	default:
	}
	close(p.done)
	p.wg.Wait()
	p.agent.End(errors.New("the network is gone"))
	p.relay.End(errors.New("the network is gone"))
}

func (p *pair) carry(from, to *end) {
	for {
		select {
		case <-p.done:
			return
		case <-from.kick:
		}
		for {
			f := from.Next()
			if f == nil {
				break
			}
			from.mu.Lock()
			from.frames = append(from.frames, f)
			from.mu.Unlock()
			b, err := wire.Encode(f)
			if err != nil {
				p.t.Error(err)
				return
			}
			back, err := wire.Decode(b)
			if err != nil {
				p.t.Errorf("%T: %v", f, err)
				return
			}
			if err := to.Receive(back.(wire.StreamFrame)); err != nil {
				to.mu.Lock()
				to.broken = err
				to.mu.Unlock()
			}
		}
	}
}

// conns opens one stream from the relay to a service of the agent.
func (p *pair) conns(service string) (dialled, accepted *stream.Conn) {
	p.t.Helper()
	l, err := p.agent.services.Listen(service)
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	d, err := p.relay.Dial(p.t.Context(), service)
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	return d, a.(*stream.Conn)
}

// TestNetConn is the contract of net.Conn.
func TestNetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		p := newPair(t, stream.Limits{})
		c1, c2 = p.conns("kubelet")
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close(); p.cut() }, nil
	})
}

// TestBothDirections carries a megabyte each way at once, and ends each direction by itself.
func TestBothDirections(t *testing.T) {
	p := newPair(t, stream.Limits{})
	a, b := p.conns("kubelet")
	defer func() { _ = a.Close() }()
	defer func() { _ = b.Close() }()
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(data) //nolint:errcheck // never fails
	var wg sync.WaitGroup
	for _, c := range []*stream.Conn{a, b} {
		wg.Go(func() {
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if a.RemoteAddr().String() != "gw-1" || b.RemoteAddr().String() != "relay-a" || a.Service() != "kubelet" {
		t.Errorf("%v, %v, %q", a.RemoteAddr(), b.RemoteAddr(), a.Service())
	}
	eventually(t, func() bool { return p.agent.Stats().Open == 0 && p.relay.Stats().Open == 0 })
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("it did not come about")
}

// TestCloseKeepsWhatWasWritten: Close right after Write loses nothing, and tells a peer that goes on writing.
func TestCloseKeepsWhatWasWritten(t *testing.T) {
	p := newPair(t, stream.Limits{})
	a, b := p.conns("kubelet")
	data := bytes.Repeat([]byte("x"), 20_000)
	if _, err := a.Write(data); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if _, err := b.Write(data); !errors.Is(err, stream.ErrPeerClosed) {
		t.Errorf("writing to a peer that has closed: %v", err)
	}
	if _, err := a.Read(data); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
	if _, err := a.Write(data); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close: %v", err)
	}
	_ = b.Close()
	eventually(t, func() bool { return p.agent.Stats().Open == 0 && p.relay.Stats().Open == 0 })
}

func TestResetTellsWhy(t *testing.T) {
	p := newPair(t, stream.Limits{})
	a, b := p.conns("kubelet")
	defer func() { _ = a.Close() }()
	defer func() { _ = b.Close() }()
	a.Reset("the container is gone")
	_, err := b.Read(make([]byte, 1))
	var reset *stream.ResetError
	if !errors.As(err, &reset) || reset.Local || reset.Reason != "the container is gone" {
		t.Errorf("the peer learns: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.As(err, &reset) || !reset.Local {
		t.Errorf("this side reads: %v", err)
	}
	eventually(t, func() bool { return p.agent.Stats().Open == 0 && p.relay.Stats().Open == 0 })
}

// TestSessionEnds: everything that waits learns that the session is over, and what had arrived whole can be read.
func TestSessionEnds(t *testing.T) {
	p := newPair(t, stream.Limits{})
	a, b := p.conns("one")
	c, d := p.conns("two")
	for _, x := range []*stream.Conn{a, b, c, d} {
		defer func() { _ = x.Close() }()
	}
	if _, err := c.Write([]byte("all of it")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(d, first); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		p.relay.mu.Lock()
		defer p.relay.mu.Unlock()
		_, ended := p.relay.frames[len(p.relay.frames)-1].(*wire.StreamEnd)
		return ended && len(p.relay.kick) == 0
	})
	failed := make(chan error, 2)
	go func() { _, err := a.Read(make([]byte, 1)); failed <- err }()
	go func() { _, err := b.Write(make([]byte, 1<<20)); failed <- err }()
	p.cut()
	for range 2 {
		if err := <-failed; !errors.Is(err, stream.ErrSessionEnded) {
			t.Errorf("a blocked call gives %v", err)
		}
	}
	if rest, err := io.ReadAll(d); err != nil || string(first)+string(rest) != "all of it" {
		t.Errorf("%q, %v: it had arrived whole", rest, err)
	}
	if _, err := d.Write([]byte("x")); !errors.Is(err, stream.ErrSessionEnded) {
		t.Errorf("writing: %v", err)
	}
	if _, err := p.relay.Dial(t.Context(), "one"); !errors.Is(err, stream.ErrSessionEnded) {
		t.Errorf("dialling: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	p := newPair(t, stream.Limits{Streams: 2})
	dial := func() (*stream.Conn, error) { return p.agent.Dial(t.Context(), "cloud") }
	var refused *stream.RefusedError
	if _, err := dial(); !errors.As(err, &refused) || refused.Code != wire.ResetService {
		t.Errorf("an unknown service: %v", err)
	}
	l, err := p.relay.services.Listen("cloud")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.relay.services.Listen("cloud"); err == nil {
		t.Error("a service has two listeners")
	}
	a, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	b, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(); !errors.As(err, &refused) || refused.Code != wire.ResetLimit {
		t.Errorf("a third: %v", err)
	}
	_ = a.Close()
	l.Close()
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("a stream that nobody accepted lives on")
	}
	_ = b.Close()
	p.agent.Leave()
	p.relay.Leave()
	if _, err := dial(); !errors.As(err, &refused) || refused.Code != wire.ResetLeaving {
		t.Errorf("while this side shuts down: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.relay.Dial(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if p.relay.refused[0].Reason != stream.RefusedService {
		t.Errorf("%+v", p.relay.refused)
	}
}
