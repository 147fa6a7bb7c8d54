package hub_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/stream/streamtest"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// line is a slow network between agents and a relay in one bubble of virtual time.
type line struct {
	*streamtest.Pipes // the relay's listener

	down, up lane
}

// lane is one direction of a line.
type lane struct {
	rate   atomic.Int64 // bytes per second, 0 if nothing comes through
	passed atomic.Int64 // bytes so far
	last   atomic.Int64 // Unix time in ns of the last
}

func newLine(rate int64) *line {
	l := &line{Pipes: streamtest.NewPipes()}
	l.down.rate.Store(rate)
	l.up.rate.Store(rate)
	return l
}

func (l *line) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	agent, relay := net.Pipe()
	if err := l.Arrive(ctx, newSlowConn(relay, &l.down, l.Closed())); err != nil {
		return nil, err
	}
	return newSlowConn(agent, &l.up, l.Closed()), nil
}

const (
	packet = 512 // bytes
	kernel = 32  // packets that fit between a writer and the line
)

// slowConn is one end of a connection: what is written to it goes through a lane, as much as a kernel buffers does not wait.
type slowConn struct {
	net.Conn
	lane   *lane
	queue  chan []byte
	closed chan struct{}
	once   sync.Once
}

func newSlowConn(c net.Conn, l *lane, done <-chan struct{}) *slowConn {
	s := &slowConn{Conn: c, lane: l, queue: make(chan []byte, kernel), closed: make(chan struct{})}
	go s.carry(done)
	return s
}

func (s *slowConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), packet)
		select {
		case s.queue <- bytes.Clone(p[:k]):
		case <-s.closed:
			return n, net.ErrClosed
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

func (s *slowConn) carry(done <-chan struct{}) {
	for {
		select {
		case p := <-s.queue:
			for len(p) > 0 {
				n, wait := len(p), time.Second
				if rate := int(s.lane.rate.Load()); rate > 0 {
					n = min(n, rate)
					wait = time.Duration(n) * time.Second / time.Duration(rate)
				}
				select {
				case <-time.After(wait):
				case <-s.closed:
					return
				case <-done:
					return
				}
				if s.lane.rate.Load() == 0 {
					continue
				}
				if _, err := s.Conn.Write(p[:n]); err != nil {
					return
				}
				s.lane.passed.Add(int64(n))
				s.lane.last.Store(time.Now().UnixNano())
				p = p[n:]
			}
		case <-s.closed:
			return
		case <-done:
			return
		}
	}
}

func (s *slowConn) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// SetDeadline and its like only matter for the handshake here, and net.Pipe's writes are not the caller's.
func (s *slowConn) SetWriteDeadline(time.Time) error  { return nil }
func (s *slowConn) SetDeadline(t time.Time) error     { return s.Conn.SetReadDeadline(t) }
func (s *slowConn) SetReadDeadline(t time.Time) error { return s.Conn.SetReadDeadline(t) }

// slowWorld is a relay and an agent with the usual heartbeat at the ends of a line.
type slowWorld struct {
	*line
	cluster *sessiontest.Cluster
	view    *sessiontest.View
	sink    *sessiontest.Sink
	set     *metrics.Set
	agent   *link.Client
	store   *linktest.Store
	pod     wire.Key
	stop    func()
}

func newSlowWorld(t *testing.T, rate int64) *slowWorld {
	w := &slowWorld{
		line: newLine(rate), cluster: sessiontest.NewCluster(), sink: sessiontest.NewSink(), set: metrics.NewSet(), store: linktest.NewStore(),
		pod: wire.NewKey(wire.KindPod, "default", "a", "ua"),
	}
	w.view = w.cluster.View()
	w.cluster.Put(node, w.pod, linktest.Body(1))
	w.view.Follow()
	pki := hubtest.NewPKI(t)
	h := hub.New(hub.Options{Name: "relay-a", TLS: pki.ServerTLS(), Source: w.view, Sink: w.sink, Rules: 1, Metrics: w.set})
	w.agent = link.New(link.Options{
		Addresses: []string{"relay:443"}, TLS: pki.ClientTLS(pki.Node(node)), Node: node, Version: "test", Dial: w.dial,
		Desired: w.store, Outbox: w.store, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := h.Serve(ctx, w.line); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	all.Go(func() {
		if err := w.agent.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	w.stop = func() { cancel(); all.Wait(); _ = w.Close(); synctest.Wait() }
	w.until(t, "in sync", func() bool { st := w.agent.Status(); return st.Connected && st.InSync })
	return w
}

// until waits for at most a quarter of an hour of virtual time.
func (w *slowWorld) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 15 * 60 * 10 {
		if synctest.Wait(); ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("did not come to pass: %s: %+v", what, w.agent.Status())
}

func (w *slowWorld) closes() int {
	return int(w.set.GetOrCreateCounter(`skerry_relay_session_closes_total{reason="heartbeat"}`).Get())
}

// large returns a body of n bytes that nothing can make smaller.
func large(n int) []byte {
	text := make([]byte, n)
	for i := range text {
		text[i] = 'a' + byte(rand.IntN(26))
	}
	b, err := canon.FromValue(map[string]any{"n": 1, "text": string(text)})
	if err != nil {
		panic(err) // only of values that canon cannot encode
	}
	return b
}

// put gives the pod a configMap of the given size.
func (w *slowWorld) put(size int) (wire.Key, []byte) {
	cfg := wire.NewKey(wire.KindConfigMap, "default", "large", "")
	body := large(size)
	w.cluster.Put("", cfg, body)
	w.cluster.Put(node, w.pod, linktest.Body(2, cfg))
	w.view.Follow()
	return cfg, body
}

// TestSlowLineDown: an object that takes more than a minute arrives, is acknowledged, and the session stays.
func TestSlowLineDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, 4<<10)
		defer w.stop()
		cfg, body := w.put(300_000)
		begun := time.Now()
		w.until(t, "the object arrives", func() bool { o, _ := w.store.Get(cfg); return bytes.Equal(o.Body, body) })
		if d := time.Since(begun); d < 70*time.Second {
			t.Errorf("it took %v: the line is not slow", d)
		}
		time.Sleep(2 * time.Minute)
		if st := w.agent.Status(); st.Sessions != 1 || !st.Connected || st.LastError != "" || w.closes() != 0 {
			t.Errorf("the session has not lasted: %+v", st)
		}
		if n := w.set.GetOrCreateCounter("skerry_relay_objects_sent_total").Get(); n != 3 {
			t.Errorf("%d objects were sent, want 3: two versions of the pod, and the configMap once", n)
		}
	})
}

// TestSlowLineUp: the same for a report.
func TestSlowLineUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, 4<<10)
		defer w.stop()
		body := large(200_000)
		w.agent.Report(w.pod, body)
		begun := time.Now()
		w.until(t, "the report is acknowledged", func() bool {
			got, _ := w.sink.Reported(w.pod)
			return bytes.Equal(got, body) && w.agent.Status().ReportsPending == 0
		})
		if d := time.Since(begun); d < 45*time.Second {
			t.Errorf("it took %v: the line is not slow", d)
		}
		time.Sleep(2 * time.Minute)
		if st := w.agent.Status(); st.Sessions != 1 || !st.Connected || st.LastError != "" || w.closes() != 0 {
			t.Errorf("the session has not lasted: %+v", st)
		}
	})
}

// TestSlowLineStops: a line that goes dead, or nearly so, in the middle of a message is noticed within two heartbeats by both ends.
func TestSlowLineStops(t *testing.T) {
	const patience = 30 * time.Second
	for name, trickle := range map[string]int64{"dead": 0, "a byte a second": 1} {
		for _, way := range []string{"down", "up"} {
			t.Run(name+" "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newSlowWorld(t, 4<<10)
					defer w.stop()
					moving := &w.down
					if way == "down" {
						w.put(300_000)
					} else {
						moving = &w.up
						w.agent.Report(w.pod, large(200_000))
					}
					before := moving.passed.Load()
					w.until(t, "half of it has passed", func() bool { return moving.passed.Load()-before > 100_000 })
					w.down.rate.Store(trickle)
					w.up.rate.Store(trickle)
					cut := time.Now()
					var agent, relay time.Duration
					w.until(t, "both ends notice", func() bool {
						if agent == 0 && strings.Contains(w.agent.Status().LastError, "nothing was heard for 30s") {
							agent = time.Since(cut)
						}
						if relay == 0 && w.closes() > 0 {
							relay = time.Since(cut)
						}
						return agent != 0 && relay != 0
					})
					// The sweep looks once a second, and this test ten times.
					if limit := patience + 1500*time.Millisecond; agent > limit || relay > limit {
						t.Errorf("the agent took %v, the relay %v", agent, relay)
					}
					t.Logf("the agent took %v, the relay %v", agent, relay)
				})
			})
		}
	}
}
