package pods

import (
	"testing"
	"time"
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
