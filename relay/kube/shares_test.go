package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// TestNodeBudget: whatever one agent reports, it causes a bounded number of requests.
func TestNodeBudget(t *testing.T) {
	withBench(t, func(b *bench) {
		const devices = 50
		b.devices(1, devices)
		const nodeQPS = 60
		s, stop := b.limited(0, 0, func(o *SinkOptions) { o.NodeQPS = nodeQPS })
		defer stop()
		b.startOn(s, 0)
		b.api.taken()
		const seconds = 30
		for n := range seconds * 10 {
			for d := range devices {
				s.Report(nodeOf(0), 1, pumpOf(0, d), values(t, n))
			}
			time.Sleep(100 * time.Millisecond)
		}
		got := b.api.taken()
		if limit := nodeBurst + seconds*nodeQPS; len(got) > limit+deviceWrites || len(got) < limit*9/10 {
			t.Errorf("%d reports cost %d requests, the node's budget is %d", seconds*10*devices, len(got), limit)
		}
		written := make(map[string]int)
		for _, r := range got {
			written[r[strings.LastIndex(r, "/"):]]++
		}
		if len(written) != devices {
			t.Errorf("only %d of its %d devices were written", len(written), devices)
		}
		time.Sleep(time.Minute)
		for d := range devices {
			if v := b.valueOf(0, d); v != fmt.Sprint(seconds*10-1) {
				t.Fatalf("device %d shows %v", d, v)
			}
		}
	})
}

// TestOnlyDevicesGoBeyond: a node's own status has the share and no more, although nobody else wants anything.
func TestOnlyDevicesGoBeyond(t *testing.T) {
	withBench(t, func(b *bench) {
		b.devices(1, 1)
		s, stop := b.limited(0, 0, nil)
		defer stop()
		b.startOn(s, 0)
		const seconds = 20
		b.api.taken()
		for n := range seconds * 100 {
			body, err := canon.FromJSON([]byte(fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":"True","reason":"AgentReady","message":"%d"}]}}`, n)))
			if err != nil {
				t.Fatal(err)
			}
			s.Report(nodeOf(0), 1, nodeKeyOf(nodeOf(0)), body)
			time.Sleep(10 * time.Millisecond)
		}
		if n, limit := len(b.api.taken()), 2*nodeBurst+seconds*nodeShare; n > limit+1 || n < limit*9/10 {
			t.Errorf("a node's status was written %d times, its share is %d", n, limit)
		}
	})
}

// flood has all devices of a node change every 100 ms, until stop is called.
func (b *bench) flood(s *Sink, node, devices int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			for d := range devices {
				s.Report(nodeOf(node), 1, pumpOf(node, d), values(b.t, n))
			}
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (b *bench) requestsOf(node int) int {
	b.api.mu.Lock()
	defer b.api.mu.Unlock()
	return strings.Count(strings.Join(b.api.requests, "\n"), fmt.Sprintf("pump-%d-", node))
}

// TestChangesOverlap: with writes that take longer than the time from one change to the next, no change waits for more than those of
// the node's that are on their way; one request a change, one write of an object at a time, the last value stands.
func TestChangesOverlap(t *testing.T) {
	withBench(t, func(b *bench) {
		const devices, changes = 100, 3000
		b.devices(1, devices)
		s, stop := b.limited(200, 400, nil)
		defer stop()
		b.startOn(s, 0)
		for d := range devices {
			s.Report(nodeOf(0), 1, pumpOf(0, d), values(t, -1))
		}
		time.Sleep(30 * time.Second)
		b.api.taken()
		b.api.writesTake(25 * time.Millisecond)
		deepest := 0
		for n := range changes {
			s.Report(nodeOf(0), 1, pumpOf(0, n%devices), values(t, n))
			time.Sleep(10 * time.Millisecond)
			deepest = max(deepest, s.depth())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(b.api.taken()); got != changes {
			t.Errorf("%d changes cost %d requests", changes, got)
		}
		if deepest > deviceWrites {
			t.Errorf("up to %d changes waited or were under way", deepest)
		}
		if _, n := b.api.underWay("devicestatuses"); n < 2 || n > deviceWrites {
			t.Errorf("up to %d writes of the node were under way at once", n)
		}
		for d := range devices {
			if _, n := b.api.underWay("devicestatuses " + pumpOf(0, d).Name()); n != 1 {
				t.Errorf("%d writes of device %d at once", n, d)
			}
			if v := b.valueOf(0, d); v != fmt.Sprint(changes-devices+d) {
				t.Errorf("device %d shows %v", d, v)
			}
		}
	})
}

// TestBeyondItsShare: what others leave of the relay's budget goes to who can use it, evenly, up to half of what may come at once; and no
// node that is within its share waits for that: neither what is readiness nor its values.
func TestBeyondItsShare(t *testing.T) {
	withBench(t, func(b *bench) {
		const qps, burst, devices, seconds = 100, 40, 30, 8
		b.devices(3, devices)
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"gw-1"`, `"gw-2"`, 1))
		s, stop := b.limited(qps, burst, nil)
		defer stop()
		for i := range 3 {
			b.startOn(s, i)
		}
		defer b.flood(s, 0, devices)()
		defer b.flood(s, 1, devices)()
		time.Sleep(8 * time.Second) // their bursts are over
		b.api.taken()
		b.api.writesTake(10 * time.Millisecond)
		body, err := canon.FromJSON([]byte(runningPod))
		if err != nil {
			t.Fatal(err)
		}
		var late []string
		for n := range seconds * 10 {
			time.Sleep(100 * time.Millisecond)
			key, report := pumpOf(2, n%devices), values(t, n)
			if n == seconds*5 {
				key, report = podKey, body
			}
			b.api.mu.Lock()
			before := len(b.api.requests)
			b.api.mu.Unlock()
			s.Report(nodeOf(2), 1, key, report)
			time.Sleep(100 * time.Millisecond)
			b.api.mu.Lock()
			at := slices.IndexFunc(b.api.requests[before:], func(r string) bool { return strings.HasSuffix(r, "/"+key.Name()) })
			b.api.mu.Unlock()
			if at < 0 || at > s.opts.Writers { // what was under way
				late = append(late, fmt.Sprintf("%s after %d requests", key.Name(), at))
			}
		}
		if len(late) > 0 {
			t.Errorf("of a node within its share, %d reports waited for those beyond: %q", len(late), late)
		}
		flooding := []int{b.requestsOf(0), b.requestsOf(1)}
		const left = 2 * seconds * (qps - 5)
		if sum := flooding[0] + flooding[1]; sum < left*95/100 || sum > left*105/100 || min(flooding[0], flooding[1]) < left*35/100 {
			t.Errorf("two nodes that flood wrote %v times; %d were left to them", flooding, left)
		}
	})
}

// TestSlowAPIServer: when each write takes a second, nodes that flood have no more than half of the writers beside one each; the others'
// reports are under way at once.
func TestSlowAPIServer(t *testing.T) {
	withBench(t, func(b *bench) {
		const floods, devices = 5, 20
		b.devices(floods+1, devices)
		s, stop := b.limited(200, 400, nil)
		defer stop()
		for i := range floods + 1 {
			b.startOn(s, i)
		}
		for i := range floods {
			defer b.flood(s, i, devices)()
		}
		time.Sleep(8 * time.Second)
		b.api.writesTake(time.Second)
		time.Sleep(5 * time.Second)
		for n := range 8 {
			busy, _ := b.api.underWay("devicestatuses")
			s.Report(nodeOf(floods), 1, pumpOf(floods, n), values(t, n))
			synctest.Wait()
			under, _ := b.api.underWay("devicestatuses " + pumpOf(floods, n).Name())
			if under != 1 || busy >= s.opts.Writers {
				t.Errorf("with %d writes under way, %d of the node's are", busy, under)
			}
			time.Sleep(2 * time.Second)
		}
		if _, n := b.api.underWay("devicestatuses"); n < s.opts.Writers/2 {
			t.Errorf("at most %d writes were under way", n)
		}
	})
}
