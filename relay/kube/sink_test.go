package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry/skerry/firmware/wire"
)

const (
	nodeKey = wire.Key("nodes//gw-1")
	podKey  = wire.Key("pods/default/web/p1")
	pumpKey = wire.Key("devices/default/pump")

	readyNode = `{"labels":{"kubernetes.io/arch":"arm","node-restriction.kubernetes.io/evil":"1","node.skerry.dev/agent":"false","site":"north"},
		"annotations":{"board.skerry.dev/name":"x","scheduler.alpha.kubernetes.io/evil":"1"},
		"status":{"capacity":{"cpu":"2000m","memory":"128Mi"},"conditions":[
			{"type":"Ready","status":"True","reason":"AgentReady","lastHeartbeatTime":"1970-01-01T00:00:05Z"}]}}`
	runningPod = `{"status":{"phase":"Running","podIP":"10.1.0.2","startTime":"2026-01-01T00:00:00.123456Z","conditions":[
		{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:01Z"}],
		"containerStatuses":[{"name":"web","image":"i","imageID":"x","ready":true,"restartCount":0,"state":{"running":{"startedAt":"2026-01-01T00:00:00.5Z"}},"lastState":{}}]}}`
)

var (
	nodesGVR   = core("nodes")
	podsGVR    = core("pods")
	devicesGVR = devices("devices")
)

func TestNodeIsCreatedAndThenLeftAlone(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		node := b.api.get(nodesGVR, "/gw-1")
		labels := field(node, "metadata", "labels").(map[string]any)
		want := map[string]string{"kubernetes.io/hostname": "gw-1", agentLabel: "true", "kubernetes.io/arch": "arm", "site": "north"}
		if len(labels) != len(want) {
			t.Errorf("labels are %v, want %v", labels, want)
		}
		for k, v := range want {
			if labels[k] != v {
				t.Errorf("label %s is %v, want %s", k, labels[k], v)
			}
		}
		if a := field(node, "metadata", "annotations").(map[string]any); len(a) != 1 || a["board.skerry.dev/name"] != "x" {
			t.Errorf("annotations are %v", a)
		}
		if cpu := field(node, "status", "capacity", "cpu"); cpu != "2" {
			t.Errorf("cpu capacity is %v", cpu)
		}
		if got := b.api.taken(); !slices.Equal(got, []string{"create nodes /gw-1"}) {
			t.Errorf("requests: %q", got)
		}
		// The same again, and with another heartbeat: nothing to ask.
		b.report("gw-1", 7, nodeKey, readyNode)
		b.report("gw-1", 7, nodeKey, strings.Replace(readyNode, "00:00:05", "00:00:15", 1))
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("an unchanged report cost %q", got)
		}
		if n := b.counter(`skerry_relay_writes_unchanged_total{resource="nodes"}`); n < 2 {
			t.Errorf("counted %d unchanged writes", n)
		}
	})
}

func TestNodeConditionIsAssertedAgain(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		first := field(b.api.get(nodesGVR, "/gw-1"), "status", "conditions", 0, "lastTransitionTime")
		time.Sleep(time.Minute)
		// The node controller marks it Unknown and adds a condition of its own; a capacity of a device plugin stands beside.
		b.api.put(t, wire.KindNode, `{"metadata":{"name":"gw-1"},"status":{"capacity":{"cpu":"2","memory":"128Mi","vendor.org/npu":"1"},"conditions":[
			{"type":"NetworkUnavailable","status":"False"},{"type":"Ready","status":"Unknown","lastTransitionTime":"2001-01-01T00:00:00Z"}]}}`)
		synctest.Wait()
		node := b.api.get(nodesGVR, "/gw-1")
		conditions := field(node, "status", "conditions").([]any)
		if len(conditions) != 2 || field(conditions, 0, "type") != "NetworkUnavailable" || field(conditions, 1, "status") != "True" {
			t.Errorf("conditions are %v", conditions)
		}
		if at := field(conditions, 1, "lastTransitionTime"); at == first || at == "2001-01-01T00:00:00Z" {
			t.Errorf("transition is dated %v", at)
		}
		if field(node, "status", "capacity", "vendor.org/npu") != "1" {
			t.Error("the extended resource is gone")
		}
		if field(node, "metadata", "labels", agentLabel) != "true" {
			t.Error("the label was not asserted again")
		}
	})
}

func TestDeletedNodeComesBackWithTheNextSessionOnly(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		b.api.remove(wire.KindNode, "/gw-1")
		b.report("gw-1", 7, nodeKey, strings.Replace(readyNode, "128Mi", "64Mi", 1))
		if b.api.get(nodesGVR, "/gw-1") != nil {
			t.Error("a deleted Node was made again in the same session")
		}
		b.start("gw-1", 8)
		b.report("gw-1", 8, nodeKey, readyNode)
		if b.api.get(nodesGVR, "/gw-1") == nil {
			t.Error("the next session did not register the Node")
		}
	})
}

func TestPodStatusIsMerged(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Pending","qosClass":"Burstable","conditions":[
			{"type":"PodScheduled","status":"True"},{"type":"Initialized","status":"False"},{"type":"gate.example.org","status":"True"}]},"spec"`, 1))
		synctest.Wait()
		b.start("gw-1", 7)
		b.report("gw-1", 7, podKey, runningPod)
		status := b.api.get(podsGVR, "default/web")["status"]
		var types []string
		for i := range field(status, "conditions").([]any) {
			types = append(types, field(status, "conditions", i, "type").(string))
		}
		if !slices.Equal(types, []string{"PodScheduled", "gate.example.org", "Ready"}) {
			t.Errorf("conditions are %q", types)
		}
		if field(status, "qosClass") != "Burstable" || field(status, "phase") != "Running" || field(status, "startTime") != "2026-01-01T00:00:00Z" {
			t.Errorf("status is %v", status)
		}
		if got := b.api.taken(); !slices.Equal(got, []string{"patch/status pods default/web"}) {
			t.Errorf("requests: %q", got)
		}
		b.report("gw-1", 7, podKey, strings.Replace(runningPod, "00.123456Z", "00.987Z", 1))
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("fractions of a second cost %q", got)
		}
	})
}

func TestPodThatHasEndedStaysEnded(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Failed"},"spec"`, 1))
		synctest.Wait()
		b.start("gw-1", 7)
		b.report("gw-1", 7, podKey, runningPod)
		if phase := field(b.api.get(podsGVR, "default/web"), "status", "phase"); phase != "Failed" {
			t.Errorf("phase went from Failed to %v", phase)
		}
	})
}

func TestPodIsRemovedOnlyIfItWasDeleted(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		b.report("gw-1", 7, podKey, `{"deleted":true}`)
		if b.api.get(podsGVR, "default/web") == nil {
			t.Fatal("a pod that nobody had deleted was removed")
		}
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"uid"`, `"deletionTimestamp":"2026-01-01T00:00:00Z","uid"`, 1))
		synctest.Wait()
		if b.api.get(podsGVR, "default/web") != nil {
			t.Error("the terminating pod was not removed")
		}
		if s := b.sink.Sessions(); s[0].Reports != 0 {
			t.Errorf("%d reports are kept for pods that are gone", s[0].Reports)
		}
	})
}

func TestReportsOnOthersAreRefused(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		b.api.put(t, wire.KindDevice, `{"metadata":{"name":"pump","namespace":"default"},"spec":{"nodeName":"gw-1"}}`)
		synctest.Wait()
		b.start("gw-2", 1)
		b.report("gw-2", 1, podKey, runningPod)
		b.report("gw-2", 1, pumpKey, `{"deviceStatus":{"state":"online"}}`)
		b.report("gw-2", 1, nodeKey, readyNode)
		b.report("gw-2", 1, "configmaps/default/cfg", `{}`)
		b.report("gw-2", 1, "pods/default/unknown/u", runningPod)
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("gw-2 wrote %q", got)
		}
		if n := b.counter(`skerry_relay_writer_reports_total{result="refused"}`); n != 4 {
			t.Errorf("%d reports were refused, want 4", n)
		}
		// A pod that the cache learns of later, and that is another node's, is not written either.
		b.api.put(t, wire.KindPod, `{"metadata":{"name":"unknown","namespace":"default","uid":"u"},"spec":{"nodeName":"gw-1"}}`)
		time.Sleep(2 * objectPatience)
		synctest.Wait()
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("gw-2 wrote %q", got)
		}
	})
}

func TestReportThatOvertakesTheCache(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, podKey, runningPod)
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		if phase := field(b.api.get(podsGVR, "default/web"), "status", "phase"); phase != "Running" {
			t.Errorf("phase is %v", phase)
		}
		b.report("gw-1", 7, "pods/default/never/x", runningPod)
		time.Sleep(2 * objectPatience)
		if s := b.sink.Sessions(); s[0].Reports != 1 {
			t.Errorf("%d reports are kept, want the one of the pod that exists", s[0].Reports)
		}
	})
}

func TestConflictIsReadAgainAndResolved(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		// Somebody writes just before us, and our watch has not seen it yet.
		stale := *b.index.get(podKey)
		stale.rv = "1"
		b.index.mu.Lock()
		b.index.kinds[wire.KindPod].records[podKey] = &stale
		b.index.mu.Unlock()
		b.report("gw-1", 7, podKey, runningPod)
		if phase := field(b.api.get(podsGVR, "default/web"), "status", "phase"); phase != "Running" {
			t.Errorf("phase is %v", phase)
		}
		want := []string{"patch/status pods default/web", "get pods default/web", "patch/status pods default/web"}
		if got := b.api.taken(); !slices.Equal(got, want) {
			t.Errorf("requests: %q, want %q", got, want)
		}
	})
}

func TestDeviceValues(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, `{"metadata":{"name":"pump","namespace":"default","generation":3},"spec":{"nodeName":"gw-1"},"status":{"reportToCloud":true}}`)
		synctest.Wait()
		b.start("gw-1", 7)
		value := func(n int) string {
			return fmt.Sprintf(`{"observedGeneration":3,"conditions":[{"type":"Ready","status":"True","reason":"Polling","message":""}],
				"deviceStatus":{"state":"online","lastOnlineTime":"2026-01-01T00:00:00Z","twins":[
				{"propertyName":"speed","reported":{"value":"%d","metadata":{"timestamp":"1","quality":"good"}}}]}}`, n)
		}
		stored := func() any {
			return field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value")
		}
		b.report("gw-1", 7, pumpKey, value(1))
		if stored() != "1" {
			t.Fatalf("first value is not visible at once: %v", stored())
		}
		if s := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "extensions", "summary"); s != "speed=1" {
			t.Errorf("summary is %v", s)
		}
		status := b.api.get(devicesGVR, "default/pump")["status"]
		if field(status, "conditions", 0, "status") != "True" || field(status, "observedGeneration") != int64(3) || field(status, "reportToCloud") != true ||
			field(status, "conditions", 0, "lastTransitionTime") == nil {
			t.Errorf("status of the Device is %v", status)
		}
		b.api.taken()

		for n := 2; n <= 50; n++ {
			b.report("gw-1", 7, pumpKey, value(n))
		}
		if stored() != "1" {
			t.Errorf("written again within the interval: %v", stored())
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if stored() != "50" {
			t.Errorf("after the interval %v is visible, want the newest, 50", stored())
		}
		if got := b.api.taken(); !slices.Equal(got, []string{"patch devicestatuses default/pump"}) {
			t.Errorf("49 changes cost %q", got)
		}
		time.Sleep(time.Second)
		b.report("gw-1", 7, pumpKey, value(50))
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("an unchanged report cost %q", got)
		}

		// Made anew under its name: the values are written to what belongs to the new one.
		b.api.remove(wire.KindDevice, "default/pump")
		b.api.put(t, wire.KindDevice, `{"metadata":{"name":"pump","namespace":"default"},"spec":{"nodeName":"gw-1"}}`)
		time.Sleep(time.Second)
		synctest.Wait()
		uid := field(b.api.get(devicesGVR, "default/pump"), "metadata", "uid")
		if owner := field(b.api.get(deviceStatusesGVR, "default/pump"), "metadata", "ownerReferences", 0, "uid"); owner != uid {
			t.Errorf("DeviceStatus belongs to %v, want %v", owner, uid)
		}
	})
}

func TestAPIFailureIsRetriedWithTheNewest(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		b.api.failWith(func(string, string, string) error { return apierrors.NewServiceUnavailable("etcd is away") })
		b.report("gw-1", 7, podKey, runningPod)
		time.Sleep(5 * time.Minute)
		b.report("gw-1", 7, podKey, strings.Replace(runningPod, "10.1.0.2", "10.1.0.3", 1))
		b.api.failWith(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if ip := field(b.api.get(podsGVR, "default/web"), "status", "podIP"); ip != "10.1.0.3" {
			t.Errorf("podIP is %v after the API server came back", ip)
		}
	})
}

func TestRefusedByTheAPIIsNotRepeated(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		b.api.failWith(func(string, string, string) error {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "web", nil)
		})
		b.report("gw-1", 7, podKey, runningPod)
		b.report("gw-1", 7, podKey, `{"status":{"phase":["not a string"]}}`)
		b.report("gw-1", 7, podKey, `{}`)
		time.Sleep(time.Hour)
		if n := len(b.api.taken()); n != 1 {
			t.Errorf("%d requests for a report that the API server refuses", n)
		}
		if n := b.counter(`skerry_relay_write_failures_total{resource="pods"}`); n != 3 {
			t.Errorf("%d failures counted, want 3", n)
		}
	})
}
