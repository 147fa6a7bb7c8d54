package kube

import (
	"slices"

	"bytes"

	"github.com/skerry/skerry/firmware/wire"
)

// changes collects what a change of the index means for others, to be told after the lock is released.
type changes struct {
	calls    []call
	observed []observation
	restored wire.Kind // a list of this kind was older than what had been seen; empty: none
}

// observation is a change of a pod, node or device.
type observation struct {
	key  wire.Key
	now  *record // nil: it is gone, from this node at least
	node string
	told bool // what reports are compared with has changed
	body bool // more than its status has changed
}

// put adds or replaces one object. An older state than the one held is ignored: answers to our own writes overtake the
// watch.
func (x *Index) put(kind wire.Kind, r *record) {
	var c changes
	x.mu.Lock()
	k := x.kinds[kind]
	k.saw(r.revision)
	x.putLocked(k, r, &c)
	x.mu.Unlock()
	x.tell(c)
}

// saw notes the revision of a change that list or watch brought.
func (k *kindState) saw(revision uint64) {
	k.revision, k.changed = max(k.revision, revision), max(k.changed, revision)
}

// refresh takes the API's answer to a write of ours. It never adds an object: the answer may be older than its deletion.
// Nor does it count as a revision that was seen: events between the watch's position and the answer are still to come, and
// an agent that knows of them must not be told that the cache does, too.
func (x *Index) refresh(kind wire.Kind, r *record) {
	var c changes
	x.mu.Lock()
	k := x.kinds[kind]
	if old := k.records[r.key]; old != nil && old.version.UID == r.version.UID {
		x.putLocked(k, r, &c)
	}
	x.mu.Unlock()
	x.tell(c)
}

// remove forgets one object. uid must match; revision is the one of the deletion.
func (x *Index) remove(kind wire.Kind, key wire.Key, uid string, revision uint64) {
	var c changes
	x.mu.Lock()
	k := x.kinds[kind]
	k.saw(revision)
	if old := k.records[key]; old != nil && old.version.UID == uid {
		x.replaceLocked(k, old, nil, &c)
	}
	x.mu.Unlock()
	x.tell(c)
}

// replaceAll makes the cache of a kind equal to a complete list as of revision. A list that is older than what the watch has
// brought, or that shows an object in an older state than one that was there at the list's revision, means that the cluster was
// restored, and is the truth: revisions begin again at the backup's, unless whoever restores raises them (etcdutl snapshot restore
// --bump-revision), or so much is written before the list that they have passed. Otherwise answers to our own writes may be newer than it: they
// stay, and the watch goes on from the list. Of the objects in unreadable, which are listed and could not be encoded, it keeps
// the state that it has.
func (x *Index) replaceAll(kind wire.Kind, records []*record, unreadable map[wire.Key]struct{}, revision uint64) {
	var c changes
	x.mu.Lock()
	k := x.kinds[kind]
	restored := revision < k.revision || slices.ContainsFunc(records, func(r *record) bool {
		old := k.records[r.key]
		return old != nil && r.revision < old.revision && old.revision <= revision
	})
	if restored {
		c.restored = kind
	}
	k.revision = revision
	listed := make(map[wire.Key]struct{}, len(records))
	for _, r := range records {
		listed[r.key] = struct{}{}
		if old := k.records[r.key]; restored || old == nil || old.version.UID != r.version.UID || old.revision <= r.revision {
			x.replaceLocked(k, old, r, &c)
			r.since = r.revision // it may have been another one between the two
		}
		k.changed = max(k.changed, r.revision)
	}
	var gone []wire.Key
	for key, old := range k.records {
		_, here := listed[key]
		_, kept := unreadable[key]
		if !here && !kept && (restored || old.revision <= revision) {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone) // others act on it in this order: the same each time
	for _, key := range gone {
		x.replaceLocked(k, k.records[key], nil, &c)
	}
	first := !k.synced
	if first || restored || len(gone) > 0 {
		k.changed = revision // what a list lacks, it lacks as of its own revision: when that went is not known
	}
	k.synced = true
	k.problem = ""
	if first && x.syncedLocked() {
		x.tellEverybodyLocked(&c)
	}
	x.mu.Unlock()
	x.tell(c)
}

// bookmark notes that the cache is complete up to revision.
func (x *Index) bookmark(kind wire.Kind, revision uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[kind]
	k.revision = max(k.revision, revision)
	k.problem = ""
}

func (x *Index) putLocked(k *kindState, r *record, c *changes) {
	old := k.records[r.key]
	if old != nil && old.version.UID == r.version.UID && r.revision <= old.revision {
		return
	}
	x.replaceLocked(k, old, r, c)
}

// replaceLocked turns old (nil: it was not there) into r (nil: it is gone), keeps the indexes, and collects whom to tell.
func (x *Index) replaceLocked(k *kindState, old, r *record, c *changes) {
	either := old
	if r != nil {
		either = r
	}
	if old.sameBody(r) {
		r.since = old.since
		r.inherit(old)
		k.records[r.key] = r
		c.observe(old, r)
		return
	}
	// Both the old and the new view are told: a key of either may have appeared or gone.
	x.collectLocked(either.key, old, c)
	x.unlinkLocked(old)
	if r == nil {
		delete(k.records, old.key)
	} else {
		k.records[r.key] = r
		x.absent.forget(r.key)
	}
	x.linkLocked(r)
	x.relinkServicesLocked(old, r, c)
	x.collectLocked(either.key, r, c)
	c.observe(old, r)
}

func (c *changes) observe(old, now *record) {
	either := now
	if now == nil {
		if either = old; either == nil {
			return
		}
	}
	switch either.key.Kind() {
	case wire.KindNode, wire.KindPod, wire.KindDevice:
	default:
		return
	}
	if old != nil && now != nil && old.node != now.node {
		c.observed = append(c.observed, observation{key: either.key, node: old.node})
	}
	told := old == nil || now == nil || old.node != now.node || old.version.UID != now.version.UID || !bytes.Equal(old.status, now.status)
	switch {
	case told:
	case either.key.Kind() == wire.KindNode: // its labels, too
		told = old.version != now.version
	}
	c.observed = append(c.observed, observation{
		key: either.key, now: now, node: either.node, told: told, body: old == nil || now == nil || old.version != now.version || old.node != now.node,
	})
}

func (x *Index) linkLocked(r *record) {
	if r == nil {
		return
	}
	if r.node != "" {
		view := x.viewLocked(r.node)
		r.node = view.name // one copy of the string
		view.roots[r.key] = struct{}{}
	}
	x.nameLocked(r)
	for i, ref := range r.refs {
		if target := x.lookup(ref); target != nil {
			r.refs[i] = target.key // one copy of the string
		}
		users := x.users[ref]
		if users == nil {
			users = make(map[wire.Key]struct{})
			x.users[ref] = users
		}
		users[r.key] = struct{}{}
	}
}

func (x *Index) unlinkLocked(r *record) {
	if r == nil {
		return
	}
	if view := x.nodes[r.node]; view != nil && r.node != "" {
		delete(view.roots, r.key)
		x.dropViewLocked(r.node)
	}
	x.unnameLocked(r)
	for _, ref := range r.refs {
		if users := x.users[ref]; users != nil {
			delete(users, r.key)
			if len(users) == 0 {
				delete(x.users, ref)
				x.absent.forget(ref)
			}
		}
	}
}

// collectLocked notes the notifications that r (nil: none) causes: to its own node, with what it references, and to the
// nodes of those who reference it.
func (x *Index) collectLocked(key wire.Key, r *record, c *changes) {
	if r != nil && r.node != "" {
		x.callLocked(r.node, key, c)
		for _, ref := range x.named(r) {
			x.callLocked(r.node, ref, c)
		}
	}
	switch key.Kind() {
	case wire.KindService:
		x.collectServiceLocked(r, c)
	case wire.KindConfigMap, wire.KindSecret, wire.KindDeviceModel, wire.KindRuntimeClass, wire.KindPersistentVolumeClaim, wire.KindPersistentVolume:
		nodes := make(map[string]struct{})
		x.usersNodes(key, nodes)
		for node := range nodes {
			x.callLocked(node, key, c)
			if r != nil {
				for _, ref := range r.refs { // the volume of a claim
					x.callLocked(node, ref, c)
				}
			}
		}
	}
}

func (x *Index) callLocked(node string, key wire.Key, c *changes) {
	if view := x.nodes[node]; view != nil {
		for _, sub := range view.subs {
			c.calls = append(c.calls, call{sub, key})
		}
	}
}

// tellEverybodyLocked runs once, when the caches become complete: sessions that came earlier had been told "not ready".
func (x *Index) tellEverybodyLocked(c *changes) {
	for node, view := range x.nodes {
		x.callLocked(node, wire.NewKey(wire.KindNode, "", node, ""), c)
		for root := range view.roots {
			x.callLocked(node, root, c)
			for _, ref := range x.travels(x.lookup(root)) {
				x.callLocked(node, ref, c)
			}
		}
	}
}

func (x *Index) tell(c changes) {
	for _, n := range c.calls {
		n.sub.notify(n.key)
	}
	if x.notice != nil {
		for _, o := range c.observed {
			x.notice(o.key, o.now, o.body)
		}
	}
	if x.observe == nil {
		return
	}
	if c.restored != "" {
		x.observeRestore(c.restored)
	}
	for _, o := range c.observed {
		x.observe(o.key, o.now, o.node, o.told)
	}
}
