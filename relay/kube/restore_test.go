package kube

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// backup is a state of the API server.
type backup struct {
	rv      uint64
	objects map[schema.GroupVersionResource]map[string]*unstructured.Unstructured
}

func (a *fakeAPI) backup() backup {
	a.mu.Lock()
	defer a.mu.Unlock()
	saved := backup{rv: a.rv, objects: make(map[schema.GroupVersionResource]map[string]*unstructured.Unstructured)}
	for gvr, all := range a.objects {
		saved.objects[gvr] = maps.Clone(all) // what is stored is never changed
	}
	return saved
}

// restore puts the API server back to a backup. Its revisions begin at rv, and watches end, as they do when it is started anew.
func (a *fakeAPI) restore(from backup, rv uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rv = rv
	a.objects = make(map[schema.GroupVersionResource]map[string]*unstructured.Unstructured)
	for gvr, all := range from.objects {
		a.objects[gvr] = maps.Clone(all)
	}
	for _, all := range []map[schema.GroupVersionResource][]*fakeWatch{a.watchers, a.metadata} {
		for gvr, watches := range all {
			delete(all, gvr)
			for _, w := range watches {
				w.Error(&metav1.Status{Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired})
			}
		}
	}
}

// TestReportsAfterARestore: what was written after the backup is written again, whether revisions begin again at the backup's or have
// been raised above all that were there.
func TestReportsAfterARestore(t *testing.T) {
	for name, rv := range map[string]func(then, now uint64) uint64{
		"revisions begin again": func(then, _ uint64) uint64 { return then },
		"revisions are raised":  func(_, now uint64) uint64 { return now + 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			withBench(t, func(b *bench) {
				b.api.put(t, wire.KindPod, podOnGW1)
				b.api.put(t, wire.KindDevice, pumpOnGW1)
				synctest.Wait()
				b.start("gw-1", 1)
				b.report("gw-1", 1, nodeKey, strings.Replace(readyNode, `"True"`, `"False"`, 1))
				b.report("gw-1", 1, pumpKey, deviceReport(1))
				time.Sleep(15 * time.Second)
				saved := b.api.backup()

				b.report("gw-1", 1, nodeKey, readyNode)
				b.report("gw-1", 1, podKey, runningPod)
				b.report("gw-1", 1, pumpKey, deviceReport(2))
				shows := func(when string) {
					t.Helper()
					if phase := field(b.api.get(podsGVR, "default/web"), "status", "phase"); phase != "Running" {
						t.Errorf("%s the pod is %v", when, phase)
					}
					if ready := field(b.api.get(nodesGVR, "/gw-1"), "status", "conditions", 0, "status"); ready != "True" {
						t.Errorf("%s the node's first condition is %v", when, ready)
					}
					if v := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value"); v != "2" {
						t.Errorf("%s the device's value is %v", when, v)
					}
				}
				time.Sleep(15 * time.Second)
				shows("before the restore")
				b.api.restore(saved, rv(saved.rv, b.api.backup().rv))
				time.Sleep(5 * time.Minute)
				shows("after the restore")
				if len(b.fencedEpochs()) != 0 {
					t.Errorf("fenced: %v", b.fencedEpochs())
				}
			})
		})
	}
}

// TestConditionsThatARestoreUndid: of a device's report the conditions have been written, the values wait for their turn. What a
// restore undid of the one half is written again with the other.
func TestConditionsThatARestoreUndid(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		s, _, stop := b.relayOn("relay-b", func(o *SinkOptions) { o.DeviceInterval = time.Minute })
		defer stop()
		if err := s.SessionStarted(b.t.Context(), "gw-1", 1); err != nil {
			t.Fatal(err)
		}
		report := func(key wire.Key, doc string) {
			body, err := canon.FromJSON([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			s.Report("gw-1", 1, key, body)
			time.Sleep(5 * time.Second)
		}
		shown := func() (condition, value any) {
			return field(b.api.get(devicesGVR, "default/pump"), "status", "conditions", 0, "status"),
				field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value")
		}
		report(nodeKey, readyNode)
		report(pumpKey, strings.Replace(deviceReport(1), `"True"`, `"False"`, 1))
		saved := b.api.backup()
		report(pumpKey, deviceReport(2))
		if condition, value := shown(); condition != "True" || value != "1" {
			t.Fatalf("before the restore condition %v, value %v; the value should still wait", condition, value)
		}
		b.api.restore(saved, saved.rv)
		time.Sleep(5 * time.Minute)
		if condition, value := shown(); condition != "True" || value != "2" {
			t.Errorf("after the restore condition %v, value %v", condition, value)
		}
	})
}

// TestDeletionThatARestoreUndid: a pod whose deletion was in the cache and is not in the API any more stays.
func TestDeletionThatARestoreUndid(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"uid"`, `"deletionTimestamp":"2026-01-01T00:00:00Z","uid"`, 1))
		synctest.Wait()
		b.start("gw-1", 7)
		undone := false
		b.api.failWith(func(verb, resource, _ string) error { // called with the API's lock held
			if verb == "delete" && resource == "pods" && !undone {
				undone = true
				pod := b.api.objects[podsGVR]["default/web"].DeepCopy()
				pod.SetDeletionTimestamp(nil)
				b.api.store(podsGVR, pod, watch.Modified)
			}
			return nil
		})
		b.report("gw-1", 7, podKey, `{"deleted":true}`)
		time.Sleep(time.Minute)
		if !undone || b.api.get(podsGVR, "default/web") == nil {
			t.Error("a pod whose deletion was undone was removed")
		}
	})
}

// TestNodeThatARestoreLacks: a Node that was made after the backup was taken is made again; nobody has deleted it.
func TestNodeThatARestoreLacks(t *testing.T) {
	withBench(t, func(b *bench) {
		saved := b.api.backup()
		b.start("gw-1", 1)
		b.report("gw-1", 1, nodeKey, readyNode)
		time.Sleep(time.Second)
		b.api.restore(saved, saved.rv)
		time.Sleep(5 * time.Minute)
		if b.api.get(nodesGVR, "/gw-1") == nil {
			t.Error("the Node was not made again")
		}
		if relay, _, _ := b.leaseOf("gw-1"); relay != "relay-a" {
			t.Errorf("the Lease records %q", relay)
		}
	})
}
