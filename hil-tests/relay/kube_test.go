//go:build integration

package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/relay/kube"
)

const readyNode = `{"labels":{"kubernetes.io/arch":"arm"},"status":{"capacity":{"cpu":"2","memory":"256Mi","pods":"20"},
	"allocatable":{"cpu":"2","memory":"256Mi","pods":"20"},"addresses":[{"type":"InternalIP","address":"10.9.8.7"}],
	"nodeInfo":{"architecture":"arm","bootID":"b","containerRuntimeVersion":"containerd://1.6","kernelVersion":"6.1","kubeProxyVersion":"","kubeletVersion":"v1.37.2",
		"machineID":"m","operatingSystem":"linux","osImage":"Debian","systemUUID":"s"},
	"conditions":[{"type":"Ready","status":"True","reason":"AgentReady","message":"ok","lastHeartbeatTime":"1970-01-01T00:00:05Z","lastTransitionTime":"1970-01-01T00:00:05Z"}]}}`

func podManifest(ns, node string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg, namespace: %[1]s}
data: {a: "1"}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: %[1]s}
spec:
  nodeName: %[2]s
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  containers:
    - name: web
      image: registry.invalid/web:1
      envFrom: [{configMapRef: {name: cfg}}, {secretRef: {name: later, optional: true}}]
`, ns, node)
}

func runningPod(started string) string {
	return `{"status":{"phase":"Running","hostIP":"10.9.8.7","podIP":"10.1.0.2","podIPs":[{"ip":"10.1.0.2"}],"startTime":"` + started + `","conditions":[
		{"type":"Initialized","status":"True","lastTransitionTime":"` + started + `"},
		{"type":"Ready","status":"True","lastTransitionTime":"` + started + `"},
		{"type":"ContainersReady","status":"True","lastTransitionTime":"` + started + `"}],
		"containerStatuses":[{"name":"web","image":"registry.invalid/web:1","imageID":"sha256:1","containerID":"containerd://abc","ready":true,"started":true,"restartCount":0,
			"state":{"running":{"startedAt":"` + started + `"}},"lastState":{}}]}}`
}

func keysOf(b *bench, node string) []wire.Key {
	keys, _ := b.index.Keys(node)
	return slices.Sorted(maps.Keys(keys))
}

func find(keys []wire.Key, prefix string) wire.Key {
	for _, k := range keys {
		if strings.HasPrefix(string(k), prefix) {
			return k
		}
	}
	return ""
}

// TestPodFromBindingToDeletion follows one pod through the relay: seen with what it references, reported Running, changed
// references noticed, deleted with its agent's consent.
func TestPodFromBindingToDeletion(t *testing.T) {
	b := newBench(t, "relay-a")
	var mu sync.Mutex
	heard := map[wire.Key]int{}
	cancel := b.index.Subscribe("gw-pod", func(k wire.Key) {
		mu.Lock()
		defer mu.Unlock()
		heard[k]++
	})
	defer cancel()
	hears := func(k wire.Key) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return heard[k] > 0 }
	}
	if err := b.sink.SessionStarted(t.Context(), "gw-pod", 1); err != nil {
		t.Fatal(err)
	}
	b.report("gw-pod", 1, "nodes//gw-pod", readyNode)
	b.until("the node is in the cache", func() bool { return slices.Contains(keysOf(b, "gw-pod"), wire.Key("nodes//gw-pod")) })
	apply(t, podManifest("pods-a", "gw-pod"))
	b.until("the pod is in the cache", func() bool { return find(keysOf(b, "gw-pod"), "pods/") != "" })
	pod := find(keysOf(b, "gw-pod"), "pods/")

	obj, refs, ok := b.index.Object("gw-pod", pod)
	if want := []wire.Key{"configmaps/pods-a/cfg", "secrets/pods-a/later", "services/default/kubernetes"}; !ok || !slices.Equal(refs, want) {
		t.Fatalf("pod travels with %q (%v), want %q", refs, ok, want)
	}
	b.until("the configMap is in the cache", func() bool { o, _, ok := b.index.Object("gw-pod", refs[0]); return ok && !o.Absent })
	if o, _, ok := b.index.Object("gw-pod", refs[1]); !ok || !o.Absent || o.Revision == 0 {
		t.Errorf("missing secret is %+v, %v", o, ok)
	}
	if _, _, ok := b.index.Object("gw-other", refs[0]); ok {
		t.Error("another node may read the configMap")
	}

	b.report("gw-pod", 1, pod, runningPod("2026-01-01T00:00:00.25Z"))
	eventually(t, "pod/web", ".status.phase", "Running", "-n", "pods-a")
	b.settled()
	if types := field(t, "pod/web", ".status.conditions[*].type", "-n", "pods-a"); !strings.Contains(types, "PodScheduled") && !strings.Contains(types, "Ready") {
		t.Errorf("conditions are %s", types)
	}
	// Our own write came back over the watch and changed nothing for agents; nor does the same report ask for anything.
	time.Sleep(300 * time.Millisecond)
	if again, _, _ := b.index.Object("gw-pod", pod); again.Version != obj.Version {
		t.Errorf("a status write changed the version from %+v to %+v", obj.Version, again.Version)
	}
	before := b.requests()
	for range 20 {
		b.report("gw-pod", 1, pod, runningPod("2026-01-01T00:00:00.75Z"))
		b.report("gw-pod", 1, "nodes//gw-pod", readyNode)
		b.settled()
	}
	if n := b.requests() - before; n != 0 {
		t.Errorf("40 unchanged reports cost %d API requests", n)
	}

	mu.Lock()
	clear(heard)
	mu.Unlock()
	kubectl(t, "create", "secret", "generic", "later", "-n", "pods-a", "--from-literal=k=v")
	b.until("the secret that appeared is notified", hears(refs[1]))
	kubectl(t, "patch", "configmap", "cfg", "-n", "pods-a", "-p", `{"data":{"a":"2"}}`)
	b.until("the changed configMap is notified", hears(refs[0]))

	kubectl(t, "delete", "pod", "web", "-n", "pods-a", "--wait=false")
	b.until("the pod is terminating in the cache", func() bool {
		o, _, ok := b.index.Object("gw-pod", pod)
		text, _ := canon.ToJSON(o.Body)
		return ok && strings.Contains(string(text), "deletionTimestamp") && strings.Contains(string(text), "deletionGracePeriodSeconds")
	})
	b.report("gw-pod", 1, pod, `{"deleted":true}`)
	b.until("the pod is gone from the cache", func() bool { return find(keysOf(b, "gw-pod"), "pods/") == "" })
}

// TestNodeIsAliveByItsLease: created Ready, unreachable when the session ends, Ready again with the next one.
func TestNodeIsAliveByItsLease(t *testing.T) {
	b := newBench(t, "relay-a")
	if err := b.sink.SessionStarted(t.Context(), "gw-node", 1); err != nil {
		t.Fatal(err)
	}
	b.report("gw-node", 1, "nodes//gw-node", readyNode)
	const ready = `.status.conditions[?(@.type=="Ready")].status`
	eventually(t, "node/gw-node", ready, "True")
	if role := field(t, "node/gw-node", `.metadata.labels.node\.skerry\.dev/agent`); role != "true" {
		t.Errorf("label is %q", role)
	}
	eventually(t, "lease/gw-node", ".metadata.ownerReferences[0].name", "gw-node", "-n", "kube-node-lease")
	if holder := field(t, "lease/gw-node", ".spec.holderIdentity", "-n", "kube-node-lease"); holder != "gw-node" {
		t.Errorf("lease is held by %q", holder)
	}
	// What the node controller does to a node whose lease has expired.
	kubectl(t, "patch", "node", "gw-node", "--subresource=status", "-p", `{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`)
	eventually(t, "node/gw-node", ready, "True")
	b.sink.SessionEnded("gw-node", 1)
	first := field(t, "lease/gw-node", ".spec.renewTime", "-n", "kube-node-lease")
	time.Sleep(3 * time.Second)
	if now := field(t, "lease/gw-node", ".spec.renewTime", "-n", "kube-node-lease"); now != first {
		t.Errorf("the lease was renewed at %s, after the session had ended at %s", now, first)
	}
}

// TestOneWriter: a second relay takes the node over; the first one's session finds out and stops.
func TestOneWriter(t *testing.T) {
	a, b := newBench(t, "relay-a"), newBench(t, "relay-b")
	if err := a.sink.SessionStarted(t.Context(), "gw-two", 5); err != nil {
		t.Fatal(err)
	}
	a.report("gw-two", 5, "nodes//gw-two", readyNode)
	eventually(t, "node/gw-two", `.status.capacity.memory`, "256Mi")
	if err := b.sink.SessionStarted(t.Context(), "gw-two", 6); err != nil {
		t.Fatal(err)
	}
	b.until("the older session is fenced", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return slices.Equal(a.gone, []uint64{5}) })
	a.report("gw-two", 5, "nodes//gw-two", strings.ReplaceAll(readyNode, "256Mi", "1Mi"))
	b.report("gw-two", 6, "nodes//gw-two", strings.ReplaceAll(readyNode, "256Mi", "512Mi"))
	eventually(t, "node/gw-two", `.status.capacity.memory`, "512Mi")
	if err := a.sink.SessionStarted(t.Context(), "gw-two", 5); !errors.Is(err, kube.ErrNewerSession) {
		t.Errorf("the older epoch could claim the node again: %v", err)
	}
}

const deviceManifest = `
apiVersion: v1
kind: Namespace
metadata: {name: devices-a}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: pump-model, namespace: devices-a}
spec:
  protocol: modbus
  properties: [{name: speed, type: INT, accessMode: ReadWrite}]
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: pump, namespace: devices-a}
spec:
  nodeName: gw-dev
  deviceModelRef: {name: pump-model}
  protocol: {protocolName: modbus, configData: {ip: 127.0.0.1, port: 5020, slaveID: 1}}
  properties:
    - name: speed
      collectCycle: 100
      visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 0, limit: 1}}
`

func TestDeviceValuesAndConditions(t *testing.T) {
	b := newBench(t, "relay-a")
	if err := b.sink.SessionStarted(t.Context(), "gw-dev", 1); err != nil {
		t.Fatal(err)
	}
	apply(t, deviceManifest)
	b.until("device and model are in the cache", func() bool {
		return slices.Equal(keysOf(b, "gw-dev"), []wire.Key{"devicemodels/devices-a/pump-model", "devices/devices-a/pump"})
	})
	value := func(n int) string {
		return fmt.Sprintf(`{"observedGeneration":1,"conditions":[{"type":"Ready","status":"True","reason":"Polling","message":"","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}],
			"deviceStatus":{"state":"online","lastOnlineTime":"2026-01-01T00:00:00Z","twins":[
			{"propertyName":"speed","reported":{"value":"%d","metadata":{"timestamp":"1767225600000","type":"INT","quality":"good"}},
			"observedDesired":{"value":"7","metadata":{"generation":"1","outcome":"verified"}}}]}}`, n)
	}
	const key = wire.Key("devices/devices-a/pump")
	version := func() wire.Version { o, _, _ := b.index.Object("gw-dev", key); return o.Version }
	first := version()
	for n := range 30 { // as fast as a busy device
		b.report("gw-dev", 1, key, value(n))
		time.Sleep(10 * time.Millisecond)
	}
	eventually(t, "devicestatus/pump", ".status.twins[0].reported.value", "29", "-n", "devices-a")
	eventually(t, "device/pump", `.status.conditions[?(@.type=="Ready")].reason`, "Polling", "-n", "devices-a")
	if s := field(t, "devicestatus/pump", ".status.extensions.summary", "-n", "devices-a"); s != "speed=29" {
		t.Errorf("summary is %q", s)
	}
	b.settled()
	if version() != first {
		t.Error("status writes changed the Device's version")
	}
	before := b.requests()
	for range 20 {
		b.report("gw-dev", 1, key, value(29))
		b.settled()
	}
	if n := b.requests() - before; n != 0 {
		t.Errorf("20 unchanged reports cost %d API requests", n)
	}
	// A session on a relay that knows nothing yet: reads once, and finds nothing to write.
	other := newBench(t, "relay-b")
	if err := other.sink.SessionStarted(t.Context(), "gw-dev", 2); err != nil {
		t.Fatal(err)
	}
	rv := field(t, "devicestatus/pump", ".metadata.resourceVersion", "-n", "devices-a")
	other.report("gw-dev", 2, key, value(29))
	other.settled()
	if now := field(t, "devicestatus/pump", ".metadata.resourceVersion", "-n", "devices-a"); now != rv {
		t.Error("an unchanged DeviceStatus was written again by another relay")
	}
	// Made anew: the values appear again, in an object that belongs to the new Device.
	kubectl(t, "delete", "device", "pump", "-n", "devices-a")
	apply(t, deviceManifest)
	uid := field(t, "device/pump", ".metadata.uid", "-n", "devices-a")
	eventually(t, "devicestatus/pump", ".metadata.ownerReferences[0].uid", uid, "-n", "devices-a")
}

func TestEventsAreStoredOnce(t *testing.T) {
	b := newBench(t, "relay-a")
	body, err := canon.FromJSON([]byte(`{"ref":{"kind":"Node","name":"gw-event"},"type":"Warning","reason":"DiskFull","message":"no space","time":"2026-01-01T00:00:00.5Z","count":1,"component":"store"}`))
	if err != nil {
		t.Fatal(err)
	}
	items := []wire.OutboxItem{{Epoch: 77, Seq: 1, Kind: wire.KindOfEvent, Body: body}, {Epoch: 77, Seq: 2, Kind: wire.KindOfEvent, Body: body}}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := b.sink.Outbox(ctx, "gw-event", items); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	out := kubectl(t, "get", "events", "-n", "default", "--field-selector", "involvedObject.name=gw-event", "-o", "jsonpath={.items[*].reason}")
	if out != "DiskFull DiskFull" {
		t.Errorf("stored events are %q, want two", out)
	}
}
