package session_test

import (
	"slices"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

var (
	oldKeys = []wire.Key{"configmaps/default/c", "pods/default/p/u"}
	newKeys = []wire.Key{"persistentvolumeclaims/default/data", "persistentvolumes//disk", "runtimeclasses//absent", "services/default/web"}
)

func (s *sim) fillNewKinds() {
	s.cluster.Put("", oldKeys[0], linktest.Body(1))
	for _, k := range newKeys {
		if k.Name() != "absent" {
			s.cluster.Put("", k, linktest.Body(2))
		}
	}
	s.cluster.Put(node, oldKeys[1], linktest.Body(3, append([]wire.Key{oldKeys[0]}, newKeys...)...))
	s.cluster.FollowAll()
}

// older makes one end, or both, look like a release that knows the first kinds only, and fails the test when it is sent another.
func (s *sim) older(agent, relay bool) {
	s.passes = func(f wire.Frame) {
		var keys []wire.Key
		switch f := f.(type) {
		case *wire.Hello:
			if agent || relay { // an older relay does not read the field
				f.Kinds = 0
			}
		case *wire.Welcome:
			if relay {
				f.Kinds = 0
			}
		case *wire.Entries:
			for _, e := range f.Entries {
				keys = append(keys, e.Key)
			}
			if !relay {
				keys = nil
			}
		case *wire.CommitPart:
			for i := range f.Put {
				keys = append(keys, f.Put[i].Key)
			}
			keys = append(keys, f.Delete...)
		}
		for _, k := range keys {
			if !k.Kind().KnownTo(0) {
				s.t.Errorf("%v carries %s to a peer that does not know such keys", f.Type(), k)
			}
		}
	}
}

func (s *sim) holds(what string, keys ...[]wire.Key) {
	s.t.Helper()
	want := slices.Concat(keys...)
	slices.Sort(want)
	var got []wire.Key
	for k := range s.store.Versions() {
		got = append(got, k)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || s.closes[wire.CloseProtocol] > 0 {
		s.t.Errorf("%s: the agent holds %v, want %v; closes %v", what, got, want, s.closes)
	}
	if st := s.agent.Status(); !st.Connected || !st.InSync {
		s.t.Errorf("%s: %+v", what, st)
	}
}

// TestKindsOfAnOlderAgent: it gets what it knows, the pod included.
func TestKindsOfAnOlderAgent(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{})
	s.older(true, false)
	s.fillNewKinds()
	s.run(time.Minute)
	s.holds("an older agent", oldKeys)
	s.cluster.Put("", newKeys[0], linktest.Body(9)) // of which it hears nothing
	s.cluster.FollowAll()
	s.run(time.Minute)
	s.holds("after a change of a kind that it does not know", oldKeys)
}

// TestKindsOfAnOlderRelay: what a newer relay has sent stays when an older one takes over, and is not sent again when the newer comes back.
func TestKindsOfAnOlderRelay(t *testing.T) {
	s := newSim(t, 1, 1, faults{}, session.Limits{})
	s.fillNewKinds()
	s.run(time.Minute)
	s.holds("of a relay of this release", oldKeys, newKeys)

	s.older(true, true)
	s.reconnect()
	s.cluster.Put("", oldKeys[0], linktest.Body(4))
	s.cluster.FollowAll()
	s.run(time.Minute)
	s.holds("an older relay", oldKeys, newKeys)

	s.passes = nil
	puts, _ := s.store.Counts()
	s.reconnect()
	s.run(time.Minute)
	s.holds("back at a newer relay", oldKeys, newKeys)
	if now, _ := s.store.Counts(); now != puts {
		t.Errorf("%d objects were sent again", now-puts)
	}
}

func (s *sim) reconnect() {
	for _, c := range s.conns {
		c.breakNow()
	}
	s.run(time.Minute)
}
