//go:build integration

package attack

import (
	"strings"
	"testing"
	"time"
)

// attempt is one thing that an attacker tries. Its name is the one in docs/security/threat-model.md.
type attempt struct {
	name string
	// try does it as node, and checks what the attacker sees.
	try func(t *testing.T, r *rig, node string)
	// metric is the counter that must have grown: a name, and labels that it has.
	metric []string
	// log is what one line of the relay's log must have; NODE stands for the attacker's node.
	log []string
}

// heapAllowed is by how much the relay's heap may differ after an attempt, bytes: caches and metrics grow a little.
const heapAllowed = 16 << 20

// TestAttacks has somebody with one enrolled gateway's key, or none, try everything that the threat model names, beside a fleet of
// honest agents.
func TestAttacks(t *testing.T) {
	r := newRig(t)
	base, err := r.relay.Memory(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range [][]attempt{readAttempts(), writeAttempts(), exhaustAttempts(), flowAttempts(), joinAttempts()} {
		for _, a := range group {
			t.Run(a.name, func(t *testing.T) { r.run(t, a, base.Heap) })
		}
	}
	t.Run("slow", func(t *testing.T) { // those that wait for the relay's patience wait together
		for _, a := range slowAttempts() {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				r.run(t, a, base.Heap)
			})
		}
	})
	t.Run("honest-agents-are-undisturbed", func(t *testing.T) {
		r.await(t, "in sync", inSync)
		if tally, breach := r.fleet.Tally(); tally.Breaches > 0 || tally.Repeated > 0 {
			t.Errorf("%d commits broke what the link promises, %d objects were sent unchanged: %s", tally.Breaches, tally.Repeated, breach)
		}
		for _, a := range r.fleet.Agents() {
			if n := a.Status().Sessions; n != 1 {
				t.Errorf("%s had %d sessions: an attack cost it its connection", a.Name, n)
			}
		}
	})
}

func (r *rig) run(t *testing.T, a attempt, heap float64) {
	node := "evil-" + a.name
	before, from := r.counters(t), r.logSize(t)
	a.try(t, r, node)

	words := make([]string, len(a.log))
	for i, w := range a.log {
		words[i] = strings.ReplaceAll(w, "NODE", node)
	}
	counted, told := 0.0, false
	for end := time.Now().Add(patience); time.Now().Before(end) && (counted < 1 || !told); time.Sleep(50 * time.Millisecond) {
		counted = r.counters(t).Sub(before).Sum(a.metric[0], a.metric[1:]...)
		told = lineWith(r.logFrom(t, from), words)
	}
	if counted < 1 {
		t.Errorf("%s has not grown", strings.Join(a.metric, " "))
	}
	if !told {
		t.Errorf("no line of the log has %q:\n%s", words, r.logFrom(t, from))
	}
	r.unchanged(t)
	now, err := r.relay.Memory(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if now.Heap > heap+heapAllowed {
		t.Errorf("the relay's heap has %.1f MiB, %.1f before the attacks", now.Heap/(1<<20), heap/(1<<20))
	}
}
