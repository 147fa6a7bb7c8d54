package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// TestDebugContainerUnsupported: kubectl debug changes the spec of a pod that runs, for good. The pod must not be stopped for it.
func TestDebugContainerUnsupported(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		before := w.status().ContainerStatuses[0].ContainerID
		w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"ephemeralContainers":[{"name":"debugger","image":"app:1","volumeDevices":[{"name":"x"}]}],`, 1))
		w.settle(time.Minute)
		if s := w.status(); s.Phase != phaseRunning || !s.ContainerStatuses[0].Ready || s.ContainerStatuses[0].ContainerID != before {
			t.Errorf("status %+v", s)
		}
		if e := w.event(reasonUnsupported); e == nil || !strings.Contains(e.message, "spec.ephemeralContainers[0].volumeDevices: ") || len(w.rt.byName("debugger")) > 0 {
			t.Errorf("event %+v", e)
		}
	})
}

// TestUnreadablePod: the view knows the pod and cannot read it at the moment.
func TestUnreadablePod(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		whole, _ := w.desired.Get(podKey)
		bare := whole
		bare.Body = nil
		created, reports := w.rt.called("CreateContainer"), w.count(podKey)
		for _, restart := range []bool{false, true} {
			if restart {
				w.stop()
			}
			w.desired.put(bare)
			if restart {
				w.start()
			}
			w.settle(time.Minute)
			if w.rt.called("CreateContainer") != created || w.rt.called("StopContainer") != 0 || w.count(podKey) != reports {
				t.Fatalf("restart %t: the pod was disturbed:\n%s", restart, w.logText())
			}
		}
		// The disk works again, and nothing says so.
		w.desired.mu.Lock()
		w.desired.objects[podKey] = whole
		w.desired.mu.Unlock()
		w.settle(2 * retrySoon)
		if w.count(podKey) == reports || w.status().Phase != phaseRunning || w.rt.called("CreateContainer") != created {
			t.Errorf("the pod is not looked after again: %+v", w.status())
		}
	})
}

// TestUndecodablePod: what cannot be decoded is refused, and can still be deleted.
func TestUndecodablePod(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		body, err := canon.FromJSON([]byte(`{"spec":{"containers":"many"}}`))
		if err != nil {
			t.Fatal(err)
		}
		w.desired.put(wire.Object{Key: podKey, Version: wire.Version{UID: "u1", Hash: canon.Hash(body)}, Body: body})
		w.settle(time.Minute)
		if s := w.status(); s.Reason != reasonUnsupported || !strings.Contains(s.Message, "cannot be decoded") {
			t.Errorf("status %+v", s)
		}
		if strings.Contains(w.logText(), "panic") {
			t.Errorf("log:\n%s", w.logText())
		}
		w.desired.remove(podKey)
		w.settle(time.Minute)
		if w.rt.boxCount() != 0 {
			t.Error("the pod's sandbox stays")
		}
	})
}

// TestStopDuringExecProbe: neither the agent's end nor a deletion waits for a probe that takes its time.
func TestStopDuringExecProbe(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.exec = func(string, []string) (int32, error) { return 0, nil }
		w.rt.execTakes = 4 * time.Minute
		w.apply(strings.Replace(simplePod, `"image":"app:1"`, `"image":"app:1","livenessProbe":{"exec":{"command":["x"]},"timeoutSeconds":300}`, 1))
		w.settle(time.Minute)
		if w.rt.called("ExecSync") == 0 {
			t.Fatal("no probe")
		}
		begin := time.Now()
		w.stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the agent took %v to stop", took)
		}
	})
}

// TestRunAgain: the agent runs its parts again after a panic. The same manager must then look after its pods again.
func TestRunAgain(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(attempt uint32) run {
			if attempt == 0 {
				return run{lasts: time.Minute, code: 1}
			}
			return run{}
		}
		w.apply(simplePod)
		w.settle(time.Second)
		w.stop()
		w.run()
		w.settle(2 * time.Minute)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil {
			t.Errorf("nobody looks after the pod: %+v", c)
		}
	})
}

// TestWatchesAreEmptied: a watch keeps the keys that changed until somebody takes them.
func TestWatchesAreEmptied(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(time.Second)
		w.apply(simplePod)
		w.put("configmaps/default/c", `{"data":{"a":"1"}}`)
		w.settle(time.Second)
		for _, watch := range w.desired.watches {
			if watch.taken.Load() == 0 {
				t.Errorf("the watch of %v is never emptied", watch.kinds)
			}
		}
	})
}
