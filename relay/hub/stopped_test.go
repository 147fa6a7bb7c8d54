package hub_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/relay/hub"
)

// manySource has a pod that names many configMaps, and counts what sessions ask.
type manySource struct {
	asked atomic.Int64

	mu      sync.Mutex
	rev     uint64
	refs    []wire.Key
	objects map[wire.Key]wire.Object
	notify  func(wire.Key)
}

var _ hub.Source = (*manySource)(nil)

func (s *manySource) put(k wire.Key, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	s.objects[k] = wire.Object{Key: k, Version: wire.BodyVersion("uid-"+k.Name(), body), Revision: s.rev, Body: body}
	if s.notify != nil {
		s.notify(k)
	}
}

func (s *manySource) Keys(string) (map[wire.Key]wire.Version, bool) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[wire.Key]wire.Version{}
	for k, o := range s.objects {
		out[k] = o.Version
	}
	return out, true
}

func (s *manySource) Object(_ string, k wire.Key) (wire.Object, []wire.Key, bool) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[k]
	if k.Kind() == wire.KindPod {
		return o, s.refs, ok
	}
	return o, nil, ok
}

func (s *manySource) Revisions() map[wire.Kind]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[wire.Kind]uint64{wire.KindConfigMap: s.rev, wire.KindPod: s.rev}
}

func (s *manySource) Changed(k wire.Kind) uint64 { return s.Revisions()[k] }

func (s *manySource) Subscribe(_ string, notify func(wire.Key)) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = notify
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.notify = nil
	}
}

func largeBody(t *testing.T, n int) []byte {
	t.Helper()
	b, err := canon.FromValue(map[string]any{"n": n, "pad": strings.Repeat("x", 2_000)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestStoppedReaderCostsAConstant: an agent takes nothing while 300 objects of it change 10 times each. Nothing is done for it, and
// nothing kept but the keys; when it reads again, it gets the newest of each.
func TestStoppedReaderCostsAConstant(t *testing.T) {
	const objects, rounds = 300, 10
	w := newWorld(t, nil)
	w.stop()
	src := &manySource{rev: 100, objects: map[wire.Key]wire.Object{}}
	w.opts.Source = src
	for i := range objects {
		src.refs = append(src.refs, wire.NewKey(wire.KindConfigMap, "default", fmt.Sprintf("c%03d", i), ""))
	}
	change := func(n int) {
		body := largeBody(t, n)
		for _, k := range src.refs {
			src.put(k, body)
		}
	}
	change(0)
	src.put(wire.NewKey(wire.KindPod, "default", "a", "ua"), linktest.Body(1, src.refs...))
	l, err := hub.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := hub.New(w.opts)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, smallBuffers{l}) }()
	w.address = l.Addr().String()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	ws := w.stoppedAgent(t)
	defer func() { _ = ws.CloseNow() }()
	settled := func() bool {
		before := src.asked.Load()
		time.Sleep(300 * time.Millisecond)
		return before > 20 && src.asked.Load() == before
	}
	eventually(t, "the relay waits for the agent", settled)
	change(1)
	asked, heap := src.asked.Load(), heapInUse()
	for n := range rounds {
		change(2 + n)
	}
	if n := src.asked.Load() - asked; n > 0 {
		t.Errorf("the source was asked %d times for an agent that takes nothing", n)
	}
	grown := heapInUse() - heap
	t.Logf("%d changes of %d objects: the heap has grown by %d bytes", rounds*objects, objects, grown)
	if grown > 256<<10 {
		t.Errorf("the heap has grown by %d bytes for an agent that takes nothing", grown)
	}

	// It reads again.
	newest := map[wire.Key]bool{}
	for len(newest) < objects {
		_, b, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("%d objects have their newest version: %v", len(newest), err)
		}
		f, err := wire.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		part, ok := f.(*wire.CommitPart)
		if !ok {
			continue
		}
		want := wire.BodyVersion("", largeBody(t, 1+rounds)).Hash
		for _, o := range part.Put {
			if o.Version.Hash == want {
				newest[o.Key] = true
			}
		}
		if !part.More {
			ack, err := wire.Encode(&wire.Ack{ID: part.ID})
			if err != nil {
				t.Fatal(err)
			}
			if err := ws.Write(ctx, websocket.MessageBinary, ack); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stoppedAgent opens a session with small buffers in the kernel, and reads nothing after it was asked what it holds: nothing.
func (w *world) stoppedAgent(t *testing.T) *websocket.Conn {
	t.Helper()
	cfg, err := w.pki.ClientTLS(w.pki.Node(node))()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(32 << 10)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	ws, _, err := websocket.Dial(t.Context(), "wss://"+w.address+wire.LinkPath, //nolint:bodyclose // Dial closes it
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(wire.MaxFrame)
	send := func(f wire.Frame) {
		b, err := wire.Encode(f)
		if err == nil {
			err = ws.Write(t.Context(), websocket.MessageBinary, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	send(&wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: node, Heartbeat: 60_000, MaxFrame: wire.MaxFrame, Rules: 1})
	for {
		_, b, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if f, err := wire.Decode(b); err != nil {
			t.Fatal(err)
		} else if _, ok := f.(*wire.Compare); ok {
			send(&wire.Entries{})
			return ws
		}
	}
}
