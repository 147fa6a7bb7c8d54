package enroll

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSources bounds the memory of the limiter: a peer with many addresses cannot grow it.
const maxSources = 4096

// limiter is a token bucket for each source address.
type limiter struct {
	perSecond rate.Limit
	burst     int

	mu      sync.Mutex
	sources map[string]*rate.Limiter
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{perSecond: rate.Limit(perSecond), burst: burst, sources: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(source string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.sources[source]
	if b == nil {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		b = rate.NewLimiter(l.perSecond, l.burst)
		l.sources[source] = b
	}
	return b.AllowN(now, 1)
}

// forget drops sources whose bucket is full again, which lose nothing by it, and all if that frees too little: then
// somebody has thousands of addresses, and the bound on requests at a time is what protects the API server.
func (l *limiter) forget(now time.Time) {
	for s, b := range l.sources {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.sources, s)
		}
	}
	if len(l.sources) > maxSources*3/4 {
		clear(l.sources)
	}
}

// gate bounds how many certificates are renewed a second, whoever asks. Each costs the API server a write, as the gateway says on
// its Node what it has. Whoever is too many is told when to come again: the more there are, the later, and not all at once.
type gate struct {
	rate float64 // a second

	mu     sync.Mutex
	bucket *rate.Limiter
	since  time.Time // when the count of those sent away began
	away   int
}

// Those who were sent away are counted for so long; by then most have come again.
const gateMemory = time.Minute

const (
	shortestAway = 2 * time.Second
	longestAway  = 10 * time.Minute
)

func newGate(perSecond float64) *gate {
	return &gate{rate: perSecond, bucket: rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))}
}

// pass says whether a renewal may be judged now, and if not, when to come again.
func (g *gate) pass(now time.Time) (after time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bucket.AllowN(now, 1) {
		return 0, true
	}
	if now.Sub(g.since) > gateMemory {
		g.since, g.away = now, 0
	}
	g.away++
	queue := time.Duration(float64(g.away) / g.rate * float64(time.Second))
	return min(shortestAway+rand.N(2*queue+1), longestAway), false
}
