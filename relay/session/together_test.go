package session_test

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// settle ends all faults and checks that both sides agree.
func (s *sim) settle() {
	s.t.Helper()
	s.faults = faults{}
	s.cluster.FollowAll()
	s.run(10 * time.Minute)
	if err := s.store.Err(); err != nil {
		s.t.Fatalf("promises broken:\n%v", err)
	}
	want, _ := s.views[0].Keys(node)
	if got := s.store.Versions(); !maps.Equal(got, want) {
		s.t.Fatalf("the agent holds %d objects, the cluster has %d for it\n got %v\nwant %v\nstatus %+v\ncloses %v\nnotes %s",
			len(got), len(want), got, want, s.agent.Status(), s.closes, strings.Join(s.notes, "\n"))
	}
	st := s.agent.Status()
	if !st.Connected || !st.InSync {
		s.t.Fatalf("status after settling: %+v\n%s", st, strings.Join(s.notes, "\n"))
	}
	for k, body := range s.current {
		obj, held := s.store.Get(k)
		if !held && k.Kind() != wire.KindNode || obj.Absent {
			continue // gone: the relay may refuse it
		}
		if got, _ := s.sink.Reported(k); !bytes.Equal(got, body) {
			s.t.Fatalf("%s: the newest report did not arrive (status %+v)", k, st)
		}
	}
	if left := s.store.Pending(0, 1<<20); len(left) != 0 {
		s.t.Fatalf("%d outbox items were not delivered", len(left))
	}
}

// fill puts n pods, each with one reference of its own, one shared, and one that does not exist.
func (s *sim) fill(n int) {
	shared := wire.NewKey(wire.KindConfigMap, "default", "shared", "")
	missing := wire.NewKey(wire.KindSecret, "default", "missing", "")
	s.cluster.Put("", shared, linktest.Body(1))
	for i := range n {
		own := wire.NewKey(wire.KindConfigMap, "default", fmt.Sprintf("cfg-%d", i), "")
		s.cluster.Put("", own, linktest.Body(i))
		s.cluster.Put(node, wire.NewKey(wire.KindPod, "default", fmt.Sprintf("pod-%d", i), fmt.Sprintf("u%d", i)), linktest.Body(i, own, shared, missing))
	}
	s.cluster.FollowAll()
}

// TestUnchangedIsNotSentAgain cuts the connection at every frame in turn: what the agent holds by then never comes again.
func TestUnchangedIsNotSentAgain(t *testing.T) {
	for cut := range 60 {
		s := newSim(t, uint64(cut), 2, faults{}, session.Limits{CommitBytes: 300, PartBytes: 100})
		s.fill(10)
		for range cut { // a few events at a time, then the connection breaks
			if len(s.queue) > 0 {
				s.run(s.queue[0].at.Sub(s.now))
			}
		}
		for _, c := range s.conns {
			c.breakNow()
		}
		s.settle()
		if puts, deletes := s.store.Counts(); puts != 22 || deletes != 0 {
			t.Fatalf("cut after %d events: %d objects were put and %d deleted, want 22 and 0", cut, puts, deletes)
		}
	}
}

func TestReconnectInSyncSendsNothing(t *testing.T) {
	s := newSim(t, 1, 2, faults{}, session.Limits{})
	s.fill(20)
	s.settle()
	sent := s.totals.ObjectsSent
	before := s.agent.Status()
	for range 5 {
		for _, c := range s.conns {
			c.breakNow()
		}
		s.settle()
	}
	after := s.agent.Status()
	if after.ObjectsReceived != before.ObjectsReceived || after.Sessions < before.Sessions+5 {
		t.Fatalf("objects received %d → %d in sessions %d → %d", before.ObjectsReceived, after.ObjectsReceived, before.Sessions, after.Sessions)
	}
	// The last session is still open and not in totals: four of five reconnects, 42 objects each.
	if s.totals.ObjectsResumed != 4*42 || s.totals.ObjectsSent-sent > 42 {
		t.Fatalf("resumed %d objects, want %d", s.totals.ObjectsResumed, 4*42)
	}
}

// TestReportsAreNotSentAgain: after a reconnect nothing is sent up that the relay has, and what it has lost sight of is.
func TestReportsAreNotSentAgain(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{})
	s.fill(20)
	s.settle()
	report := func(n int) {
		for k := range s.store.Versions() {
			if k.Kind() == wire.KindPod {
				s.report(k, linktest.Body(n))
			}
		}
	}
	again := func(what string, want uint64) {
		t.Helper()
		before := s.agent.Status().ReportsSent
		for _, c := range s.conns {
			c.breakNow()
		}
		s.settle()
		if st := s.agent.Status(); st.ReportsSent-before != want || st.ReportsPending != 0 {
			t.Errorf("%s: %d documents were sent, want %d; %d are pending", what, st.ReportsSent-before, want, st.ReportsPending)
		}
	}
	report(1)
	s.settle()
	again("nothing changed", 0)
	n := 0
	s.sink.Forget(node, func(wire.Key) bool { n++; return n <= 3 })
	again("three were lost", 3)
	s.sink.Forget(node, func(wire.Key) bool { return true })
	again("all were lost", 20)

	s.faults.drop = 1 // no frame passes
	report(2)
	s.settle()
	again("all changed while it was away, and were sent since", 0)
	keys := s.sink.Forget(node, func(k wire.Key) bool { return strings.Contains(string(k), "pod-7/") })
	before := s.agent.Status().ReportsSent
	s.open[0].stepRelay(session.Wanted{Keys: append(keys, "pods/default/unknown/u")})
	s.settle()
	if sent := s.agent.Status().ReportsSent - before; sent != 1 {
		t.Errorf("%d documents were sent, one was asked for", sent)
	}
}

// TestManyReports are offered in as many frames as it takes.
func TestManyReports(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{MaxFrame: wire.MinFrame})
	const n = 500
	for i := range n {
		k := wire.NewKey(wire.KindDevice, "default", fmt.Sprintf("device-with-a-long-name-%d", i), "")
		s.cluster.Put(node, k, linktest.Body(i))
		s.current[k] = linktest.Body(i)
	}
	s.cluster.FollowAll()
	s.boot()
	s.settle()
	before := s.agent.Status().ReportsSent
	s.sink.Forget(node, func(k wire.Key) bool { return strings.HasSuffix(string(k), "9") })
	for _, c := range s.conns {
		c.breakNow()
	}
	s.settle()
	if sent := s.agent.Status().ReportsSent - before; sent != n/10 {
		t.Errorf("%d documents were sent, %d were lost", sent, n/10)
	}
}

// TestOneChangeSendsOneObject holds the relay to sending what differs and nothing beside it.
func TestOneChangeSendsOneObject(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{})
	s.fill(20)
	s.settle()
	puts, _ := s.store.Counts()
	for _, c := range s.conns {
		c.breakNow()
	}
	s.cluster.Put("", wire.NewKey(wire.KindConfigMap, "default", "cfg-3", ""), linktest.Body(999))
	s.settle()
	if now, _ := s.store.Counts(); now != puts+1 {
		t.Fatalf("one change made while cut off sent %d objects", now-puts)
	}
}

// TestStaleRelayWaits connects an agent that is ahead to a relay whose cache is behind.
func TestStaleRelayWaits(t *testing.T) {
	s := newSim(t, 1, 2, faults{}, session.Limits{OlderAfter: time.Hour})
	s.views[1].Follow() // an empty cluster, and stays so
	stale := s.views[1]
	s.fillOnly(s.views[0])
	s.run(time.Minute)
	if len(s.store.Versions()) != 3 {
		t.Fatalf("the agent holds %v", s.store.Versions())
	}
	for _, c := range s.conns {
		c.breakNow() // the next address is the stale relay
	}
	s.run(10 * time.Second)
	s.report(wire.NewKey(wire.KindPod, "default", "p", "u"), linktest.Body(5))
	s.report(wire.NewKey(wire.KindNode, "", node, ""), linktest.Body(6))
	s.run(5 * time.Minute)
	if st := s.agent.Status(); !st.Connected || st.InSync || st.Address != "relay-1:443" {
		t.Fatalf("status %+v", st)
	}
	if _, deletes := s.store.Counts(); deletes != 0 {
		t.Fatal("a relay that was behind deleted objects")
	}
	if _, ok := s.sink.Reported(wire.NewKey(wire.KindPod, "default", "p", "u")); ok {
		t.Fatal("a relay that was behind took a report on a pod that it did not know")
	}
	if _, ok := s.sink.Reported(wire.NewKey(wire.KindNode, "", node, "")); !ok {
		t.Fatal("a relay that was behind held back the node's own status, which keeps it alive")
	}
	stale.Follow()
	s.settle()
	if puts, _ := s.store.Counts(); puts != 3 {
		t.Fatalf("%d objects were put, want 3", puts)
	}
}

func (s *sim) fillOnly(v interface{ Follow() }) {
	cfg := wire.NewKey(wire.KindConfigMap, "default", "c", "")
	s.cluster.Put("", cfg, linktest.Body(1))
	s.cluster.Put(node, wire.NewKey(wire.KindPod, "default", "p", "u"), linktest.Body(1, cfg))
	s.cluster.Put(node, wire.NewKey(wire.KindNode, "", node, ""), linktest.Body(1))
	v.Follow()
}

// TestOlderClusterIsLoud: a cache that stays behind ends the session with a reason, and takes nothing away.
func TestOlderClusterIsLoud(t *testing.T) {
	s := newSim(t, 1, 2, faults{}, session.Limits{})
	s.views[1].Follow()
	s.fillOnly(s.views[0])
	s.run(time.Minute)
	for _, c := range s.conns {
		c.breakNow()
	}
	s.run(2 * time.Minute)
	if s.closes[wire.CloseOlderState] == 0 || !strings.Contains(s.agent.Status().LastError, "older than what this gateway holds") {
		t.Fatalf("closes %v, status %+v", s.closes, s.agent.Status())
	}
	if _, deletes := s.store.Counts(); deletes != 0 {
		t.Fatal("objects were deleted")
	}
}

// TestSlowAgentGetsTheNewest floods an agent whose disk is slow: the relay keeps no queue, so it gets few versions.
func TestSlowAgentGetsTheNewest(t *testing.T) {
	s := newSim(t, 1, 1, faults{slow: 2 * time.Second}, session.Limits{})
	key := wire.NewKey(wire.KindDevice, "default", "d", "")
	for i := range 5000 {
		s.cluster.Put(node, key, linktest.Body(i))
		s.views[0].Follow()
		s.run(10 * time.Millisecond)
	}
	s.settle()
	if puts, _ := s.store.Counts(); puts > 400 {
		t.Fatalf("%d versions of one object were sent in 50 s at about 1 s each", puts)
	}
}

// TestFloodOfChanges: 100 devices change 10,000 times a second for 20 s, over a link that takes up to a second each way and breaks
// now and then, and over a good one, where the relay's limit is what slows them down. Nothing waits but each device's newest report, no
// device goes back in time, and none ends stale.
func TestFloodOfChanges(t *testing.T) {
	const devices, changes, perSecond = 100, 200_000, 10_000
	for name, c := range map[string]struct {
		faults faults
		most   uint64 // reports sent
	}{
		"slow link": {faults{slow: time.Second, drop: 0.01}, changes / 20},
		"paced":     {faults{}, 500*(10+changes/perSecond) + 2*devices}, // the burst and the rate
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 1, 2, c.faults, session.Limits{})
			key := func(d int) wire.Key { return wire.NewKey(wire.KindDevice, "default", fmt.Sprintf("d-%d", d), "") }
			for d := range devices {
				s.cluster.Put(node, key(d), linktest.Body(d))
			}
			s.cluster.FollowAll()
			s.run(time.Minute)
			numbers, newest := make(map[string]int), make([]int, devices)
			for i := range changes {
				body := linktest.Body(devices + i)
				numbers[string(body)] = i
				s.report(key(i%devices), body)
				s.run(time.Second / perSecond)
				if n := s.agent.Status().ReportsPending; n > 2*devices {
					t.Fatalf("%d reports wait after %d changes", n, i)
				}
				for d := 0; i%1000 == 999 && d < devices; d++ {
					body, ok := s.sink.Reported(key(d))
					n := numbers[string(body)]
					if ok && n < newest[d] {
						t.Fatalf("%s went from change %d back to %d", key(d), newest[d], n)
					}
					newest[d] = n
				}
			}
			s.settle()
			if sent := s.agent.Status().ReportsSent; sent > c.most || sent < 10*devices {
				t.Errorf("%d changes were %d reports on the wire", changes, sent)
			}
		})
	}
}

// TestSecondAgentWithTheSameIdentity: the newer session wins, the older one is told, reports of the older are fenced.
func TestSecondAgentWithTheSameIdentity(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{})
	s.fill(3)
	s.run(time.Minute)
	first := s.open[0]
	s.agentLife++ // the first agent hangs: its connection stays open
	s.conns = map[uint64]*simConn{}
	s.agentWake = time.Time{}
	s.boot()
	s.run(5 * time.Second)
	if !first.relay.Closed() || s.closes[wire.CloseReplaced] != 1 || len(s.open) != 1 {
		t.Fatalf("closes %v, %d sessions open", s.closes, len(s.open))
	}
	s.settle()
}
