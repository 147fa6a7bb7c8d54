package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const signalPod = `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"os":{"name":"linux"},"containers":[
	{"name":"plain","image":"app:1"},{"name":"c","image":"app:1","lifecycle":{"stopSignal":"SIGRTMIN+3"}}]}}`

// TestStopSignal: the runtime is told, and what it says is in the status.
func TestStopSignal(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.signals = 1
		w.apply(signalPod)
		w.settle(5 * time.Second)
		for _, c := range w.rt.containers {
			if want := map[string]cri.Signal{"c": 38}[c.config.Metadata.Name]; c.config.StopSignal != want {
				t.Errorf("%s: signal %d, want %d", c.config.Metadata.Name, c.config.StopSignal, want)
			}
		}
		s := w.status()
		if s.Phase != phaseRunning || len(s.ContainerStatuses) != 2 || s.ContainerStatuses[0].StopSignal+" "+s.ContainerStatuses[1].StopSignal != "SIGTERM SIGRTMIN+3" {
			t.Errorf("%s: %+v", s.Phase, s.ContainerStatuses)
		}
	})
}

// TestStopSignalIgnored: a runtime that does not know the field is found out before the container starts.
func TestStopSignalIgnored(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(signalPod)
		w.settle(5 * time.Second)
		s := w.status()
		waits := s.ContainerStatuses[1].State.Waiting
		if waits == nil || waits.Reason != reasonConfigError || !strings.Contains(waits.Message, `container "c": lifecycle.stopSignal: the container runtime fake 1.0 sends`) || w.event("Failed") == nil {
			t.Errorf("waiting %+v", waits)
		}
		if s.ContainerStatuses[0].State.Running == nil || s.ContainerStatuses[0].StopSignal != "" || len(w.rt.containers) != 1 {
			t.Errorf("beside it: %+v, %d containers", s.ContainerStatuses[0], len(w.rt.containers))
		}
	})
}

// TestStopSignalRefused: a runtime that is known not to take stop signals is not tried.
func TestStopSignalRefused(t *testing.T) {
	d := decode(t, `{"os":{"name":"linux"},"containers":[{"name":"plain","image":"app:1"},{"name":"c","image":"app:1","lifecycle":{"stopSignal":"SIGUSR1"}}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	for version, want := range map[string]bool{"1.6.20": true, "v2.2.1": true, "v2.4.2": false} {
		m := &Manager{}
		m.rt = runtimeState{name: "containerd", version: version, can: abilitiesOf("containerd", version, nil)}
		if why := m.unable(&d.pod.Spec); (why != "") != want || want && !strings.Contains(why, `container "c": lifecycle.stopSignal: the container runtime containerd `+version) {
			t.Errorf("%s: %q", version, why)
		}
	}
	if abilitiesOf("cri-o", "1.31.0", nil).imageSignalsOnly {
		t.Error("of CRI-O it is not known")
	}
}
