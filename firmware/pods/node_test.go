package pods

import (
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestNodeStatus(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(time.Second)
		n := w.node()
		if n.Labels["kubernetes.io/hostname"] != "gw-1" || n.Status.Capacity["memory"] != "1048576Ki" || n.Status.Capacity["cpu"] != "2" || n.Status.Allocatable["pods"] != "110" {
			t.Errorf("node %+v", n)
		}
		if n.Status.Addresses[0].Address != "192.0.2.7" || n.Status.NodeInfo.ContainerRuntimeVersion != "fake://1.0" || n.Status.NodeInfo.KubeletVersion != "v0" {
			t.Errorf("node %+v", n.Status)
		}
		for kind, want := range map[string]string{"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"} {
			if c := cond(n.Status.Conditions, kind); c.Status != want || c.LastHeartbeatTime == nil || c.LastTransitionTime == nil {
				t.Errorf("%s: %+v", kind, c)
			}
		}
		before := w.count("nodes//gw-1")
		w.settle(11 * time.Minute)
		if got := w.count("nodes//gw-1") - before; got != 2 {
			t.Errorf("reported %d times in 11 minutes without a change", got)
		}
	})
}

// TestPressureDoesNotFlap: memory around the threshold is one change of the condition, not one every ten seconds.
func TestPressureDoesNotFlap(t *testing.T) {
	before := map[string]corev1.Condition{}
	for _, c := range []struct {
		left int64
		want string
	}{{60, "False"}, {49, "True"}, {51, "True"}, {69, "True"}, {49, "True"}, {70, "False"}, {51, "False"}, {49, "True"}} {
		got := cond(pressure(&Measurement{Memory: 1000, MemoryAvailable: c.left}, "/x", before), "MemoryPressure")
		if got.Status != c.want || (got.Reason == "KubeletHasInsufficientMemory") != (c.want == "True") {
			t.Errorf("%d of 1000 left: %+v", c.left, got)
		}
		before[got.Type] = got
	}
}
