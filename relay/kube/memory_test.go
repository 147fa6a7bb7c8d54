package kube

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// fleet makes nodes gw-0… with a pod that names a configMap and a device each, their sessions, and their reports, written.
func (b *bench) fleet(nodes int) {
	b.t.Helper()
	b.api.put(b.t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"},"data":{"a":"1"}}`)
	b.api.put(b.t, wire.KindDeviceModel, `{"metadata":{"name":"pump","namespace":"default"},"spec":{"protocol":"modbus"}}`)
	for i := range nodes {
		b.api.put(b.t, wire.KindPod, fmt.Sprintf(`{"metadata":{"name":"web-%d","namespace":"default","uid":"0c7c2b3e-3f0e-4b6a-9a52-%012d"},"spec":{"nodeName":"gw-%d",
			"containers":[{"name":"web","image":"registry.example.org/web:1.2.3","envFrom":[{"configMapRef":{"name":"cfg"}}]}]}}`, i, i, i))
		b.api.put(b.t, wire.KindDevice, fmt.Sprintf(`{"metadata":{"name":"pump-%d","namespace":"default","uid":"5d1c2b3e-3f0e-4b6a-9a52-%012d"},"spec":{"nodeName":"gw-%d",
			"deviceModelRef":{"name":"pump"},"properties":[{"name":"speed","collectCycle":1000}]}}`, i, i, i))
		synctest.Wait() // the fake's watches have short queues
	}
	for i := range nodes {
		b.start(fmt.Sprintf("gw-%d", i), 1)
		b.fleetReports(i, 1)
		synctest.Wait()
	}
}

func nodeOf(i int) string { return fmt.Sprintf("gw-%d", i) }

func fleetKeys(i int) (node, pod, device wire.Key) {
	return wire.NewKey(wire.KindNode, "", nodeOf(i), ""),
		wire.NewKey(wire.KindPod, "default", fmt.Sprintf("web-%d", i), fmt.Sprintf("0c7c2b3e-3f0e-4b6a-9a52-%012d", i)),
		wire.NewKey(wire.KindDevice, "default", fmt.Sprintf("pump-%d", i), "")
}

// fleetReports sends what node i reports, with a value of its device; it does not wait.
func (b *bench) fleetReports(i, value int) {
	node, pod, device := fleetKeys(i)
	padding := strings.Repeat("x", 1000) // images, addresses, nodeInfo of a real gateway
	for key, doc := range map[wire.Key]string{
		node: `{"labels":{"kubernetes.io/arch":"arm"},"status":{"capacity":{"cpu":"2","memory":"128Mi"},"conditions":[
			{"type":"Ready","status":"True","reason":"AgentReady","message":"` + padding + `"}]}}`,
		pod:    runningPod,
		device: deviceReport(value),
	} {
		body, err := canon.FromJSON([]byte(doc))
		if err != nil {
			b.t.Fatal(err)
		}
		b.sink.Report(nodeOf(i), 1, key, body)
	}
}

func deviceReport(value int) string {
	return fmt.Sprintf(`{"observedGeneration":1,"conditions":[{"type":"Ready","status":"True","reason":"Polling"}],
		"deviceStatus":{"state":"online","twins":[{"propertyName":"speed","reported":{"value":"%d","metadata":{"quality":"good"}}}]}}`, value)
}

// heapInUse collects garbage until there is no less of it: what earlier tests left goes in several rounds.
func heapInUse() float64 {
	var m runtime.MemStats
	last := uint64(1 << 62)
	for round := range 20 {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if round > 4 && m.HeapAlloc+4096 > last {
			break
		}
		last = m.HeapAlloc
	}
	return float64(m.HeapAlloc)
}

// TestMemoryPerNode holds what Sink and Index keep of a node with one pod and one device to a bound, in bytes of heap.
func TestMemoryPerNode(t *testing.T) {
	const nodes = 700
	withBench(t, func(b *bench) {
		b.fleet(nodes)
		full := heapInUse()
		b.sink.mu.Lock()
		sinkNodes := len(b.sink.nodes)
		b.sink.forgetAll()
		b.sink.mu.Unlock()
		withoutSink := heapInUse()
		b.index.mu.Lock()
		for _, k := range b.index.kinds {
			k.records = make(map[wire.Key]*record)
		}
		b.index.users, b.index.nodes = nil, make(map[string]*nodeView)
		b.index.mu.Unlock()
		withoutIndex := heapInUse()
		if sinkNodes != nodes {
			t.Fatalf("the sink knows %d nodes", sinkNodes)
		}
		sink, index := (full-withoutSink)/nodes, (withoutSink-withoutIndex)/nodes
		t.Logf("heap per node with a pod and a device: sink %.0f B, index %.0f B", sink, index)
		if sink > 800 {
			t.Errorf("the sink keeps %.0f bytes of a node", sink)
		}
	})
}

// forgetAll lets everything go that was learned of nodes.
func (s *Sink) forgetAll() {
	s.nodes = make(map[string]*nodeState)
	s.statuses.byDevice = make(map[wire.Key]storedValues)
	s.wheel = newWheel(s.opts.LeaseInterval, s.wheel.tick)
	s.scheduler.rings, s.scheduler.alarms = [lanes][]*nodeState{}, nil
}
