package kube

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/firmware/wire"
)

// TestFencedSessionStopsWriting: another relay has claimed the node; the first conflict tells.
func TestFencedSessionStopsWriting(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		other := NewSink(SinkOptions{Index: NewIndex(b.index.opts), Client: b.api, Relay: "relay-b", Log: b.sink.log})
		if err := other.SessionStarted(b.t.Context(), "gw-1", 9); err != nil {
			t.Fatal(err)
		}
		stale := *b.index.get(podKey)
		stale.rv = "1"
		b.index.mu.Lock()
		b.index.kinds[wire.KindPod].records[podKey] = &stale
		b.index.mu.Unlock()
		b.report("gw-1", 7, podKey, runningPod)
		if field(b.api.get(podsGVR, "default/web"), "status", "phase") != nil {
			t.Error("a fenced session wrote")
		}
		if !slices.Equal(b.fencedEpochs(), []uint64{7}) {
			t.Errorf("fenced: %v, want epoch 7", b.fencedEpochs())
		}
		if err := b.sink.SessionStarted(b.t.Context(), "gw-1", 7); !errors.Is(err, ErrNewerSession) {
			t.Errorf("the fenced session could claim the node again: %v", err)
		}
		if err := b.sink.SessionStarted(b.t.Context(), "gw-1", 10); err != nil {
			t.Errorf("a newer epoch could not: %v", err)
		}
	})
}

// TestOlderSessionOfThisRelayDoesNotTakeTheLeaseBack: an agent that reconnects while the API server is slow has two claims
// under way. The older one may be served last, and must not fence the session that lives.
func TestOlderSessionOfThisRelayDoesNotTakeTheLeaseBack(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 9)
		b.report("gw-1", 9, nodeKey, readyNode)
		if _, err := b.sink.claim(b.t.Context(), b.sink.nodes["gw-1"], 8, false); !errors.Is(err, ErrNewerSession) {
			t.Errorf("the older claim ended with %v", err)
		}
		if epoch := field(b.api.get(leasesGVR, NodeLeaseNamespace+"/gw-1"), "metadata", "annotations", epochAnnotation); epoch != "9" {
			t.Errorf("the Lease records epoch %v", epoch)
		}
		b.sink.SessionEnded("gw-1", 9)
		b.sink.nodes["gw-1"].newest = 11 // it has not reached the API yet
		if err := b.sink.SessionStarted(b.t.Context(), "gw-1", 10); !errors.Is(err, ErrNewerSession) {
			t.Errorf("claimed for an older epoch while a newer one starts: %v", err)
		}
		b.start("gw-1", 12)
	})
}

func TestLeaseIsRenewedWhileTheSessionLives(t *testing.T) {
	withBench(t, func(b *bench) {
		lease := func() map[string]any { return b.api.get(leasesGVR, NodeLeaseNamespace+"/gw-1") }
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		if field(lease(), "spec", "holderIdentity") != "gw-1" || field(lease(), "spec", "leaseDurationSeconds") != int64(40) ||
			field(lease(), "metadata", "annotations", epochAnnotation) != "7" || field(lease(), "metadata", "annotations", relayAnnotation) != "relay-a" {
			t.Errorf("lease is %v", lease())
		}
		first := field(lease(), "spec", "renewTime")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		second := field(lease(), "spec", "renewTime")
		if second == first {
			t.Error("not renewed after 11 s")
		}
		if owner := field(lease(), "metadata", "ownerReferences", 0, "uid"); owner != field(b.api.get(nodesGVR, "/gw-1"), "metadata", "uid") {
			t.Errorf("owner of the lease is %v", owner)
		}
		b.sink.SessionEnded("gw-1", 7)
		time.Sleep(time.Minute)
		synctest.Wait()
		if field(lease(), "spec", "renewTime") != second {
			t.Error("renewed after the session had ended")
		}
		if s := b.sink.Sessions(); len(s) != 0 {
			t.Errorf("sessions left: %v", s)
		}
	})
}

// TestNodeMadeAnewByOthers: somebody deletes a Node, its Lease goes with it, and makes it again while the session lives.
func TestNodeMadeAnewByOthers(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		b.api.remove(wire.KindNode, "/gw-1")
		b.api.mu.Lock()
		b.api.store(leasesGVR, b.api.objects[leasesGVR][NodeLeaseNamespace+"/gw-1"], watch.Deleted)
		b.api.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if b.api.get(leasesGVR, NodeLeaseNamespace+"/gw-1") != nil {
			t.Error("a Lease without a Node")
		}
		b.api.put(t, wire.KindNode, `{"metadata":{"name":"gw-1"}}`)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if epoch := field(b.api.get(leasesGVR, NodeLeaseNamespace+"/gw-1"), "metadata", "annotations", epochAnnotation); epoch != "7" {
			t.Errorf("nobody renews the Lease: it records epoch %v", epoch)
		}
	})
}
