package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/relay/session"
)

// Options configures a Hub. Name, TLS, Source and Sink are required.
type Options struct {
	Name string // of this relay, for people
	// TLS holds the certificate and ClientCAs. Client certificates are verified if they are given; the hub sets the rest.
	TLS *tls.Config
	// ClientCAs, if set, replaces TLS.ClientCAs and is asked for each connection, so that a new CA needs no restart.
	ClientCAs func() *x509.CertPool
	// Refused says why a certificate of node that begins at issued opens no session, "" if it does. It does not block. May be nil.
	// Call Recheck when it may say something else.
	Refused func(node string, issued time.Time) (reason string)
	// Trusted says whether certificates of a CA keep sessions open. It does not block. May be nil. Call RecheckAll when it may say
	// something else.
	Trusted func(Issuer) bool
	// Admit reports whether a node may open a session now, and if not, when it should try again. It does not block. May be
	// nil.
	Admit func(node string) (retryAfter time.Duration, ok bool)
	// Ready says why the relay is not ready, nil if it is. May be nil.
	Ready func() error
	// Elsewhere names other relays, HOST:PORT, that take agents over when this one ends. It is asked once, when Serve's context
	// has ended, and does not block. May be nil.
	Elsewhere func() []string
	// Drain is the time over which agents are told then that the relay ends, and in which streams may come to their end. Default 0: all
	// at once.
	Drain  time.Duration
	Enroll http.Handler // for join.Path and join.RenewPath; may be nil
	Source Source
	Sink   Sink
	Rules  wire.Rules // version of the Source's trim rules
	Limits session.Limits
	// Connecting bounds the connections that are no sessions (yet); default 16,384. When there are more, the source address that
	// has the most loses one.
	Connecting int
	// SessionsPerMinute bounds how often one node may open a session; default 60.
	SessionsPerMinute int
	Metrics           *metrics.Set // may be nil
	Log               *slog.Logger // may be nil
}

// Hub accepts agents and keeps their sessions.
type Hub struct {
	opts      Options
	log       *slog.Logger
	meter     *meter
	tls       *tls.Config
	bufs      sync.Pool // of *[]byte, for messages in both directions
	crew      *crew
	turnstile *turnstile
	work      context.Context // of what sessions borrow; set by Serve
	shared    *session.Shared
	// starts are the sessions that claim their nodes, and those that wait to.
	starts   *turns
	gate     *gate
	visits   *visits
	refusals *refusals
	services stream.Services

	mu       sync.Mutex
	sessions map[string]*agent // by node
	alive    map[*agent]struct{}
	closing  bool
	epoch    uint64
	all      sync.WaitGroup // of alive
}

// New returns a hub. It panics if a required option is missing: that is a wiring error, not input.
func New(opts Options) *Hub {
	if opts.Name == "" || opts.TLS == nil || opts.Source == nil || opts.Sink == nil {
		panic("hub: Name, TLS, Source and Sink are required")
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = metrics.NewSet()
	}
	h := &Hub{
		opts: opts, log: opts.Log,
		sessions: map[string]*agent{}, alive: map[*agent]struct{}{},
		starts: newTurns(startsAtOnce), crew: newCrew(), turnstile: newTurnstile(), work: context.Background(),
	}
	h.refusals, h.visits = newRefusals(h.log), newVisits(opts.SessionsPerMinute)
	h.gate = newGate(opts.Connecting, h.turnedAway)
	h.bufs.New = func() any { b := make([]byte, 0, 2048); return &b }
	h.shared = session.Share(session.Config{Relay: opts.Name, Source: opts.Source, Rules: opts.Rules, Limits: opts.Limits})
	h.tls = h.tlsConfig()
	h.meter = newMeter(opts.Metrics, func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(len(h.alive))
	}, func() float64 { return float64(h.turnstile.waiting()) })
	opts.Metrics.GetOrCreateGauge("skerry_relay_streams", func() float64 { return float64(h.openStreams()) })
	return h
}

// Listen opens the relay's port without TCP keep-alives: the link has heartbeats of its own, and idle bytes cost money.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("relay port %s: %w: choose another port, or stop what uses it", address, err)
	}
	return l, nil
}

// Serve accepts agents on l until ctx ends, then says goodbye to each and returns nil once all of them are gone.
func (h *Hub) Serve(ctx context.Context, l net.Listener) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h.work = work
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // a WebSocket needs a connection of its own
	srv := &http.Server{
		Handler:           h.handler(),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second, // anybody may connect; a link, once it is one, has heartbeats instead
		WriteTimeout:      time.Minute,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return h.gate.enter(withArrival(ctx, c), c)
		},
		ConnState: h.gate.state,
		ErrorLog:  log.New(serverErrors{h}, "", 0),
	}
	served := make(chan error, 1)
	arriving := &arrivalsListener{Listener: l, turnstile: h.turnstile, late: func() { h.meter.refused("late") }}
	go func() { served <- srv.Serve(tls.NewListener(arriving, h.tls)) }()
	var sweeping sync.WaitGroup
	sweeping.Go(func() { h.sweep(work) })

	var err error
	running := true
	select {
	case <-ctx.Done():
	case err = <-served:
		running = false
		err = fmt.Errorf("relay port %s: %w", l.Addr(), err)
	}
	h.drain()
	h.stop(srv)
	if running {
		<-served //nolint:errcheck // it is the error of a server that was closed on purpose
	}
	cancel()
	sweeping.Wait()
	h.crew.wait()
	return err
}

// SetTicketKeys sets the keys of TLS session tickets, the one that seals first, so that sessions resume at every relay that
// has the same. It may be called at any time; without it the hub has keys of its own.
func (h *Hub) SetTicketKeys(keys [][32]byte) { h.tls.SetSessionTicketKeys(keys) }

// End ends the node's session with the given epoch: the Sink found that another relay owns the node now.
func (h *Hub) End(node string, epoch uint64, reason string) {
	h.shut(node, epoch, session.Shut{Code: wire.CloseReplaced, Reason: reason})
}

// Want asks the node's agent for the newest documents under these keys, if its session is still the one of epoch: the Sink has
// lost sight of what it wrote, or somebody else changed it. It does not block.
func (h *Hub) Want(node string, epoch uint64, keys []wire.Key) {
	h.tell(node, epoch, session.Wanted{Keys: keys})
}

// busyFrom is how many sessions have to wait to be worked at before other work gives way.
const busyFrom = 256

// Busy reports whether many sessions wait to be told something. It does not block.
func (h *Hub) Busy() bool { return h.crew.backlog() >= busyFrom }

// shut ends a node's session; epoch 0 means any.
func (h *Hub) shut(node string, epoch uint64, why session.Shut) { h.tell(node, epoch, why) }

// tell feeds the session of a node; epoch 0 means any.
func (h *Hub) tell(node string, epoch uint64, ev session.Event) {
	h.mu.Lock()
	a := h.sessions[node]
	h.mu.Unlock()
	if a != nil && (epoch == 0 || a.epoch == epoch) {
		a.step(ev)
	}
}

// Info describes one session for people.
type Info struct {
	Node   string    `json:"node"`
	Epoch  uint64    `json:"epoch"`
	Remote string    `json:"remote"` // address
	Since  time.Time `json:"since"`
	InSync bool      `json:"inSync"` // the agent has acknowledged everything that was known when the session began
}

// Sessions returns all sessions, in no particular order.
func (h *Hub) Sessions() []Info {
	h.mu.Lock()
	agents := make([]*agent, 0, len(h.sessions))
	for _, a := range h.sessions {
		agents = append(agents, a)
	}
	h.mu.Unlock()
	out := make([]Info, 0, len(agents))
	for _, a := range agents {
		out = append(out, a.info())
	}
	return out
}

func (h *Hub) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

var errClosing = errors.New("the relay shuts down")

// register makes a the node's session; an older one is told that it was replaced.
func (h *Hub) register(a *agent) error {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return errClosing
	}
	// Epochs grow across relays and restarts as clocks do; what a clock does wrong, the Lease finds out.
	h.epoch = max(h.epoch+1, uint64(time.Now().UnixNano()))
	a.epoch = h.epoch
	old := h.sessions[a.node]
	h.sessions[a.node] = a
	h.alive[a] = struct{}{}
	h.all.Add(1)
	h.mu.Unlock()
	if old != nil {
		old.step(session.Shut{Code: wire.CloseReplaced, Reason: "a newer session of this node was opened from " + a.remote})
	}
	return nil
}

func (h *Hub) unregister(a *agent) {
	h.mu.Lock()
	if h.sessions[a.node] == a {
		delete(h.sessions, a.node)
	}
	delete(h.alive, a)
	h.mu.Unlock()
	h.all.Done()
}

// snapshot returns the agents whose sessions have not ended.
func (h *Hub) snapshot() []*agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*agent, 0, len(h.alive))
	for a := range h.alive {
		out = append(out, a)
	}
	return out
}

// sweep gives sessions their time. One sweep a second for all costs less than a timer for each.
func (h *Hub) sweep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, a := range h.snapshot() {
				a.tick(now)
			}
			h.visits.forget(now)
		}
	}
}

func (h *Hub) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.LinkPath, h.accept)
	if h.opts.Enroll != nil {
		mux.Handle(join.Path, h.opts.Enroll)
		mux.Handle(join.RenewPath, h.opts.Enroll)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.readyz)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		settleRequest(r)
		served(r)
		w.Header().Set(wire.HeaderRelay, h.opts.Name)
		w.Header().Set(wire.HeaderTime, time.Now().UTC().Format(time.RFC3339))
		mux.ServeHTTP(w, r)
	})
}

func (h *Hub) readyz(w http.ResponseWriter, _ *http.Request) {
	if h.isClosing() {
		http.Error(w, farewellReason, http.StatusServiceUnavailable)
		return
	}
	if h.opts.Ready != nil {
		if err := h.opts.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}
