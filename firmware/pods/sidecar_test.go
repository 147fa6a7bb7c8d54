package pods

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// sidecars is a pod with an init container, two sidecars and a container.
const sidecars = `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"terminationGracePeriodSeconds":30,"initContainers":[
	{"name":"first","image":"app:1"},
	{"name":"proxy","image":"app:1","restartPolicy":"Always","startupProbe":{"exec":{"command":["up"]},"periodSeconds":1}},
	{"name":"logs","image":"app:1","restartPolicy":"Always","readinessProbe":{"exec":{"command":["ready"]},"periodSeconds":1}}],
	"containers":[{"name":"c","image":"app:1"}]}}`

func (f *fakeRuntime) running() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tick()
	for _, c := range f.containers {
		if c.state == cri.ContainerRunning {
			names = append(names, c.config.Metadata.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestSidecarsStartInOrder(t *testing.T) {
	simulate(t, func(w *world) {
		codes := map[string]int32{"up": 1, "ready": 1}
		w.rt.exec = func(_ string, cmd []string) (int32, error) { return codes[cmd[0]], nil }
		w.rt.programs["first"] = func(uint32) run { return run{lasts: 3 * time.Second} }
		w.apply(sidecars)
		expect := func(what string, names ...string) {
			t.Helper()
			if got := w.rt.running(); !slices.Equal(got, names) {
				t.Errorf("%s: running %v, want %v", what, got, names)
			}
		}
		w.settle(2 * time.Second)
		expect("at first", "first")
		w.settle(3 * time.Second)
		expect("the first has ended, the sidecar has not started", "proxy")
		if s := w.status(); s.Phase != phasePending || cond(s.Conditions, condInitialized).Message != "containers with incomplete status: [proxy logs]" {
			t.Errorf("phase %s, %+v", s.Phase, cond(s.Conditions, condInitialized))
		}
		w.rt.mu.Lock()
		codes["up"] = 0
		w.rt.mu.Unlock()
		w.settle(4 * time.Second)
		expect("all", "c", "logs", "proxy")
		s := w.status()
		if s.Phase != phaseRunning || cond(s.Conditions, condInitialized).Status != "True" || cond(s.Conditions, condReady).Message != "containers with unready status: [logs]" {
			t.Errorf("phase %s, conditions %+v", s.Phase, s.Conditions)
		}
		if st := s.InitContainerStatuses; !st[0].Ready || !*st[1].Started || !st[1].Ready || st[2].Ready || st[1].State.Running == nil {
			t.Errorf("statuses %+v", st)
		}
		w.rt.mu.Lock()
		codes["ready"] = 0
		w.rt.mu.Unlock()
		w.settle(3 * time.Second)
		if c := cond(w.status().Conditions, condReady); c.Status != "True" {
			t.Errorf("%+v", c)
		}
	})
}

// TestSidecarRestarts: a sidecar that ends is started again whatever restartPolicy and exit code, and disturbs nobody.
func TestSidecarRestarts(t *testing.T) {
	simulate(t, func(w *world) {
		w.commands(nil)
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.rt.programs["proxy"] = func(attempt uint32) run {
			if attempt == 0 {
				return run{lasts: 20 * time.Second}
			}
			return run{}
		}
		w.apply(strings.Replace(sidecars, `"spec":{`, `"spec":{"restartPolicy":"Never",`, 1))
		w.settle(40 * time.Second)
		s := w.status()
		if p := s.InitContainerStatuses[1]; s.Phase != phaseRunning || p.RestartCount != 1 || p.State.Running == nil || p.LastState.Terminated == nil {
			t.Errorf("phase %s, proxy %+v", s.Phase, p)
		}
		if n := len(w.rt.byName("c")) + len(w.rt.byName("first")) + len(w.rt.byName("logs")); n != 3 {
			t.Errorf("%d containers beside the sidecar, want 3", n)
		}
	})
}

// TestSidecarsEndWithTheirPod: a pod is complete when its containers are, and sidecars end after them, the last first.
func TestSidecarsEndWithTheirPod(t *testing.T) {
	for _, policy := range []string{restartNever, restartOnFailure} {
		simulate(t, func(w *world) {
			w.commands(nil)
			w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
			w.rt.programs["c"] = func(uint32) run { return run{lasts: 30 * time.Second} }
			for _, name := range []string{"proxy", "logs"} {
				w.rt.programs[name] = func(uint32) run { return run{dies: 2 * time.Second} }
			}
			w.apply(strings.Replace(sidecars, `"spec":{`, `"spec":{"restartPolicy":"`+policy+`",`, 1))
			w.settle(time.Minute)
			if s := w.status(); s.Phase != phaseSucceeded {
				t.Fatalf("%s: phase %s: %+v", policy, s.Phase, s.InitContainerStatuses)
			}
			if got := w.rt.running(); len(got) != 0 {
				t.Errorf("%s: running %v", policy, got)
			}
			c, proxy, logs := w.rt.byName("c"), w.rt.byName("proxy"), w.rt.byName("logs")
			if len(proxy) != 1 || len(logs) != 1 || !logs[0].finished.After(c[0].finished) || !proxy[0].finished.After(logs[0].finished) {
				t.Errorf("%s: ended in the order c %v, logs %+v, proxy %+v", policy, c[0].finished, logs, proxy)
			}
		})
	}
}

func TestSidecarsEndLastWhenDeleted(t *testing.T) {
	simulate(t, func(w *world) {
		w.commands(nil)
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.rt.programs["c"] = func(uint32) run { return run{dies: 12 * time.Second} }
		w.apply(sidecars)
		w.settle(20 * time.Second)
		w.apply(deletingPod(sidecars, "30"))
		w.settle(5 * time.Second)
		if got := w.rt.running(); !slices.Equal(got, []string{"c", "logs", "proxy"}) {
			t.Errorf("while the container ends: running %v", got)
		}
		w.settle(time.Minute)
		if !w.report(podKey).Deleted {
			t.Error("not deleted")
		}
		if want := []time.Duration{30 * time.Second, 18 * time.Second, 18 * time.Second}; !slices.Equal(w.rt.stops, want) {
			t.Errorf("grace periods %v, want %v", w.rt.stops, want)
		}
	})
}

// TestSidecarUnhealthy: a sidecar that fails its probe is restarted.
func TestSidecarUnhealthy(t *testing.T) {
	simulate(t, func(w *world) {
		codes := map[string]int32{}
		w.rt.exec = func(_ string, cmd []string) (int32, error) { return codes[cmd[0]], nil }
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.apply(strings.Replace(sidecars, `"readinessProbe":`, `"livenessProbe":`, 1))
		w.settle(20 * time.Second)
		w.rt.mu.Lock()
		codes["ready"] = 1
		w.rt.mu.Unlock()
		w.settle(3500 * time.Millisecond)
		w.rt.mu.Lock()
		codes["ready"] = 0
		w.rt.mu.Unlock()
		w.settle(5 * time.Second)
		s := w.status()
		if l := s.InitContainerStatuses[2]; l.RestartCount != 1 || l.State.Running == nil || s.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("logs %+v, c %+v", l, s.ContainerStatuses[0])
		}
		if e := w.event("Unhealthy"); e == nil || e.ref != "Pod/web spec.initContainers{logs}" {
			t.Errorf("event %+v", e)
		}
	})
}

// TestSidecarsAreAdopted: a restart of the agent changes nothing, and a new sandbox runs all of them again.
func TestSidecarsAreAdopted(t *testing.T) {
	simulate(t, func(w *world) {
		w.commands(nil)
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.apply(sidecars)
		w.settle(20 * time.Second)
		w.stop()
		w.settle(time.Minute)
		w.start()
		w.settle(20 * time.Second)
		if n := w.rt.called("CreateContainer"); n != 4 {
			t.Errorf("%d containers were made, want 4", n)
		}
		w.rt.mu.Lock()
		for _, b := range w.rt.boxes {
			b.ready = false
		}
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		first := w.rt.byName("first")
		if got := w.rt.running(); !slices.Equal(got, []string{"c", "logs", "proxy"}) || first[len(first)-1].config.Metadata.Attempt != 1 {
			t.Errorf("running %v, first ran with attempt %d last, want 1", got, first[len(first)-1].config.Metadata.Attempt)
		}
	})
}
