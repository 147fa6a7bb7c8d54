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

// churn makes one random change in the cluster or at the agent.
func (s *sim) churn() {
	cfg := func() wire.Key {
		kind := []wire.Kind{wire.KindConfigMap, wire.KindSecret, wire.KindDeviceModel}[s.r.IntN(3)]
		return wire.NewKey(kind, "default", fmt.Sprintf("ref-%d", s.r.IntN(8)), "")
	}
	n := s.r.IntN(1 << 20)
	switch s.r.IntN(9) {
	case 8: // a relay loses sight of some reports, or sends the agent elsewhere
		s.forget()
	case 0, 1:
		s.cluster.Put("", cfg(), linktest.Body(n))
	case 2:
		s.cluster.Delete(cfg())
	case 3:
		pod := wire.NewKey(wire.KindPod, "default", fmt.Sprintf("pod-%d", s.r.IntN(6)), fmt.Sprintf("u%d", s.r.IntN(3)))
		s.cluster.Put(node, pod, linktest.Body(n, cfg(), cfg()))
	case 4:
		keys := s.cluster.Keys()
		for _, k := range keys {
			if k.Kind() == wire.KindPod && s.r.IntN(3) == 0 {
				s.cluster.Delete(k)
			}
		}
	case 5:
		dev := wire.NewKey(wire.KindDevice, "default", fmt.Sprintf("dev-%d", s.r.IntN(4)), "")
		s.cluster.Put([]string{node, "other"}[s.r.IntN(2)], dev, linktest.Body(n, cfg()))
	case 6:
		for k := range s.store.Versions() {
			if k.Kind() == wire.KindPod || k.Kind() == wire.KindDevice {
				s.report(k, linktest.Body(n))
			}
		}
		s.report(wire.NewKey(wire.KindNode, "", node, ""), linktest.Body(n))
	case 7:
		s.store.Append(wire.KindOfEvent, linktest.Body(n))
	}
	if s.r.IntN(2) == 0 {
		s.views[s.r.IntN(len(s.views))].Follow()
	}
}

func (s *sim) forget() {
	if len(s.open) == 0 {
		return
	}
	c := s.open[len(s.open)-1]
	if s.r.IntN(4) == 0 {
		to := fmt.Sprintf("relay-%d:443", s.r.IntN(len(s.views)))
		c.stepRelay(session.Shut{Code: wire.CloseGoingAway, Reason: "drain", RetryAfter: time.Duration(s.r.IntN(1000)) * time.Millisecond, Elsewhere: []string{to}})
		return
	}
	keys := s.sink.Forget(node, func(wire.Key) bool { return s.r.IntN(2) == 0 })
	if s.r.IntN(2) == 0 {
		c.stepRelay(session.Wanted{Keys: keys})
	}
}

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

// TestTogether runs both machines against each other in hostile worlds and checks that they always come to agree, that no
// pod ever arrives before its references, and that nothing unchanged is ever sent (the store checks the last two).
func TestTogether(t *testing.T) {
	worlds := map[string]faults{
		"calm":      {},
		"slow":      {slow: 2 * time.Second},
		"lossy":     {drop: 0.05, refuse: 0.3, slow: 300 * time.Millisecond},
		"silent":    {blackhole: 0.02, slow: 300 * time.Millisecond},
		"bad disk":  {applyFail: 0.3, slow: time.Second},
		"crashes":   {crash: 0.1, drop: 0.02, slow: 100 * time.Millisecond},
		"all of it": {drop: 0.03, blackhole: 0.01, refuse: 0.2, applyFail: 0.1, outbox: 0.3, crash: 0.03, slow: 700 * time.Millisecond},
	}
	for name, f := range worlds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(15) {
				s := newSim(t, seed, 1+int(seed%3), f, session.Limits{CommitBytes: 400, PartBytes: 150, OlderAfter: time.Hour})
				for range 120 {
					s.churn()
					s.run(time.Duration(s.r.Int64N(int64(4 * time.Second))))
				}
				s.settle()
				_, items, _ := s.sink.Counts(node)
				if want := int(s.totalOutbox()); items != want {
					t.Fatalf("seed %d: %d of %d outbox items arrived", seed, items, want)
				}
				if s.closes[wire.CloseProtocol] > 0 {
					t.Fatalf("seed %d: sessions were closed with %v", seed, s.closes)
				}
			}
		})
	}
}

func (s *sim) totalOutbox() uint64 { return s.store.Appended() }

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
