package kube

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

func offerOf(t *testing.T, docs map[wire.Key]string) (items []wire.OfferItem) {
	t.Helper()
	for key, doc := range docs {
		body, err := canon.FromJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, wire.OfferItem{Key: key, Hash: canon.Hash(body)})
	}
	return items
}

const pumpOnGW1 = `{"metadata":{"name":"pump","namespace":"default"},"spec":{"nodeName":"gw-1"}}`

// TestOffersAreKnownAgain: what this relay has written it knows by its hash in the next session, unless somebody else has changed
// the object, or another relay has had the node.
func TestOffersAreKnownAgain(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		docs := map[wire.Key]string{nodeKey: readyNode, podKey: runningPod, pumpKey: deviceReport(1)}
		items := offerOf(t, docs)
		b.start("gw-1", 1)
		if want := b.sink.Offered("gw-1", 1, items); len(want) != 3 {
			t.Errorf("a sink that knows nothing wants %q", want)
		}
		for key, doc := range docs {
			b.report("gw-1", 1, key, doc)
		}
		b.api.taken()
		b.sink.SessionEnded("gw-1", 1)
		b.start("gw-1", 2)
		if !b.sink.OfferedAll("gw-1", 2, wire.OfferSum(items)) {
			t.Error("the sum of what was written is not known")
		}
		if want := b.sink.Offered("gw-1", 2, items); len(want) != 0 {
			t.Errorf("wants %q, which was written", want)
		}
		foreign := []wire.OfferItem{{Key: "nodes//gw-2"}, {Key: "configmaps/default/cfg"}}
		if want := b.sink.Offered("gw-1", 2, foreign); len(want) != 0 {
			t.Errorf("wants %q, on which gw-1 may not report", want)
		}
		if got := b.api.taken(); len(got) != 0 || len(b.askedFor()) != 0 {
			t.Errorf("a session with nothing new cost %q, asked %q", got, b.askedFor())
		}

		// Changed by somebody else while the agent was away.
		b.sink.SessionEnded("gw-1", 2)
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Pending"},"spec"`, 1))
		synctest.Wait()
		b.start("gw-1", 3)
		if b.sink.OfferedAll("gw-1", 3, wire.OfferSum(items)) {
			t.Error("what somebody changed is taken for written")
		}
		if want := b.sink.Offered("gw-1", 3, items); !slices.Equal(want, []wire.Key{podKey}) {
			t.Errorf("wants %q, want the pod that was changed", want)
		}

		// Another relay has had the node.
		other, _, stop := b.relayOn("relay-b", nil)
		defer stop()
		if err := other.SessionStarted(b.t.Context(), "gw-1", 4); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the first one learns it
		other.SessionEnded("gw-1", 4)
		b.start("gw-1", 5)
		if want := b.sink.Offered("gw-1", 5, items); len(want) != 3 {
			t.Errorf("wants %q after another relay has written", want)
		}
	})
}

// TestChangedByOthersIsAskedFor: the sink has no bodies; the agent is asked once, and answers.
func TestChangedByOthersIsAskedFor(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 1)
		b.report("gw-1", 1, podKey, runningPod)
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Pending"},"spec"`, 1))
		synctest.Wait()
		if phase := field(b.api.get(podsGVR, "default/web"), "status", "phase"); phase != "Running" {
			t.Errorf("phase is %v", phase)
		}
		if !slices.Equal(b.askedFor(), []wire.Key{podKey}) {
			t.Errorf("asked for %q", b.askedFor())
		}
		// One that does not answer is not asked again and again; nor is one whose session is over.
		b.mu.Lock()
		b.bodies = nil
		b.mu.Unlock()
		for range 5 {
			b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Pending"},"spec"`, 1))
			b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Failed"},"spec"`, 1))
			synctest.Wait()
		}
		b.sink.SessionEnded("gw-1", 1)
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		if len(b.askedFor()) != 2 {
			t.Errorf("asked %d times", len(b.askedFor()))
		}
	})
}

// TestOldReportDoesNotOverwriteNewerSession: a relay is slow to write, and its watch, not its Lease, has heard of what the node's
// newer session wrote through another relay. Its write would meet no conflict.
func TestOldReportDoesNotOverwriteNewerSession(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		b.start("gw-1", 1)
		b.report("gw-1", 1, podKey, strings.Replace(runningPod, "10.1.0.2", "10.1.0.1", 1))
		b.report("gw-1", 1, pumpKey, deviceReport(1))
		b.api.failWith(func(verb, resource, _ string) error {
			if resource == "leases" {
				return nil
			}
			return errAway
		})
		b.report("gw-1", 1, podKey, strings.Replace(runningPod, "10.1.0.2", "10.1.0.8", 1)) // waits
		b.report("gw-1", 1, pumpKey, deviceReport(2))
		other, _, stop := b.relayOn("relay-b", func(o *SinkOptions) { o.Statuses = fakeMetadata{b.api} })
		defer stop()
		if err := other.SessionStarted(b.t.Context(), "gw-1", 2); err != nil {
			t.Fatal(err)
		}
		b.api.failWith(nil)
		body, _ := canon.FromJSON([]byte(runningPod))
		other.Report("gw-1", 2, podKey, body)
		values, _ := canon.FromJSON([]byte(deviceReport(3)))
		other.Report("gw-1", 2, pumpKey, values)
		synctest.Wait()
		time.Sleep(time.Minute)
		if ip := field(b.api.get(podsGVR, "default/web"), "status", "podIP"); ip != "10.1.0.2" {
			t.Errorf("podIP is %v: an old report stands", ip)
		}
		if v := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value"); v != "3" {
			t.Errorf("the device's value is %v: an old report stands", v)
		}
		if !slices.Equal(b.fencedEpochs(), []uint64{1}) {
			t.Errorf("fenced: %v", b.fencedEpochs())
		}
	})
}

// TestRestartReadsNoDevice: what is written in DeviceStatus objects is known from one list of their metadata.
func TestRestartReadsNoDevice(t *testing.T) {
	const nodes = 300
	withBench(t, func(b *bench) {
		b.fleet(nodes)
		for i := range nodes {
			b.sink.SessionEnded(nodeOf(i), 1)
		}
		b.api.taken()
		b.api.mu.Lock()
		clear(b.api.lists)
		b.api.mu.Unlock()
		again := &bench{t: b.t, api: b.api}
		var leases *countedLeases
		var stop func()
		again.sink, leases, stop = b.relayOn("relay-a", func(o *SinkOptions) { o.Statuses = fakeMetadata{b.api} })
		defer stop()
		again.index = again.sink.index
		for i := range nodes {
			again.start(nodeOf(i), 1)
			again.fleetReports(i, 1)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if got := b.api.taken(); len(got) != 0 {
			t.Errorf("a restart with %d agents that report what is written cost %d requests: %q…", nodes, len(got), got[:min(len(got), 5)])
		}
		if verbs, _ := leases.taken(); verbs["get"]+verbs["create"] != 0 {
			t.Errorf("and for Leases %v", verbs)
		}
		b.api.mu.Lock()
		defer b.api.mu.Unlock()
		if n := b.api.lists["devicestatuses"]; n != 1 {
			t.Errorf("DeviceStatus objects were listed %d times", n)
		}
	})
}

// TestDeletedDeviceStatusComesBack at once, and one that somebody edited is put right.
func TestDeletedDeviceStatusComesBack(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		b.start("gw-1", 1)
		b.report("gw-1", 1, pumpKey, deviceReport(7))
		time.Sleep(time.Second)
		value := func() any {
			return field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value")
		}
		b.api.taken()
		b.api.mu.Lock()
		b.api.store(deviceStatusesGVR, b.api.objects[deviceStatusesGVR]["default/pump"], watch.Deleted)
		b.api.mu.Unlock()
		synctest.Wait()
		if value() != "7" {
			t.Errorf("after the deletion the value is %v", value())
		}
		if got := b.api.taken(); !slices.Equal(got, []string{"create devicestatuses default/pump"}) {
			t.Errorf("that cost %q", got)
		}
		time.Sleep(time.Second)
		b.api.mu.Lock()
		edited := b.api.objects[deviceStatusesGVR]["default/pump"].DeepCopy()
		child(edited.Object, "status")["state"] = "edited"
		b.api.store(deviceStatusesGVR, edited, watch.Modified)
		b.api.mu.Unlock()
		synctest.Wait()
		if state := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "state"); state != "online" {
			t.Errorf("state is %v after somebody edited it", state)
		}
		time.Sleep(time.Minute)
		if got := b.api.taken(); !slices.Equal(got, []string{"patch devicestatuses default/pump"}) {
			t.Errorf("that cost %q", got)
		}
	})
}

// TestLateFirstReport: a session is claimed, and before the device's first report is read the relay hangs; the newer session writes
// through another relay, and the watch tells of it before the old report is read.
func TestLateFirstReport(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindDevice, pumpOnGW1)
		synctest.Wait()
		other, _, stop := b.relayOn("relay-b", func(o *SinkOptions) { o.Statuses = fakeMetadata{b.api} })
		defer stop()
		report := func(epoch uint64, value int) {
			body, err := canon.FromJSON([]byte(deviceReport(value)))
			if err != nil {
				t.Fatal(err)
			}
			other.Report("gw-1", epoch, pumpKey, body)
			time.Sleep(time.Second)
		}
		if err := other.SessionStarted(b.t.Context(), "gw-1", 1); err != nil {
			t.Fatal(err)
		}
		report(1, 1)
		b.start("gw-1", 2)
		if err := other.SessionStarted(b.t.Context(), "gw-1", 3); err != nil {
			t.Fatal(err)
		}
		report(3, 3)
		b.report("gw-1", 2, pumpKey, deviceReport(2))
		time.Sleep(time.Second)
		if v := field(b.api.get(deviceStatusesGVR, "default/pump"), "status", "twins", 0, "reported", "value"); v != "3" {
			t.Errorf("the device's value is %v: a report that was late stands", v)
		}
		if !slices.Equal(b.fencedEpochs(), []uint64{2}) {
			t.Errorf("fenced: %v", b.fencedEpochs())
		}
	})
}
