package mqtt

import (
	"sync"
)

// Limits of requests that wait.
const (
	maxWaiting   = 16  // for one device
	maxRequested = 256 // for all
)

// queues answer requests, those for one device in their order. They are safe for concurrent use.
type queues struct {
	mu      sync.Mutex
	waiting map[string][]func() // what is being answered comes first
	all     int
	ended   bool
}

// put has fn called after what was put for key before; false: too much waits. spawn runs a goroutine that somebody waits for.
func (q *queues) put(key string, spawn func(func()), fn func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.all >= maxRequested || len(q.waiting[key]) >= maxWaiting {
		return false
	}
	if q.waiting == nil {
		q.waiting = make(map[string][]func())
	}
	q.all++
	q.waiting[key] = append(q.waiting[key], fn)
	if len(q.waiting[key]) == 1 {
		spawn(func() { q.answer(key) })
	}
	return true
}

func (q *queues) answer(key string) {
	for {
		q.mu.Lock()
		fn := q.waiting[key][0]
		q.mu.Unlock()
		fn()
		q.mu.Lock()
		q.all--
		rest := q.waiting[key][1:]
		if len(rest) == 0 {
			delete(q.waiting, key)
		} else {
			q.waiting[key] = rest
		}
		q.mu.Unlock()
		if len(rest) == 0 {
			return
		}
	}
}

// end takes nothing more.
func (q *queues) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}
