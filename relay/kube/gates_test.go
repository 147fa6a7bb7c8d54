package kube

import (
	"strings"
	"testing"

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
