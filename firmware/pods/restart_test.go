package pods

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
)

// TestKilledAtAnyInstant stops the manager at random instants, calls of the runtime under way included, and starts it again:
// there must always be one container in the end, and none once the pod is deleted.
func TestKilledAtAnyInstant(t *testing.T) {
	for seed := range uint64(40) {
		simulate(t, func(w *world) {
			var mu sync.Mutex
			r := rand.New(rand.NewPCG(seed, 1))
			random := func(n int64) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(r.Int64N(n)) * time.Millisecond
			}
			w.rt.mu.Lock()
			w.rt.latency = func() time.Duration { return random(300) }
			w.rt.mu.Unlock()
			w.apply(simplePod)
			for range 6 {
				time.Sleep(random(1500))
				w.stop()
				w.start()
			}
			w.settle(time.Minute)
			list := w.rt.byName("c")
			var up int
			for _, c := range list {
				if c.state == cri.ContainerRunning {
					up++
				}
			}
			if up != 1 || len(list) > 2 || w.rt.boxCount() != 1 || w.status().Phase != phaseRunning {
				t.Fatalf("seed %d: %d running of %d, %d sandboxes", seed, up, len(list), w.rt.boxCount())
			}
			w.apply(strings.Replace(simplePod, `"generation":2`, `"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":5`, 1))
			for range 3 {
				time.Sleep(random(300))
				w.stop()
				w.start()
			}
			w.settle(time.Minute)
			if !w.report(podKey).Deleted || w.rt.boxCount() != 0 || len(w.rt.byName("c")) != 0 {
				t.Fatalf("seed %d: left %d sandboxes, %d containers", seed, w.rt.boxCount(), len(w.rt.byName("c")))
			}
			if entries := w.leftovers(); len(entries) > 0 {
				t.Fatalf("seed %d: folders stay: %v", seed, entries)
			}
		})
	}
}

// TestHostPortConflict: a port that another pod has keeps a new pod out. One of a pod that ends is waited for, across a restart of the
// agent, too.
func TestHostPortConflict(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: 20 * time.Second} }
		ports := strings.Replace(simplePod, `"image":"app:1"`, `"image":"app:1","ports":[{"containerPort":80,"hostPort":8080}]`, 1)
		w.apply(ports)
		w.settle(time.Second)
		const rejected, other = wire.Key("pods/default/early/u2"), wire.Key("pods/default/late/u3")
		w.put(rejected, strings.ReplaceAll(ports, `"web"`, `"early"`))
		w.settle(time.Minute)
		if got := w.report(rejected).Status; got.Phase != phaseFailed || got.Reason != reasonPorts || len(got.ContainerStatuses) != 0 {
			t.Fatalf("status %+v", got)
		}
		w.apply(strings.Replace(ports, `"generation":2`, `"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":20`, 1))
		w.settle(time.Second)
		w.put(other, strings.ReplaceAll(ports, `"web"`, `"late"`))
		w.settle(2 * time.Second)
		if got := w.report(other).Status.ContainerStatuses[0].State.Waiting; got == nil || !strings.Contains(got.Message, "host port 8080/TCP is in use by pod default/web") {
			t.Fatalf("waiting %+v", got)
		}
		w.stop()
		w.start()
		w.settle(5 * time.Second)
		if w.report(other).Status.Phase != phasePending {
			t.Fatal("the port was given to two pods after a restart of the agent")
		}
		w.settle(time.Minute)
		if w.report(other).Status.Phase != phaseRunning {
			t.Fatalf("not started when the port was free: %+v", w.report(other).Status)
		}
	})
}
