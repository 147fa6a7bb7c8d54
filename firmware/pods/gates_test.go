package pods

import (
	"strings"
	"testing"
	"time"
)

// TestReadinessGates: a pod whose containers are ready is ready when the conditions that others set are True, and nothing of it restarts.
func TestReadinessGates(t *testing.T) {
	simulate(t, func(w *world) {
		doc := strings.Replace(simplePod, `"spec":{`, `"spec":{"readinessGates":[{"conditionType":"example.org/lb"},{"conditionType":"example.org/dns"}],`, 1)
		with := func(conditions string) string {
			return strings.TrimSuffix(doc, "}") + `,"status":{"conditions":[` + conditions + `]}}`
		}
		w.apply(doc)
		w.settle(2 * time.Second)
		s := w.status()
		ready, containers := cond(s.Conditions, condReady), cond(s.Conditions, condContainersReady)
		if ready.Status != "False" || ready.Reason != reasonGates || containers.Status != "True" ||
			!strings.Contains(ready.Message, `readiness gate "example.org/lb" does not exist.`) || !strings.Contains(ready.Message, "example.org/dns") {
			t.Errorf("ready %+v, containers %+v", ready, containers)
		}
		w.apply(with(`{"type":"example.org/lb","status":"True"},{"type":"example.org/dns","status":"False"}`))
		w.settle(2 * time.Second)
		if ready = cond(w.status().Conditions, condReady); ready.Status != "False" || ready.Message != `the status of pod readiness gate "example.org/dns" is not "True", but False` {
			t.Errorf("ready %+v", ready)
		}
		w.apply(with(`{"type":"example.org/lb","status":"True"},{"type":"example.org/dns","status":"True"}`))
		w.settle(2 * time.Second)
		if ready = cond(w.status().Conditions, condReady); ready.Status != "True" || ready.Message != "" {
			t.Errorf("ready %+v", ready)
		}
		if n := w.rt.called("CreateContainer"); n != 1 {
			t.Errorf("%d containers were made", n)
		}
	})
}
