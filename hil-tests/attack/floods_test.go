package attack

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// TestFloods runs each class against a hub on models: it reaches the relay, an honest session outlives it, and it ends when told to.
func TestFloods(t *testing.T) {
	pki := hubtest.NewPKI(t)
	cluster := sessiontest.NewCluster()
	view := cluster.View()
	view.Follow()
	set := metrics.NewSet()
	h := hub.New(hub.Options{Name: "relay-a", TLS: pki.ServerTLS(), Source: view, Sink: sessiontest.NewSink(), Rules: 1, Metrics: set})
	l, err := hub.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	attacker := func(node string) *Attacker {
		cert := pki.Node(node)
		return &Attacker{Address: l.Addr().String(), Roots: pki.Pool, Key: &cert, From: "127.0.0.66"}
	}
	honest, err := attacker("gw-1").Open(t.Context(), Hello("gw-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	honest.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.Synced); return ok })
	traffic := func() float64 {
		var page strings.Builder
		set.WritePrometheus(&page)
		c := fleet.ParseCounters([]byte(page.String()))
		return c.Sum("skerry_relay_frames_received_total") + c.Sum("skerry_relay_connections_refused_total")
	}
	for _, f := range Floods() {
		t.Run(f.Name, func(t *testing.T) {
			before := traffic()
			limited, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			f.Run(limited, attacker("evil-"+f.Name), "evil-"+f.Name)
			for end := time.Now().Add(patience); traffic() == before; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("nothing of it reached the relay")
				}
			}
			if err := honest.Send(&wire.Ping{}); err != nil {
				t.Fatal(err)
			}
			if answer, err := honest.Receive(patience); err != nil || answer.Type() != wire.TypePong {
				t.Errorf("the honest session gets %v, %v", answer, err)
			}
		})
	}
}
