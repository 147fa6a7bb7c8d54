package pods

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
)

// sized is a pod with one container of a size; policy is its resizePolicy. The fake node has 2 CPUs and 1 GiB.
func sized(name, cpu, memory, policy string, generation int) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"default","uid":"u1","generation":%d},"spec":{"containers":[{"name":"c","image":"app:1",
		"resizePolicy":[%s],"resources":{"requests":{"cpu":%q,"memory":%q},"limits":{"cpu":%[4]q,"memory":%[5]q}}}]}}`, name, generation, policy, cpu, memory)
}

// TestResizeInPlace: CPU and memory of a running container change, and it goes on.
func TestResizeInPlace(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(sized("web", "100m", "64Mi", "", 1))
		w.settle(2 * time.Second)
		before := w.status().ContainerStatuses[0]
		if before.AllocatedResources["cpu"] != "100m" || before.Resources == nil || before.Resources.Limits["memory"] != "64Mi" {
			t.Fatalf("before: %+v", before)
		}
		w.apply(sized("web", "200m", "128Mi", "", 2))
		w.settle(5 * time.Second)
		s := w.status()
		c := s.ContainerStatuses[0]
		if c.ContainerID != before.ContainerID || c.RestartCount != 0 || c.AllocatedResources["cpu"] != "200m" || c.Resources.Limits["memory"] != "128Mi" || s.ObservedGeneration != 2 {
			t.Errorf("after: %+v", c)
		}
		if len(w.rt.updates) != 1 || w.rt.updates[0].CPUQuota != 20000 || w.rt.updates[0].CPUShares != 204 || w.rt.updates[0].MemoryLimitInBytes != 128<<20 {
			t.Errorf("updates %+v", w.rt.updates)
		}
		for _, kind := range []string{condResizePending, condResizeInProgress} {
			if c := cond(s.Conditions, kind); c.Type != "" {
				t.Errorf("condition %+v", c)
			}
		}
		if e := w.event("ResizeStarted"); e == nil || !strings.Contains(e.message, `"cpu":"200m"`) || !strings.Contains(e.message, `"generation":2`) {
			t.Errorf("event %+v", e)
		}
		if w.event("ResizeCompleted") == nil {
			t.Error("no event of its end")
		}
		// A restart of the agent tells the runtime once more, and nobody else.
		w.stop()
		w.start()
		w.settle(time.Minute)
		if c := w.status().ContainerStatuses[0]; c.ContainerID != before.ContainerID || c.Resources.Limits["memory"] != "128Mi" || len(w.rt.updates) != 2 {
			t.Errorf("after a restart of the agent: %+v, %d updates", c, len(w.rt.updates))
		}
	})
}

// TestResizeRestarts: with RestartContainer for the resource that changed, the container is made anew, and only then.
func TestResizeRestarts(t *testing.T) {
	simulate(t, func(w *world) {
		const policy = `{"resourceName":"cpu","restartPolicy":"NotRequired"},{"resourceName":"memory","restartPolicy":"RestartContainer"}`
		w.apply(sized("web", "100m", "64Mi", policy, 1))
		w.settle(2 * time.Second)
		w.apply(sized("web", "200m", "64Mi", policy, 2))
		w.settle(5 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 0 || len(w.rt.updates) != 1 {
			t.Fatalf("cpu: %+v", c)
		}
		w.apply(sized("web", "200m", "128Mi", policy, 3))
		w.settle(5 * time.Second)
		c := w.status().ContainerStatuses[0]
		if c.RestartCount != 1 || c.State.Running == nil || c.Resources.Limits["memory"] != "128Mi" || len(w.rt.updates) != 1 {
			t.Errorf("memory: %+v", c)
		}
		list := w.rt.byName("c")
		if r := list[len(list)-1].config.Linux.Resources; r.MemoryLimitInBytes != 128<<20 || r.CPUQuota != 20000 {
			t.Errorf("made with %+v", r)
		}
		if e := w.event("Killing"); e == nil || e.message != "Container c resize requires restart" {
			t.Errorf("event %+v", e)
		}
	})
}

// TestResizeThatCannotBe: more than the node has is infeasible; what others have is waited for, until one of them leaves.
func TestResizeThatCannotBe(t *testing.T) {
	simulate(t, func(w *world) {
		const other = wire.Key("pods/default/other/u2")
		w.put(other, strings.Replace(sized("other", "1500m", "64Mi", "", 1), `"u1"`, `"u2"`, 1))
		w.apply(sized("web", "100m", "64Mi", "", 1))
		w.settle(2 * time.Second)
		w.apply(sized("web", "3", "64Mi", "", 2))
		w.settle(2 * time.Second)
		s := w.status()
		if c := cond(s.Conditions, condResizePending); c.Reason != resizeInfeasible || c.Message != "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000" || c.ObservedGeneration != 2 {
			t.Errorf("condition %+v", c)
		}
		if w.event("ResizeInfeasible") == nil || s.ContainerStatuses[0].AllocatedResources["cpu"] != "100m" {
			t.Errorf("status %+v", s.ContainerStatuses[0])
		}
		w.apply(sized("web", "1", "64Mi", "", 3))
		w.settle(2 * time.Second)
		if c := cond(w.status().Conditions, condResizePending); c.Reason != resizeDeferred || c.Message != "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000" {
			t.Errorf("condition %+v", c)
		}
		w.stop() // what was granted is known after a restart of the agent
		w.start()
		w.settle(5 * time.Second)
		if s := w.status(); s.ContainerStatuses[0].AllocatedResources["cpu"] != "100m" || cond(s.Conditions, condResizePending).Reason != resizeDeferred || len(w.rt.updates) != 0 {
			t.Errorf("after a restart of the agent: %+v", s)
		}
		w.desired.remove(other)
		w.settle(time.Minute)
		s = w.status()
		if c := s.ContainerStatuses[0]; c.AllocatedResources["cpu"] != "1" || c.RestartCount != 0 || cond(s.Conditions, condResizePending).Type != "" || len(w.rt.updates) != 1 {
			t.Errorf("status %+v, %d updates", c, len(w.rt.updates))
		}
	})
}

// TestResizeIsUndone: a resize that waits may be taken back, and one that fails says why until it succeeds.
func TestResizeIsUndone(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(sized("web", "100m", "64Mi", "", 1))
		w.settle(2 * time.Second)
		w.apply(sized("web", "9", "64Mi", "", 2))
		w.settle(2 * time.Second)
		w.apply(sized("web", "100m", "64Mi", "", 3))
		w.settle(2 * time.Second)
		if s := w.status(); cond(s.Conditions, condResizePending).Type != "" || len(w.rt.updates) != 0 {
			t.Errorf("conditions %+v", s.Conditions)
		}
		w.rt.mu.Lock()
		w.rt.memory = 50 << 20
		w.rt.mu.Unlock()
		w.apply(sized("web", "100m", "32Mi", "", 4))
		w.settle(2 * time.Second)
		s := w.status()
		if c := cond(s.Conditions, condResizeInProgress); c.Reason != resizeError || !strings.Contains(c.Message, "below current usage") || s.ContainerStatuses[0].Resources.Limits["memory"] != "64Mi" ||
			s.ContainerStatuses[0].AllocatedResources["memory"] != "32Mi" {
			t.Errorf("condition %+v, %+v", c, s.ContainerStatuses[0])
		}
		w.rt.mu.Lock()
		w.rt.memory, w.rt.failUpdate = 10<<20, &cri.Error{Method: "UpdateContainerResources", Code: cri.ErrUnknown, Message: "device or resource busy"}
		w.rt.mu.Unlock()
		w.settle(20 * time.Second)
		if c := cond(w.status().Conditions, condResizeInProgress); c.Reason != resizeError || !strings.Contains(c.Message, "busy") || w.event("ResizeError") == nil {
			t.Errorf("condition %+v", c)
		}
		w.rt.mu.Lock()
		w.rt.failUpdate = nil
		w.rt.mu.Unlock()
		w.settle(20 * time.Second)
		s = w.status()
		if c := cond(s.Conditions, condResizeInProgress); c.Type != "" || s.ContainerStatuses[0].Resources.Limits["memory"] != "32Mi" {
			t.Errorf("condition %+v, %+v", c, s.ContainerStatuses[0].Resources)
		}
	})
}

// TestResizeBesideUnsupported: a pod that cannot run here takes no room from a resize, as it takes none from other pods.
func TestResizeBesideUnsupported(t *testing.T) {
	simulate(t, func(w *world) {
		w.small("odd", `"aFieldOfTomorrow":{"deep":[1]}`, `"resources":{"requests":{"cpu":"1900m"}}`)
		w.apply(sized("web", "100m", "64Mi", "", 1))
		w.settle(2 * time.Second)
		w.apply(sized("web", "500m", "64Mi", "", 2))
		w.settle(5 * time.Second)
		s := w.status()
		if c := cond(s.Conditions, condResizePending); c.Type != "" || s.ContainerStatuses[0].AllocatedResources["cpu"] != "500m" {
			t.Errorf("condition %+v, container %+v", c, s.ContainerStatuses[0])
		}
	})
}

// TestDeferredResizeAfterRestart: before the worker of a pod has looked for the first time, others are asked whether they fit beside what the pod was
// granted, not beside what its resize wants.
func TestDeferredResizeAfterRestart(t *testing.T) {
	simulate(t, func(w *world) {
		w.put("pods/default/other/u2", strings.Replace(sized("other", "1500m", "64Mi", "", 1), `"u1"`, `"u2"`, 1))
		w.apply(sized("web", "100m", "64Mi", "", 1))
		w.settle(2 * time.Second)
		w.apply(sized("web", "1", "512Mi", "", 2))
		w.settle(2 * time.Second)
		if c := cond(w.status().Conditions, condResizePending); c.Reason != resizeDeferred {
			t.Fatalf("condition %+v", c)
		}
		w.stop()
		w.rt.setDown(errFakeDown) // no worker can look
		w.start()
		w.settle(2 * time.Second)
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		for uid, want := range map[string]amounts{"u1": {100, 64 << 20}, "u2": {1500, 64 << 20}} {
			holds := w.m.workers[uid].holds()
			if got := (amounts{holds["cpu"], holds["memory"]}); got != want {
				t.Errorf("%s counts with %v, want %v", uid, got, want)
			}
		}
	})
}
