//go:build integration

package fleet

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/packets"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// agents is the size of the fleet in these tests: small enough for a laptop, and the counters do not depend on it.
const agents = 60

// rig is a control plane, a relay and a fleet in sync, each agent with a pod and a device.
type rig struct {
	t       *testing.T
	cluster *Cluster
	relay   *Relay
	fleet   *Fleet
	names   []string
	work    Workload
	version int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin := stacktest.Bin()
	s := stacktest.Start(t, stack.Options{NoPods: true})
	var err error
	r := &rig{t: t, names: Names("gw", agents), work: Workload{Groups: 4, Bytes: 1024, Pods: true, Devices: true}}
	if r.cluster, err = Connect(t.Context(), s.Kube.REST(), 1000); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := s.RelayKubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.relay, err = NewRelay(RelayOptions{
		Binary: filepath.Join(bin, "skerry-relay"), Kubeconfig: kubeconfig, Dir: filepath.Join(s.Dir, "fleet"),
		Listen: s.RelayAt, Web: s.RelayWeb, Profile: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the relay's log:\n%s", r.relay.Log(40))
		}
		if err := r.relay.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.newFleet()
	return r
}

// newFleet starts the agents: two enrolled through the relay's endpoint, the others signed with the cluster's CA.
func (r *rig) newFleet() {
	r.t.Helper()
	ids, err := Issue(r.t.Context(), r.cluster.CA, r.names[2:])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range r.names[:2] {
		id, err := Enroll(r.t.Context(), r.cluster.Core, r.cluster.CA, r.relay.Address(), name)
		if err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	_, port, err := net.SplitHostPort(r.relay.Address())
	if err != nil {
		r.t.Fatal(err)
	}
	r.fleet, err = New(Options{
		Addresses: []string{net.JoinHostPort("127.0.0.1", port)}, Roots: r.cluster.CA.Pool(), Identities: ids, Events: true,
		MaxBackoff: 2 * time.Second,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.fleet.Start()
	r.t.Cleanup(r.fleet.Stop)
	r.await("in sync", InSync)
	if err := r.cluster.AwaitNodes(r.t.Context(), agents, nil); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cluster.Create(r.t.Context(), r.work, r.names, nil); err != nil {
		r.t.Fatal(err)
	}
	r.await("given their objects", Holds(r.work.Objects()))
	r.quiet()
}

func (r *rig) await(what string, check Check) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if err := r.fleet.Wait(ctx, what, check, nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) counters() Counters {
	r.t.Helper()
	c, err := r.relay.Counters(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// quiet waits until what agents reported is written.
func (r *rig) quiet() {
	r.t.Helper()
	r.await("done reporting", Reported)
	end := time.Now().Add(time.Minute)
	for calm := 0; calm < 10; calm++ {
		if r.counters()["skerry_relay_write_queue_depth"] > 0 {
			calm = 0
		}
		if time.Now().After(end) {
			r.t.Fatal("the relay's writes do not come to an end")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// push changes the configMap of all and waits until all agents but some have committed it.
func (r *rig) push(but int) *Watch {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	r.version++
	w := r.fleet.Watch(Everyone())
	if err := r.cluster.SetConfigMap(ctx, Everyone(), r.version, r.work.Bytes); err != nil {
		r.t.Fatal(err)
	}
	if _, err := w.Wait(ctx, but); err != nil {
		r.t.Fatal(err)
	}
	return w
}

func (r *rig) promises() {
	r.t.Helper()
	tally, breach := r.fleet.Tally()
	if tally.Breaches > 0 || tally.Repeated > 0 {
		r.t.Errorf("%d commits broke what the link promises, %d objects were sent unchanged; the last: %s", tally.Breaches, tally.Repeated, breach)
	}
}

// TestFleet holds a small fleet to counters that do not depend on the machine's speed.
func TestFleet(t *testing.T) {
	r := newRig(t)
	t.Run("all dropped at once", r.testDropAll)
	t.Run("a stopped reader delays nobody", r.testStoppedReaders)
	t.Run("churn", r.testChurn)
	t.Run("devices report", r.testDevicesReport)
	t.Run("silence", r.testSilence)
	t.Run("relay killed", r.testRelayKilled)
}

// testDropAll: nothing is sent again, nothing is listed, and an unchanged agent costs little.
func (r *rig) testDropAll(t *testing.T) {
	r.t = t
	r.push(0)
	r.quiet()
	before, traffic := r.counters(), TrafficOf(r.fleet.Agents())
	back, began := r.fleet.SyncedSince(), time.Now()
	r.fleet.Cut()
	r.await("in sync again", back)
	r.await("done reporting", Reported)
	used := TrafficOf(r.fleet.Agents()).Sub(traffic)
	c := r.counters().Sub(before)
	if n := c.Sum("skerry_relay_api_requests_total", `verb="list"`); n != 0 {
		t.Errorf("%v LISTs", n)
	}
	if n := c.Sum("skerry_relay_api_requests_total", `verb="watch"`); n > 6 { // an old watch may end by chance
		t.Errorf("%v watches were opened", n)
	}
	if n := c["skerry_relay_objects_sent_total"]; n != 0 {
		t.Errorf("%v objects were sent again", n)
	}
	if n := c["skerry_relay_objects_resumed_total"]; n != float64(agents*r.work.Objects()) {
		t.Errorf("%v objects were resumed, want %d", n, agents*r.work.Objects())
	}
	t.Logf("each of %d connections: %d bytes of TLS handshake, %d beyond it", used.Dials, used.Handshake/used.Dials, used.Beyond()/used.Dials)
	if cost := used.Beyond() / used.Dials; cost > 1024 {
		t.Errorf("an unchanged agent costs %d bytes beyond the handshake, the budget is 1024, and its status documents are %d", cost, r.fleet.Agents()[0].Documents())
	}
	// Leases go on being renewed, each once in ten seconds; what comes back costs no request of its own.
	took := time.Since(began).Seconds()
	if n := c.Sum("skerry_relay_api_requests_total"); n > agents*(took/10+1)+20 {
		t.Errorf("%v API requests while %d agents came back in %.1f s: %v", n, agents, took, c.RelayRequests())
	}
	r.promises()
}

// testStoppedReaders: 20 changes reach all others while five agents read nothing; the relay holds no more for them than keys.
func (r *rig) testStoppedReaders(t *testing.T) {
	r.t = t
	stopped := r.fleet.Agents()[:5]
	for _, a := range stopped {
		a.Network(Stalled)
	}
	memory := func() Memory {
		m, err := r.relay.Memory(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r.push(len(stopped))
	before := memory()
	const bytes = 256 << 10
	small := r.work.Bytes
	r.work.Bytes = bytes
	for range 20 {
		w := r.push(len(stopped))
		for i := range stopped {
			if w.Committed(i) {
				t.Fatalf("agent %d committed although it reads nothing", i)
			}
		}
	}
	after := memory()
	// 20 versions of 256 KiB for 5 agents would be 25 MiB; each session may have 1 MiB in flight, and bodies are shared.
	if grown := after.Heap - before.Heap; grown > 8<<20 {
		t.Errorf("the relay's heap grew by %.1f MiB for %d stopped readers", grown/(1<<20), len(stopped))
	} else {
		t.Logf("the relay's heap grew by %.2f MiB for %d stopped readers", grown/(1<<20), len(stopped))
	}
	for _, a := range stopped {
		a.Network(Normal)
	}
	r.work.Bytes = small
	r.push(0) // the stopped ones get the newest version
	r.await("in sync after the stop", InSync)
	r.promises()
}

// testChurn: pods replaced, desired values, device and pod reports, events.
func (r *rig) testChurn(t *testing.T) {
	r.t = t
	some := r.names[:10]
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := r.cluster.SetDesired(ctx, some, 5, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.ReplacePods(ctx, r.work, some, 0, nil); err != nil {
		t.Fatal(err)
	}
	r.fleet.Agents()[0].Event("Tested", "the simulator was here")
	before := r.counters()
	const reports = 200
	for range reports {
		r.fleet.Agents()[0].ReportValue()
		time.Sleep(time.Millisecond)
	}
	r.await("holding their objects", Holds(r.work.Objects()))
	r.quiet()
	c := r.counters().Sub(before)
	writes := c.Sum("skerry_relay_api_requests_total", `verb="patch"`, `resource="devicestatuses"`)
	if writes < 1 || writes > 60 { // at most one in 100 ms, however long the reports took on a busy machine
		t.Errorf("%d reports of one device became %v writes", reports, writes)
	}
	r.promises()
}

// testDevicesReport: one device reports 90 values a second, and every other as often as ten minutes would bring at one a minute.
// What is written is bounded by the interval of devices and by the number of reports, whatever the machine's speed; the API shows
// values in their order, and the newest of each device.
func (r *rig) testDevicesReport(t *testing.T) {
	r.t = t
	all := r.fleet.Agents()
	watch, stop := context.WithCancel(t.Context())
	shown := r.cluster.WatchValue(watch, all[0].Name)
	defer func() { stop(); shown.Wait() }()
	before, began := r.counters(), time.Now()
	const flood, minutes = 900, 10
	ctx, cancel := context.WithTimeout(t.Context(), flood*time.Second/90)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { Steadily(ctx, all[:1], 90, (*Agent).ReportValue) })
	wg.Go(func() { Steadily(ctx, all[1:], float64(len(all)-1)*minutes/(flood/90.0), (*Agent).ReportValue) })
	wg.Wait()
	for _, a := range all {
		a.ReportValue() // the newest, which must win
	}
	r.quiet()
	took := time.Since(began).Seconds()
	c := r.counters().Sub(before)
	others := int64(0)
	for _, a := range all[1:] {
		others += a.Values()
	}
	writes := c.Sum("skerry_relay_api_requests_total", `verb="patch"`, `resource="devicestatuses"`)
	if bound := took*10 + 2 + float64(others); writes > bound {
		t.Errorf("%v writes for %d reports of one device in %.1f s and %d of the others; at most %.0f", writes, all[0].Values(), took, others, bound)
	}
	// Beside the writes: renewals, and what conflicts cost.
	if n := c.Sum("skerry_relay_api_requests_total"); n > writes+agents*(took/10+1)+20 {
		t.Errorf("%v API requests, of which %v are writes of values: %v", n, writes, c.RelayRequests())
	}
	awaited, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	if err := shown.Await(awaited, all[0].Values()); err != nil {
		t.Error(err)
	}
	versions, reversals, _ := shown.Seen()
	if reversals > 0 {
		t.Errorf("%d of %d versions showed a value that was older than the one before", reversals, versions)
	}
	t.Logf("%d values of one device became %d versions; %v requests in %.1f s", all[0].Values(), versions, c.Sum("skerry_relay_api_requests_total"), took)
	newest, err := r.cluster.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if newest[a.Name] != a.Values() {
			t.Errorf("the API shows %d of %s's device, which reported %d last", newest[a.Name], a.Name, a.Values())
		}
	}
	r.promises()
}

// testSilence: what an idle agent costs on the wire, with the headers of TCP and IP. Heartbeats are all that passes, so a heartbeat's
// bytes are a day's; that one of 15 s is worth 5,760 a day.
func (r *rig) testSilence(t *testing.T) {
	r.t = t
	r.quiet()
	const window, heartbeat, day = 5 * time.Second, time.Second, 24 * time.Hour / (15 * time.Second)
	r.fleet.Stop()
	r.fleet.opts.Heartbeat = heartbeat
	defer func() { // the other tests have the default
		r.fleet.Stop()
		r.fleet.opts.Heartbeat = 0
		r.fleet.Start()
		r.await("in sync with the usual heartbeat", InSync)
	}()
	r.fleet.Start()
	r.await("in sync with short heartbeats", InSync)
	r.quiet()
	c, err := packets.Count(r.relay.Address())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(window)
	bytes, count := c.Stop()
	beats := float64(agents) * float64(window/heartbeat)
	each := float64(bytes) / beats
	t.Logf("a heartbeat costs %.0f bytes in %.1f packets, a day of them %.2f MB", each, float64(count)/beats, each*float64(day)/1e6)
	if each*float64(day) > 2e6 {
		t.Errorf("an idle agent costs %.2f MB a day, the budget is 2 MB", each*float64(day)/1e6)
	}
	if each == 0 {
		t.Error("nothing was counted")
	}
}

// testRelayKilled: another relay process resumes every agent without sending anything again.
func (r *rig) testRelayKilled(t *testing.T) {
	r.t = t
	back := r.fleet.SyncedSince()
	if err := r.relay.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("in sync with the new relay", back)
	c := r.counters()
	if n := c["skerry_relay_objects_sent_total"]; n != 0 {
		t.Errorf("%v objects were sent again", n)
	}
	if lists := c.Sum("skerry_relay_api_requests_total", `verb="list"`); lists > 12 {
		t.Errorf("%v LISTs for %d agents: they must not depend on the fleet's size", lists, agents)
	}
	r.push(0)
	r.promises()
}
