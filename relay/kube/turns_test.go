package kube

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// limited starts a sink with a budget on the bench's API, and its index with everything that exists.
func (b *bench) limited(qps float64, burst int, more func(*SinkOptions)) (s *Sink, stop func()) {
	s, _, stop = b.relayOn("relay-s", func(o *SinkOptions) {
		o.QPS, o.Burst, o.Statuses, o.Log = qps, burst, fakeMetadata{b.api}, slog.New(slog.DiscardHandler)
		if more != nil {
			more(o)
		}
	})
	return s, stop
}

func (b *bench) devices(nodes, each int) {
	b.t.Helper()
	for i := range nodes {
		for d := range each {
			b.api.put(b.t, wire.KindDevice, fmt.Sprintf(`{"metadata":{"name":"pump-%d-%d","namespace":"default"},"spec":{"nodeName":"gw-%d"}}`, i, d, i))
		}
		synctest.Wait() // the fake's watches have short queues
	}
}

func pumpOf(i, d int) wire.Key {
	return wire.NewKey(wire.KindDevice, "default", fmt.Sprintf("pump-%d-%d", i, d), "")
}

func values(t *testing.T, v int) []byte {
	t.Helper()
	body, err := canon.FromJSON([]byte(fmt.Sprintf(`{"deviceStatus":{"state":"online","twins":[{"propertyName":"speed","reported":{"value":"%d"}}]}}`, v)))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (b *bench) startOn(s *Sink, i int) {
	b.t.Helper()
	if err := s.SessionStarted(b.t.Context(), nodeOf(i), 1); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) valueOf(i, d int) any {
	return field(b.api.get(deviceStatusesGVR, fmt.Sprintf("default/pump-%d-%d", i, d)), "status", "twins", 0, "reported", "value")
}

// TestNinetyUpdatesASecond: one device that changes 90 times a second for a minute is written at most once per DeviceInterval, in
// order, and its last value stands.
func TestNinetyUpdatesASecond(t *testing.T) {
	withBench(t, func(b *bench) {
		b.devices(1, 1)
		s, stop := b.limited(200, 400, nil)
		defer stop()
		b.startOn(s, 0)
		b.api.taken()
		last, order := -1, true
		const updates, seconds = 90, 60
		for n := range updates * seconds {
			s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, n))
			time.Sleep(time.Second / updates)
			var v int
			if _, err := fmt.Sscan(fmt.Sprint(b.valueOf(0, 0)), &v); err == nil {
				order = order && v >= last
				last = v
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got := b.api.taken()
		if limit := seconds*10 + 1; len(got) > limit || len(got) < limit/2 {
			t.Errorf("%d updates cost %d requests; DeviceInterval allows %d", updates*seconds, len(got), limit)
		}
		if v := b.valueOf(0, 0); v != fmt.Sprint(updates*seconds-1) || !order {
			t.Errorf("the last value is %v; in order: %t", v, order)
		}
		if n := s.depth(); n != 0 {
			t.Errorf("%d reports wait", n)
		}
	})
}

// TestTenThousandReportsAMinute: all at the same moment of each minute, they are written within the budget, evenly, and nothing is
// left over when the next come.
func TestTenThousandReportsAMinute(t *testing.T) {
	const nodes, qps = 10_000, 200
	withBench(t, func(b *bench) {
		b.devices(nodes, 1)
		s, stop := b.limited(qps, qps, func(o *SinkOptions) { o.Leases = newMemoryLeases() })
		defer stop()
		for i := range nodes {
			b.startOn(s, i)
		}
		for minute := range 2 {
			b.api.taken()
			for i := range nodes {
				s.Report(nodeOf(i), 1, pumpOf(i, 0), values(t, minute))
			}
			peak, sum := 0, 0
			for second := range 60 {
				time.Sleep(time.Second)
				n := len(b.api.taken())
				sum += n
				if second > 0 {
					peak = max(peak, n)
				}
			}
			if sum != nodes || peak > qps+1 {
				t.Errorf("minute %d: %d requests, at most %d in a second; want %d, at most %d", minute, sum, peak, nodes, qps)
			}
			if n := s.depth(); n != 0 {
				t.Errorf("minute %d: %d reports wait when the next come", minute, n)
			}
		}
	})
}

// TestTurns: with the budget of the relay used up by one busy node, and with many device values waiting, another node's value
// comes within a few requests, and readiness before all values.
func TestTurns(t *testing.T) {
	withBench(t, func(b *bench) {
		const devices = 60
		b.devices(2, devices)
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"gw-1"`, `"gw-0"`, 1))
		s, stop := b.limited(2, 1, func(o *SinkOptions) { o.Writers = 2 })
		defer stop()
		b.startOn(s, 0)
		b.startOn(s, 1)
		for d := range devices {
			s.Report(nodeOf(0), 1, pumpOf(0, d), values(t, 1))
		}
		time.Sleep(10 * time.Second)
		b.api.taken()
		s.Report(nodeOf(1), 1, pumpOf(1, 0), values(t, 1))
		body, err := canon.FromJSON([]byte(runningPod))
		if err != nil {
			t.Fatal(err)
		}
		s.Report(nodeOf(0), 1, podKey, body)
		time.Sleep(10 * time.Second)
		got := b.api.taken()
		pod := slices.Index(got, "patch/status pods default/web")
		other := slices.Index(got, "create devicestatuses default/pump-1-0")
		if pod < 0 || pod > 2 || other < 0 || other > 5 {
			t.Errorf("the pod's status was request %d, the other node's value %d of %q", pod, other, got)
		}
		for i := range 2 {
			if n := strings.Count(strings.Join(got, "\n"), fmt.Sprintf("pump-%d-", i)); n == 0 {
				t.Errorf("nothing of node %d was written", i)
			}
		}
	})
}

// TestWatchesDoNotDependOnAgents: as many lists and watches with 500 subscribed nodes as with one.
func TestWatchesDoNotDependOnAgents(t *testing.T) {
	count := func(nodes int) (out map[string]int) {
		withBench(t, func(b *bench) {
			b.fleet(nodes)
			for i := range nodes {
				defer b.index.Subscribe(nodeOf(i), func(wire.Key) {})()
			}
			time.Sleep(time.Minute)
			b.api.mu.Lock()
			defer b.api.mu.Unlock()
			out = b.api.lists
		})
		return out
	}
	one, many := count(1), count(500)
	if fmt.Sprint(one) != fmt.Sprint(many) || len(one) != 2*11+1 {
		t.Errorf("with one node %v, with 500 %v; want a list and a watch each of 11 resources, and a list of Leases", one, many)
	}
	for what, n := range many {
		if n != 1 {
			t.Errorf("%s: %d", what, n)
		}
	}
}

// TestReportMadeAgain: a report that is forgotten while it is written, and made again, waits for the end of that write, so that an older value never comes last.
func TestReportMadeAgain(t *testing.T) {
	withBench(t, func(b *bench) {
		b.devices(1, 1)
		s, stop := b.limited(200, 400, nil)
		defer stop()
		b.startOn(s, 0)
		s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, 1))
		time.Sleep(10 * time.Second)
		b.api.writesTake(time.Second)
		for v := 2; v < 8; v++ {
			s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, v))
			time.Sleep(600 * time.Millisecond)
			s.mu.Lock()
			n := s.nodes[nodeOf(0)]
			s.forget(n, pumpOf(0, 0))
			s.mu.Unlock()
		}
		s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, 8))
		time.Sleep(time.Minute)
		if _, most := b.api.underWay("devicestatuses " + pumpOf(0, 0).Name()); most != 1 {
			t.Errorf("%d writes of one object at once", most)
		}
		if got := b.valueOf(0, 0); got != "8" {
			t.Errorf("the last value is %v", got)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.nodes[nodeOf(0)]; len(n.under) != 0 || n.busy != [3]uint8{} {
			t.Errorf("under way are %v, %v", n.under, n.busy)
		}
	})
}

// TestANodeStaysWhileItIsWritten: one that comes back meanwhile must know which of its objects are being written.
func TestANodeStaysWhileItIsWritten(t *testing.T) {
	withBench(t, func(b *bench) {
		b.devices(1, 1)
		s, stop := b.limited(200, 400, nil)
		defer stop()
		b.startOn(s, 0)
		s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, 1))
		time.Sleep(10 * time.Second)
		b.api.writesTake(10 * time.Second)
		s.Report(nodeOf(0), 1, pumpOf(0, 0), values(t, 2))
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		n := s.nodes[nodeOf(0)]
		if len(n.under) != 1 {
			t.Errorf("under way are %v", n.under)
		}
		s.forget(n, pumpOf(0, 0)) // as if Device and Node were gone
		n.session = nil
		s.release(n)
		kept := s.nodes[nodeOf(0)] == n
		s.mu.Unlock()
		if !kept {
			t.Error("the node was forgotten while its object was written")
		}
		time.Sleep(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.nodes) != 0 || len(n.under) != 0 {
			t.Errorf("%d nodes are kept after the write, under way are %v", len(s.nodes), n.under)
		}
	})
}

// TestOneAlarmForANode: an alarm that is superseded by a sooner one does not stay until it would have been due.
func TestOneAlarmForANode(t *testing.T) {
	withBench(t, func(b *bench) {
		s, stop := b.limited(200, 400, nil)
		defer stop()
		nodes := []*nodeState{{name: "a"}, {name: "b"}, {name: "c"}}
		now := time.Now()
		s.mu.Lock()
		for i := range 1000 {
			s.alarmNode(nodes[i%3], now.Add(time.Hour-time.Duration(i)*time.Second))
		}
		if len(s.alarms) != 3 || s.alarms[0].n != nodes[0] || s.alarms[0].at != now.Add(time.Hour-999*time.Second).UnixNano() {
			t.Errorf("%d alarms, the first at %v", len(s.alarms), time.Unix(0, s.alarms[0].at).Sub(now))
		}
		for _, n := range nodes {
			if s.alarms[n.slot-1].n != n || s.alarms[n.slot-1].at != n.alarm {
				t.Errorf("%s stands at %d", n.name, n.slot)
			}
		}
		s.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range nodes {
			if n.alarm != 0 || n.slot != 0 || len(s.alarms) != 0 {
				t.Errorf("%s: alarm %d at %d; %d are left", n.name, n.alarm, n.slot, len(s.alarms))
			}
		}
	})
}
