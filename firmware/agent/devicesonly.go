package agent

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// nodeRefresh is how often an unchanged node status is reported again; heartbeats are the Lease's.
const (
	nodeRefresh = 5 * time.Minute
	nodeLook    = 10 * time.Second // how soon a change is seen
)

type nodeReporter interface {
	Report(key wire.Key, body []byte)
}

// nodeExtras are what other parts tell of the node. The functions may be nil; they are asked every ten seconds.
type nodeExtras struct {
	labels      map[string]string
	annotations func() map[string]string
	conditions  func() []corev1.Condition
}

func sameConditions(a, b []corev1.Condition) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Condition) bool {
		return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
	})
}

// reportDevicesOnlyNode tells Kubernetes of a gateway that takes no pods (pods.enabled is false): firmware/pods, which
// else reports the node, does not run there. The node has room for no pod, so that the scheduler leaves it alone.
func reportDevicesOnlyNode(ctx context.Context, node string, facts board.Facts, extras nodeExtras, reports nodeReporter) error {
	doc := devicesOnlyNode(node, facts, time.Now())
	maps.Copy(doc.Labels, extras.labels)
	ready := doc.Status.Conditions
	tick := time.NewTicker(nodeLook)
	defer tick.Stop()
	var at time.Time
	for {
		changed := false
		if extras.annotations != nil {
			if now := corev1.StringMap(extras.annotations()); !maps.Equal(now, doc.Annotations) {
				doc.Annotations, changed = now, true
			}
		}
		if extras.conditions != nil {
			if now := append(slices.Clone(ready), extras.conditions()...); !sameConditions(now, doc.Status.Conditions) {
				doc.Status.Conditions, changed = now, true
			}
		}
		if now := time.Now(); changed || now.Sub(at) >= nodeRefresh {
			body, err := corev1.Canonical(doc)
			if err != nil {
				return fmt.Errorf("encode the status of node %s: %w", node, err)
			}
			reports.Report(wire.NewKey(wire.KindNode, "", node, ""), body)
			at = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func devicesOnlyNode(node string, facts board.Facts, now time.Time) *corev1.NodeReport {
	info := nodeInfo(facts)
	info.KubeletVersion = kubeletVersion()
	resources := corev1.ResourceList{
		"cpu": corev1.NewQuantity(int64(runtime.NumCPU())), "memory": corev1.NewQuantity(facts.MemoryBytes), "pods": corev1.NewQuantity(0),
	}
	return &corev1.NodeReport{
		Labels: corev1.StringMap{"kubernetes.io/hostname": node, "kubernetes.io/os": info.OperatingSystem, "kubernetes.io/arch": info.Architecture},
		Status: corev1.NodeStatus{
			Capacity: resources, Allocatable: resources, NodeInfo: info,
			Conditions: []corev1.Condition{{
				Type: "Ready", Status: "True", Reason: "DevicesOnly", Message: "skerryd runs devices; it takes no pods, because pods.enabled is false",
				LastTransitionTime: corev1.NewTime(now), LastHeartbeatTime: corev1.NewTime(now),
			}},
		},
	}
}

// kubeletVersion is the agent's version in the form of a semantic version, which Kubernetes' clients expect of a node.
func kubeletVersion() string {
	if v := skerry.Version; len(v) > 1 && v[0] == 'v' {
		if _, err := strconv.Atoi(v[1:2]); err == nil {
			return v
		}
	}
	return "v0.0.0-skerry." + skerry.Version
}
