package pods

import (
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
)

// TestFewCalls: a pod that comes for the first time costs the runtime one call of each kind that it takes, and no lists. An agent that is started again, or
// a pod that was there before, asks.
func TestFewCalls(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(10500 * time.Millisecond) // between two looks at all pods
		w.rt.mu.Lock()
		before := maps.Clone(w.rt.calls)
		w.rt.mu.Unlock()
		w.apply(simplePod)
		w.settle(time.Millisecond)
		if got := w.status().Phase; got != phaseRunning {
			t.Fatalf("the pod is %s", got)
		}
		w.rt.mu.Lock()
		for call, want := range map[string]int{"ListPodSandbox": 0, "ListContainers": 0, "RunPodSandbox": 1, "PodSandboxStatus": 1, "ImageStatus": 1, "CreateContainer": 1, "StartContainer": 1, "ContainerStatus": 1} {
			if got := w.rt.calls[call] - before[call]; got != want {
				t.Errorf("%d calls of %s, want %d", got, call, want)
			}
		}
		w.rt.mu.Unlock()
		w.settle(10 * time.Second)
		if n := len(w.rt.byName("c")); n != 1 || w.rt.boxCount() != 1 || w.status().ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("%d containers, %d sandboxes", n, w.rt.boxCount())
		}
	})
}

// TestFewCallsForMany: pods that come together cost the same each, and the relists that find them running make no worker ask again.
func TestFewCallsForMany(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(10500 * time.Millisecond)
		w.rt.mu.Lock()
		w.rt.latency = func() time.Duration { return 300 * time.Millisecond }
		before := maps.Clone(w.rt.calls)
		w.rt.mu.Unlock()
		const pods = 20
		for i := range pods {
			key, doc := podOf("p"+strconv.Itoa(i), "app:1")
			w.put(key, doc)
		}
		w.settle(10 * time.Second)
		w.rt.mu.Lock()
		defer w.rt.mu.Unlock()
		for _, call := range []string{"RunPodSandbox", "PodSandboxStatus", "ImageStatus", "CreateContainer", "StartContainer", "ContainerStatus"} {
			if got := w.rt.calls[call] - before[call]; got != pods {
				t.Errorf("%d calls of %s, want %d", got, call, pods)
			}
		}
		// One for each relist: every second while something is going on, then rarely.
		for _, call := range []string{"ListPodSandbox", "ListContainers"} {
			if got := w.rt.calls[call] - before[call]; got > 6 {
				t.Errorf("%d calls of %s", got, call)
			}
		}
	})
}

// TestFreshOrNot: whatever may hide something that the runtime has makes the worker ask.
func TestFreshOrNot(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(time.Second)
		if !w.m.isFresh("u9") {
			t.Error("a pod that nobody knows is not fresh")
		}
		w.rt.mu.Lock()
		w.rt.boxes["foreign"] = &fakeBox{id: "foreign", ready: false, config: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "x", UID: "u9", Namespace: "default"}, Labels: map[string]string{labelNode: "gw-1", labelPodUID: "u9"}}}
		w.rt.down = errFakeDown
		w.rt.mu.Unlock()
		w.stop()
		w.start() // and the runtime does not answer
		w.settle(time.Second)
		if w.m.isFresh("u8") {
			t.Error("a pod is fresh though the runtime was not asked")
		}
		w.rt.mu.Lock()
		w.rt.down = nil
		w.rt.mu.Unlock()
		w.put(wire.Key("pods/default/web/u9"), simplePod)
		w.settle(time.Minute)
		if w.m.isFresh("u9") || !w.m.isFresh("u8") {
			t.Error("a pod that the runtime has a sandbox of is fresh, or one that it has nothing of is not")
		}
	})
}
