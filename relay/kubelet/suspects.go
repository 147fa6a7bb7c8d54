package kubelet

import (
	"sync"
	"time"
)

// Tokens that nobody knows are reviewed by the API server, each. Whoever presents one after the other that is worth nothing is let wait, so that
// those of others are still reviewed.
const (
	badTokens    = 50 // of one source within tokenBad
	sourcesKnown = 4096
)

// suspects counts the tokens of each source that were not, or not yet, found good. Safe for concurrent use.
type suspects struct {
	mu  sync.Mutex
	has map[string]*suspect
}

type suspect struct {
	bad   int
	until time.Time // all is forgotten
}

// may reports whether another token of a source is reviewed, and counts it.
func (s *suspects) may(source string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has == nil {
		s.has = map[string]*suspect{}
	}
	x := s.has[source]
	if x == nil || !now.Before(x.until) {
		s.makeRoom(now)
		x = &suspect{until: now.Add(tokenBad)}
		s.has[source] = x
	}
	if x.bad >= badTokens {
		return false
	}
	x.bad++
	return true
}

// good takes back what may has counted: the token was good, or nobody could say.
func (s *suspects) good(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.has[source]; x != nil && x.bad > 0 {
		x.bad--
	}
}

func (s *suspects) makeRoom(now time.Time) {
	if len(s.has) < sourcesKnown {
		return
	}
	for k, x := range s.has {
		if !now.Before(x.until) {
			delete(s.has, k)
		}
	}
	for k := range s.has {
		if len(s.has) < sourcesKnown {
			return
		}
		delete(s.has, k)
	}
}

// review is one that is under way, for all who present its token.
type review struct {
	done chan struct{}
	user *user
	err  error
}
