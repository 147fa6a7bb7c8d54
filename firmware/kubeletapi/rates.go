package kubeletapi

import (
	"sync"
	"time"
)

// rates computes the present use of processors from counters, of which some runtimes give nothing else.
type rates struct {
	mu   sync.Mutex
	last map[string]sample
}

type sample struct {
	at    time.Time
	total uint64
	rate  *uint64
}

const (
	nodeRate  = "" // the key of the node's own sample
	agentRate = "agent"
	podsRate  = "pods"
	rateLeast = time.Second // between two samples that a rate is made of
)

// of returns the rate since the sample before, in billionths of a core; nil for a first one.
func (r *rates) of(key string, at time.Time, total uint64) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]sample{}
	}
	was, ok := r.last[key]
	passed := at.Sub(was.at)
	switch {
	case ok && total >= was.total && passed >= 0 && passed < rateLeast:
		return was.rate
	case !ok || total < was.total || passed < 0: // another container, or the clock was set
		r.last[key] = sample{at: at, total: total}
		return nil
	}
	rate := uint64(float64(total-was.total) / passed.Seconds())
	r.last[key] = sample{at: at, total: total, rate: &rate}
	return &rate
}

// keep forgets all but the keys given.
func (r *rates) keep(keys map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.last {
		if !keys[k] {
			delete(r.last, k)
		}
	}
}
