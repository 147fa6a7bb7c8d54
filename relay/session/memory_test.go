package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// oneNode is a Source with one node's objects, which all sessions share as they share a relay's caches.
type oneNode struct {
	keys    map[wire.Key]wire.Version
	objects map[wire.Key]wire.Object
	n       int
	shared  *session.Shared
}

func newOneNode(n int) *oneNode {
	s := &oneNode{keys: map[wire.Key]wire.Version{}, objects: map[wire.Key]wire.Object{}}
	s.shared = session.Share(session.Config{Relay: "r", Source: s, Rules: 1})
	for i := range n {
		s.put(wire.NewKey(wire.KindDevice, "default", fmt.Sprint("device-", i), ""), 1)
	}
	return s
}

func (s *oneNode) put(k wire.Key, n int) {
	body := linktest.Body(n)
	s.keys[k] = wire.BodyVersion("0b0f4b5e-8c3f-4a43-9a0e-6f0c0a3f7a11", body)
	s.objects[k] = wire.Object{Key: k, Version: s.keys[k], Revision: uint64(100 + n), Body: body}
}

func (s *oneNode) Keys(string) (map[wire.Key]wire.Version, bool) {
	out := make(map[wire.Key]wire.Version, len(s.keys))
	for k, v := range s.keys {
		out[k] = v
	}
	return out, true
}

func (s *oneNode) Object(_ string, k wire.Key) (wire.Object, []wire.Key, bool) {
	o, ok := s.objects[k]
	return o, nil, ok
}

func (s *oneNode) Revisions() map[wire.Kind]uint64 {
	return map[wire.Kind]uint64{wire.KindDevice: 1 << 40}
}
func (s *oneNode) Changed(wire.Kind) uint64 { return 1 << 20 }

// synced returns a machine whose agent holds everything, after one change was sent and acknowledged and a ping answered.
func (s *oneNode) synced(tb testing.TB) *session.Machine {
	now := time.Unix(1_800_000_000, 0)
	m := session.New(session.Config{Node: node, Epoch: 5, Shared: s.shared}, now)
	d := wire.Digest{}
	for k, v := range s.keys {
		d.Toggle(wire.Entry{Key: k, Version: v})
	}
	h := hello()
	h.Digest, h.Revisions = d.Outline(), wire.PackRevisions(map[wire.Kind]uint64{wire.KindDevice: 5})
	step := func(ev session.Event) {
		for _, a := range m.Step(ev, now) {
			if h, ok := a.(session.Hangup); ok {
				tb.Fatalf("the session ended: %s", h.Reason)
			}
		}
	}
	step(session.Received{Frame: h, Size: 100})
	step(session.Started{})
	step(session.Received{Frame: &wire.Offer{Seq: 1, Sum: make([]byte, 16)}, Size: 20})
	step(session.Wanted{Seq: 1})
	s.n++
	s.put("devices/default/device-0", 1+s.n)
	step(session.Dirty{Keys: []wire.Key{"devices/default/device-0"}})
	step(session.Received{Frame: &wire.Ack{ID: 1}, Size: 10})
	step(session.Received{Frame: &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: "devices/default/device-0", Body: linktest.Body(1)}}}, Size: 100})
	now = now.Add(15 * time.Second)
	step(session.Received{Frame: &wire.Ping{}, Size: 2})
	step(session.Tick{})
	if !m.Synced() || m.Stats().ObjectsSent != 1 {
		tb.Fatalf("not synced: %+v", m.Stats())
	}
	return m
}

// idleBudget is what one idle session may keep in its machine, bytes, for an agent that holds five objects. Raise it only with a
// reason: there are ten thousand of them.
const idleBudget = 750

// TestIdleSessionIsSmall measures what an idle machine keeps.
func TestIdleSessionIsSmall(t *testing.T) {
	const sessions = 2000
	s := newOneNode(5)
	s.synced(t)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		return st.HeapAlloc
	}
	machines := make([]*session.Machine, sessions)
	before := heap()
	for i := range machines {
		machines[i] = s.synced(t)
	}
	each := (int64(heap()) - int64(before)) / sessions
	t.Logf("an idle session keeps %d bytes", each)
	if each > idleBudget {
		t.Errorf("an idle session keeps %d bytes, the budget is %d", each, idleBudget)
	}
	runtime.KeepAlive(machines)
}
