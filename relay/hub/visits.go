package hub

import (
	"fmt"
	"sync"
	"time"
)

// defaultSessionsPerMinute allows a gateway on a bad line one session a second, for a minute even more.
const defaultSessionsPerMinute = 60

// visits bounds how often one node opens sessions: each costs requests to the Kubernetes API, from a budget that all share. It also
// keeps a node out that went over its quotas, for as long as it was told to stay away: a session begins with full quotas, so whoever
// came back at once would have none. It remembers nodes that have shown a certificate, until there is nothing to hold against them.
// Safe for concurrent use.
type visits struct {
	perMinute float64

	mu    sync.Mutex
	nodes map[string]visitor
}

type visitor struct {
	left float64
	at   time.Time
	out  time.Time // kept out until then
}

// refusedVisit says why a visit is refused, and for how long. The zero value is a visit that is not.
type refusedVisit struct {
	reason, detail string
	retryAfter     time.Duration
}

func newVisits(perMinute int) *visits {
	if perMinute <= 0 {
		perMinute = defaultSessionsPerMinute
	}
	return &visits{perMinute: float64(perMinute), nodes: make(map[string]visitor)}
}

// allow takes one visit of a node, unless it says why not. One that is kept out takes none.
func (v *visits) allow(node string, now time.Time) (no refusedVisit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.visitor(node, now)
	if wait := n.out.Sub(now); wait > 0 {
		return refusedVisit{"over-limit", "its last session went over a limit, and it was told to stay away", wait}
	}
	if n.left >= 1 {
		n.left--
	} else {
		// Whoever is refused comes back when a few are due, not for each one.
		wait := time.Duration((1 - n.left + v.perMinute/10) / v.perMinute * float64(time.Minute))
		no = refusedVisit{"session-rate", fmt.Sprintf("more than %.0f sessions a minute are opened", v.perMinute), wait}
	}
	v.nodes[node] = n
	return no
}

// keepOut refuses the node's visits for d from now. What was said before stands if it is longer.
func (v *visits) keepOut(node string, d time.Duration, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.visitor(node, now)
	if until := now.Add(d); until.After(n.out) {
		n.out = until
	}
	v.nodes[node] = n
}

// visitor returns what is known of a node, with the visits that it has now.
func (v *visits) visitor(node string, now time.Time) visitor {
	n, known := v.nodes[node]
	if !known {
		n = visitor{left: v.perMinute, at: now}
	}
	n.left = min(v.perMinute, n.left+v.perMinute*max(now.Sub(n.at).Minutes(), 0))
	n.at = now
	return n
}

// forget drops the nodes that have all their visits again and are not kept out.
func (v *visits) forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for node, n := range v.nodes {
		if n.left+v.perMinute*now.Sub(n.at).Minutes() >= v.perMinute && !now.Before(n.out) {
			delete(v.nodes, node)
		}
	}
}
