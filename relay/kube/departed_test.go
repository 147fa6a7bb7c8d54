package kube

import (
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
)

// TestEventsOfAPodThatIsGone: what an agent tells of a pod's end, and the API hears after the pod has gone, is told of the pod. Another
// node's word about it is still refused its place.
func TestEventsOfAPodThatIsGone(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.api.remove(wire.KindPod, "default/web")
		synctest.Wait()
		killing := []wire.OutboxItem{event(t, 1, `{"kind":"Pod","namespace":"default","name":"web","uid":"p1"}`)}
		for _, node := range []string{"gw-1", "gw-2"} {
			if err := b.sink.Outbox(b.t.Context(), node, killing); err != nil {
				t.Fatal(err)
			}
		}
		own := b.api.get(eventsGVR, "default/gw-1.12.1")
		if field(own, "involvedObject", "kind") != "Pod" || field(own, "involvedObject", "uid") != "p1" || field(own, "message") != "it broke" {
			t.Errorf("the event of its node is %v", own)
		}
		if other := b.api.get(eventsGVR, "default/gw-2.12.1"); field(other, "involvedObject", "kind") != "Node" {
			t.Errorf("the event of another node is %v", other)
		}
	})
}

func TestDepartedIsBounded(t *testing.T) {
	var d departed
	key := func(i int) wire.Key { return wire.NewKey(wire.KindPod, "default", nodeOf(i), "u") }
	for i := range 3 * departedMost {
		d.add(key(i), "gw-1")
		d.add(key(i), "gw-1")
	}
	if len(d.nodes) != departedMost || len(d.order) != departedMost || d.was(key(2*departedMost-1)) != "" || d.was(key(2*departedMost)) != "gw-1" {
		t.Errorf("%d pods are remembered, in an order of %d", len(d.nodes), len(d.order))
	}
}
