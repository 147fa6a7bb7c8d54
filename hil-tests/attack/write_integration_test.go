//go:build integration

package attack

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
)

var getOptions = metav1.GetOptions{}

// writeAttempts try to change what belongs to others, or more than a node may change of itself.
func writeAttempts() []attempt {
	refused := func(reason string) []string { return []string{"skerry_relay_refused_total", `reason="` + reason + `"`} }
	another := refused("report-on-another-node")
	return []attempt{
		{"status-of-another-node", tryNodeStatus, another, []string{"node=NODE", "report-on-another-node", "nodes//" + victim}},
		{"status-of-another-pod", tryPodStatus, another, []string{"node=NODE", "report-on-another-node", "pods/default/with-secret"}},
		{"delete-another-pod", tryPodDelete, another, []string{"node=NODE", "report-on-another-node", "pods/default/pod-" + victim}},
		{"claim-a-device", tryDevice, another, []string{"node=NODE", "report-on-another-node", "devices/default/device-" + victim}},
	}
}

func tryNodeStatus(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: wire.NewKey(wire.KindNode, "", victim, ""), Body: document(t, map[string]any{
		"labels": map[string]any{"owned": "by-" + node},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "Evil", "message": "x"}}},
	})})
}

func tryPodStatus(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: r.podKey(t, "with-secret"), Body: document(t, map[string]any{"status": map[string]any{"phase": "Failed", "reason": "Evil"}})})
}

func tryPodDelete(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: r.podKey(t, "pod-"+victim), Body: document(t, map[string]any{"deleted": true})})
}

func tryDevice(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: deviceKey(victim), Body: document(t, map[string]any{
		"observedGeneration": 99, "conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "Evil", "message": "x"}},
		"deviceStatus": map[string]any{"state": "offline", "twins": []any{map[string]any{"propertyName": "level", "reported": map[string]any{"value": "666"}}}},
	})})
}
