package kube

import (
	"maps"
	"testing"
)

// TestNodeSaysWhereItsKubeletIs: the relays' address and port, and the path by which metrics-server finds this node among all at that address.
func TestNodeSaysWhereItsKubeletIs(t *testing.T) {
	e := &KubeletEndpoint{Address: "10.96.0.50", Port: 10250}
	reported := map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": "192.168.7.2"}, map[string]any{"type": "Hostname", "address": "gw-1"}}}
	got := map[string]any{}
	e.annotate(got, "gw-1", reported)
	want := map[string]any{gatewayAddresses: "192.168.7.2", "metrics.k8s.io/resource-metrics-path": "/nodes/gw-1/metrics/resource"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for name := range want {
		if nodeMayAnnotate(name) {
			t.Errorf("a node may say %s itself, and so send a scraper with the cluster's token elsewhere", name)
		}
	}
}
