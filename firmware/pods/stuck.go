package pods

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// stuckAfter is how long one turn of a pod's worker may take, beside the pod's grace period. Calls of the runtime and mounts have limits of their
// own, all of which together stay far below; pulls and hooks of the pod have none, and do not count.
const stuckAfter = 30 * time.Minute

// turn says what a worker is doing, so that a worker which is stuck is noticed: it holds a lock, or waits for one, that nothing gives back. It is written by the
// worker and read by the manager.
type turn struct {
	began atomic.Pointer[time.Time] // nil: it waits for something to do
	grace atomic.Int64              // s that the pod may take to end
	away  atomic.Int32              // what is waited for that may take any time: hooks are the pod's own business, pulls are the network's
}

func (t *turn) begin(d *desiredPod) {
	grace := int64(defaultGrace)
	if d != nil {
		grace = d.grace()
	}
	now := time.Now()
	t.grace.Store(grace)
	t.began.Store(&now)
}

func (t *turn) end() { t.began.Store(nil) }

// elsewhere says that the worker waits for something that may take any time, until the function that it returns is called.
func (t *turn) elsewhere() (back func()) {
	t.away.Add(1)
	return func() {
		now := time.Now()
		t.began.Store(&now)
		t.away.Add(-1)
	}
}

// stuck reports whether the turn goes on for longer than anything may take.
func (t *turn) stuck(now time.Time) bool {
	began := t.began.Load()
	return began != nil && t.away.Load() == 0 && now.Sub(*began) > stuckAfter+time.Duration(t.grace.Load())*time.Second
}

// signOfLife tells that the manager is alive, unless a worker is stuck.
func (m *Manager) signOfLife() {
	if m.o.Alive == nil {
		return
	}
	if pods := m.Stuck(); len(pods) > 0 {
		m.o.Log.Error("workers of pods are stuck; unless they come back, the watchdog will reset the gateway", "pods", strings.Join(pods, ", "))
		return
	}
	m.o.Alive()
}

// Stuck returns the UIDs of pods whose workers are stuck. It may be called by any goroutine.
func (m *Manager) Stuck() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	now := time.Now()
	for uid, w := range m.workers {
		if w.turn.stuck(now) {
			out = append(out, uid)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
