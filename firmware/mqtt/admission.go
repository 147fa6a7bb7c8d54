package mqtt

import (
	"errors"
	"sync"
)

// Those who have not proved who they are.
const (
	strangers          = 32 // at a time
	strangersPerSource = 8
)

var (
	errFull       = errors.New("mqtt.limits.connections are open")
	errSourceFull = errors.New("mqtt.limits.connectionsPerSource are open")
	errStrangers  = errors.New("too many connections that have not said who they are")
)

// admission counts connections. It is safe for concurrent use.
type admission struct {
	most, perSource int

	mu        sync.Mutex
	total     int
	sources   map[string]int
	unknown   int
	unknownBy map[string]int
}

func newAdmission(l Limits) *admission {
	return &admission{most: l.Connections, perSource: l.ConnectionsPerSource, sources: make(map[string]int), unknownBy: make(map[string]int)}
}

// admit takes a connection. known is called when its peer has proved who it is, gone when it has ended; both may be called more than once.
func (a *admission) admit(source string) (known, gone func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.total >= a.most:
		return nil, nil, errFull
	case a.sources[source] >= a.perSource:
		return nil, nil, errSourceFull
	case a.unknown >= strangers, a.unknownBy[source] >= strangersPerSource:
		return nil, nil, errStrangers
	}
	a.total++
	a.unknown++
	a.sources[source]++
	a.unknownBy[source]++
	known = sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unknown--
		less(a.unknownBy, source)
	})
	gone = sync.OnceFunc(func() {
		known()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.total--
		less(a.sources, source)
	})
	return known, gone, nil
}

func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

func (a *admission) open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total
}
