package session_test

import (
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// TestFailOverIsNotHeldUpByBookmarks: a relay whose caches have every change is not behind, although another one has been told of
// later revisions in which nothing changed.
func TestFailOverIsNotHeldUpByBookmarks(t *testing.T) {
	s := newSim(t, 1, 2, faults{}, session.Limits{OlderAfter: time.Hour})
	cfg, gone := wire.NewKey(wire.KindConfigMap, "default", "c", ""), wire.NewKey(wire.KindConfigMap, "default", "gone", "")
	pod := wire.NewKey(wire.KindPod, "default", "p", "u")
	s.cluster.Put("", cfg, linktest.Body(1))
	s.cluster.Put("", gone, linktest.Body(1))
	s.cluster.Put(node, pod, linktest.Body(1, cfg, gone, wire.NewKey(wire.KindSecret, "default", "never", "")))
	s.cluster.FollowAll()
	s.views[0].Bookmark(1_000_000) // only the first relay
	s.run(time.Minute)
	s.cluster.Put(node, pod, linktest.Body(2, cfg, gone))
	s.cluster.FollowAll()
	s.run(time.Minute)
	s.cluster.Delete(gone)
	s.cluster.FollowAll()
	s.views[0].Bookmark(2_000_000)
	s.run(time.Minute)
	if st := s.agent.Status(); !st.InSync || st.Address != "relay-0:443" || len(s.store.Versions()) != 3 {
		t.Fatalf("status %+v, held %v", st, s.store.Versions())
	}
	puts, _ := s.store.Counts()
	for _, c := range s.conns {
		c.breakNow() // the next address is the other relay
	}
	s.run(1200 * time.Millisecond) // the agent dials again within a second
	if st := s.agent.Status(); !st.InSync || st.Address != "relay-1:443" {
		t.Fatalf("status %+v\nnotes %v", st, s.notes)
	}
	if again, _ := s.store.Counts(); again != puts || s.store.Err() != nil {
		t.Fatalf("%d objects were sent again; %v", again-puts, s.store.Err())
	}
}

// TestDeletionHoldsALaggingRelayBack: what a relay has taken away, one whose cache does not know of the deletion must not bring
// back.
func TestDeletionHoldsALaggingRelayBack(t *testing.T) {
	s := newSim(t, 1, 2, faults{}, session.Limits{OlderAfter: time.Hour})
	pod := wire.NewKey(wire.KindPod, "default", "p", "u")
	s.cluster.Put(node, pod, linktest.Body(1))
	s.cluster.FollowAll()
	s.run(time.Minute)
	s.cluster.Delete(pod)
	s.views[0].Follow()
	s.run(time.Minute)
	for _, c := range s.conns {
		c.breakNow()
	}
	s.run(10 * time.Minute)
	if st := s.agent.Status(); !st.Connected || st.InSync || st.Address != "relay-1:443" {
		t.Fatalf("status %+v", st)
	}
	if puts, deletes := s.store.Counts(); puts != 1 || deletes != 1 {
		t.Fatalf("%d puts, %d deletes", puts, deletes)
	}
	s.settle()
}

// slowKind is a view in which one kind's cache stands at an older revision than the others, and knows of nothing since.
type slowKind struct {
	*sessiontest.View
	kind  wire.Kind
	at    uint64
	asked map[wire.Key]uint64
}

func (s *slowKind) Object(n string, k wire.Key) (wire.Object, []wire.Key, bool) {
	o, refs, ok := s.View.Object(n, k)
	if ok && k.Kind() == s.kind {
		o = wire.Object{Key: k, Version: wire.AbsentVersion(), Revision: s.at, Absent: true}
	}
	return o, refs, ok
}

func (s *slowKind) ConfirmAbsent(k wire.Key, revision uint64) { s.asked[k] = revision }

// TestAbsentOnlyAsOfThePod: a configMap that was made before its pod is not called absent because its cache is slower.
func TestAbsentOnlyAsOfThePod(t *testing.T) {
	b := newBench(t, session.Limits{})
	cfg, pod, other := wire.NewKey(wire.KindConfigMap, "d", "optional", ""), wire.NewKey(wire.KindPod, "d", "p", "u"), wire.NewKey(wire.KindPod, "d", "other", "u2")
	slow := &slowKind{View: b.view, kind: wire.KindConfigMap, at: 1, asked: map[wire.Key]uint64{}}
	b.Machine = session.New(session.Config{Node: node, Relay: "r", Epoch: 5, Source: slow, Rules: 1}, b.now)
	b.open()
	b.cluster.Put(node, other, linktest.Body(1))
	b.cluster.Put(node, pod, linktest.Body(1, cfg))
	b.view.Follow()
	sent := func(ev session.Event) (keys []wire.Key) {
		for _, a := range b.Step(ev, b.now) {
			if s, ok := a.(session.Send); ok {
				for _, o := range s.Frame.(*wire.CommitPart).Put {
					keys = append(keys, o.Key)
				}
			}
		}
		return keys
	}
	if keys := sent(session.Dirty{Keys: []wire.Key{pod, other}}); len(keys) != 1 || keys[0] != other {
		t.Fatalf("%v was sent: only the pod without references is sure", keys)
	}
	podAt, _, _ := b.view.Object(node, pod)
	if slow.asked[cfg] != podAt.Revision {
		t.Fatalf("asked to confirm %v", slow.asked)
	}
	b.now = b.now.Add(time.Second)
	if keys := sent(session.Tick{}); len(keys) != 0 {
		t.Fatalf("%v was sent, though nothing is sure yet", keys)
	}
	slow.at = podAt.Revision
	if keys := sent(session.Dirty{Keys: []wire.Key{cfg}}); len(keys) != 2 || keys[0] != cfg || keys[1] != pod {
		t.Fatalf("%v was sent", keys)
	}
}
