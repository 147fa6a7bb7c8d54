package hub

import (
	"sync"
	"time"
)

// defaultSessionsPerMinute allows a gateway on a bad line one session a second, for a minute even more.
const defaultSessionsPerMinute = 60

// visits bounds how often one node opens sessions: each costs requests to the Kubernetes API, from a budget that all share. Safe for
// concurrent use.
type visits struct {
	perMinute float64

	mu    sync.Mutex
	nodes map[string]visitor
}

type visitor struct {
	left float64
	at   time.Time
}

func newVisits(perMinute int) *visits {
	if perMinute <= 0 {
		perMinute = defaultSessionsPerMinute
	}
	return &visits{perMinute: float64(perMinute), nodes: make(map[string]visitor)}
}

// allow takes one visit of a node, or says after how long there is one.
func (v *visits) allow(node string, now time.Time) (retryAfter time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, known := v.nodes[node]
	if !known {
		n = visitor{left: v.perMinute, at: now}
	}
	n.left = min(v.perMinute, n.left+v.perMinute*max(now.Sub(n.at).Minutes(), 0))
	n.at = now
	if ok = n.left >= 1; ok {
		n.left--
	} else {
		// Whoever is refused comes back when a few are due, not for each one.
		retryAfter = time.Duration((1 - n.left + v.perMinute/10) / v.perMinute * float64(time.Minute))
	}
	v.nodes[node] = n
	return retryAfter, ok
}

// forget drops the nodes that have all their visits again.
func (v *visits) forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for node, n := range v.nodes {
		if n.left+v.perMinute*now.Sub(n.at).Minutes() >= v.perMinute {
			delete(v.nodes, node)
		}
	}
}
