package hub_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/relay/hub"
)

// serveHTTP runs handler on l until the test ends.
func serveHTTP(t *testing.T, l net.Listener, err error, handler http.HandlerFunc) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

// over returns an HTTP client whose connections are streams.
func over(t *testing.T, dial func(ctx context.Context) (net.Conn, error)) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, c *http.Client, path string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://stream"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// connected returns an agent that is in sync.
func (w *world) connected(change func(*link.Options)) *gateway {
	w.t.Helper()
	g := w.gateway(change)
	eventually(w.t, "in sync", func() bool { return g.Status().InSync })
	return g
}

// streams is how many are open at the relay.
func (w *world) streams() int { return int(w.set.GetOrCreateGauge("skerry_relay_streams", nil).Get()) }

// TestHTTPOverStreams runs HTTP both ways. A relay knows who asks from the session, whatever the request says.
func TestHTTPOverStreams(t *testing.T) {
	w := newWorld(t, nil)
	g := w.connected(nil)
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB: many windows
	l, err := g.Listen(wire.ServiceKubelet)
	serveHTTP(t, l, err, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, large) })
	l, err = w.hub.Listen(wire.ServiceCloud)
	serveHTTP(t, l, err, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, "you are "+r.RemoteAddr) })

	down := over(t, func(ctx context.Context) (net.Conn, error) { return w.hub.Dial(ctx, node, wire.ServiceKubelet) })
	if b, err := get(t, down, "/containerLogs/default/web/c"); err != nil || b != large {
		t.Errorf("from the agent came %d bytes, %v", len(b), err)
	}
	up := over(t, func(ctx context.Context) (net.Conn, error) { return g.Dial(ctx, wire.ServiceCloud) })
	if b, err := get(t, up, "/v1/token"); err != nil || b != "you are "+node {
		t.Errorf("from the relay came %q, %v", b, err)
	}
	if n := w.counter(`skerry_relay_streams_opened_total{by="relay"}`); n != 1 {
		t.Errorf("%d streams of the relay are counted", n)
	}
	if n := w.counter(`skerry_relay_streams_opened_total{by="agent"}`); n != 1 {
		t.Errorf("%d streams of the agent are counted", n)
	}
	if n := w.counter(`skerry_relay_stream_bytes_received_total`); n < len(large) {
		t.Errorf("%d bytes are counted", n)
	}
	if _, err := w.hub.Dial(t.Context(), "gw-unknown", wire.ServiceKubelet); !errors.Is(err, hub.ErrNotConnected) || !strings.Contains(err.Error(), "gw-unknown") {
		t.Errorf("a node that is not connected: %v", err)
	}
	var refused *stream.RefusedError
	if _, err := w.hub.Dial(t.Context(), node, "ftp"); !errors.As(err, &refused) || refused.Code != wire.ResetService {
		t.Errorf("a service that the agent does not have: %v", err)
	}
	if _, err := g.Dial(t.Context(), "ftp"); !errors.As(err, &refused) || refused.Code != wire.ResetService {
		t.Errorf("a service that the relay does not have: %v", err)
	}
	if n := w.counter(`skerry_relay_refused_total{reason="stream-service"}`); n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
}

// TestUpgradeOverStreams hands a stream over to a handler, as exec and port-forward do.
func TestUpgradeOverStreams(t *testing.T) {
	w := newWorld(t, nil)
	g := w.connected(nil)
	l, err := g.Listen(wire.ServiceKubelet)
	serveHTTP(t, l, err, func(rw http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buf)
	})
	c := over(t, func(ctx context.Context) (net.Conn, error) { return w.hub.Dial(ctx, node, wire.ServiceKubelet) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://stream/exec", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rw := resp.Body.(io.ReadWriter)
	for _, word := range []string{"date\n", "exit\n"} {
		if _, err := io.WriteString(rw, word); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(word))
		if _, err := io.ReadFull(rw, b); err != nil || string(b) != word {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

// TestStreamsEndWithTheSession cuts the connection in the middle of transfers both ways, and transfers again in the next session.
func TestStreamsEndWithTheSession(t *testing.T) {
	w := newWorld(t, nil)
	var wires meteredWires
	g := w.connected(func(o *link.Options) { o.Dial = wires.dial })
	al, err := g.Listen(wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	open := func() (relay, agent net.Conn) {
		relay, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
		if err != nil {
			t.Fatal(err)
		}
		if agent, err = al.Accept(); err != nil {
			t.Fatal(err)
		}
		return relay, agent
	}
	relay, agent := open()
	endless := func(from, to net.Conn, failed chan<- error) {
		go func() {
			var err error
			for err == nil {
				_, err = from.Write(make([]byte, 1000))
			}
			failed <- err
		}()
		go func() { _, err := io.Copy(io.Discard, to); failed <- err }()
	}
	failed := make(chan error, 4)
	endless(relay, agent, failed)
	endless(agent, relay, failed)
	eventually(t, "data flows", func() bool { return w.counter("skerry_relay_stream_bytes_received_total") > 1<<20 })
	before := g.Status().Sessions
	wires.last().Close()
	for range 4 {
		if err := <-failed; !errors.Is(err, stream.ErrSessionEnded) {
			t.Errorf("a stream of a session that was cut gives %v", err)
		}
	}
	relay.Close()
	agent.Close()
	eventually(t, "connected again", func() bool { st := g.Status(); return st.Sessions > before && st.InSync })
	relay, agent = open()
	if _, err := io.WriteString(relay, "still there?"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(agent, b); err != nil || string(b) != "still there?" {
		t.Errorf("%q, %v", b, err)
	}
	relay.Close()
	agent.Close()
	eventually(t, "no streams", func() bool { return w.streams() == 0 })
}

// TestStalledStreamsDelayNoState fills the windows of many streams whose readers have stopped, both ways. Changes arrive, reports arrive.
func TestStalledStreamsDelayNoState(t *testing.T) {
	w := newWorld(t, nil)
	g := w.connected(nil)
	al, err := g.Listen(wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	var writers sync.WaitGroup
	defer writers.Wait()
	for range 20 {
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
		for _, c := range []net.Conn{relay, agent} {
			writers.Go(func() { _, _ = c.Write(make([]byte, 1<<20)) })
		}
	}
	eventually(t, "windows are full", func() bool {
		return w.counter("skerry_relay_stream_bytes_received_total") >= 20*60<<10 && w.counter("skerry_relay_stream_bytes_sent_total") >= 20*60<<10
	})
	key := wire.NewKey(wire.KindDevice, "default", "pump", "")
	for i := range 50 {
		w.cluster.Put(node, key, linktest.Body(i))
		w.view.Follow()
		eventually(t, "the change is there", func() bool { o, ok := g.store.Get(key); return ok && bytes.Equal(o.Body, linktest.Body(i)) })
		g.Report(key, linktest.Body(1000+i))
		eventually(t, "the report is there", func() bool { return g.Status().ReportsPending == 0 })
	}
	if n := w.streams(); n != 20 {
		t.Errorf("%d streams are open", n)
	}
}

// TestStreamsLeaveNothing opens and closes a thousand.
func TestStreamsLeaveNothing(t *testing.T) {
	w := newWorld(t, nil)
	g := w.connected(nil)
	al, err := g.Listen(wire.ServiceKubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	payload := make([]byte, 3000)
	rand.NewChaCha8([32]byte{7}).Read(payload) //nolint:errcheck // never fails
	cycle := func(i int) {
		relay, err := w.hub.Dial(t.Context(), node, wire.ServiceKubelet)
		if err != nil {
			t.Fatal(err)
		}
		agent, err := al.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := relay.Write(payload); err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0: // in order
			_ = relay.(*stream.Conn).CloseWrite()
			if b, err := io.ReadAll(agent); err != nil || !bytes.Equal(b, payload) {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
		case 1: // reset
			relay.(*stream.Conn).Reset("enough")
			_ = agent.SetReadDeadline(time.Now().Add(time.Minute))
		} // otherwise closed with unread data
		relay.Close()
		agent.Close()
	}
	measure := func() (heap uint64, goroutines int) {
		eventually(t, "no streams", func() bool { return w.streams() == 0 })
		runtime.GC()
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		return st.HeapAlloc, runtime.NumGoroutine()
	}
	for i := range 100 {
		cycle(i)
	}
	heap, goroutines := measure()
	for i := range 1000 {
		cycle(i)
	}
	eventually(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() <= goroutines })
	after, _ := measure()
	t.Logf("heap before %d, after %d, goroutines %d", heap, after, goroutines)
	if after > heap+200_000 {
		t.Errorf("a thousand streams leave %d bytes", after-heap)
	}
}
