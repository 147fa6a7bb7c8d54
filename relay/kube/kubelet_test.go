package kube

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
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
	if nodeMayAnnotate(wire.AnnotationUpdate) || !nodeMayAnnotate(wire.AnnotationUpdateStatus) {
		t.Error("updates are ordered by operators, and told of by nodes")
	}
}

// TestNodeForgetsTheKubeletPort: relays without one take away what relays with one wrote, and nothing else.
func TestNodeForgetsTheKubeletPort(t *testing.T) {
	withBench(t, func(b *bench) {
		b.sink.opts.Kubelet = &KubeletEndpoint{Address: "10.96.0.50", Port: 10250}
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		annotations := func() map[string]any {
			a, _ := field(b.api.get(nodesGVR, "/gw-1"), "metadata", "annotations").(map[string]any)
			return a
		}
		if err := b.index.RecordKubeletPort(t.Context(), "gw-1", 20001); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.report("gw-1", 7, nodeKey, readyNode)
		if a := annotations(); len(a) != 4 || a[KubeletPortAnnotation] != "20001" || a[metricsPath] != resourcePath("gw-1") {
			t.Fatalf("with a kubelet port: %v", a)
		}
		b.sink.opts.Kubelet = nil
		b.report("gw-1", 7, nodeKey, strings.Replace(readyNode, "AgentReady", "Ready", 1))
		if a := annotations(); len(a) != 1 || a["board.skerry.dev/name"] != "x" {
			t.Errorf("without: %v", a)
		}
		b.api.taken()
		b.report("gw-1", 7, nodeKey, strings.Replace(readyNode, "AgentReady", "Ready", 1))
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("the same again cost %q", got)
		}
		changed := map[string]any{}
		if unannotate(changed, "gw-1", map[string]any{metricsPath: "/metrics/own"}); len(changed) != 0 {
			t.Errorf("the owner's path would go: %v", changed)
		}
	})
}
