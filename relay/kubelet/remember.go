package kubelet

import (
	"sync"
	"time"
)

// remembered keeps answers for a while, at most as many as it is told. Safe for concurrent use.
type remembered[K comparable, V any] struct {
	most int

	mu  sync.Mutex
	has map[K]answer[V]
}

type answer[V any] struct {
	value V
	until time.Time
}

func newRemembered[K comparable, V any](most int) *remembered[K, V] {
	return &remembered[K, V]{most: most, has: make(map[K]answer[V])}
}

func (r *remembered[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.has[key]
	if !ok || !time.Now().Before(a.until) {
		delete(r.has, key)
		var none V
		return none, false
	}
	return a.value, true
}

// put keeps value for life. When there are too many, what has ended goes first, then whatever comes: it is asked for again.
func (r *remembered[K, V]) put(key K, value V, life time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.has) >= r.most {
		for k, a := range r.has {
			if !now.Before(a.until) {
				delete(r.has, k)
			}
		}
		for k := range r.has {
			if len(r.has) < r.most*3/4 {
				break
			}
			delete(r.has, k)
		}
	}
	r.has[key] = answer[V]{value, now.Add(life)}
}
