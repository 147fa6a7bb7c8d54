package members

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes"
)

// Where and how the Leases are.
const (
	Namespace = "skerry-system"
	Label     = "skerry.dev/relay" // "true" on each relay's Lease

	NameAnnotation     = "skerry.dev/relay"    // the relay's name as it is configured
	AddressAnnotation  = "skerry.dev/address"  // HOST:PORT of this replica; missing if it has none of its own
	AgentsAnnotation   = "skerry.dev/agents"   // number of connected agents
	DrainingAnnotation = "skerry.dev/draining" // "true" while the relay sends its agents elsewhere
	KubeletAnnotation  = "skerry.dev/kubelet"  // HOST:PORT under which other relays reach this replica's kubelet port; missing if it has none
)

const (
	// Interval is the time between two renewals, less up to a tenth.
	Interval = 5 * time.Second
	// Duration is how long a Lease that does not change is believed.
	Duration = 15 * time.Second
	// forget is after how much silence a Lease is deleted by others.
	forget = 10 * time.Minute
	// beatsToJudge is how many renewals of its own a relay must have seen since it last heard of another to call it dead.
	beatsToJudge = 3
	// maxElsewhere and maxAddress are the link's limits (wire.Close).
	maxElsewhere = 8
	maxAddress   = 255
)

// Options configures Members. Client and Name are required.
type Options struct {
	Client  kubernetes.Interface
	Name    string       // of this relay
	Address string       // HOST:PORT under which gateways reach this replica and no other; empty: there is none
	Kubelet string       // HOST:PORT under which other relays reach this replica's kubelet port; empty: there is none
	Agents  func() int   // how many are connected; must neither block nor call Members; may be nil
	Metrics *metrics.Set // may be nil
	Log     *slog.Logger // may be nil
}

// Member is what is known of a relay.
type Member struct {
	Name     string
	Address  string // HOST:PORT; empty if it has none of its own
	Kubelet  string // HOST:PORT of its kubelet port, for relays; empty if it has none
	Agents   int
	Draining bool
	Self     bool // it is this relay
}

// Members knows the relays of the cluster. Create it with New, and run it.
type Members struct {
	opts   Options
	lease  string // name of the own one
	holder string // who this process is, even if another has the same name
	wake   chan struct{}

	renewed, failed *metrics.Counter

	mu       sync.Mutex
	peers    map[string]*peer // by the Lease's name, the own one too
	beats    uint64           // renewals of the own Lease that the watch has brought
	draining bool
	synced   bool

	// Used by the goroutine of keep only.
	own     *coordinationv1.Lease // as the API server returned it last; nil: not known
	written bool                  // by this process, at least once
	logged  time.Time             // when a failure was last logged; zero: the last attempt worked
	twin    time.Time             // when another process with this name was last logged
}

// peer is one relay's Lease as the watch shows it.
type peer struct {
	Member
	lease   string // its name
	uid, rv string
	changed time.Time // when the Lease was last seen to change
	beats   uint64    // Members.beats at that time
	silent  bool      // it has been logged as dead
}

// New returns Members that know nobody until they run.
func New(o Options) *Members {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Agents == nil {
		o.Agents = func() int { return 0 }
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	m := &Members{
		opts: o, lease: LeaseName(o.Name), holder: o.Name + "_" + strings.ToLower(rand.Text()[:10]),
		wake: make(chan struct{}, 1), peers: make(map[string]*peer),
		renewed: o.Metrics.NewCounter(`skerry_relay_member_renewals_total{result="ok"}`),
		failed:  o.Metrics.NewCounter(`skerry_relay_member_renewals_total{result="failed"}`),
	}
	o.Metrics.NewGauge("skerry_relay_members", func() float64 { return float64(len(m.Alive())) })
	return m
}

// LeaseName returns the name of a relay's Lease: skerry-relay-NAME, or, if NAME may not stand in a name of Kubernetes, what is
// left of it and a part of its hash.
func LeaseName(relay string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, relay)
	if clean != relay || len(relay) > 200 || strings.HasSuffix(relay, "-") {
		sum := sha256.Sum256([]byte(relay))
		clean = clean[:min(len(clean), 200)] + "-" + hex.EncodeToString(sum[:4])
	}
	return "skerry-relay-" + clean
}

// Run joins the others and follows them until ctx ends; then it takes its Lease away. It returns ctx's error. An API server
// that does not answer is waited for.
func (m *Members) Run(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { m.follow(ctx) })
	m.keep(ctx)
	m.leave(ctx)
	following.Wait()
	return ctx.Err()
}

// Drain says that this relay is about to end. It does not block.
func (m *Members) Drain() {
	m.mu.Lock()
	m.draining = true
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Synced says whether the others' Leases have been read. Before that no other is alive.
func (m *Members) Synced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.synced
}

// Alive returns the relays that live, by name: this one, and those whose Leases were seen to change lately.
func (m *Members) Alive() map[string]Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	out := make(map[string]Member, len(m.peers))
	for _, p := range m.peers {
		if !p.Self && !m.deadLocked(p, now) {
			out[p.Name] = p.Member
		}
	}
	out[m.opts.Name] = Member{Name: m.opts.Name, Address: m.opts.Address, Kubelet: m.opts.Kubelet, Agents: m.opts.Agents(), Draining: m.draining, Self: true}
	return out
}

// deadLocked says whether enough was seen to say that a relay has ended without saying so.
func (m *Members) deadLocked(p *peer, now time.Time) bool {
	return !p.Self && now.Sub(p.changed) > Duration && m.beats-p.beats >= beatsToJudge
}

// Elsewhere returns the addresses of at most 8 other relays that live and do not drain, those with the fewest agents first.
// Relays without an address of their own are left out: agents reach them by the addresses that they have.
func (m *Members) Elsewhere() []string {
	var others []Member
	for _, o := range m.Alive() {
		if !o.Self && !o.Draining && o.Address != "" && o.Address != m.opts.Address {
			others = append(others, o)
		}
	}
	slices.SortFunc(others, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Agents, b.Agents), cmp.Compare(a.Name, b.Name))
	})
	var out []string
	for _, o := range others {
		if len(out) < maxElsewhere && !slices.Contains(out, o.Address) {
			out = append(out, o.Address)
		}
	}
	return out
}

// validAddress says whether agents can be told an address.
func validAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && port != "" && len(s) <= maxAddress
}
