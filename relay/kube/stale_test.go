package kube

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/firmware/wire"
)

// TestAttemptOfAnOlderSessionStops: an agent leaves this relay and comes back while a report of its older session is being
// written. Another relay may have written a newer one in between, so a conflict must not lead to another attempt, although the
// Lease is this relay's.
func TestAttemptOfAnOlderSessionStops(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		back := false
		b.api.failWith(func(verb, resource, name string) error {
			if verb != "patch/status" || back {
				return nil
			}
			back = true
			if err := b.sink.SessionStarted(b.t.Context(), "gw-1", 8); err != nil { // no request: the Lease is this relay's
				t.Error(err)
			}
			return apierrors.NewConflict(podsGVR.GroupResource(), name, errors.New("a newer report stands there"))
		})
		b.report("gw-1", 7, podKey, runningPod)
		if field(b.api.get(podsGVR, "default/web"), "status", "phase") != nil {
			t.Error("a report of an older session was written")
		}
		b.report("gw-1", 8, podKey, runningPod)
		if !back || field(b.api.get(podsGVR, "default/web"), "status", "phase") != "Running" {
			t.Error("the report of the newer session was not written")
		}
	})
}

// TestHalfDeadBetweenLeaseAndObject: a relay hangs after a conflict; while it does, the node's newer session writes through another
// relay. Whatever the relay reads of the object after that must not be what its old report is based on.
func TestHalfDeadBetweenLeaseAndObject(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		b.start("gw-1", 1)
		b.report("gw-1", 1, pumpKey, deviceReport(1))
		time.Sleep(time.Second)
		conflicted, overtaken := false, false
		b.api.failWith(func(verb, resource, name string) error { // called with the API's lock held
			switch {
			case resource != "devicestatuses":
			case verb == "patch" && !conflicted:
				conflicted = true
				return apierrors.NewConflict(deviceStatusesGVR.GroupResource(), name, errors.New("somebody has written it"))
			case verb == "get" && conflicted && !overtaken:
				overtaken = true
				lease := b.api.objects[leasesGVR][NodeLeaseNamespace+"/gw-1"].DeepCopy()
				lease.SetAnnotations(map[string]string{relayAnnotation: "relay-b", epochAnnotation: "2"})
				b.api.store(leasesGVR, lease, watch.Modified)
				values := b.api.objects[deviceStatusesGVR]["default/pump"].DeepCopy()
				twins, _, _ := unstructured.NestedSlice(values.Object, "status", "twins")
				child(twins[0].(map[string]any), "reported")["value"] = "3"
				child(values.Object, "status")["twins"] = twins
				b.api.store(deviceStatusesGVR, values, watch.Modified)
			}
			return nil
		})
		b.report("gw-1", 1, pumpKey, deviceReport(2))
		time.Sleep(time.Minute)
		if !overtaken {
			t.Fatal("the object was not read after the conflict")
		}
		if v := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value"); v != "3" {
			t.Errorf("the device's value is %v: an old report stands", v)
		}
		if !slices.Equal(b.fencedEpochs(), []uint64{1}) {
			t.Errorf("fenced: %v", b.fencedEpochs())
		}
	})
}

// TestClaimInMemoryYieldsInEveryTry: a relay hangs after it has read the Lease, and while it does the node's newer session claims it
// through another relay. The claim, which has been in memory until now, must not take it back when its write meets the conflict.
func TestClaimInMemoryYieldsInEveryTry(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		b.start("gw-1", 1)
		b.report("gw-1", 1, pumpKey, deviceReport(1))
		b.report("gw-1", 1, nodeKey, readyNode)
		time.Sleep(time.Second)
		b.start("gw-1", 5) // in memory
		take := func(relay, epoch string) {
			lease := b.api.objects[leasesGVR][NodeLeaseNamespace+"/gw-1"].DeepCopy()
			lease.SetAnnotations(map[string]string{relayAnnotation: relay, epochAnnotation: epoch})
			b.api.store(leasesGVR, lease, watch.Modified)
		}
		updates := 0
		b.api.failWith(func(verb, resource, _ string) error { // called with the API's lock held
			if resource == "leases" && verb == "update" {
				switch updates++; updates {
				case 1:
					take("relay-b", "4") // before the claim in memory: it has the greater number
				case 2:
					take("relay-c", "6") // while this relay hung
				}
			}
			return nil
		})
		b.report("gw-1", 5, pumpKey, deviceReport(2))
		time.Sleep(time.Minute)
		if relay, epoch, _ := b.leaseOf("gw-1"); relay != "relay-c" || epoch != "6" || updates != 2 {
			t.Errorf("after %d updates the Lease records %s %s", updates, relay, epoch)
		}
		if v := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value"); v != "1" {
			t.Errorf("the device's value is %v: an old report stands", v)
		}
		if !slices.Equal(b.fencedEpochs(), []uint64{5}) {
			t.Errorf("fenced: %v", b.fencedEpochs())
		}
	})
}

// TestClaimInMemoryAfterALateRenewal: a renewal is under way for a while. Meanwhile the agent leaves, claims the Lease through another
// relay, and an older session of it begins here in memory. What the renewal reads of the Lease ends that of its own session only; the
// other one must not build on it and take the Lease back.
func TestClaimInMemoryAfterALateRenewal(t *testing.T) {
	for what, act := range map[string]func(b *bench){
		"a report comes":          func(b *bench) { b.report("gw-1", 5, podKey, runningPod) },
		"the next renewal is due": func(*bench) {},
	} {
		t.Run(what, func(t *testing.T) {
			withBench(t, func(b *bench) {
				b.api.put(t, wire.KindPod, podOnGW1)
				synctest.Wait()
				b.start("gw-1", 1)
				var late atomic.Bool
				b.api.failWith(func(verb, resource, _ string) error { // called with the API's lock held
					if resource == "leases" && verb == "update" && late.CompareAndSwap(false, true) {
						b.start("gw-1", 5) // no request: the Lease is this relay's, as far as it knows
						lease := b.api.objects[leasesGVR][NodeLeaseNamespace+"/gw-1"].DeepCopy()
						lease.SetAnnotations(map[string]string{relayAnnotation: "relay-b", epochAnnotation: "6"})
						b.api.store(leasesGVR, lease, watch.Modified)
					}
					return nil
				})
				for !late.Load() {
					time.Sleep(time.Second)
				}
				synctest.Wait()
				act(b)
				time.Sleep(time.Minute)
				if relay, epoch, _ := b.leaseOf("gw-1"); relay != "relay-b" || epoch != "6" {
					t.Errorf("the Lease records %s %s", relay, epoch)
				}
				if field(b.api.get(podsGVR, "default/web"), "status", "phase") != nil {
					t.Error("a report of a session that another relay has overtaken was written")
				}
				if !slices.Equal(b.fencedEpochs(), []uint64{5}) {
					t.Errorf("fenced: %v", b.fencedEpochs())
				}
			})
		})
	}
}

// TestOlderSessionHoldsNothing: what the Lease of a newer session of the same relay vouches for, it does not for an attempt of the
// older one that is still under way.
func TestOlderSessionHoldsNothing(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		b.report("gw-1", 7, pumpKey, deviceReport(1))
		time.Sleep(time.Second)
		b.sink.mu.Lock()
		n := b.sink.nodes["gw-1"]
		b.sink.mu.Unlock()
		if b.sink.held(n, 7) == 0 {
			t.Fatal("the session that has written its claim holds nothing")
		}
		b.start("gw-1", 8)
		if b.sink.held(n, 7) != 0 || b.sink.held(n, 8) != 0 {
			t.Error("a claim in memory, or an older session, holds the Lease")
		}
		b.report("gw-1", 8, pumpKey, deviceReport(2))
		time.Sleep(time.Second)
		if b.sink.held(n, 7) != 0 || b.sink.held(n, 8) == 0 {
			t.Error("the older session holds the newer one's Lease")
		}
	})
}
