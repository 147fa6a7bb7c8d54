package pods

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving is a pod whose container has probes of both kinds, and a minute to end.
const serving = `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"terminationGracePeriodSeconds":60,"containers":[{"name":"c","image":"app:1",
	"readinessProbe":{"exec":{"command":["ready"]},"periodSeconds":1,"failureThreshold":2},"livenessProbe":{"exec":{"command":["alive"]},"periodSeconds":1,"failureThreshold":1}}]}}`

// asked counts probes, and fails them once the container is down.
type asked struct {
	down         atomic.Bool
	ready, alive atomic.Int64
}

func (w *world) probed(a *asked) {
	w.rt.programs["c"] = func(uint32) run { return run{dies: 20 * time.Second} }
	w.rt.exec = func(_ string, cmd []string) (int32, error) {
		n := &a.ready
		if cmd[0] == "alive" {
			n = &a.alive
		}
		n.Add(1)
		if a.down.Load() {
			return 1, nil
		}
		return 0, nil
	}
}

// TestReadinessWhileEnding: a pod that is deleted says until its end whether it serves, and its liveness is not asked any more.
func TestReadinessWhileEnding(t *testing.T) {
	simulate(t, func(w *world) {
		a := new(asked)
		w.probed(a)
		w.apply(serving)
		w.settle(5 * time.Second)
		if s := w.status(); cond(s.Conditions, condReady).Status != "True" {
			t.Fatalf("conditions %v", s.Conditions)
		}
		w.apply(deletingPod(serving, "60"))
		w.settle(5 * time.Second)
		if s := w.status(); cond(s.Conditions, condReady).Status != "True" || s.Phase != phaseRunning {
			t.Errorf("while it still serves: %s, %v", s.Phase, s.Conditions)
		}
		a.down.Store(true)
		alive := a.alive.Load()
		w.settle(5 * time.Second)
		s := w.status()
		if c := cond(s.Conditions, condReady); c.Status != "False" || c.Reason != "ContainersNotReady" || s.ContainerStatuses[0].Ready || s.ContainerStatuses[0].State.Running == nil || s.Phase != phaseRunning {
			t.Errorf("when it has closed its port: %s, %v", s.Phase, s.Conditions)
		}
		if e := w.event("Unhealthy"); e == nil || !strings.HasPrefix(e.message, "Readiness probe failed") {
			t.Errorf("event %v", e)
		}
		if n := a.alive.Load(); n != alive {
			t.Errorf("liveness was asked %d times after the deletion", n-alive)
		}
		w.settle(15 * time.Second)
		r, ready := w.report(podKey), a.ready.Load()
		if !r.Deleted || len(w.rt.byName("c")) != 0 {
			t.Errorf("deleted %v, containers %v", r.Deleted, w.rt.byName("c"))
		}
		w.settle(time.Minute)
		if n := a.ready.Load(); n != ready {
			t.Errorf("asked %d times when it was gone", n-ready)
		}
	})
}

// TestReadinessAfterRestartOfTheAgent: a pod that is ending when the agent comes back is asked on, and stays what it was until it answers.
func TestReadinessAfterRestartOfTheAgent(t *testing.T) {
	simulate(t, func(w *world) {
		a := new(asked)
		w.probed(a)
		w.apply(serving)
		w.settle(5 * time.Second)
		w.stop()
		w.apply(deletingPod(serving, "60"))
		w.start()
		w.settle(100 * time.Millisecond)
		if s := w.status(); cond(s.Conditions, condReady).Status != "True" {
			t.Errorf("conditions %v", s.Conditions)
		}
		alive := a.alive.Load()
		a.down.Store(true)
		w.settle(5 * time.Second)
		if s := w.status(); cond(s.Conditions, condReady).Status != "False" || a.alive.Load() != alive {
			t.Errorf("conditions %v; liveness asked %d times", s.Conditions, a.alive.Load()-alive)
		}
	})
}

// TestShorterGraceWhileReporting: a second deletion with less time is not lost among what the runtime tells meanwhile.
func TestShorterGraceWhileReporting(t *testing.T) {
	simulate(t, func(w *world) {
		a := new(asked)
		w.probed(a)
		w.rt.programs["c"] = func(uint32) run { return run{dies: time.Hour} }
		w.apply(serving)
		w.settle(5 * time.Second)
		w.apply(deletingPod(serving, "600"))
		w.settle(5 * time.Second)
		a.down.Store(true)
		w.settle(3 * time.Second)
		w.apply(deletingPod(serving, "3"))
		w.settle(6 * time.Second)
		if r := w.report(podKey); !r.Deleted {
			t.Errorf("not gone; grace periods %v", w.rt.stopped())
		}
	})
}

// TestRuntimeGoneWhileEnding: a runtime that does not answer is not asked again and again.
func TestRuntimeGoneWhileEnding(t *testing.T) {
	simulate(t, func(w *world) {
		a := new(asked)
		w.probed(a)
		w.apply(serving)
		w.settle(5 * time.Second)
		w.apply(deletingPod(serving, "60"))
		w.settle(time.Second)
		w.rt.setDown(errFakeDown)
		calls := w.rt.called("ListContainers") + w.rt.called("Version")
		w.settle(time.Minute)
		if n := w.rt.called("ListContainers") + w.rt.called("Version") - calls; n > 300 {
			t.Errorf("asked %d times in a minute", n)
		}
		w.rt.setDown(nil)
		w.settle(time.Minute)
		if r := w.report(podKey); !r.Deleted {
			t.Error("not gone")
		}
	})
}
