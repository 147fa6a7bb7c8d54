package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// SinkOptions configures a Sink. Index, Client, Relay and Log are required; zero values of the others mean the defaults.
type SinkOptions struct {
	Index    *Index
	Client   dynamic.Interface  // for status, nodes and events
	Leases   LeaseAPI           // limits of its own, so that a storm of status writes cannot expire a node; default: Client
	Statuses metadata.Interface // to watch the metadata of DeviceStatus objects; nil: each is read before its first write
	Relay    string             // this relay's name, unique among the replicas
	Log      *slog.Logger
	Metrics  *Metrics // nil: not measured

	QPS            float64       // requests a second for status writes, and as many for Leases; 0: not limited here
	Burst          int           // status writes at once; default QPS
	NodeQPS        float64       // status writes a second that one node may cause while others leave room; default 150, at least 20
	Writers        int           // status writes under way at once; default 16
	DeviceInterval time.Duration // shortest time between two writes of one device's values; default 100 ms
	LeaseDuration  time.Duration // after this long without renewal the node counts as gone; default 40 s
	LeaseInterval  time.Duration // time between renewals; default 10 s
	MaxReports     int           // keys that one session may report on; default 4096
	MaxReportSize  int           // bytes of one report; default 1 MiB
	MaxReportBytes int           // bytes of the reports of one session that wait to be written; default 32 MiB

	// Fenced is called, from a goroutine of the sink, when a session turns out to be no longer its node's own. Its writes
	// have stopped; the hub should close it. May be nil.
	Fenced func(node string, epoch uint64)
	// Want is called, from a goroutine of the sink, when the session's agent is to report on keys again, because somebody else
	// changed what was written: the sink keeps hashes of what it has written, not bodies. May be nil.
	Want func(node string, epoch uint64, keys []wire.Key)
	// Alive returns the names of the living relays, nil while they are not known. A starting relay keeps the Leases of others'
	// nodes fresh for a while if the relay that they record is not among them. Without it: only of nodes that were its own.
	Alive func() map[string]bool
	// Kubelet is where nodes say that their kubelet API is; nil: they say nothing of it, and their addresses are the gateways' own.
	Kubelet *KubeletEndpoint
	// Busy reports whether many agents wait to be told something: renewals of Leases then give way for a moment (see giveWay).
	// May be nil.
	Busy func() bool
}

func (o *SinkOptions) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	defDuration := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.Writers, 16)
	def(&o.Burst, int(o.QPS)+1)
	if o.NodeQPS <= 0 {
		o.NodeQPS = 150
	}
	o.NodeQPS = max(o.NodeQPS, nodeShare)
	def(&o.MaxReports, 4096)
	def(&o.MaxReportSize, 1<<20)
	def(&o.MaxReportBytes, 32<<20)
	defDuration(&o.DeviceInterval, 100*time.Millisecond)
	defDuration(&o.LeaseDuration, 40*time.Second)
	defDuration(&o.LeaseInterval, 10*time.Second)
	if o.Leases == nil {
		o.Leases = DynamicLeases(o.Client)
	}
}

// Sink writes what agents report to the Kubernetes API. It implements the hub's Sink.
//
// Report, OfferedAll and Offered never block; Run writes in the background until its context ends. All methods may be called
// concurrently.
type Sink struct {
	opts    SinkOptions
	index   *Index
	log     *slog.Logger
	trouble throttle
	budget  *rate.Limiter // of all status writes; nil: not limited
	driver  driver        // set instead of goroutines by NewDrivenSink
	pause   func()        // lets a driver's other work go on

	running   atomic.Bool
	listed    atomic.Bool   // all Leases have been read
	first     chan struct{} // closed after the first attempt to do so
	firstOnce sync.Once
	turn      chan struct{} // wakes who turns the wheel

	mu      sync.Mutex
	more    *sync.Cond // there may be something to pick
	nodes   map[string]*nodeState
	waiting int    // reports that are not written yet
	serial  uint64 // of the newest report
	scheduler
	wheel    wheel
	statuses statuses
	departed departed
}

// item names one report.
type item struct {
	node string
	key  wire.Key
}

// NewSink returns a sink that writes once Run is called.
func NewSink(opts SinkOptions) *Sink {
	opts.setDefaults()
	s := &Sink{
		opts:     opts,
		index:    opts.Index,
		log:      opts.Log,
		trouble:  throttle{every: 30 * time.Second},
		nodes:    make(map[string]*nodeState),
		first:    make(chan struct{}),
		turn:     make(chan struct{}, 1),
		wheel:    newWheel(opts.LeaseInterval, max(opts.LeaseInterval/wheelSlots, 20*time.Millisecond)),
		statuses: newStatuses(opts.Statuses != nil),
	}
	s.more = sync.NewCond(&s.mu)
	if opts.QPS > 0 {
		s.budget = rate.NewLimiter(rate.Limit(opts.QPS), opts.Burst)
	}
	opts.Index.observe, opts.Index.observeRestore = s.changed, s.restored
	gauge := func(name string, f func() float64) {
		opts.Metrics.gauge(name, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return f()
		})
	}
	gauge("skerry_relay_write_queue_depth", func() float64 { return float64(s.waiting) })
	gauge("skerry_relay_write_sessions", func() float64 { return float64(s.living()) })
	gauge("skerry_relay_leases_renewed", func() float64 { return float64(s.wheel.count) })
	return s
}

// Run writes until ctx ends, then finishes the writes under way (they end with ctx) and returns nil.
func (s *Sink) Run(ctx context.Context) error {
	s.running.Store(true)
	var wg sync.WaitGroup
	for range s.opts.Writers {
		wg.Go(func() { s.writer(ctx) })
	}
	renewals := make(chan *nodeState)
	for range leaseWorkers {
		wg.Go(func() { s.renewer(ctx, renewals) })
	}
	wg.Go(func() { s.turnWheel(ctx, renewals) })
	wg.Go(func() {
		for again := s.readLeases(ctx); again > 0 && ctx.Err() == nil; again = s.readLeases(ctx) {
			pause(ctx, again)
		}
		s.adoptOthers(ctx)
	})
	if s.opts.Statuses != nil {
		wg.Go(func() { s.watchStatuses(ctx) })
	}
	<-ctx.Done()
	s.stop()
	wg.Wait()
	return nil
}

// Flush waits until nothing that was taken and can be written waits, sessions that have ended included, or ctx ends, whose error
// it then returns. It is for the end, before Run's context ends.
func (s *Sink) Flush(ctx context.Context) error {
	for s.writable() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// writable reports whether anything waits that can be written: not what waits for its object to appear.
func (s *Sink) writable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == 0 {
		return false
	}
	for _, n := range s.nodes {
		for i := range n.entries {
			if p := n.entries[i].work; p != nil && !p.awaiting {
				return true
			}
		}
	}
	return false
}

// SessionInfo describes a living session.
type SessionInfo struct {
	Node    string    `json:"node"`
	Epoch   uint64    `json:"epoch"`
	Since   time.Time `json:"since"`
	Reports int       `json:"reports"` // keys reported on
	Pending int       `json:"pending"` // of those, not yet written
}

// Sessions returns the living sessions, ordered by node.
func (s *Sink) Sessions() []SessionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SessionInfo, 0, len(s.nodes))
	for _, name := range sortedNames(s.nodes) {
		if n := s.nodes[name]; n.session != nil && !n.session.ended {
			out = append(out, SessionInfo{
				Node: name, Epoch: n.session.epoch, Since: time.Unix(0, n.session.since), Reports: len(n.entries), Pending: n.pendingReports(),
			})
		}
	}
	return out
}

func (s *Sink) living() (count int) {
	for _, n := range s.nodes {
		if n.session != nil && !n.session.ended {
			count++
		}
	}
	return count
}

func sortedNames(nodes map[string]*nodeState) []string {
	names := make([]string, 0, len(nodes))
	for name := range nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Report takes the newest status document of key from the node's session. It does not block and keeps body until it is written;
// the caller must not change it afterwards. What the node may not report on is refused, counted and logged.
func (s *Sink) Report(node string, epoch uint64, key wire.Key, body []byte) {
	why := s.refuse(node, key, body)
	if why == "" {
		why = s.keep(node, epoch, key, body)
	}
	if why != "" {
		s.refused(node, key, why)
	}
}

// keep takes the report into its session and queues it, or says why not.
func (s *Sink) keep(node string, epoch uint64, key wire.Key, body []byte) (why string) {
	hash := canon.Hash(body)
	rec := s.index.get(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node]
	if !n.live(epoch) {
		s.opts.Metrics.reports("stale")
		return ""
	}
	e := n.entry(key)
	switch {
	case e != nil && e.work == nil && e.hash == hash:
		e.asked = false
		s.opts.Metrics.reports("accepted")
		s.opts.Metrics.unchanged(string(key.Kind()))
		return ""
	case e == nil && len(n.entries) >= s.opts.MaxReports:
		return fmt.Sprintf("the session already reports on %d objects, the limit", s.opts.MaxReports)
	}
	before := 0
	if e != nil && e.work != nil {
		before = len(e.work.body)
	}
	if bytes := n.session.bytes - before + len(body); bytes > s.opts.MaxReportBytes {
		return fmt.Sprintf("with it, the session's reports that wait would have %d bytes, the limit is %d", bytes, s.opts.MaxReportBytes)
	}
	if rec != nil {
		key = rec.key // one copy of the string
	}
	if e == nil {
		e = n.add(key)
	}
	// What the cache held before the Lease was last written is older than any session that could follow this one. A report may
	// come late, after one of those has written.
	if e.base == 0 && rec != nil && rec.revision <= n.seen[kindIndex(key.Kind())] {
		e.base = rec.revision
	}
	s.take(n, e, body, hash)
	s.opts.Metrics.reports("accepted")
	return ""
}

// take gives the entry something to write. What was to be written before is overtaken by it; a failure that is being waited out
// is not.
func (s *Sink) take(n *nodeState, e *entry, body []byte, hash [16]byte) {
	s.serial++
	next := &pending{body: body, hash: hash, serial: s.serial, since: s.serial}
	if old := e.work; old != nil {
		next.attempts, next.looked, next.since = old.attempts, old.looked, old.since
		if old.attempts > 0 {
			next.notBefore = old.notBefore
		}
	}
	s.drop(n, e)
	e.work = next
	e.hash, e.ask, e.asked = [16]byte{}, false, false
	delete(n.settled, e.key)
	n.session.bytes += len(body)
	s.waiting++
	s.enlist(n)
}

func (s *Sink) refused(node string, key wire.Key, why string) {
	s.opts.Metrics.reports("refused")
	s.complain(node, slog.LevelWarn, "report refused", slog.String("key", string(key)), slog.String("why", why))
}

// refuse says why node may not report on key with what is known now, or "". An object that the cache does not hold yet is
// not refused: it is compared when it appears, if it is then the node's.
func (s *Sink) refuse(node string, key wire.Key, body []byte) string {
	if len(body) > s.opts.MaxReportSize {
		return fmt.Sprintf("the report has %d bytes, the limit is %d", len(body), s.opts.MaxReportSize)
	}
	switch key.Kind() {
	case wire.KindNode:
		if key.Name() != node {
			return "a node may report on itself only"
		}
	case wire.KindPod, wire.KindDevice:
		if r := s.index.get(key); r != nil && r.node != node {
			return fmt.Sprintf("it belongs to node %q", r.node)
		}
	default:
		return "agents do not report on " + string(key.Kind())
	}
	return ""
}

// changed hears from the index of every change of a pod, node or device; now is nil if it is gone. told says that the change is
// one that reports are compared with. What is not written yet is compared with the new state; what was written, and changed by
// somebody else, the agent is asked for again.
func (s *Sink) changed(key wire.Key, now *record, node string, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now == nil && key.Kind() == wire.KindPod {
		s.departed.add(key, node)
	}
	n := s.nodes[node]
	e := n.entry(key)
	switch {
	case n == nil:
		return
	case now == nil && key.Kind() == wire.KindNode:
		if e != nil && e.work == nil {
			e.hash = [16]byte{}
		}
		s.release(n)
		return
	case e == nil:
		return
	case now == nil && key.Kind() == wire.KindPod: // never comes back: another pod of that name has another UID
		s.forget(n, key)
		return
	case now == nil:
		if e.work == nil {
			e.hash = [16]byte{}
		}
		return
	case e.work != nil:
		s.changedMeanwhile(n, e, now, told)
		return
	case now.revision <= e.base:
		return // our own doing
	case !told && e.hash != [16]byte{}:
		e.base = now.revision
		return
	}
	s.askFor(n, e)
}

// restored hears that the cluster was put back to an older state: what was written may be undone, and revisions that are
// remembered say nothing any more. Agents are asked for everything of the kind again.
func (s *Sink) restored(kind wire.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range sortedNames(s.nodes) {
		n := s.nodes[name]
		n.seen = [3]uint64{}
		if n.session != nil && !n.session.ended {
			n.session.hasNode = false                         // if the Node is missing, nobody deleted it: it is made again
			for _, key := range s.index.rootsOf(name, kind) { // what was written and done with may be back, too
				n.add(key)
			}
		}
		for i := range n.entries {
			if e := &n.entries[i]; e.key.Kind() == kind {
				s.undone(n, e)
			}
		}
	}
}

// undone forgets what is known of an object after a restore.
func (s *Sink) undone(n *nodeState, e *entry) {
	e.base, e.doubt = 0, 0
	delete(n.settled, e.key)
	switch {
	case e.work == nil:
		e.asked = false
		s.askFor(n, e)
	case e.busy:
		e.work.seen = 1<<64 - 1 // whatever comes of it, it is written again
	default:
		e.work.stated = 0 // the half of it that was written may be undone
	}
}

// changedMeanwhile deals with a change of an object whose report is not written yet.
func (s *Sink) changedMeanwhile(n *nodeState, e *entry, now *record, told bool) {
	if told {
		e.doubt = max(e.doubt, now.revision)
	}
	switch {
	case e.busy && told:
		e.work.seen = max(e.work.seen, now.revision)
	case told && now.revision > e.base: // its first step was compared with what stood there before
		e.work.low, e.work.stated = false, 0
	case !e.busy && !told && e.base != 0 && e.doubt <= e.base:
		e.base = max(e.base, now.revision)
	}
	if e.work.awaiting {
		e.work.awaiting, e.work.notBefore = false, time.Time{}
	}
	s.enlist(n)
}

// askFor has the agent report on e again.
func (s *Sink) askFor(n *nodeState, e *entry) {
	e.hash = [16]byte{}
	if !e.asked && n.session != nil && !n.session.ended {
		e.ask = true
		s.enlist(n)
	}
}

// throttle lets a message through at most every so often.
type throttle struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time
}

func (t *throttle) allow() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if !t.last.IsZero() && now.Sub(t.last) < t.every {
		return false
	}
	t.last = now
	return true
}
