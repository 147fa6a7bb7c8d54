package pods

import (
	"context"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// TestShutdown: pods end in order, with their part of the time; what can run again does so after the boot, the rest fails as a kubelet
// has it.
func TestShutdown(t *testing.T) {
	simulate(t, func(w *world) {
		var order []string
		for _, name := range []string{"web", "vital", "job"} {
			w.rt.programs[name] = func(uint32) run { return run{dies: time.Hour} }
		}
		w.small("web", `"terminationGracePeriodSeconds":4`, "")
		w.small("job", `"restartPolicy":"OnFailure"`, "")
		w.small("vital", `"priority":2000000000`, "")
		done := make(chan error, 1)
		go func() { done <- w.m.Shutdown(context.Background(), 15*time.Second, 5*time.Second) }()
		w.settle(time.Second)
		if c := cond(w.node().Status.Conditions, "Ready"); c.Status != "False" || c.Reason != reasonNodeShutdown {
			t.Errorf("condition %+v", c)
		}
		for range 40 {
			w.settle(time.Second)
			for _, name := range []string{"web", "job", "vital"} {
				if w.rt.byName(name)[0].state != cri.ContainerRunning && !contains(order, name) {
					order = append(order, name)
				}
			}
		}
		if len(order) != 3 || order[0] != "web" || order[2] != "vital" {
			t.Errorf("order %v", order)
		}
		if got := w.rt.stopped(); len(got) != 3 || max(got[0], got[1]) != 10*time.Second || min(got[0], got[1]) != 4*time.Second || got[2] != 5*time.Second {
			t.Errorf("grace periods %v", got)
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		job := w.report("pods/default/job/u-job").Status
		if job.Phase != phaseFailed || job.Reason != reasonShutdown || cond(job.Conditions, condDisruption).Reason != reasonByNode {
			t.Errorf("job %+v", job)
		}
		if w.phase("web") != phaseRunning || cond(w.report("pods/default/web/u-web").Status.Conditions, condReady).Status != "False" {
			t.Error("web is said to have ended, or to be ready")
		}
		if s := w.small("late", "", ""); s.Phase == phaseRunning || len(w.rt.byName("late")) != 0 {
			t.Errorf("a pod was started: %+v", s)
		}
		w.stop()
		w.start() // the boot
		w.settle(30 * time.Second)
		for _, name := range []string{"web", "vital", "late"} {
			if list := w.rt.byName(name); len(list) == 0 || list[len(list)-1].state != cri.ContainerRunning {
				t.Errorf("%s does not run after the boot: %+v", name, list)
			}
		}
		if w.phase("job") != phaseFailed {
			t.Error("the job runs again")
		}
	})
}

// TestShutdownUnsupported: a pod that never ran here is not waited for.
func TestShutdownUnsupported(t *testing.T) {
	simulate(t, func(w *world) {
		w.small("odd", `"aFieldOfTomorrow":{"deep":[1]}`, "")
		begin := time.Now()
		if err := w.m.Shutdown(context.Background(), 20*time.Second, 5*time.Second); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(begin); took > 2*shutdownFlush { // of the bubble's time
			t.Errorf("waited %v for a pod of which nothing runs", took)
		}
	})
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
