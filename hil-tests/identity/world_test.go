//go:build integration

package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	gateways = 24
	lifetime = 20 * time.Second
)

// world is a control plane, two relays, and gateways that renew.
type world struct {
	t       *testing.T
	stack   *stack.Stack
	cluster *fleet.Cluster
	relays  []*fleet.Relay
	fleet   *fleet.Fleet
	work    fleet.Workload
	gw      map[string]*gateway
	version int
}

// gateway is one simulated agent's identity.
type gateway struct {
	name    string
	dir     string
	renewer *identity.Renewer
	stop    context.CancelFunc
	done    chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin := stacktest.Bin()
	s := stacktest.Start(t, stack.Options{NoPods: true, Node: "gw-real"})
	var err error
	w := &world{t: t, stack: s, work: fleet.Workload{Groups: 2, Bytes: 512, Pods: true}, gw: map[string]*gateway{}}
	if w.cluster, err = fleet.Connect(t.Context(), s.Kube.REST(), 1000); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := s.RelayKubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range [][2]string{{s.RelayAt, s.RelayWeb}, {free(t), free(t)}} {
		r, err := fleet.NewRelay(fleet.RelayOptions{
			Binary: filepath.Join(bin, "skerry-relay"), Kubeconfig: kubeconfig, Dir: filepath.Join(s.Dir, "relays"), Name: fmt.Sprintf("relay-%d", i),
			Listen: at[0], Web: at[1], Config: map[string]any{"enroll": map[string]any{"certificateLifetime": lifetime.String()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.relays = append(w.relays, r)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s:\n%s", r.Address(), r.Log(30))
			}
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	w.join(fleet.Names("gw", gateways))
	return w
}

func free(t *testing.T) string {
	t.Helper()
	at, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (w *world) addresses() []string {
	return []string{w.relays[0].Address(), w.relays[1].Address()}
}

// ctl runs skerryctl.
func (w *world) ctl(args ...string) string {
	w.t.Helper()
	out, err := w.stack.Ctl(w.t.Context(), args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// join lets gateways join with tokens as a production line makes them, and starts the fleet.
func (w *world) join(names []string) {
	w.t.Helper()
	list := filepath.Join(w.t.TempDir(), "names")
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	var ids []fleet.Identity
	for line := range strings.Lines(w.ctl("token", "create", "--nodes", list)) {
		name, token, _ := strings.Cut(strings.TrimSpace(line), "\t")
		ids = append(ids, w.enrol(name, token))
	}
	if len(ids) != len(names) {
		w.t.Fatalf("%d tokens for %d names", len(ids), len(names))
	}
	var err error
	w.fleet, err = fleet.New(fleet.Options{Addresses: w.addresses(), Roots: w.cluster.CA.Pool(), Identities: ids, MaxBackoff: time.Second, Heartbeat: 2 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range w.gw {
		w.renew(g)
	}
	w.fleet.Start()
	w.t.Cleanup(w.fleet.Stop)
}

// enrol makes a gateway of a token. Its certificate begins to run out at once.
func (w *world) enrol(name, token string) fleet.Identity {
	w.t.Helper()
	g := &gateway{name: name, dir: filepath.Join(w.t.TempDir(), name)}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if _, err := identity.Enroll(ctx, identity.EnrollOptions{Addresses: w.addresses(), Token: token, Dir: g.dir}); err != nil {
		w.t.Fatal(err)
	}
	g.renewer = identity.NewRenewer(identity.RenewOptions{Addresses: w.addresses(), Dir: g.dir})
	w.gw[name] = g
	return fleet.Identity{Node: name, Live: &fleet.Live{
		TLS: func() (*tls.Config, error) {
			id, err := identity.Load(g.dir)
			if err != nil {
				return nil, err
			}
			return id.TLSConfig()
		},
		Expired: g.renewer.Refused, Clock: g.renewer.Heard,
	}}
}

// renew runs the gateway's Renewer until sleep.
func (w *world) renew(g *gateway) {
	ctx, cancel := context.WithCancel(context.Background())
	g.stop, g.done = cancel, make(chan struct{})
	go func() {
		defer close(g.done)
		_ = g.renewer.Run(ctx)
	}()
	w.t.Cleanup(g.sleep)
}

func (g *gateway) sleep() {
	g.stop()
	<-g.done
}

// issuer is the CA of the certificate that the gateway has.
func (g *gateway) issuer(t *testing.T) string {
	t.Helper()
	id, err := identity.Load(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	return id.Issuer()
}

// tell reports on each gateway's Node what certificate it has, as skerryd does.
func (w *world) tell() {
	w.t.Helper()
	for _, a := range w.fleet.Agents() {
		st := w.gw[a.Name].renewer.Status()
		body, err := corev1.Canonical(&corev1.NodeReport{
			Annotations: corev1.StringMap{join.AnnotationCA: st.Issuer, join.AnnotationNotAfter: st.NotAfter.UTC().Format(time.RFC3339)},
			Status:      corev1.NodeStatus{Conditions: []corev1.Condition{{Type: "Ready", Status: "True", Reason: "Fleet"}}},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		a.Report(wire.NewKey(wire.KindNode, "", a.Name, ""), body)
	}
}

func (w *world) agent(name string) *fleet.Agent {
	for _, a := range w.fleet.Agents() {
		if a.Name == name {
			return a
		}
	}
	w.t.Fatalf("no agent %s", name)
	return nil
}

func (w *world) await(what string, agents []*fleet.Agent, check fleet.Check) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := fleet.Wait(ctx, agents, what, check, nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) eventually(what string, ok func() (bool, string)) {
	w.t.Helper()
	why := ""
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var done bool
		if done, why = ok(); done {
			return
		}
	}
	w.t.Fatalf("it is not so that %s: %s", what, why)
}

// load changes what all gateways hold, again and again, until stop is called, which returns how often.
func (w *world) load() (stop func() int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			w.version++
			if err := w.cluster.SetConfigMap(ctx, fleet.Everyone(), w.version, w.work.Bytes); err != nil && ctx.Err() == nil {
				w.t.Errorf("change %d: %v", w.version, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return w.version
	}
}
