package enroll

import (
	"net"
	"net/netip"
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

// sourceOf is the address that requests are counted by: an IPv4 address, or the /64 of an IPv6 one, since a host has all
// of a /64 to choose from.
func sourceOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
