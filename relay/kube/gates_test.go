package kube

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// TestGateConditionsTravel: of a pod's status the conditions of its readiness gates reach the node, and nothing that the node itself reports, or
// that says no more, changes the version.
func TestGateConditionsTravel(t *testing.T) {
	res, _ := resourceOf(wire.KindPod)
	rec := func(gates, conditions string) *record {
		t.Helper()
		r, err := newRecord(res, decode(t, res, `{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"1"},
			"spec":{"nodeName":"n","readinessGates":`+gates+`},"status":{"phase":"Running","conditions":[`+conditions+`]}}`))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const gates, own = `[{"conditionType":"x/lb"},{"conditionType":"x/dns"},{"conditionType":"Ready"}]`, `{"type":"Ready","status":"False"}`
	lb := `{"type":"x/lb","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z","reason":"Registered"}`
	dns := `{"type":"x/dns","status":"False"}`
	a := rec(gates, own+","+lb+","+dns)
	body, err := canon.ToJSON(a.body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"status":{"conditions":[{"status":"False","type":"x/dns"},{"status":"True","type":"x/lb"}]}`; !strings.Contains(string(body), want) || strings.Contains(string(body), "Registered") {
		t.Errorf("body %s", body)
	}
	same := rec(gates, strings.Replace(own, "False", "True", 1)+","+dns+","+strings.Replace(lb, "Registered", "StillRegistered", 1)+`,{"type":"PodScheduled","status":"True"}`)
	if same.version != a.version {
		t.Error("what the agent reports, an order or a reason changed the version")
	}
	if other := rec(gates, strings.Replace(lb, "True", "False", 1)+","+dns); other.version == a.version {
		t.Error("a gate's condition changed, and the version did not")
	}
	if none := rec(`null`, lb); strings.Contains(string(none.body), "status") || none.version != rec(`null`, dns).version {
		t.Errorf("a pod without gates carries a status: %x", none.body)
	}
}

// TestLastStatusIsWrittenBeforeThePodGoes: a finalizer may keep the pod, and whoever set it wants to know how the pod ended.
func TestLastStatusIsWrittenBeforeThePodGoes(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"uid"`, `"deletionTimestamp":"2026-01-01T00:00:00Z","uid"`, 1))
		synctest.Wait()
		b.start("gw-1", 7)
		b.report("gw-1", 7, podKey, `{"deleted":true,"status":{"phase":"Failed","containerStatuses":[{"name":"c","image":"i","imageID":"","lastState":{},"ready":false,"restartCount":0,"state":{"terminated":{"exitCode":143}}}]}}`)
		if b.api.get(podsGVR, "default/web") != nil {
			t.Error("the terminating pod was not removed")
		}
		b.api.mu.Lock()
		defer b.api.mu.Unlock()
		patch, gone := -1, -1
		for i, r := range b.api.requests {
			switch {
			case strings.HasPrefix(r, "patch/status pods"):
				patch = i
			case strings.HasPrefix(r, "delete pods"):
				gone = i
			}
		}
		if patch < 0 || gone < patch {
			t.Errorf("requests %q", b.api.requests)
		}
	})
}
