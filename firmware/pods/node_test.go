package pods

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
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

func (w *world) boxes() int {
	w.rt.mu.Lock()
	defer w.rt.mu.Unlock()
	return len(w.rt.boxes)
}

// TestNodeWithoutNetwork: the message says what is missing, and the node is ready again soon after it is there.
func TestNodeWithoutNetwork(t *testing.T) {
	simulate(t, func(w *world) {
		var problem atomic.Value
		problem.Store("CNI plugins are missing in /x: portmap")
		w.stop()
		w.o.Network = func() string { return problem.Load().(string) }
		w.start()
		w.settle(time.Second)
		if c := cond(w.node().Status.Conditions, "Ready"); c.Status != "False" || c.Reason != "NetworkNotReady" || !strings.Contains(c.Message, "portmap; pods with hostNetwork") {
			t.Errorf("condition %+v", c)
		}
		w.apply(simplePod)
		w.put("pods/default/bare/u2", strings.NewReplacer(`"u1"`, `"u2"`, `"web"`, `"bare"`, `"spec":{`, `"spec":{"hostNetwork":true,`).Replace(simplePod))
		w.settle(20 * time.Second)
		if e := w.event("NetworkNotReady"); e == nil || !strings.Contains(e.message, "network is not ready: CNI plugins are missing in /x: portmap") {
			t.Errorf("event %+v", e)
		}
		if n := w.boxes(); n != 1 {
			t.Errorf("%d sandboxes, want that of the pod on the host's network alone", n)
		}
		w.settle(5 * time.Minute)
		before := w.rt.called("Status")
		w.settle(10 * time.Minute)
		if n := w.rt.called("Status") - before; n > 70 {
			t.Errorf("a gateway without a network asks the runtime %d times in 10 minutes", n)
		}
		w.m.pokeNode()
		w.settle(time.Second)
		problem.Store("")
		w.settle(15 * time.Second)
		if n := w.boxes(); n != 2 {
			t.Errorf("%d sandboxes, want both", n)
		}
		if c := cond(w.node().Status.Conditions, "Ready"); c.Status != "True" {
			t.Errorf("condition %+v", c)
		}
	})
}

func TestNodeImages(t *testing.T) {
	var many []cri.Image
	for i := range 70 {
		many = append(many, cri.Image{ID: fmt.Sprint(i), RepoTags: []string{fmt.Sprintf("r/i:%02d", i)}, RepoDigests: []string{fmt.Sprintf("r/i@sha256:%02d", i)}, Size: uint64(i)}) //nolint:gosec // small
	}
	many = append(many, cri.Image{ID: "nameless", Size: 1000})
	got := nodeImages(many)
	if len(got) != maxNodeImages || got[0].SizeBytes != 69 || len(got[0].Names) != 2 || got[0].Names[0] != "r/i@sha256:69" || got[49].SizeBytes != 20 {
		t.Errorf("images %+v", got)
	}
}

func TestRuntimeHandlers(t *testing.T) {
	h, f := runtimeHandlers(&cri.StatusResponse{
		RuntimeHandlers: []cri.RuntimeHandler{{Name: "runc", Features: &cri.RuntimeHandlerFeatures{UserNamespaces: true}}, {Name: ""}},
		Features:        &cri.RuntimeFeatures{SupplementalGroupsPolicy: true},
	})
	if len(h) != 2 || h[0].Name != "" || h[0].Features != nil || !*h[1].Features.UserNamespaces || *h[1].Features.RecursiveReadOnlyMounts || !*f.SupplementalGroupsPolicy {
		t.Errorf("handlers %+v, features %+v", h, f)
	}
	if h, f := runtimeHandlers(&cri.StatusResponse{}); h != nil || f != nil {
		t.Errorf("an older runtime has handlers %+v, features %+v", h, f)
	}
}

// TestAllocatable: what is reserved, and what a hard threshold would evict pods for, is not theirs.
func TestAllocatable(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.Reserved = corev1.ResourceList{"memory": "24Mi", "cpu": "500m"}
		w.o.Taints = []corev1.Taint{{Key: "site", Effect: "NoSchedule"}}
		w.start()
		w.settle(time.Second)
		n := w.node()
		if a := n.Status.Allocatable; a["cpu"] != "1500m" || a["memory"] != "994888909" || a["ephemeral-storage"] != "7730941133" {
			t.Errorf("allocatable %v", a)
		}
		if len(n.Taints) != 1 || len(n.Status.Images) != 1 || n.Status.Images[0].Names[0] != "app:1" {
			t.Errorf("node %+v", n)
		}
	})
}

func TestBinaryKiB(t *testing.T) {
	for kib, want := range map[int64]string{0: "0", 64: "64Ki", 2048: "2Mi", 1 << 20: "1Gi", 3 << 20: "3Gi", 1 << 34: "16Ti"} {
		if got := binaryKiB(kib); got != want {
			t.Errorf("%d: %s", kib, got)
		}
	}
}
