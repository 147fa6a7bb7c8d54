package enroll

import (
	"container/heap"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// comings is a heap of the moments at which gateways come.
type comings []time.Duration

func (c comings) Len() int           { return len(c) }
func (c comings) Less(i, j int) bool { return c[i] < c[j] }
func (c comings) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *comings) Push(x any)        { *c = append(*c, x.(time.Duration)) }
func (c *comings) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// TestStormOfRenewals lets 10,000 gateways whose certificates have expired come within ten seconds, on a virtual clock, each of
// which does what it is told: they pass at the rate that was set, and the crowd does not come again and again.
func TestStormOfRenewals(t *testing.T) {
	const gateways, perSecond = 10_000, 100
	g := newGate(perSecond)
	begin := time.Now()
	var queue comings
	for range gateways {
		queue = append(queue, rand.N(10*time.Second))
	}
	heap.Init(&queue)
	asked, passed := 0, map[time.Duration]int{}
	var last time.Duration
	for len(queue) > 0 {
		at := heap.Pop(&queue).(time.Duration)
		asked++
		after, ok := g.pass(begin.Add(at))
		if ok {
			passed[at/time.Second]++
			last = at
			continue
		}
		if after < shortestAway || after > longestAway {
			t.Fatalf("sent away for %v", after)
		}
		heap.Push(&queue, at+after+rand.N(after/4+1))
	}
	most := 0
	for _, n := range passed {
		most = max(most, n)
	}
	t.Logf("%d requests of %d gateways, all served after %v, at most %d in a second", asked, gateways, last.Round(time.Second), most)
	if most > 3*perSecond { // a burst, and a second's share
		t.Errorf("%d passed in one second", most)
	}
	if asked > 4*gateways {
		t.Errorf("%d gateways asked %d times", gateways, asked)
	}
	if last > 6*gateways/perSecond*time.Second {
		t.Errorf("the last was served after %v", last)
	}
}

// TestSentAway is the answer that a gateway gets.
func TestSentAway(t *testing.T) {
	at := time.Now()
	r := startRelay(t, func(o *Options) {
		o.Renewals = 1
		o.Now = func() time.Time { return at }
	})
	id, _ := r.joined(t, "gw-1")
	cert, key := credentials(t, id)
	for i := range 4 {
		status, header, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) })
		if i < 2 {
			if status != http.StatusOK {
				t.Errorf("renewal %d of the burst: %d %s", i, status, answer)
			}
			continue
		}
		if s, err := strconv.Atoi(header.Get("Retry-After")); status != http.StatusTooManyRequests || err != nil || s < 2 || s > 10 {
			t.Errorf("beyond it: %d, Retry-After %q, %s", status, header.Get("Retry-After"), answer)
		}
	}
}
