package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// lag is how much later one of the relays hears of a change than the other.
const lag = 300 * time.Millisecond

// late is a watch whose events come later.
type late struct {
	watch.Interface
	out chan watch.Event
}

func newLate(w watch.Interface) *late {
	l := &late{Interface: w, out: make(chan watch.Event)}
	go func() {
		defer close(l.out)
		for ev := range w.ResultChan() {
			time.Sleep(lag)
			l.out <- ev
		}
	}()
	return l
}

func (l *late) ResultChan() <-chan watch.Event { return l.out }

// laggard is a client of c's cluster whose watches are late.
func laggard(c *fake.Clientset) kubernetes.Interface {
	l := &fake.Clientset{}
	l.AddReactor("*", "*", ktesting.ObjectReaction(c.Tracker()))
	l.AddWatchReactor("*", func(a ktesting.Action) (bool, watch.Interface, error) {
		w, err := c.Tracker().Watch(a.GetResource(), a.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		return true, newLate(w), nil
	})
	return l
}

// replica is a hub wired to the list of revoked nodes as run does it.
type replica struct {
	hub     *hub.Hub
	list    *enroll.Revocations
	set     *metrics.Set
	address string
}

func newReplica(t *testing.T, pki *hubtest.PKI, c kubernetes.Interface, view *sessiontest.View) *replica {
	t.Helper()
	r := &replica{set: metrics.NewSet()}
	r.list = enroll.NewRevocations(c, nil, func(node string) { r.hub.Recheck(node) })
	r.hub = hub.New(hub.Options{
		Name: "relay", TLS: pki.ServerTLS(), Source: view, Sink: sessiontest.NewSink(), Rules: 1, Metrics: r.set,
		Refused: r.list.Refused,
		Admit:   func(string) (time.Duration, bool) { return time.Second, r.list.Synced() },
	})
	l, err := hub.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.hub.Serve(ctx, l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	wg.Go(func() {
		if err := r.list.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func (r *replica) refused() uint64 {
	return r.set.GetOrCreateCounter(`skerry_relay_connections_refused_total{reason="revoked"}`).Get()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

// TestRevokedAtEveryRelay has a gateway that goes from one relay to the other as soon as one refuses it. The second hears of the
// revocation later: it may let the gateway in for that long, with a resumed TLS session, and not longer. Restored, the old
// certificate opens nothing at either, and a new one does.
func TestRevokedAtEveryRelay(t *testing.T) {
	const node = "gw-1"
	c := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: enroll.RevokedMap, Namespace: enroll.Namespace}})
	pki, cluster := hubtest.NewPKI(t), sessiontest.NewCluster()
	view := cluster.View()
	view.Follow()
	relays := []*replica{newReplica(t, pki, c, view), newReplica(t, pki, laggard(c), view)}
	var addresses []string
	for _, r := range relays {
		r.hub.SetTicketKeys([][32]byte{{1}})
		until(t, "the list is read", r.list.Synced)
		addresses = append(addresses, r.address)
	}
	store := linktest.NewStore()
	gateway := func(run func(g *link.Client)) {
		g := link.New(link.Options{
			Addresses: addresses, TLS: pki.ClientTLS(pki.Node(node)), Node: node, Version: "test", Desired: store, Outbox: store,
			Heartbeat: time.Second, MaxBackoff: 100 * time.Millisecond,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		run(g)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the link: %v", err)
		}
	}
	sessions := func() int { return len(relays[0].hub.Sessions()) + len(relays[1].hub.Sessions()) }
	gateway(func(g *link.Client) {
		until(t, "it is in sync", func() bool { return g.Status().InSync })
		if err := enroll.Revoke(t.Context(), c, node, "stolen", time.Now()); err != nil {
			t.Fatal(err)
		}
		until(t, "both relays refuse it", func() bool { return relays[0].refused() > 1 && relays[1].refused() > 1 && sessions() == 0 })
		was := g.Status().Sessions
		time.Sleep(2 * lag)
		if st := g.Status(); st.Sessions != was || st.Connected || sessions() > 0 {
			t.Errorf("it has a session again: %+v", st)
		}
		if err := enroll.Restore(t.Context(), c, node, false, time.Now()); err != nil {
			t.Fatal(err)
		}
		until(t, "both know that it may join", func() bool { return !relays[0].list.Revoked(node) && !relays[1].list.Revoked(node) })
		before := relays[0].refused() + relays[1].refused()
		until(t, "it tries again", func() bool { return relays[0].refused()+relays[1].refused() > before+3 })
		if g.Status().Sessions != was || sessions() > 0 {
			t.Error("its old certificate opens sessions again")
		}
		if text := g.Status().LastError; !strings.Contains(text, "refuses this gateway's certificate") {
			t.Errorf("it says %q", text)
		}
	})
	// hubtest's certificates begin an hour before they are made, as a relay's do; this one is from after the restoration.
	if why := relays[1].list.Refused(node, relays[1].list.NotBefore(node).Add(time.Second)); why != "" {
		t.Errorf("a new certificate: %s", why)
	}
}
