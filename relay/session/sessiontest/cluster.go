// Package sessiontest holds in-memory models of a cluster and of a relay's view of it, for tests and simulators.
//
// Cluster is the truth. View implements session.Source and hub.Source over a snapshot that follows the cluster when told
// to, as an informer cache does. Sink takes reports and outbox items, and fences older sessions.
package sessiontest

import (
	"maps"
	"sync"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
)

// Cluster is a model of the API server's state. It is safe for concurrent use.
type Cluster struct {
	mu      sync.Mutex
	rev     uint64
	changed map[wire.Kind]uint64 // revision of each kind's newest change
	objects map[wire.Key]stored
	views   []*View
}

type stored struct {
	node string // that a pod or device is bound to, "" for others
	obj  wire.Object
}

// NewCluster returns an empty cluster.
func NewCluster() *Cluster {
	return &Cluster{objects: map[wire.Key]stored{}, changed: map[wire.Kind]uint64{}, rev: 100}
}

// Put stores an object. node is the node that a pod, device or node object belongs to, "" for what is only referenced.
func (c *Cluster) Put(node string, key wire.Key, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rev++
	c.changed[key.Kind()] = c.rev
	uid := key.UID()
	if uid == "" {
		uid = "uid-" + key.Name()
	}
	c.objects[key] = stored{node: node, obj: wire.Object{Key: key, Version: wire.BodyVersion(uid, body), Revision: c.rev, Body: body}}
}

// Delete removes an object.
func (c *Cluster) Delete(key wire.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rev++
	c.changed[key.Kind()] = c.rev
	delete(c.objects, key)
}

// Keys returns the keys that exist.
func (c *Cluster) Keys() []wire.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]wire.Key, 0, len(c.objects))
	for k := range c.objects {
		out = append(out, k)
	}
	return out
}

// View returns a new view that is not ready before its first Follow.
func (c *Cluster) View() *View {
	v := &View{cluster: c, subs: map[int]subscription{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.views = append(c.views, v)
	return v
}

// FollowAll brings every view up to date.
func (c *Cluster) FollowAll() {
	c.mu.Lock()
	views := append([]*View(nil), c.views...)
	c.mu.Unlock()
	for _, v := range views {
		v.Follow()
	}
}

// View is what one relay's caches hold. It is safe for concurrent use.
type View struct {
	cluster *Cluster

	mu      sync.Mutex
	ready   bool
	rev     uint64
	changed map[wire.Kind]uint64
	objects map[wire.Key]stored
	subs    map[int]subscription
	next    int
}

type subscription struct {
	node   string
	notify func(wire.Key)
}

// Follow takes over the cluster's present state and notifies subscribers of what changed.
func (v *View) Follow() {
	v.cluster.mu.Lock()
	objects, changed, rev := maps.Clone(v.cluster.objects), maps.Clone(v.cluster.changed), v.cluster.rev
	v.cluster.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	before := map[string]map[wire.Key]wire.Version{}
	for _, s := range v.subs {
		before[s.node] = v.keys(s.node)
	}
	v.objects, v.changed, v.rev, v.ready = objects, changed, rev, true
	for _, s := range v.subs {
		after := v.keys(s.node)
		for k, ver := range after {
			if before[s.node][k] != ver {
				s.notify(k)
			}
		}
		for k := range before[s.node] {
			if _, ok := after[k]; !ok {
				s.notify(k)
			}
		}
	}
}

// Subscribe implements hub.Source.
func (v *View) Subscribe(node string, notify func(wire.Key)) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := v.next
	v.next++
	v.subs[id] = subscription{node, notify}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.subs, id)
	}
}

// Keys implements session.Source.
func (v *View) Keys(node string) (map[wire.Key]wire.Version, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keys(node), v.ready
}

func (v *View) keys(node string) map[wire.Key]wire.Version {
	out := map[wire.Key]wire.Version{}
	for k, s := range v.objects {
		if s.node != node {
			continue
		}
		out[k] = s.obj.Version
		for _, r := range linktest.Refs(s.obj.Body) {
			out[r] = wire.AbsentVersion()
			if ref, ok := v.objects[r]; ok {
				out[r] = ref.obj.Version
			}
		}
	}
	return out
}

// Object implements session.Source.
func (v *View) Object(node string, key wire.Key) (wire.Object, []wire.Key, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.keys(node)[key]; !ok {
		return wire.Object{}, nil, false
	}
	s, ok := v.objects[key]
	if !ok {
		return wire.Object{Key: key, Absent: true, Version: wire.AbsentVersion(), Revision: v.rev}, nil, true
	}
	return s.obj, linktest.Refs(s.obj.Body), true
}

// Owner implements session.Owners.
func (v *View) Owner(key wire.Key) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.objects[key].node
}

// Bookmark takes the view to a revision without a change.
func (v *View) Bookmark(revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rev = max(v.rev, revision)
}

// Changed implements session.Source.
func (v *View) Changed(kind wire.Kind) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed[kind]
}

// Revisions implements session.Source.
func (v *View) Revisions() map[wire.Kind]uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[wire.Kind]uint64{}
	for _, k := range wire.Kinds() {
		out[k] = v.rev
	}
	return out
}
