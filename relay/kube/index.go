package kube

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/firmware/wire"
)

// IndexOptions configures an Index. Client and Log are required.
type IndexOptions struct {
	Client  dynamic.Interface
	Log     *slog.Logger
	Metrics *Metrics // nil: not measured
}

// Index holds the trimmed objects and knows which node may see which. It implements the hub's Source.
//
// All methods may be called concurrently. Objects returned share their Body with everybody else: read only.
type Index struct {
	opts IndexOptions

	mu    sync.RWMutex
	kinds map[wire.Kind]*kindState
	// users maps what is referenced to the pods or devices that name it.
	users    map[wire.Key]map[wire.Key]struct{}
	services map[string]*serviceSet // by namespace, and everywhere
	nodes    map[string]*nodeView
	absent   *absences
	// names finds pods by namespace and name, ports has those of nodes: see kubelet.go.
	names podNames
	ports nodePorts
	// logged is when each problem of a watch was last logged.
	logged map[string]time.Time
	// observe hears of every change of a pod, node or device, its status included. Set by NewSink, before Run.
	observe func(key wire.Key, now *record, node string, told bool)
	// notice hears of them, too. Set by NewAutonomy, before Run.
	notice func(key wire.Key, now *record, body bool)
	// observeRestore hears, before observe does, that a kind is as it was some time ago. Set by NewSink, too.
	observeRestore func(kind wire.Kind)
}

// kindState is the cache of one kind.
type kindState struct {
	synced   bool
	revision uint64 // highest resourceVersion that list and watch have seen; answers to writes do not count
	changed  uint64 // the same without bookmarks: of an object, a deletion or a list that changed something
	records  map[wire.Key]*record
	problem  string // why the watch does not work at present, empty if it does
}

// nodeView is what one node may see.
type nodeView struct {
	name  string
	roots map[wire.Key]struct{} // its Node, pods and devices; what they reference is found through their records
	subs  []*subscriber
}

type subscriber struct{ notify func(wire.Key) }

// call is one notification, made after the lock is released.
type call struct {
	sub *subscriber
	key wire.Key
}

// NewIndex returns an empty index; Run fills it.
func NewIndex(opts IndexOptions) *Index {
	x := &Index{
		opts:     opts,
		kinds:    make(map[wire.Kind]*kindState),
		users:    make(map[wire.Key]map[wire.Key]struct{}),
		services: make(map[string]*serviceSet),
		nodes:    make(map[string]*nodeView),
		absent:   newAbsences(),
		names:    newPodNames(),
		ports:    nodePorts{has: make(map[string]int)},
		logged:   make(map[string]time.Time),
	}
	for _, r := range resources {
		x.kinds[r.kind] = &kindState{records: make(map[wire.Key]*record)}
	}
	return x
}

// Keys returns what node should hold now. A reference to an object that does not exist has wire.AbsentVersion. ready is
// false, and keys nil, until the caches of all kinds are complete.
func (x *Index) Keys(node string) (keys map[wire.Key]wire.Version, ready bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.syncedLocked() {
		return nil, false
	}
	keys = make(map[wire.Key]wire.Version)
	view := x.nodes[node]
	if view == nil {
		return keys, true
	}
	var namespaces []string
	for root := range view.roots {
		r := x.lookup(root)
		keys[root] = r.version
		for _, ref := range x.named(r) {
			if target := x.lookup(ref); target != nil {
				keys[ref] = target.version
			} else {
				keys[ref] = wire.AbsentVersion()
			}
		}
		namespaces = append(namespaces, r.concerns()...)
	}
	slices.Sort(namespaces)
	for _, namespace := range slices.Compact(namespaces) {
		for _, service := range x.services[namespace].keys {
			keys[service] = x.lookup(service).version
		}
	}
	return keys, true
}

// Object returns the newest encoding of key, if node may see it, and the keys that it must travel with. ok is false if
// node may not see it, if it is gone, or while caches are incomplete. obj.Body is shared: read only.
func (x *Index) Object(node string, key wire.Key) (obj wire.Object, refs []wire.Key, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.syncedLocked() {
		return wire.Object{}, nil, false
	}
	view := x.nodes[node]
	if view == nil {
		return wire.Object{}, nil, false
	}
	if _, root := view.roots[key]; !root && !x.referencedBy(view, key) {
		return wire.Object{}, nil, false
	}
	r := x.lookup(key)
	if r == nil {
		revision := uint64(0)
		if k := x.kinds[key.Kind()]; k != nil {
			revision = k.revision
		}
		return wire.Object{Key: key, Version: wire.AbsentVersion(), Revision: max(revision, x.absent.confirmed(key)), Absent: true}, nil, true
	}
	return wire.Object{Key: r.key, Version: r.version, Revision: r.since, Body: r.body}, x.travels(r), true
}

// Subscribe calls notify for every key of node that may have changed, appeared or gone. notify must not block, may be
// called from several goroutines, and may be called once more while cancel returns.
func (x *Index) Subscribe(node string, notify func(wire.Key)) (cancel func()) {
	sub := &subscriber{notify: notify}
	x.mu.Lock()
	view := x.viewLocked(node)
	view.subs = append(view.subs, sub)
	x.mu.Unlock()
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if view := x.nodes[node]; view != nil {
			view.subs = slices.DeleteFunc(slices.Clone(view.subs), func(s *subscriber) bool { return s == sub })
			x.dropViewLocked(node)
		}
	}
}

// Revisions returns, per kind, the resourceVersion up to which the cache is complete.
func (x *Index) Revisions() map[wire.Kind]uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make(map[wire.Kind]uint64, len(x.kinds))
	for kind, k := range x.kinds {
		out[kind] = k.revision
	}
	return out
}

// Changed returns the highest resourceVersion of a change of kind that the cache has seen: every relay's cache comes to it by
// itself, which of a bookmark it does only when one of its own comes.
func (x *Index) Changed(kind wire.Kind) uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if k := x.kinds[kind]; k != nil {
		return k.changed
	}
	return 0
}

// rootsOf returns the node's own objects of a kind.
func (x *Index) rootsOf(node string, kind wire.Kind) []wire.Key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var keys []wire.Key
	if view := x.nodes[node]; view != nil {
		for k := range view.roots {
			if k.Kind() == kind {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// nodesWith returns the nodes whose Node object has one of the traits, sorted.
func (x *Index) nodesWith(t traits) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var names []string
	for _, r := range x.kinds[wire.KindNode].records {
		if r.traits.has(t) {
			names = append(names, r.node)
		}
	}
	slices.Sort(names)
	return names
}

// watched returns how far the caches of nodes, pods and devices are, in kindIndex's order.
func (x *Index) watched() (revisions [3]uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, kind := range []wire.Kind{wire.KindNode, wire.KindPod, wire.KindDevice} {
		revisions[kindIndex(kind)] = x.kinds[kind].revision
	}
	return revisions
}

// Ready reports whether the caches of all kinds are complete, and otherwise what is in the way, one line per kind.
func (x *Index) Ready() (ready bool, problems []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, res := range resources {
		if k := x.kinds[res.kind]; !k.synced {
			why := k.problem
			if why == "" {
				why = "first list is still being read"
			}
			problems = append(problems, string(res.kind)+": "+why)
		}
	}
	return len(problems) == 0, problems
}

// Count returns the number of objects held of a kind.
func (x *Index) Count(kind wire.Kind) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if k := x.kinds[kind]; k != nil {
		return len(k.records)
	}
	return 0
}

// get returns the record of key, or nil.
func (x *Index) get(key wire.Key) *record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.lookup(key)
}

// synced reports whether the cache of kind is complete.
func (x *Index) synced(kind wire.Kind) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	k := x.kinds[kind]
	return k != nil && k.synced
}

func (x *Index) syncedLocked() bool {
	for _, k := range x.kinds {
		if !k.synced {
			return false
		}
	}
	return true
}

func (x *Index) lookup(key wire.Key) *record {
	if k := x.kinds[key.Kind()]; k != nil {
		return k.records[key]
	}
	return nil
}

// referencedBy walks what the node has, not who uses key: a configMap may have ten thousand users, a node has few pods.
func (x *Index) referencedBy(view *nodeView, key wire.Key) bool {
	kind := key.Kind()
	if kind == wire.KindService {
		return x.seesService(view.name, key)
	}
	for root := range view.roots {
		r := x.lookup(root)
		if r == nil {
			continue
		}
		refs := r.refs
		if kind == wire.KindPersistentVolume {
			refs = x.named(r)
		}
		if slices.Contains(refs, key) {
			return true
		}
	}
	return false
}

func (x *Index) viewLocked(node string) *nodeView {
	view := x.nodes[node]
	if view == nil {
		view = &nodeView{name: node, roots: make(map[wire.Key]struct{})}
		x.nodes[node] = view
	}
	return view
}

func (x *Index) dropViewLocked(node string) {
	if view := x.nodes[node]; view != nil && len(view.roots) == 0 && len(view.subs) == 0 {
		delete(x.nodes, node)
	}
}
