package kube

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// nodeState is what the sink knows of one node: of its Lease, of its session if it has one, and of what was reported and
// written. It outlives sessions, so that an agent that comes back need not send again what is written. Kept small: a relay has
// ten thousand. Guarded by Sink.mu; of lease see there.
type nodeState struct {
	name    string
	session *session // nil: none
	newest  uint64   // newest epoch that has begun here, or tried to
	claims  int32    // SessionStarted calls under way
	entries []entry  // sorted by key
	// settled has the hash of the API's status after our write where it still differed from the report: the API server changed
	// what we wrote, and writing it again would change nothing. Rare.
	settled map[wire.Key][16]byte

	// leaseMu is held through every request about the Lease. lease is written with leaseMu and Sink.mu held, and read with
	// either.
	leaseMu sync.Mutex
	lease   leaseState
	// seen is how far the caches of nodes, pods and devices were when the request began that last wrote the Lease. No newer session
	// of the node had claimed it by then, so none has written any of that.
	seen [3]uint64

	turn
	slotted bool // it has a slot of the wheel
	extra   bool // and is renewed once besides
}

// session is one session of a node.
type session struct {
	epoch   uint64
	since   int64 // Unix ns
	bytes   int   // of the bodies that wait to be written
	ended   bool  // no more reports come; what is queued is still written
	hasNode bool  // the Node object has been seen or made in this session: if it is gone, somebody deleted it
	quota   *quota
}

// entry is what is known of one object that the node reports on: the hash of the report if it is written, its body only while it
// is not.
type entry struct {
	key  wire.Key
	hash [16]byte // of the newest report, if that is what the API shows; zero: it is not, or not known to be
	// base is the newest revision of the object that this relay has written or compared with; what is newer is somebody else's
	// doing. 0: not known, nothing was compared since the Lease was claimed.
	base uint64
	// doubt is the newest revision at which somebody else changed what is reported on while a report waited.
	doubt uint64
	work  *pending // nil: nothing to write
	busy  bool     // it is being written
	ask   bool     // the agent is to be asked for it
	asked bool     // and has been, in this session
	// foreign says that the cluster was restored since the Lease was last asked about: its revisions say nothing.
	foreign bool
}

// pending is a report that is not written yet.
type pending struct {
	body      []byte
	hash      [16]byte
	serial    uint64 // numbers the reports of all keys
	since     uint64 // serial of the first of those that have waited without a break
	low       bool   // what is left to write is statistics, which let others go first
	awaiting  bool   // its object is not known (yet)
	attempts  uint8  // failures in a row
	stated    uint64 // serial of the report whose conditions are written (devices)
	notBefore time.Time
	missing   time.Time // since when the object has been known not to be in the cache
	seen      uint64    // newest revision by somebody else while it was being written
	looked    time.Time // when it, or one before it, was last decoded (devices)
}

// live reports whether reports of the epoch are taken.
func (n *nodeState) live(epoch uint64) bool {
	return n != nil && n.session != nil && n.session.epoch == epoch && !n.session.ended
}

func (n *nodeState) find(key wire.Key) (i int, ok bool) {
	return slices.BinarySearchFunc(n.entries, key, func(e entry, k wire.Key) int { return strings.Compare(string(e.key), string(k)) })
}

// entry returns the entry of key, or nil. The pointer is good until entries are added or removed.
func (n *nodeState) entry(key wire.Key) *entry {
	if n == nil {
		return nil
	}
	if i, ok := n.find(key); ok {
		return &n.entries[i]
	}
	return nil
}

// add returns the entry of key, made if it is new.
func (n *nodeState) add(key wire.Key) *entry {
	i, ok := n.find(key)
	if !ok {
		if len(n.entries) == cap(n.entries) { // in small steps: most nodes report on a handful of objects
			n.entries = append(make([]entry, 0, len(n.entries)+1+len(n.entries)/4), n.entries...)
		}
		n.entries = slices.Insert(n.entries, i, entry{key: key, busy: slices.Contains(n.under, key)})
	}
	return &n.entries[i]
}

// pendingReports counts the entries with something to write.
func (n *nodeState) pendingReports() int {
	c := 0
	for i := range n.entries {
		if n.entries[i].work != nil {
			c++
		}
	}
	return c
}

// drop gives up what e has to write.
func (s *Sink) drop(n *nodeState, e *entry) {
	if e.work == nil {
		return
	}
	if n.session != nil {
		n.session.bytes -= len(e.work.body)
	}
	e.work = nil
	s.waiting--
}

// forget removes the entry of key with what it has to write.
func (s *Sink) forget(n *nodeState, key wire.Key) {
	if i, ok := n.find(key); ok {
		s.drop(n, &n.entries[i])
		n.entries = slices.Delete(n.entries, i, i+1)
	}
	delete(n.settled, key)
}

// prune forgets the reports on objects that are not the node's (any more).
func (s *Sink) prune(n *nodeState) {
	for i := len(n.entries) - 1; i >= 0; i-- {
		e := &n.entries[i]
		if e.work != nil || e.key.Kind() == wire.KindNode {
			continue
		}
		if r := s.index.get(e.key); r == nil || r.node != n.name {
			s.forget(n, e.key)
		}
	}
}

// node returns the state of a node, made if it is new.
func (s *Sink) node(name string) *nodeState {
	n := s.nodes[name]
	if n == nil {
		n = &nodeState{name: name}
		s.nodes[name] = n
	}
	return n
}

// release forgets the node if nothing is to be remembered of it: it has no session, nothing of it is being written, its Node is gone or was
// never made, and its Lease is not of this relay's concern. So what is kept is bounded by what exists.
func (s *Sink) release(n *nodeState) {
	if n.session != nil || n.claims > 0 || n.pendingReports() > 0 || s.index.get(nodeKeyOf(n.name)) != nil || !s.index.synced(wire.KindNode) {
		return
	}
	if n.leaving = len(n.under) > 0; n.leaving {
		return // when they are written
	}
	if s.nodes[n.name] == n {
		delete(s.nodes, n.name)
	}
}

func nodeKeyOf(node string) wire.Key { return wire.NewKey(wire.KindNode, "", node, "") }

// kindIndex numbers the kinds that nodes report on.
func kindIndex(k wire.Kind) int {
	switch k {
	case wire.KindNode:
		return 0
	case wire.KindPod:
		return 1
	}
	return 2
}
