package pods

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// debugged adds an ephemeral container to a pod.
func debugged(doc, ephemeral string) string {
	return strings.Replace(doc, `"spec":{`, `"spec":{"ephemeralContainers":[`+ephemeral+`],`, 1)
}

// TestEphemeralContainer: it starts beside the pod's container, in that one's process namespace, changes nothing for the pod, ends once, and is
// not started again, whatever restarts.
func TestEphemeralContainer(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["debugger"] = func(uint32) run { return run{lasts: 20 * time.Second, code: 3} }
		w.apply(simplePod)
		w.settle(time.Second)
		before := w.status()
		w.apply(debugged(simplePod, `{"name":"debugger","image":"app:1","stdin":true,"tty":true,"targetContainerName":"c"}`))
		w.settle(2 * time.Second)
		s := w.status()
		if len(s.EphemeralStatuses) != 1 || s.EphemeralStatuses[0].State.Running == nil || s.EphemeralStatuses[0].Ready || s.EphemeralStatuses[0].Started != nil {
			t.Fatalf("ephemeral statuses %+v", s.EphemeralStatuses)
		}
		made := w.rt.byName("debugger")[0].config
		if ns := made.Linux.SecurityContext.NamespaceOptions; ns.PID != cri.NamespaceTarget || ns.TargetID != w.rt.byName("c")[0].id || !made.Stdin || !made.TTY {
			t.Errorf("made with %+v, stdin %t", ns, made.Stdin)
		}
		if e := w.event("Started"); e == nil || !strings.Contains(w.lastEvent("Started").ref, "spec.ephemeralContainers{debugger}") {
			t.Errorf("event %+v", w.lastEvent("Started"))
		}
		w.settle(time.Minute)
		s = w.status()
		if e := s.EphemeralStatuses[0].State.Terminated; e == nil || e.ExitCode != 3 || s.EphemeralStatuses[0].RestartCount != 0 {
			t.Errorf("state %+v", s.EphemeralStatuses[0])
		}
		if c := s.ContainerStatuses[0]; s.Phase != phaseRunning || c.ContainerID != before.ContainerStatuses[0].ContainerID || cond(s.Conditions, condReady).Status != "True" {
			t.Errorf("the pod was disturbed: %s %+v", s.Phase, c)
		}
		w.stop()
		w.start()
		w.settle(10 * time.Second)
		w.rt.mu.Lock()
		for _, b := range w.rt.boxes {
			b.ready = false
		}
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		w.rt.mu.Lock()
		maps.DeleteFunc(w.rt.containers, func(_ string, c *fakeContainer) bool { return c.config.Metadata.Name == "debugger" }) // the runtime forgets it
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		if n := len(w.rt.byName("debugger")); n != 0 {
			t.Errorf("started again: %d containers", n)
		}
		if e := w.status().EphemeralStatuses[0].State.Terminated; e == nil || e.ExitCode != 3 {
			t.Errorf("after the runtime forgot it: %+v", w.status().EphemeralStatuses[0])
		}
	})
}

// TestEphemeralBesideInit: it helps to look at an init container that hangs, waits for its target, and a failing image holds nothing up.
func TestEphemeralBesideInit(t *testing.T) {
	simulate(t, func(w *world) {
		doc := strings.Replace(simplePod, `"spec":{`, `"spec":{"initContainers":[{"name":"first","image":"app:1"}],`, 1)
		w.rt.programs["first"] = func(uint32) run { return run{lasts: 30 * time.Second} }
		w.apply(debugged(doc, `{"name":"one","image":"app:1"},{"name":"two","image":"app:1","targetContainerName":"c"},{"name":"three","image":"none:1"}`))
		w.settle(10 * time.Second)
		s := w.status()
		if s.Phase != phasePending || s.EphemeralStatuses[0].State.Running == nil {
			t.Errorf("phase %s, %+v", s.Phase, s.EphemeralStatuses[0])
		}
		if wait := s.EphemeralStatuses[1].State.Waiting; wait == nil || wait.Reason != reasonConfigError || !strings.Contains(wait.Message, `target container "c" is not running`) {
			t.Errorf("%+v", s.EphemeralStatuses[1].State)
		}
		if wait := s.EphemeralStatuses[2].State.Waiting; wait == nil || !strings.Contains(wait.Reason, "Image") {
			t.Errorf("%+v", s.EphemeralStatuses[2].State)
		}
		w.settle(2 * time.Minute)
		s = w.status()
		if s.Phase != phaseRunning || s.EphemeralStatuses[1].State.Running == nil || cond(s.Conditions, condReady).Status != "True" {
			t.Errorf("phase %s, %+v", s.Phase, s.EphemeralStatuses[1])
		}
	})
}

// TestEphemeralEndsWithItsPod: a pod is done when its containers are, and takes its debuggers with it.
func TestEphemeralEndsWithItsPod(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{lasts: 20 * time.Second} }
		doc := strings.Replace(simplePod, `"spec":{`, `"spec":{"restartPolicy":"Never",`, 1)
		w.apply(debugged(doc, `{"name":"debugger","image":"app:1"}`))
		w.settle(10 * time.Second)
		if got := w.rt.running(); len(got) != 2 {
			t.Fatalf("running %v", got)
		}
		w.settle(time.Minute)
		s := w.status()
		if s.Phase != phaseSucceeded || len(w.rt.running()) != 0 || s.EphemeralStatuses[0].State.Terminated == nil {
			t.Errorf("phase %s, running %v, %+v", s.Phase, w.rt.running(), s.EphemeralStatuses[0])
		}
	})
}
