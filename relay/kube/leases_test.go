package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
)

// countedLeases notes when which request about Leases was made.
type countedLeases struct {
	LeaseAPI
	made []madeRequest
	mu   chan struct{}
}

type madeRequest struct {
	verb, name string
	at         time.Time
}

func newCountedLeases(api *fakeAPI) *countedLeases {
	return &countedLeases{LeaseAPI: DynamicLeases(api), mu: make(chan struct{}, 1)}
}

func (c *countedLeases) note(verb, name string) {
	c.mu <- struct{}{}
	c.made = append(c.made, madeRequest{verb, name, time.Now()})
	<-c.mu
}

func (c *countedLeases) Get(ctx context.Context, name string, o metav1.GetOptions) (*coordinationv1.Lease, error) {
	c.note("get", name)
	return c.LeaseAPI.Get(ctx, name, o)
}

func (c *countedLeases) List(ctx context.Context, o metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	c.note("list", "")
	return c.LeaseAPI.List(ctx, o)
}

func (c *countedLeases) Create(ctx context.Context, l *coordinationv1.Lease, o metav1.CreateOptions) (*coordinationv1.Lease, error) {
	c.note("create", l.Name)
	return c.LeaseAPI.Create(ctx, l, o)
}

func (c *countedLeases) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	c.note("update", l.Name)
	return c.LeaseAPI.Update(ctx, l, o)
}

// memoryLeases is an API server for Leases only, without encodings: for tests with very many.
type memoryLeases struct {
	mu     sync.Mutex
	rv     int
	leases map[string]*coordinationv1.Lease
}

func (m *memoryLeases) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.leases[name]; l != nil {
		return l.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(leasesGVR.GroupResource(), name)
}

func (m *memoryLeases) List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return &coordinationv1.LeaseList{}, nil
}

func (m *memoryLeases) Create(_ context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases[l.Name] != nil {
		return nil, apierrors.NewAlreadyExists(leasesGVR.GroupResource(), l.Name)
	}
	return m.store(l), nil
}

func (m *memoryLeases) Update(_ context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have := m.leases[l.Name]; have == nil || have.ResourceVersion != l.ResourceVersion {
		return nil, apierrors.NewConflict(leasesGVR.GroupResource(), l.Name, errAway)
	}
	return m.store(l), nil
}

func (m *memoryLeases) store(l *coordinationv1.Lease) *coordinationv1.Lease {
	m.rv++
	l = l.DeepCopy()
	l.ResourceVersion = strconv.Itoa(m.rv)
	m.leases[l.Name] = l
	return l.DeepCopy()
}

func newMemoryLeases() *memoryLeases {
	return &memoryLeases{leases: make(map[string]*coordinationv1.Lease)}
}

// taken returns the number of requests by verb since the last call, and the most in one second.
func (c *countedLeases) taken() (verbs map[string]int, peak int) {
	c.mu <- struct{}{}
	defer func() { <-c.mu }()
	verbs = make(map[string]int)
	seconds := make(map[int64]int)
	for _, m := range c.made {
		verbs[m.verb]++
		seconds[m.at.Unix()]++
		peak = max(peak, seconds[m.at.Unix()])
	}
	c.made = nil
	return verbs, peak
}

// relayOn starts another relay on the bench's API; it ends with the test's function.
func (b *bench) relayOn(name string, more func(*SinkOptions)) (s *Sink, leases *countedLeases, stop func()) {
	b.t.Helper()
	leases = newCountedLeases(b.api)
	opts := SinkOptions{
		Index: NewIndex(b.index.opts), Client: b.api, Leases: leases, Relay: name, Log: slog.New(slog.DiscardHandler),
		Metrics: b.sink.opts.Metrics, LeaseInterval: 20 * time.Second,
	}
	if more != nil {
		more(&opts)
	}
	s = NewSink(opts)
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{}, 2)
	go func() { _ = opts.Index.Run(ctx); done <- struct{}{} }()
	synctest.Wait()
	go func() { _ = s.Run(ctx); done <- struct{}{} }()
	synctest.Wait()
	return s, leases, func() { cancel(); <-done; <-done }
}

func (b *bench) leaseOf(node string) (relay, epoch, renewed string) {
	l := b.api.get(leasesGVR, NodeLeaseNamespace+"/"+node)
	a := child(child(l, "metadata"), "annotations")
	return text(a, relayAnnotation), text(a, epochAnnotation), text(child(l, "spec"), "renewTime")
}

// TestReconnectStormAsksForNoLease: ten thousand agents come back to the relay that they left. Their claims are in memory; the
// only requests are the renewals that would have come anyway, one for each node and interval, evenly spread, none of them a read.
func TestReconnectStormAsksForNoLease(t *testing.T) {
	const nodes, interval = 10_000, 20
	withBench(t, func(b *bench) {
		store := newMemoryLeases()
		leases := &countedLeases{LeaseAPI: store, mu: make(chan struct{}, 1)}
		s, _, stop := b.relayOn("relay-s", func(o *SinkOptions) { o.Leases = leases })
		defer stop()
		for i := range nodes {
			if err := s.SessionStarted(b.t.Context(), nodeOf(i), 1); err != nil {
				t.Fatal(err)
			}
		}
		if verbs, _ := leases.taken(); verbs["create"] != nodes || verbs["list"] != 1 || len(verbs) != 2 {
			t.Errorf("the first sessions cost %v", verbs)
		}
		for i := range nodes { // otherwise nothing is kept of a node that nobody registered
			b.indexNode(s.index, nodeOf(i))
		}
		time.Sleep(time.Minute)
		leases.taken()
		for i := range nodes {
			s.SessionEnded(nodeOf(i), 1)
		}
		time.Sleep(2 * time.Second)
		leases.taken()
		for i := range nodes {
			if err := s.SessionStarted(b.t.Context(), nodeOf(i), 2); err != nil {
				t.Fatal(err)
			}
		}
		if verbs, _ := leases.taken(); len(verbs) != 0 {
			t.Errorf("%d reconnects cost %v", nodes, verbs)
		}
		time.Sleep(interval * time.Second)
		verbs, peak := leases.taken()
		if len(verbs) != 1 || verbs["update"] < nodes*99/100 || verbs["update"] > nodes*101/100 {
			t.Errorf("an interval after the storm cost %v, want %d updates", verbs, nodes)
		}
		if peak > nodes/interval*5/4 {
			t.Errorf("%d requests in one second; evenly spread they are %d", peak, nodes/interval)
		}
		if l, err := store.Get(b.t.Context(), "gw-77", metav1.GetOptions{}); err != nil || l.Annotations[epochAnnotation] != "2" {
			t.Errorf("the renewal recorded %v, %v", l, err)
		}
	})
}

// TestRenewalsGiveWay: while many agents wait to be told something, renewals pause for a moment; a relay that is busy for ever
// renews every Lease in its interval all the same.
func TestRenewalsGiveWay(t *testing.T) {
	const nodes, interval = 1000, 20
	withBench(t, func(b *bench) {
		var busy atomic.Bool
		leases := &countedLeases{LeaseAPI: newMemoryLeases(), mu: make(chan struct{}, 1)}
		s, _, stop := b.relayOn("relay-s", func(o *SinkOptions) { o.Leases, o.Busy = leases, busy.Load })
		defer stop()
		for i := range nodes {
			if err := s.SessionStarted(b.t.Context(), nodeOf(i), 1); err != nil {
				t.Fatal(err)
			}
			b.indexNode(s.index, nodeOf(i))
		}
		time.Sleep(time.Minute)
		leases.taken()
		busy.Store(true)
		time.Sleep(200 * time.Millisecond) // the round under way ends
		leases.taken()
		time.Sleep(time.Second)
		if verbs, _ := leases.taken(); len(verbs) != 0 {
			t.Errorf("%v while many agents wait", verbs)
		}
		busy.Store(false)
		time.Sleep(time.Second)
		if verbs, _ := leases.taken(); verbs["update"] < nodes/interval*3/2 {
			t.Errorf("%d renewals in the second after, want what was put off as well", verbs["update"])
		}
		busy.Store(true)
		leases.taken()
		time.Sleep(3 * interval * time.Second)
		if verbs, _ := leases.taken(); verbs["update"] < 3*nodes*9/10 {
			t.Errorf("a relay that is always busy renewed %d times in three intervals, want %d", verbs["update"], 3*nodes)
		}
	})
}

// TestLeasesHaveNoManagedFields: see putLease.
func TestLeasesHaveNoManagedFields(t *testing.T) {
	withBench(t, func(b *bench) {
		store := newMemoryLeases()
		seen := &fieldsOfLeases{LeaseAPI: store}
		s, _, stop := b.relayOn("relay-s", func(o *SinkOptions) { o.Leases = seen })
		defer stop()
		b.indexNode(s.index, "gw-1")
		if err := s.SessionStarted(b.t.Context(), "gw-1", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if seen.updates.Load() == 0 || seen.kept.Load() != 0 {
			t.Errorf("%d of %d updates keep the Lease's managedFields", seen.kept.Load(), seen.updates.Load())
		}
	})
}

type fieldsOfLeases struct {
	LeaseAPI
	updates, kept atomic.Int64
}

func (f *fieldsOfLeases) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	f.updates.Add(1)
	if m := l.ManagedFields; len(m) != 1 || m[0].Manager != "" || m[0].FieldsV1 != nil {
		f.kept.Add(1)
	}
	return f.LeaseAPI.Update(ctx, l, o)
}

func (b *bench) indexNode(x *Index, name string) {
	u := decode(b.t, resources[0], fmt.Sprintf(`{"metadata":{"name":%q,"uid":"uid-%s","resourceVersion":"5"}}`, name, name))
	r, err := newRecord(resources[0], u)
	if err != nil {
		b.t.Fatal(err)
	}
	x.put(wire.KindNode, r)
}

// TestClaimsOfTwoRelays: the last claim by request stands, whatever the clocks of the relays say, and each takes a greater number
// than it finds.
func TestClaimsOfTwoRelays(t *testing.T) {
	withBench(t, func(b *bench) {
		var (
			mu    sync.Mutex
			ended []string
		)
		fenced := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(ended)
		}
		start := func(name string) (*Sink, *countedLeases, func()) {
			return b.relayOn(name, func(o *SinkOptions) {
				o.Fenced = func(node string, epoch uint64) {
					mu.Lock()
					defer mu.Unlock()
					ended = append(ended, fmt.Sprint(name, node, epoch))
				}
			})
		}
		a, _, stopA := start("ahead")
		defer stopA()
		z, asked, stopZ := start("behind")
		defer stopZ()
		for _, x := range []*Index{a.index, z.index} {
			b.indexNode(x, "gw-1")
		}
		claim := func(s *Sink, epoch uint64) {
			t.Helper()
			if err := s.SessionStarted(b.t.Context(), "gw-1", epoch); err != nil {
				t.Fatal(err)
			}
		}
		claim(a, 1_000_000)
		claim(z, 500) // its clock is far behind: the agent is there nevertheless
		if relay, epoch, _ := b.leaseOf("gw-1"); relay != "behind" || epoch != "1000001" {
			t.Fatalf("the Lease records %s %s", relay, epoch)
		}
		if verbs, _ := asked.taken(); verbs["create"]+verbs["get"]+verbs["update"] > 4 {
			t.Errorf("a move cost %v", verbs)
		}
		time.Sleep(25 * time.Second)
		if !slices.Equal(fenced(), []string{"aheadgw-11000000"}) {
			t.Fatalf("fenced: %q", fenced())
		}
		// It comes back to the first relay and goes to the second, which does not know yet that it has lost the node: its claim in
		// memory is based on a record that has been overwritten, and loses.
		claim(a, 1_000_001)
		claim(z, 501)
		time.Sleep(25 * time.Second)
		if relay, epoch, _ := b.leaseOf("gw-1"); relay != "ahead" || epoch != "1000002" || !slices.Contains(fenced(), "behindgw-1501") {
			t.Errorf("the Lease records %s %s, fenced %q", relay, epoch, fenced())
		}
		claim(z, 502) // its agent comes back, and now it cannot lose
		if relay, epoch, _ := b.leaseOf("gw-1"); relay != "behind" || epoch != "1000003" {
			t.Errorf("the Lease records %s %s", relay, epoch)
		}
		claim(a, 2_000_000) // back at once: a claim in memory with the greater number wins when it is recorded
		time.Sleep(25 * time.Second)
		if relay, epoch, _ := b.leaseOf("gw-1"); relay != "ahead" || epoch != "2000000" {
			t.Errorf("the Lease records %s %s", relay, epoch)
		}
		if !slices.Contains(fenced(), "behindgw-1502") {
			t.Errorf("fenced %q: the overtaken session goes on", fenced())
		}
		living := 0
		for _, s := range []*Sink{a, z} {
			living += len(s.Sessions())
		}
		if living != 1 {
			t.Errorf("%d sessions of one node may write", living)
		}
	})
}

// TestStartKeepsLeasesFresh: a relay that is started anew renews what its agents and those of dead relays had, for 90 seconds,
// evenly, and without taking anything over.
func TestStartKeepsLeasesFresh(t *testing.T) {
	const nodes = 600
	withBench(t, func(b *bench) {
		for name, of := range map[string]string{"mine": "relay-s", "dead": "relay-d", "other": "relay-o"} {
			old, _, stop := b.relayOn(of, nil)
			for i := range nodes {
				if err := old.SessionStarted(b.t.Context(), fmt.Sprintf("%s-%d", name, i), 7); err != nil {
					t.Fatal(err)
				}
			}
			stop()
		}
		time.Sleep(30 * time.Second) // ten seconds are left of each
		_, _, before := b.leaseOf("other-0")
		s, leases, stop := b.relayOn("relay-s", func(o *SinkOptions) {
			o.Alive = func() map[string]bool { return map[string]bool{"relay-s": true, "relay-o": true} }
		})
		defer stop()
		time.Sleep(9 * time.Second)
		verbs, peak := leases.taken()
		if verbs["list"] != 1 || verbs["update"] < 2*nodes || len(verbs) != 2 {
			t.Errorf("after 9 s it has made %v, want each of %d Leases renewed before it expired", verbs, 2*nodes)
		}
		if peak > 2*nodes/3 {
			t.Errorf("%d requests in one second", peak)
		}
		for i := range nodes / 2 { // half of them come back
			b.indexNode(s.index, fmt.Sprintf("mine-%d", i))
			if err := s.SessionStarted(b.t.Context(), fmt.Sprintf("mine-%d", i), 8); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(60 * time.Second)
		if verbs, _ := leases.taken(); verbs["update"] > 2*nodes*4 || len(verbs) != 1 {
			t.Errorf("a minute cost %v", verbs)
		}
		if relay, epoch, renewed := b.leaseOf("dead-1"); relay != "relay-d" || epoch != "7" || time.Since(stamp(t, renewed)) > 21*time.Second {
			t.Errorf("a Lease of the dead relay records %s %s, renewed %s", relay, epoch, renewed)
		}
		if _, _, now := b.leaseOf("other-0"); now != before {
			t.Error("a living relay's Lease was touched")
		}
		time.Sleep(40 * time.Second) // past 90 s
		leases.taken()
		time.Sleep(60 * time.Second)
		if verbs, _ := leases.taken(); verbs["update"] != nodes/2*3 {
			t.Errorf("after 90 s a minute cost %v, want 3 renewals of the %d sessions only", verbs, nodes/2)
		}
	})
}

func stamp(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestTooSmallBudgetIsSaid: once, with the setting and what it should be.
func TestTooSmallBudgetIsSaid(t *testing.T) {
	withBench(t, func(b *bench) {
		var log strings.Builder
		s, _, stop := b.relayOn("relay-s", func(o *SinkOptions) {
			o.QPS, o.Log = 4, slog.New(slog.NewTextHandler(&log, nil))
		})
		defer stop()
		for i := range 100 {
			if err := s.SessionStarted(b.t.Context(), nodeOf(i), 1); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "81 nodes / 20s = 4 requests a second, api.qps allows 4: raise api.qps to 6") {
			t.Errorf("%d warnings: %s", n, log.String())
		}
	})
}
