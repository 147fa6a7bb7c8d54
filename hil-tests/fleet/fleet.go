package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Options configures a Fleet. Addresses, Roots and Identities are required.
type Options struct {
	Addresses  []string       // HOST:PORT of the relays; agents begin at different ones, and go on to the next (see Dial)
	Roots      *x509.CertPool // by which agents verify relays
	Identities []Identity     // one for each agent

	Heartbeat   time.Duration // default: the link's, 15 s
	MaxBackoff  time.Duration // default: the link's
	DialTimeout time.Duration // default 60 s: 10,000 handshakes on two cores take longer than the link's default
	Mute        bool          // agents report nothing: no Node objects, no pod or device status
	Events      bool          // agents have an outbox for events
	Log         *slog.Logger  // of the links; default: nothing
}

// Identity is a node's name and certificate.
type Identity struct {
	Node        string
	Certificate tls.Certificate
	Live        *Live // instead of Certificate, for one that is renewed; may be nil
}

// Live is an identity as an agent's link asks for it; see link.Options.
type Live struct {
	TLS     func() (*tls.Config, error)
	Expired func()
	Clock   func(time.Time)
}

// Fleet is many agents.
type Fleet struct {
	opts     Options
	agents   []*Agent
	nodeBody []byte
	watch    atomic.Pointer[Watch]
	puts     puts
}

// New returns a stopped fleet.
func New(o Options) (*Fleet, error) {
	if len(o.Addresses) == 0 || o.Roots == nil || len(o.Identities) == 0 {
		return nil, errors.New("fleet: Addresses, Roots and Identities are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = time.Minute
	}
	if err := needFiles(len(o.Identities)); err != nil {
		return nil, err
	}
	f := &Fleet{opts: o, nodeBody: nodeReport(), puts: newPuts()}
	for i, id := range o.Identities {
		a := &Agent{Name: id.Node, fleet: f, number: i, identity: id.Certificate, live: id.Live}
		a.holdings.applied = a.applied
		f.agents = append(f.agents, a)
	}
	return f, nil
}

// perAddress is how many agents share one loopback address.
const perAddress = 20_000

// Dial makes agents try the relays in the given order, the same for all of them, from their next start on.
func Dial(agents []*Agent, addresses ...string) {
	for _, a := range agents {
		a.mu.Lock()
		a.dials = slices.Clone(addresses)
		a.mu.Unlock()
	}
}

// addresses returns the relays in the order in which an agent tries them. On loopback each 20,000 agents dial an address of
// their own, 127.0.0.1, 127.0.0.2 …, so that ports do not run out; the relay must then listen on all of them.
func (f *Fleet) addresses(i int, dials []string) []string {
	if dials == nil {
		n := len(f.opts.Addresses)
		dials = slices.Concat(f.opts.Addresses[i%n:], f.opts.Addresses[:i%n])
	}
	out := make([]string, 0, len(dials))
	for _, at := range dials {
		if host, port, err := net.SplitHostPort(at); err == nil && host == "127.0.0.1" && i >= perAddress {
			at = net.JoinHostPort(fmt.Sprintf("127.0.0.%d", 1+i/perAddress), port)
		}
		out = append(out, at)
	}
	return out
}

// Agents returns all agents. The slice is the fleet's own.
func (f *Fleet) Agents() []*Agent { return f.agents }

// Start starts every agent that is stopped; all dial at once.
func (f *Fleet) Start() { Start(f.agents) }

// Start starts those of agents that are stopped.
func Start(agents []*Agent) {
	for _, a := range agents {
		a.start()
	}
}

// Stop stops every agent, which says goodbye to its relay, and waits for all.
func (f *Fleet) Stop() { Stop(f.agents) }

// Stop stops agents and waits for them.
func Stop(agents []*Agent) {
	var done []<-chan struct{}
	for _, a := range agents {
		if d := a.end(); d != nil {
			done = append(done, d)
		}
	}
	for _, d := range done {
		<-d
	}
}

// Cut resets all connections, all at once.
func (f *Fleet) Cut() { Cut(f.agents) }

// Cut resets the agents' connections.
func Cut(agents []*Agent) {
	var wg sync.WaitGroup
	const share = 500
	for len(agents) > 0 {
		n := min(share, len(agents))
		part := agents[:n]
		agents = agents[n:]
		wg.Go(func() {
			for _, a := range part {
				a.Cut()
			}
		})
	}
	wg.Wait()
}

// Tally sums the agents' commits, and quotes a broken promise if there is one.
func (f *Fleet) Tally() (sum Tally, breach string) {
	for _, a := range f.agents {
		a.holdings.mu.Lock()
		sum.add(a.holdings.tally)
		if a.holdings.breach != "" {
			breach = a.Name + ": " + a.holdings.breach
		}
		a.holdings.mu.Unlock()
	}
	return sum, breach
}

// TrafficOf sums what passed the sockets of agents.
func TrafficOf(agents []*Agent) (sum Traffic) {
	for _, a := range agents {
		t := a.Traffic()
		sum.In += t.In
		sum.Out += t.Out
		sum.Handshake += t.Handshake
		sum.Dials += t.Dials
	}
	return sum
}

// Watch learns when each agent commits a version of one key.
type Watch struct {
	fleet *Fleet
	key   wire.Key
	began time.Time
	left  atomic.Int64
	done  chan struct{}
	took  []atomic.Int64 // by agent, ns since began, 0 while it has not
}

// Watch begins to wait for the next version of key, at all agents that hold key now. One watch runs at a time: a new one
// replaces the old.
func (f *Fleet) Watch(key wire.Key) *Watch {
	w := &Watch{fleet: f, key: key, done: make(chan struct{}), took: make([]atomic.Int64, len(f.agents))}
	n := int64(0)
	for i, a := range f.agents {
		a.holdings.mu.Lock()
		if a.holdings.find(key) < 0 {
			w.took[i].Store(-1)
		} else {
			n++
		}
		a.holdings.mu.Unlock()
	}
	w.left.Store(n)
	w.began = time.Now()
	f.watch.Store(w)
	return w
}

func (f *Fleet) committed(a *Agent, o *wire.Object, now time.Time) {
	w := f.watch.Load()
	if w == nil || w.key != o.Key {
		return
	}
	if w.took[a.number].CompareAndSwap(0, max(1, int64(now.Sub(w.began)))) && w.left.Add(-1) == 0 {
		close(w.done)
	}
}

// Wait blocks until all agents but the given number have committed, and returns how long each took since Watch.
func (w *Watch) Wait(ctx context.Context, but int) ([]time.Duration, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for w.left.Load() > int64(but) {
		select {
		case <-ctx.Done():
			return w.Took(), fmt.Errorf("%d agents have not committed the next version of %s: %w (%s)", w.left.Load(), w.key, ctx.Err(), w.late())
		case <-w.done:
		case <-tick.C:
		}
	}
	return w.Took(), nil
}

// late describes an agent that has not committed, if there is one whose network is normal.
func (w *Watch) late() (text string) {
	for i, a := range w.fleet.agents {
		if w.took[i].Load() == 0 {
			text = a.Name + ": " + describe(a.Status())
			if c, _ := a.net.now(); c == Normal {
				break
			}
		}
	}
	return text
}

// Took returns the times of the agents that have committed.
func (w *Watch) Took() []time.Duration {
	var out []time.Duration
	for i := range w.took {
		if d := w.took[i].Load(); d > 0 {
			out = append(out, time.Duration(d))
		}
	}
	return out
}

// Committed says whether agent i has.
func (w *Watch) Committed(i int) bool { return w.took[i].Load() > 0 }
