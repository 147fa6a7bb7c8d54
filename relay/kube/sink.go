package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"

	"github.com/skerry/skerry/firmware/wire"
)

// SinkOptions configures a Sink. Index, Client, Relay and Log are required; zero values of the others mean the defaults.
type SinkOptions struct {
	Index   *Index
	Client  dynamic.Interface // for status, nodes and events
	Leases  dynamic.Interface // for leases: limits of its own, so that a storm of status writes cannot expire a node; default Client
	Relay   string            // this relay's name, unique among the replicas
	Log     *slog.Logger
	Metrics *Metrics // nil: not measured

	Writers        int           // status writes under way at once; default 16
	DeviceInterval time.Duration // shortest time between two writes of one device's values; default 100 ms
	LeaseDuration  time.Duration // after this long without renewal the node counts as gone; default 40 s
	LeaseInterval  time.Duration // time between renewals; default 10 s
	MaxReports     int           // keys that one session may report on; default 4096
	MaxReportSize  int           // bytes of one report; default 1 MiB
	MaxReportBytes int           // bytes of the reports that are kept of one session; default 32 MiB

	// Fenced is called, from a goroutine of the sink, when a session turns out to be no longer its node's own. Its writes
	// have stopped; the hub should close it. May be nil.
	Fenced func(node string, epoch uint64)
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
	def(&o.MaxReports, 4096)
	def(&o.MaxReportSize, 1<<20)
	def(&o.MaxReportBytes, 32<<20)
	defDuration(&o.DeviceInterval, 100*time.Millisecond)
	defDuration(&o.LeaseDuration, 40*time.Second)
	defDuration(&o.LeaseInterval, 10*time.Second)
	if o.Leases == nil {
		o.Leases = o.Client
	}
}

// Sink writes what agents report to the Kubernetes API. It implements the hub's Sink.
//
// Report never blocks; Run writes in the background until its context ends. All methods may be called concurrently.
type Sink struct {
	opts     SinkOptions
	index    *Index
	log      *slog.Logger
	queue    workqueue.TypedRateLimitingInterface[item]
	renewals workqueue.TypedDelayingInterface[renewal]
	trouble  throttle

	mu       sync.Mutex
	sessions map[string]*session
	starting map[string]uint64          // newest epoch whose SessionStarted is under way, by node
	written  map[wire.Key]writtenDevice // what stands in the DeviceStatus of a device, as far as this relay knows
}

// item is one key to bring in line with its node's last report.
type item struct {
	node string
	key  wire.Key
}

// renewal is one session's lease to renew.
type renewal struct {
	node  string
	epoch uint64
}

// session is what the sink knows of one session of a node. Guarded by Sink.mu, except lease (owned by the renewal worker
// once SessionStarted has returned).
type session struct {
	epoch   uint64
	since   time.Time
	ended   bool // no more reports come; what is queued is still written
	fenced  bool // another session owns the node: nothing is written any more
	hasNode bool // the Node object has been seen or made in this session: if it is gone, somebody deleted it
	reports map[wire.Key]*report
	bytes   int // of the reports' bodies
	lease   leaseState
	quota
}

func (s *session) forget(key wire.Key) {
	if r := s.reports[key]; r != nil {
		s.bytes -= len(r.body)
		delete(s.reports, key)
	}
}

// report is the newest status document of one key.
type report struct {
	body    []byte
	serial  uint64 // counts the reports of this key
	pending bool   // queued or being written
	// settled is the hash of the API's status after our write, if it still differed from the report: the API server changed
	// what we wrote, and writing it again would change nothing.
	settled [16]byte
	// missing is since when the cache has been known not to hold the object; zero if it holds it.
	missing time.Time
}

// NewSink returns a sink that writes once Run is called.
func NewSink(opts SinkOptions) *Sink {
	opts.setDefaults()
	s := &Sink{
		opts:  opts,
		index: opts.Index,
		log:   opts.Log,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](50*time.Millisecond, 30*time.Second)),
		renewals: workqueue.NewTypedDelayingQueue[renewal](),
		trouble:  throttle{every: 30 * time.Second},
		sessions: make(map[string]*session),
		starting: make(map[string]uint64),
		written:  make(map[wire.Key]writtenDevice),
	}
	opts.Index.observe = s.changed
	opts.Metrics.gauge("skerry_relay_write_queue_depth", func() float64 { return float64(s.queue.Len()) })
	opts.Metrics.gauge("skerry_relay_write_sessions", func() float64 { return float64(len(s.Sessions())) })
	return s
}

// Run writes until ctx ends, then finishes the writes under way (they end with ctx) and returns nil.
func (s *Sink) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range s.opts.Writers {
		wg.Go(func() { s.writer(ctx) })
	}
	for range leaseWorkers {
		wg.Go(func() { s.renewer(ctx) })
	}
	<-ctx.Done()
	s.queue.ShutDown()
	s.renewals.ShutDown()
	wg.Wait()
	return nil
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
	out := make([]SessionInfo, 0, len(s.sessions))
	for node, sess := range s.sessions {
		if sess.ended || sess.fenced {
			continue
		}
		info := SessionInfo{Node: node, Epoch: sess.epoch, Since: sess.since, Reports: len(sess.reports)}
		for _, r := range sess.reports {
			if r.pending {
				info.Pending++
			}
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b SessionInfo) int { return compareStrings(a.Node, b.Node) })
	return out
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Report takes the newest status document of key from the node's session. It does not block and keeps body, which the
// caller must not change afterwards. What the node may not report on is refused, counted and logged.
func (s *Sink) Report(node string, epoch uint64, key wire.Key, body []byte) {
	if why := s.refuse(node, key, body); why != "" {
		s.refused(node, key, why)
		return
	}
	if why := s.keep(node, epoch, key, body); why != "" {
		s.refused(node, key, why)
	}
}

// keep takes the report into its session and queues it, or says why not.
func (s *Sink) keep(node string, epoch uint64, key wire.Key, body []byte) (why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[node]
	if sess == nil || sess.epoch != epoch || sess.ended || sess.fenced {
		s.opts.Metrics.reports("stale")
		return ""
	}
	r := sess.reports[key]
	if r == nil {
		if len(sess.reports) >= s.opts.MaxReports {
			return fmt.Sprintf("the session already reports on %d objects, the limit", s.opts.MaxReports)
		}
		r = &report{}
	}
	bytes := sess.bytes - len(r.body) + len(body)
	if bytes > s.opts.MaxReportBytes {
		return fmt.Sprintf("with it, the session's reports would have %d bytes, the limit is %d", bytes, s.opts.MaxReportBytes)
	}
	sess.bytes, sess.reports[key] = bytes, r
	r.body = body
	r.serial++
	r.pending = true
	r.settled = [16]byte{}
	s.opts.Metrics.reports("accepted")
	s.queue.Add(item{node, key})
	return ""
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

// changed hears from the index of every change of a pod, node or device. A report that is kept is compared again.
func (s *Sink) changed(key wire.Key, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.index.get(key) == nil
	if gone && key.Kind() == wire.KindDevice {
		delete(s.written, key)
	}
	sess := s.sessions[node]
	if sess == nil || sess.fenced {
		return
	}
	if gone && key.Kind() == wire.KindPod { // never comes back: another pod of that name has another UID
		sess.forget(key)
		return
	}
	if r := sess.reports[key]; r != nil {
		r.pending = true
		s.queue.Add(item{node, key})
	}
}

func (s *Sink) writer(ctx context.Context) {
	for {
		it, shutdown := s.queue.Get()
		if shutdown {
			return
		}
		s.process(ctx, it)
		s.queue.Done(it)
	}
}

// work is a report taken out of its session for one attempt to write it.
type work struct {
	item
	epoch   uint64
	body    []byte
	serial  uint64
	settled [16]byte
	hasNode bool
}

func (s *Sink) process(ctx context.Context, it item) {
	s.mu.Lock()
	sess := s.sessions[it.node]
	var w work
	if sess != nil && !sess.fenced {
		if r := sess.reports[it.key]; r != nil {
			w = work{item: it, epoch: sess.epoch, body: r.body, serial: r.serial, settled: r.settled, hasNode: sess.hasNode}
		}
	}
	s.mu.Unlock()
	if w.body == nil || ctx.Err() != nil {
		s.queue.Forget(it)
		return
	}
	result, err := s.write(ctx, &w)
	var wait waitError
	switch {
	case err == nil:
		s.queue.Forget(it)
	case errors.As(err, &wait):
		s.queue.AddAfter(it, wait.for_)
		return
	case errors.Is(err, errFenced):
		s.queue.Forget(it)
		s.fence(it.node, w.epoch)
		return
	case permanent(err):
		s.queue.Forget(it)
		s.opts.Metrics.failure(string(it.key.Kind()))
		s.complain(it.node, slog.LevelError, "the API server refuses what the agent reports; dropped until it reports something else",
			slog.String("key", string(it.key)), slog.Any("error", err))
		result = dropReport
	case ctx.Err() != nil:
		return
	default:
		s.opts.Metrics.failure(string(it.key.Kind()))
		if s.trouble.allow() {
			s.log.Warn("cannot write to the API server; the newest report of each object is kept and retried",
				slog.String("node", it.node), slog.String("key", string(it.key)), slog.Int("queued", s.queue.Len()), slog.Any("error", err))
		}
		s.queue.AddRateLimited(it)
		return
	}
	s.finish(&w, result)
}

// objectPatience is how long a report waits for an object that the cache does not hold: another relay, whose cache was
// ahead, may have told the agent of it.
const objectPatience = time.Minute

// outcome says what becomes of a report after an attempt.
type outcome int

const (
	keepReport  outcome = iota // keep it, compare again when the object changes
	dropReport                 // it cannot be written, or its object is gone
	awaitObject                // its object is not known (yet)
)

func (s *Sink) finish(w *work, result outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[w.node]
	if sess == nil || sess.epoch != w.epoch {
		return
	}
	if w.hasNode {
		sess.hasNode = true
	}
	r := sess.reports[w.key]
	if r == nil || r.serial != w.serial {
		return // a newer one came meanwhile, and is queued
	}
	r.pending = false
	r.settled = w.settled
	switch {
	case result == dropReport, result == awaitObject && !r.missing.IsZero() && time.Since(r.missing) >= objectPatience:
		sess.forget(w.key)
	case result == awaitObject:
		if r.missing.IsZero() {
			r.missing = time.Now()
		}
		s.queue.AddAfter(w.item, objectPatience)
	default:
		r.missing = time.Time{}
	}
	if sess.ended {
		s.sweepLocked(w.node, sess)
	}
}

// sweepLocked forgets an ended session once everything that it reported is written.
func (s *Sink) sweepLocked(node string, sess *session) {
	for key, r := range sess.reports {
		if !r.pending {
			sess.forget(key)
		}
	}
	if len(sess.reports) == 0 && s.sessions[node] == sess {
		delete(s.sessions, node)
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
