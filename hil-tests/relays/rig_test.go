//go:build integration

package relays

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
	"github.com/skerry/skerry/relay/kube"
)

const (
	agents   = 45
	deadline = time.Minute // for anything to happen on a machine that is busy
)

// world is three relays, a fleet in sync with them, and one real gateway.
type world struct {
	*stack.Stack
	t        *testing.T
	cluster  *fleet.Cluster
	api      *stack.Cluster
	fleet    *fleet.Fleet
	names    []string
	work     fleet.Workload
	relays   []*stack.Replica
	truth    *kube.Index // what the API says that agents should hold
	observer *observer
	gate     *gate // between relay-a and the API server

	mu      sync.Mutex
	reports map[string]int // device reports of each agent
	version int            // of configMaps and desired values
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := stacktest.Start(t, stack.Options{NoPods: true, Node: "real"})
	w := &world{
		Stack: s, t: t, names: fleet.Names("gw", agents), reports: map[string]int{},
		work: fleet.Workload{Groups: 4, Bytes: 1024, Pods: true, Devices: true},
	}
	w.must(w.connect())
	w.must(w.startRelays())
	w.startAgents()
	w.startGateway()
	w.spread()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// within returns a context that ends with the deadline, or the test.
func (w *world) within() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) connect() (err error) {
	ctx := w.t.Context()
	if w.cluster, err = fleet.Connect(ctx, w.Kube.REST(), 500); err != nil {
		return err
	}
	if w.api, err = w.Cluster(); err != nil {
		return err
	}
	clients, err := kube.Connect(kube.ClientOptions{Kubeconfig: w.Kube.Kubeconfig(), QPS: 100, Burst: 100, Metrics: nil})
	if err != nil {
		return err
	}
	w.truth = kube.NewIndex(kube.IndexOptions{Client: clients.API, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	w.observer = newObserver(w.api.Dynamic)
	var running sync.WaitGroup
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() { _ = w.truth.Run(background) })
	running.Go(func() { w.observer.run(background) })
	w.t.Cleanup(func() { stop(); running.Wait() })
	return nil
}

func (w *world) startRelays() error {
	for _, name := range []string{"relay-a", "relay-b", "relay-c"} {
		config := map[string]any{"log": map[string]any{"level": "info"}}
		if w.gate == nil {
			kubeconfig, err := w.RelayKubeconfig(w.t.Context())
			if err != nil {
				return err
			}
			w.gate, kubeconfig = newGate(w.t, kubeconfig)
			config["kubeconfig"] = kubeconfig
		}
		r, err := w.Replica(w.t.Context(), name, config)
		if err != nil {
			return err
		}
		if err := r.Start(w.t.Context()); err != nil {
			return err
		}
		w.relays = append(w.relays, r)
	}
	return nil
}

func (w *world) addresses() (all []string) {
	for _, r := range w.relays {
		all = append(all, r.At)
	}
	return all
}

func (w *world) startAgents() {
	w.t.Helper()
	ids, err := fleet.Issue(w.t.Context(), w.cluster.CA, w.names)
	w.must(err)
	w.fleet, err = fleet.New(fleet.Options{
		Addresses: w.addresses(), Roots: w.cluster.CA.Pool(), Identities: ids,
		Heartbeat: time.Second, MaxBackoff: 2 * time.Second, DialTimeout: 10 * time.Second,
	})
	w.must(err)
	w.fleet.Start()
	w.t.Cleanup(w.fleet.Stop)
	w.await("in sync", fleet.InSync)
	w.must(w.cluster.AwaitNodes(w.within(), agents, nil))
	w.must(w.cluster.Create(w.within(), w.work, w.names, nil))
	w.await("given their objects", fleet.Holds(w.work.Objects()))
}

// startGateway joins a real skerryd that knows all relays.
func (w *world) startGateway() {
	w.t.Helper()
	w.RelayAt = w.relays[0].At
	w.must(w.Join(w.within()))
	w.must(w.WriteAgentConfig(func(doc map[string]any) { doc["relay"] = map[string]any{"addresses": w.addresses()} }))
	w.must(w.StartAgent(w.within()))
}

func (w *world) await(what string, check fleet.Check) {
	w.t.Helper()
	w.must(w.fleet.Wait(w.within(), what, check, nil))
}

// eventually waits until problem returns nil.
func (w *world) eventually(what string, problem func() error) {
	w.t.Helper()
	end := time.Now().Add(deadline)
	for {
		err := problem()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// spread has a third of the agents at each relay, all of which run.
func (w *world) spread() {
	w.t.Helper()
	w.fleet.Stop()
	for _, r := range w.relays {
		if !r.Running() {
			w.must(r.Start(w.within()))
		}
	}
	w.fleet.Start()
	w.await("in sync", fleet.InSync)
	for name, n := range w.where() {
		if n != agents/len(w.relays) {
			w.t.Errorf("%d agents are at %s, want a third: %v", n, name, w.where())
		}
	}
}

// where counts the agents by the relay at which they are in sync.
func (w *world) where() map[string]int {
	out := map[string]int{}
	for _, a := range w.fleet.Agents() {
		if st := a.Status(); st.Connected && st.InSync {
			out[st.Relay]++
		}
	}
	return out
}

// at returns the agents whose session is with a relay.
func (w *world) at(r *stack.Replica) (out []*fleet.Agent) {
	for _, a := range w.fleet.Agents() {
		if st := a.Status(); st.Connected && st.Relay == r.Name {
			out = append(out, a)
		}
	}
	return out
}

// elsewhere is a check for agents that are in sync at another relay.
func elsewhere(r *stack.Replica) fleet.Check {
	return func(a *fleet.Agent, st fleet.Status) bool { return fleet.InSync(a, st) && st.Relay != r.Name }
}

// report makes an agent's device report a new value: 1, 2, 3 …
func (w *world) report(a *fleet.Agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports[a.Name]++
	a.ReportValue()
}

func (w *world) reported(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strconv.Itoa(w.reports[name])
}

// unrest changes configMaps, desired values and reported values until stop is called.
func (w *world) unrest() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var g sync.WaitGroup
	w.t.Cleanup(cancel)
	g.Go(func() { fleet.Steadily(ctx, w.fleet.Agents(), 100, w.report) })
	g.Go(func() {
		for ctx.Err() == nil {
			w.version++
			for _, err := range []error{
				w.cluster.SetConfigMap(ctx, fleet.Everyone(), w.version, w.work.Bytes),
				w.cluster.SetConfigMap(ctx, fleet.Group(w.version%w.work.Groups), w.version, w.work.Bytes),
				w.cluster.SetDesired(ctx, w.names[w.version%agents:][:1], w.version, nil),
			} {
				if err != nil && ctx.Err() == nil {
					w.t.Errorf("change %d: %v", w.version, err)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); g.Wait() }
}

// settled compares everything: what agents hold with what the API says, what the API shows with what they reported, and what was
// promised about the way there.
func (w *world) settled() {
	w.t.Helper()
	w.await("in sync", fleet.InSync)
	w.await("done reporting", fleet.Reported)
	w.eventually("agents hold what the API says", w.downward)
	w.eventually("the API shows what agents reported", w.upward)
	w.eventually("each node's Lease names its session", w.leases)
	if tally, breach := w.fleet.Tally(); tally.Breaches > 0 || tally.Repeated > 0 {
		w.t.Errorf("%d commits broke what the link promises, %d objects were sent unchanged; the last: %s", tally.Breaches, tally.Repeated, breach)
	}
	if err := w.observer.err(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) downward() error {
	for _, a := range w.fleet.Agents() {
		want, ready := w.truth.Keys(a.Name)
		if !ready {
			return errors.New("the truth is not known yet")
		}
		if have := a.Held(); !maps.Equal(have, want) {
			return fmt.Errorf("%s holds %v, want %v", a.Name, have, want)
		}
		if len(want) != w.work.Objects() {
			return fmt.Errorf("%s should hold %d objects, but is said to hold %v", a.Name, w.work.Objects(), slices.Collect(maps.Keys(want)))
		}
	}
	return nil
}

func (w *world) upward() error {
	states, err := w.api.DeviceStates(w.t.Context(), fleet.Namespace)
	if err != nil {
		return err
	}
	shown := map[string]string{}
	for _, s := range states {
		shown[strings.TrimPrefix(s.Name, "device-")] = s.Value("level").Value
	}
	for _, name := range w.names {
		if got, want := shown[name], w.reported(name); got != want {
			return fmt.Errorf("the API shows value %q of the device of %s, which has reported %q", got, name, want)
		}
	}
	pods, err := w.api.Core.CoreV1().Pods(fleet.Namespace).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("pod %s is %s", p.Name, p.Status.Phase)
		}
	}
	return nil
}

// leases wants each node's Lease to name the relay and the epoch of its agent's session.
func (w *world) leases() error {
	list, err := w.api.Core.CoordinationV1().Leases("kube-node-lease").List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	named := map[string]string{}
	for _, l := range list.Items {
		named[l.Name] = l.Annotations["skerry.dev/relay"] + " " + l.Annotations["skerry.dev/session-epoch"]
	}
	for _, a := range w.fleet.Agents() {
		st := a.Status()
		if want := st.Relay + " " + strconv.FormatUint(st.Epoch, 10); named[a.Name] != want {
			return fmt.Errorf("the Lease of %s names %q, its session is %q", a.Name, named[a.Name], want)
		}
	}
	return nil
}

func (w *world) counters(r *stack.Replica) fleet.Counters {
	w.t.Helper()
	page, err := r.Metrics(w.within())
	w.must(err)
	return fleet.ParseCounters(page)
}

// others are the relays but r.
func (w *world) others(r *stack.Replica) (out []*stack.Replica) {
	for _, o := range w.relays {
		if o != r {
			out = append(out, o)
		}
	}
	return out
}
