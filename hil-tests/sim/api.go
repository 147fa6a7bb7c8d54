package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/firmware/wire"
)

// Resources by their plural names, which are wire's kinds for those that relays watch.
const (
	pods           = string(wire.KindPod)
	nodes          = string(wire.KindNode)
	devices        = string(wire.KindDevice)
	leases         = "leases"
	events         = "events"
	deviceStatuses = "devicestatuses"
)

// object is one state of an API object. It is never changed.
type object struct {
	resource string
	name     string // namespace/name, "/name" for cluster-scoped ones
	uid      string
	rv       uint64
	data     map[string]any
}

func (o *object) node() string {
	if o.resource == nodes {
		return o.name[1:]
	}
	spec, _ := o.data["spec"].(map[string]any)
	n, _ := spec["nodeName"].(string)
	return n
}

func (o *object) deleting() bool { return dig(o.data, "metadata", "deletionTimestamp") != nil }

// key is the object's key on the link.
func (o *object) key() wire.Key {
	u := o.unstructured()
	return wire.NewKey(wire.Kind(o.resource), u.GetNamespace(), u.GetName(), o.uid)
}

// unstructured shares the data: read only.
func (o *object) unstructured() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: o.data}
}

func (o *object) copy() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: runtime.DeepCopyJSON(o.data)}
}

// dig walks maps.
func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// logged is one change of a watched resource.
type logged struct {
	at   time.Time
	kind watch.EventType
	obj  *object
}

// history is a resource's watch log. Its first entry has index from.
type history struct {
	from    int
	entries []logged
}

func (h *history) end() int { return h.from + len(h.entries) }

// snapshot is a state that the API server once had: a watch cache that lags may still show it, a backup may bring it back.
type snapshot struct {
	rv      uint64
	objects map[string]map[string]*object
	ends    map[string]int
}

// api is the model of one Kubernetes API server with its etcd.
type api struct {
	s         *Sim
	rv        uint64
	uids      int
	objects   map[string]map[string]*object
	logs      map[string]*history
	snapshots []snapshot // the last few, oldest first
	writes    int
	down      bool            // refuses every request
	gone      map[string]bool // UIDs that were removed
	returned  map[string]bool // UIDs that a restore brought back
	restores  int
	absences  map[wire.Key][]absence
}

// absence is a span of revisions in which a key did not exist. to is 0 while it lasts.
type absence struct{ from, to uint64 }

const keptSnapshots = 24

func newAPI(s *Sim) *api {
	a := &api{
		s: s, rv: 1000, objects: map[string]map[string]*object{}, logs: map[string]*history{},
		gone: map[string]bool{}, returned: map[string]bool{}, absences: map[wire.Key][]absence{},
	}
	for _, k := range wire.Kinds() {
		a.logs[string(k)] = &history{}
	}
	a.logs[deviceStatuses] = &history{}
	return a
}

func (a *api) get(resource, name string) *object { return a.objects[resource][name] }

// names returns the names of a resource's objects, sorted.
func (a *api) names(resource string) []string { return slices.Sorted(maps.Keys(a.objects[resource])) }

// store makes data the newest state of an object and tells the watches.
func (a *api) store(resource string, data map[string]any, by string) *object {
	u := &unstructured.Unstructured{Object: data}
	name := u.GetNamespace() + "/" + u.GetName()
	old := a.objects[resource][name]
	a.rv++
	if u.GetUID() == "" {
		a.uids++
		u.SetUID(uidOf(a.uids))
	}
	u.SetResourceVersion(strconv.FormatUint(a.rv, 10))
	o := &object{resource: resource, name: name, uid: string(u.GetUID()), rv: a.rv, data: data}
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]*object{}
	}
	a.objects[resource][name] = o
	a.s.check.wrote(by, old, o)
	kind := watch.Modified
	if old == nil {
		kind = watch.Added
		a.appeared(o)
	}
	a.tell(kind, o)
	return o
}

// remove forgets an object. The watch event carries the deletion's revision.
func (a *api) remove(o *object, by string) {
	a.rv++
	a.s.check.removed(by, o)
	delete(a.objects[o.resource], o.name)
	a.gone[o.uid] = true
	last := &object{resource: o.resource, name: o.name, uid: o.uid, rv: a.rv, data: runtime.DeepCopyJSON(o.data)}
	last.unstructured().SetResourceVersion(strconv.FormatUint(a.rv, 10))
	a.disappeared(o)
	a.tell(watch.Deleted, last)
	if o.resource == nodes {
		if l := a.get(leases, "kube-node-lease"+o.name); l != nil {
			a.remove(l, "garbage collector")
		}
	}
	if o.resource == devices {
		if st := a.get(deviceStatuses, o.name); st != nil {
			a.remove(st, "garbage collector")
		}
	}
}

func (a *api) tell(kind watch.EventType, o *object) {
	h := a.logs[o.resource]
	if h == nil {
		return // nobody watches it
	}
	if o.resource == pods && o.node() == "" {
		return // relays watch bound pods only
	}
	h.entries = append(h.entries, logged{at: a.s.now, kind: kind, obj: o})
	if a.writes++; a.writes%16 == 0 {
		a.snapshot()
	}
	for _, r := range a.s.relays {
		r.watchKind(o.resource)
	}
}

func (a *api) snapshot() {
	snap := snapshot{rv: a.rv, objects: map[string]map[string]*object{}, ends: map[string]int{}}
	for resource, all := range a.objects {
		if resource != events { // a restore loses none: what agents may forget is then easy to tell
			snap.objects[resource] = maps.Clone(all)
		}
	}
	for resource, h := range a.logs {
		snap.ends[resource] = h.end()
	}
	a.snapshots = append(a.snapshots, snap)
	if len(a.snapshots) > keptSnapshots {
		a.snapshots = slices.Delete(a.snapshots, 0, 1)
	}
	a.trimLogs()
}

// trimLogs forgets entries that no relay and no kept snapshot will read again.
func (a *api) trimLogs() {
	for resource, h := range a.logs {
		keep := min(h.end(), a.snapshots[0].ends[resource])
		for _, r := range a.s.relays {
			keep = min(keep, r.position(resource, keep))
		}
		if n := keep - h.from; n > 256 {
			h.entries = slices.Clone(h.entries[n:])
			h.from = keep
		}
	}
}

// appeared and disappeared keep the spans in which references did not exist.
func (a *api) appeared(o *object) {
	if k := o.key(); referenced(k.Kind()) {
		spans := a.absences[k]
		if len(spans) == 0 {
			spans = []absence{{from: 0}}
		}
		if last := &spans[len(spans)-1]; last.to == 0 {
			last.to = o.rv
		}
		a.absences[k] = spans
	}
}

func (a *api) disappeared(o *object) {
	if k := o.key(); referenced(k.Kind()) {
		a.absences[k] = append(a.absences[k], absence{from: a.rv})
	}
}

// missingSince reports whether key did not exist at some time from revision rv on.
func (a *api) missingSince(key wire.Key, rv uint64) bool {
	spans := a.absences[key]
	if len(spans) == 0 {
		return true // never existed
	}
	last := spans[len(spans)-1]
	return last.to == 0 || last.to > rv
}

func referenced(k wire.Kind) bool {
	return slices.Contains(referencedKinds[:], k) && k != wire.KindService
}

// restore puts the API server back to an older state, as a backup of etcd does: resourceVersions start again from there.
func (a *api) restore() bool {
	if len(a.snapshots) < 4 {
		return false
	}
	snap := a.snapshots[a.s.r.IntN(len(a.snapshots)/2)]
	a.s.note("api", "restore", fmt.Sprintf("from revision %d back to %d", a.rv, snap.rv))
	a.restores++
	for resource := range a.logs {
		for _, name := range slices.Sorted(maps.Keys(snap.objects[resource])) {
			o := snap.objects[resource][name]
			if now := a.get(resource, name); now == nil || now.uid != o.uid {
				a.returned[o.uid] = true
				delete(a.gone, o.uid)
			}
		}
	}
	a.objects = map[string]map[string]*object{events: a.objects[events]}
	for resource, all := range snap.objects {
		a.objects[resource] = maps.Clone(all)
	}
	a.rv = snap.rv
	a.snapshots = nil
	a.absences = map[wire.Key][]absence{}
	a.snapshot()
	a.s.check.restored()
	for _, r := range a.s.relays {
		r.relistAll("the API server was restored")
	}
	return true
}

// create, modify and delete are what users and controllers do.

func (a *api) create(resource string, data map[string]any, by string) *object {
	u := &unstructured.Unstructured{Object: data}
	if a.get(resource, u.GetNamespace()+"/"+u.GetName()) != nil {
		return nil
	}
	o := a.store(resource, data, by)
	a.s.note(by, "create", resource+" "+o.name+" "+o.uid+"@"+strconv.FormatUint(o.rv, 10))
	return o
}

func (a *api) modify(o *object, by string, change func(data map[string]any)) *object {
	data := runtime.DeepCopyJSON(o.data)
	change(data)
	if by == user || by == "scheduler" { // not a status: the next state
		data["metadata"].(map[string]any)["annotations"] = map[string]any{"payload": a.s.payload()}
	}
	n := a.store(o.resource, data, by)
	a.s.note(by, "modify", o.resource+" "+o.name+"@"+strconv.FormatUint(n.rv, 10))
	return n
}

// delete marks a bound pod for deletion, unless forced, and removes everything else at once.
func (a *api) delete(o *object, force bool, by string) {
	if o.resource == pods && o.node() != "" && !force {
		if !o.deleting() {
			a.modify(o, by, func(data map[string]any) {
				meta := data["metadata"].(map[string]any)
				meta["deletionTimestamp"] = a.s.now.UTC().Format(time.RFC3339)
				meta["deletionGracePeriodSeconds"] = int64(30)
			})
		}
		return
	}
	a.remove(o, by)
	a.s.note(by, "delete", o.resource+" "+o.name+" "+o.uid+"@"+strconv.FormatUint(a.rv, 10))
}
