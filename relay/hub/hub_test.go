package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

func TestMain(m *testing.M) {
	if config := os.Getenv("SKERRY_HUB_CHILD"); config != "" { // the hub's process of a benchmark
		fleetServer(config)
		return
	}
	goleak.VerifyTestMain(m)
}

const node = "gw-1"

// world is a hub with its models.
type world struct {
	t       *testing.T
	pki     *hubtest.PKI
	cluster *sessiontest.Cluster
	view    *sessiontest.View
	sink    *sessiontest.Sink
	set     *metrics.Set
	hub     *hub.Hub
	address string
	revoked atomic.Bool
	opts    hub.Options
	stop    func()
}

func newWorld(t *testing.T, change func(*hub.Options)) *world {
	t.Helper()
	w := &world{t: t, pki: hubtest.NewPKI(t), cluster: sessiontest.NewCluster(), sink: sessiontest.NewSink()}
	w.view = w.cluster.View()
	w.view.Follow()
	w.opts = hub.Options{
		Name: "relay-a", TLS: w.pki.ServerTLS(), Source: w.view, Sink: w.sink, Rules: 1,
		Refused: func(n string, _ time.Time) string {
			if n == node && w.revoked.Load() {
				return "node " + n + " is revoked"
			}
			return ""
		},
	}
	if change != nil {
		change(&w.opts)
	}
	w.start("127.0.0.1:0")
	t.Cleanup(func() { w.stop() })
	return w
}

// start serves a fresh hub: a relay keeps nothing between two lives.
func (w *world) start(address string) {
	w.t.Helper()
	l, err := hub.Listen(w.t.Context(), address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	w.set = metrics.NewSet()
	w.opts.Metrics = w.set
	w.hub = hub.New(w.opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.hub.Serve(ctx, l) }()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("Serve: %v", err)
			}
		})
	}
}

// gateway is an agent with its model store.
type gateway struct {
	*link.Client
	store *linktest.Store
	log   *syncBuffer
	stop  func()
}

func (w *world) gateway(change func(*link.Options)) *gateway {
	w.t.Helper()
	g := &gateway{store: linktest.NewStore(), log: &syncBuffer{}}
	g.run(w, change)
	return g
}

func (g *gateway) run(w *world, change func(*link.Options)) {
	opts := link.Options{
		Addresses: []string{w.address}, TLS: w.pki.ClientTLS(w.pki.Node(node)), Node: node, Version: "test",
		Desired: g.store, Outbox: g.store, Heartbeat: time.Second, MaxBackoff: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(g.log, nil)),
	}
	if change != nil {
		change(&opts)
	}
	g.Client = link.New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Client.Run(ctx) }()
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("Run: %v", err)
			}
		})
	}
	w.t.Cleanup(g.stop)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not come to pass: %s", what)
}

func (w *world) counter(name string) int { return int(w.set.GetOrCreateCounter(name).Get()) }

// pods puts two pods with a shared configMap, their node's object, and one missing secret: five objects for the node.
func (w *world) pods() (pod, cfg wire.Key) {
	cfg = wire.NewKey(wire.KindConfigMap, "default", "cfg", "")
	missing := wire.NewKey(wire.KindSecret, "default", "missing", "")
	pod = wire.NewKey(wire.KindPod, "default", "a", "ua")
	w.cluster.Put("", cfg, linktest.Body(1))
	w.cluster.Put(node, wire.NewKey(wire.KindNode, "", node, ""), linktest.Body(1))
	w.cluster.Put(node, pod, linktest.Body(1, cfg, missing))
	w.cluster.Put(node, wire.NewKey(wire.KindPod, "default", "b", "ub"), linktest.Body(1, cfg))
	w.view.Follow()
	return pod, cfg
}

func inSync(g *gateway) func() bool {
	return func() bool { st := g.Status(); return st.Connected && st.InSync }
}

func TestSession(t *testing.T) {
	w := newWorld(t, nil)
	pod, cfg := w.pods()
	g := w.gateway(nil)
	eventually(t, "in sync", inSync(g))
	if got := len(g.store.Versions()); got != 5 || w.counter("skerry_relay_objects_sent_total") != 5 {
		t.Fatalf("the agent holds %d objects, %d were sent, want 5", got, w.counter("skerry_relay_objects_sent_total"))
	}

	w.cluster.Put("", cfg, linktest.Body(2))
	w.view.Follow()
	eventually(t, "the changed configMap arrives", func() bool {
		o, _ := g.store.Get(cfg)
		return bytes.Equal(o.Body, linktest.Body(2))
	})

	g.Report(pod, linktest.Body(7))
	g.Report(pod, linktest.Body(8))
	g.Report(wire.NewKey(wire.KindPod, "default", "not-mine", "x"), linktest.Body(9))
	g.store.Append(wire.KindOfEvent, linktest.Body(3))
	eventually(t, "report and event arrive", func() bool {
		b, _ := w.sink.Reported(pod)
		_, items, _ := w.sink.Counts(node)
		return bytes.Equal(b, linktest.Body(8)) && items == 1 && len(g.store.Pending(0, 10)) == 0
	})
	if _, ok := w.sink.Reported(wire.NewKey(wire.KindPod, "default", "not-mine", "x")); ok {
		t.Fatal("a report on another node's pod was taken")
	}
	if got := w.counter("skerry_relay_reports_refused_total"); got != 1 {
		t.Fatalf("%d reports were refused, want 1", got)
	}
	if s := w.hub.Sessions(); len(s) != 1 || s[0].Node != node || !s[0].InSync {
		t.Fatalf("sessions %+v", s)
	}
	st := g.Status()
	if st.Relay != "relay-a" || st.BytesSent == 0 || st.BytesReceived == 0 || st.ObjectsReceived != 6 || st.CommitsApplied == 0 {
		t.Fatalf("status %+v", st)
	}
	if err := g.store.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestRelayRestart stops the relay and starts another one at the same address.
func TestRelayRestart(t *testing.T) {
	w := newWorld(t, nil)
	pod, cfg := w.pods()
	g := w.gateway(nil)
	g.Report(pod, linktest.Body(1))
	eventually(t, "in sync", inSync(g))
	w.stop()
	eventually(t, "the agent knows that the relay is gone", func() bool { return !g.Status().Connected })
	if e := g.Status().LastError; !strings.Contains(e, "shuts down") && !strings.Contains(e, "connection refused") {
		t.Fatalf("last error %q", e)
	}
	w.cluster.Put("", cfg, linktest.Body(2)) // meanwhile in the cloud …
	w.view.Follow()
	g.Report(pod, linktest.Body(2)) // … and at the edge
	w.start(w.address)
	eventually(t, "in sync again", func() bool {
		b, _ := w.sink.Reported(pod)
		return inSync(g)() && bytes.Equal(b, linktest.Body(2))
	})
	if sent, resumed := w.counter("skerry_relay_objects_sent_total"), w.counter("skerry_relay_objects_resumed_total"); sent != 1 || resumed != 4 {
		t.Fatalf("%d objects were sent and %d resumed, want 1 and 4", sent, resumed)
	}
	if err := g.store.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestNewerSessionWins(t *testing.T) {
	w := newWorld(t, nil)
	w.pods()
	first := w.gateway(func(o *link.Options) { o.MaxBackoff = time.Hour })
	eventually(t, "first in sync", inSync(first))
	second := w.gateway(nil)
	eventually(t, "second in sync, first told", func() bool {
		return inSync(second)() && strings.Contains(first.Status().LastError, "is the same identity installed on two gateways?")
	})
	if n := len(w.hub.Sessions()); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	if got := w.counter(`skerry_relay_session_closes_total{reason="replaced"}`); got != 1 {
		t.Fatalf("%d sessions were replaced", got)
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t, nil)
	w.pods()
	g := w.gateway(nil)
	eventually(t, "in sync", inSync(g))
	w.revoked.Store(true)
	w.hub.Revoke(node)
	eventually(t, "out, and kept out on every further attempt", func() bool {
		st := g.Status()
		return !st.Connected && st.Attempts >= 4 && strings.Contains(st.LastError, "node restore")
	})
	w.revoked.Store(false)
	eventually(t, "back without a restart", inSync(g))
}

func TestAdmission(t *testing.T) {
	var open atomic.Bool
	w := newWorld(t, func(o *hub.Options) {
		o.Admit = func(string) (time.Duration, bool) { return time.Second, open.Load() }
	})
	g := w.gateway(nil)
	eventually(t, "refused", func() bool { return strings.Contains(g.Status().LastError, "takes no agents at the moment") })
	if n := g.Status().Attempts; n > 2 {
		t.Fatalf("%d attempts although the relay asked for a second's pause", n)
	}
	open.Store(true)
	eventually(t, "in sync", inSync(g))
}

// TestHalfOpen lets the network swallow everything: both ends must notice within two heartbeats.
func TestHalfOpen(t *testing.T) {
	w := newWorld(t, nil)
	w.pods()
	p := newProxy(t, w.address)
	g := w.gateway(func(o *link.Options) {
		o.Addresses = []string{p.address}
		o.DialTimeout = 500 * time.Millisecond // what is dialled while the network swallows is lost
	})
	eventually(t, "in sync", inSync(g))
	p.swallow.Store(true)
	cut := time.Now()
	eventually(t, "the agent notices", func() bool { return strings.Contains(g.Status().LastError, "nothing was heard") })
	if d := time.Since(cut); d > 5*time.Second {
		t.Errorf("the agent took %v, two heartbeats are 2s", d)
	}
	eventually(t, "the relay notices", func() bool { return w.counter(`skerry_relay_session_closes_total{reason="heartbeat"}`) >= 1 })
	p.swallow.Store(false)
	eventually(t, "back", inSync(g))
}

// proxy forwards TCP and can swallow.
type proxy struct {
	address string
	swallow atomic.Bool
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = in.Close(); _ = out.Close() })
			all.Go(func() { p.copy(in, out) })
			all.Go(func() { p.copy(out, in) })
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); all.Wait() })
	return p
}

func (p *proxy) copy(from, to net.Conn) {
	defer func() {
		if !p.swallow.Load() { // a silent network swallows the end of the connection, too
			_ = to.Close()
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.swallow.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *world) get(t *testing.T, path string, cert *tls.Certificate) (int, string, http.Header) {
	t.Helper()
	cfg := &tls.Config{RootCAs: w.pki.Pool, MinVersion: tls.VersionTLS13}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + w.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header
}

func TestEndpoints(t *testing.T) {
	ready := errors.New("caches are not synced")
	w := newWorld(t, func(o *hub.Options) {
		o.Ready = func() error { return ready }
		o.Enroll = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("enrol")) })
	})
	other := w.pki.Issue(hubtest.Server)
	own := w.pki.Node(node)
	for _, c := range []struct {
		path string
		cert *tls.Certificate
		code int
		text string
	}{
		{"/healthz", nil, 200, "ok"},
		{"/readyz", nil, 503, "caches are not synced"},
		{"/v1/enroll", nil, 200, "enrol"},
		{"/v1/link", nil, 401, "no client certificate"},
		{"/v1/link", &own, 400, "skerry.v1"},
		{"/nothing", nil, 404, ""},
	} {
		code, body, header := w.get(t, c.path, c.cert)
		if code != c.code || !strings.Contains(body, c.text) || header.Get(wire.HeaderRelay) != "relay-a" {
			t.Errorf("GET %s: %d %q %v, want %d with %q", c.path, code, body, header, c.code, c.text)
		}
	}
	// A serving certificate of the same CA is not good for client authentication at all.
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.pki.Pool, Certificates: []tls.Certificate{other}, MinVersion: tls.VersionTLS13}}
	defer tr.CloseIdleConnections()
	if resp, err := (&http.Client{Transport: tr}).Get("https://" + w.address + "/v1/link"); err == nil {
		resp.Body.Close()
		t.Errorf("a server's certificate opened the link: %d", resp.StatusCode)
	}
}

// TestForeignNodeName: the certificate decides who the node is, the agent's own idea of its name must agree.
func TestForeignNodeName(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway(func(o *link.Options) { o.Node = "gw-2" })
	eventually(t, "refused", func() bool {
		e := g.Status().LastError
		return strings.Contains(e, `"gw-1"`) && strings.Contains(e, `"gw-2"`)
	})
}

// TestStoreFailureHeals: a full disk neither ends the session nor loses a commit.
func TestStoreFailureHeals(t *testing.T) {
	w := newWorld(t, nil)
	w.pods()
	var full atomic.Bool
	full.Store(true)
	g := &gateway{store: linktest.NewStore(), log: &syncBuffer{}}
	g.store.FailApply = func() error {
		if full.Load() {
			return errors.New("no space left on device")
		}
		return nil
	}
	g.run(w, nil)
	eventually(t, "said so", func() bool { return strings.Contains(g.Status().LastError, "no space left on device") })
	if !g.Status().Connected {
		t.Fatal("the session ended")
	}
	full.Store(false)
	eventually(t, "in sync", inSync(g))
	if g.Status().Sessions != 1 {
		t.Fatalf("status %+v", g.Status())
	}
}
