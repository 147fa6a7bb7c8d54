package kube

import (
	"context"
	"encoding/hex"
	"hash/fnv"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/skerry/skerry/firmware/wire"
)

// reportAnnotation holds the hash of the values in a DeviceStatus, so that a relay that is started anew knows from the metadata
// alone what is written.
const reportAnnotation = "skerry.dev/report"

// statusWait is how long values wait for the first list of DeviceStatus objects, before another look.
const statusWait = 500 * time.Millisecond

// storedValues is what is known of a DeviceStatus object.
type storedValues struct {
	rv    uint64   // its resourceVersion, or that of its deletion
	hash  [16]byte // of the values in it; zero: not known
	owner uint64   // uidHash of the Device that owns it
	at    int64    // when this relay wrote it last, Unix ns; deleted: it has been deleted
	mine  bool     // this relay wrote it so, or has found the Lease its own after it had seen it
}

const deleted = -1

func (st storedValues) gone() bool { return st.at == deleted }

// uidHash stands for a UID where there are very many.
func uidHash(uid string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(uid))
	return h.Sum64()
}

// statuses is what stands in the DeviceStatus objects, as far as it is known: values are not read, metadata is watched. One list
// and one watch, whatever the number of agents, take the place of a read for each device after a start, and tell when somebody
// else changes or deletes such an object. Guarded by Sink.mu.
type statuses struct {
	byDevice map[wire.Key]storedValues
	revision uint64 // up to which list and watch have come
	watched  bool   // by Run; otherwise each object is read before it is first written
	synced   bool   // the first list is complete
	failed   bool   // it cannot be had
}

func newStatuses(watched bool) statuses {
	return statuses{byDevice: make(map[wire.Key]storedValues), watched: watched}
}

// watchStatuses lists and watches until ctx ends.
func (s *Sink) watchStatuses(ctx context.Context) {
	ctx = klog.NewContext(ctx, klog.Logger{})
	client := s.opts.Statuses.Resource(deviceStatusesGVR)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := client.List(ctx, o)
			s.noteStatuses(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := client.Watch(ctx, o)
			s.noteStatuses(ctx, err)
			return w, err
		},
	}
	runReflector(ctx, cache.ToListWatcherWithWatchListSemantics(lw, s.opts.Statuses), &metav1.PartialObjectMetadata{}, s.StatusFeed(),
		"relay/devicestatuses", "DeviceStatus")
}

func (s *Sink) noteStatuses(ctx context.Context, err error) {
	switch {
	case err == nil, ctx.Err() != nil, apierrors.IsResourceExpired(err), apierrors.IsGone(err), apierrors.IsInvalid(err), apierrors.IsTimeout(err):
		return
	}
	s.mu.Lock()
	first := !s.statuses.synced && !s.statuses.failed
	s.statuses.failed = s.statuses.failed || apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
	s.mu.Unlock()
	if first || s.trouble.allow() {
		res := resource{gvr: deviceStatusesGVR}
		s.log.Error("cannot watch DeviceStatus objects; retrying. Each is read before it is written meanwhile", slog.String("problem", explain(res, err)))
	}
}

// StatusFeed returns what a reflector of DeviceStatus metadata (metav1.PartialObjectMetadata) fills. Run has its own; this is for
// a simulator that plays the reflector itself.
func (s *Sink) StatusFeed() cache.ReflectorStore { return statusFeed{s} }

type statusFeed struct{ s *Sink }

// Add implements cache.ReflectorStore.
func (f statusFeed) Add(obj any) error { return f.Update(obj) }

// Update implements cache.ReflectorStore.
func (f statusFeed) Update(obj any) error {
	key, st, ok := storedOf(obj)
	if ok {
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.s.statuses.revision = max(f.s.statuses.revision, st.rv)
		f.s.statusChanged(key, st)
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (f statusFeed) Delete(obj any) error {
	key, st, ok := storedOf(obj)
	if ok {
		st.at = deleted
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.s.statusChanged(key, st)
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (f statusFeed) Replace(list []any, resourceVersion string) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	listed := make(map[wire.Key]struct{}, len(list))
	revision := parseRevision(resourceVersion)
	if revision < f.s.statuses.revision || f.s.statusesOlder(list, revision) {
		f.s.statusesRestored()
	}
	f.s.statuses.revision = revision
	for _, obj := range list {
		if key, st, ok := storedOf(obj); ok {
			listed[key] = struct{}{}
			f.s.statusChanged(key, st)
		}
	}
	for key, st := range f.s.statuses.byDevice {
		if _, here := listed[key]; !here && st.rv <= revision {
			f.s.statusChanged(key, storedValues{rv: revision + 1, at: deleted})
		}
	}
	f.s.statuses.synced = true
	return nil
}

// Resync implements cache.ReflectorStore; there is no period.
func (f statusFeed) Resync() error { return nil }

func storedOf(obj any) (wire.Key, storedValues, bool) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return "", storedValues{}, false
	}
	st := storedValues{rv: parseRevision(m.GetResourceVersion()), hash: parseHash(m.GetAnnotations()[reportAnnotation])}
	for _, o := range m.GetOwnerReferences() {
		st.owner = uidHash(string(o.UID))
	}
	return wire.NewKey(wire.KindDevice, m.GetNamespace(), m.GetName(), ""), st, true
}

func parseHash(text string) (h [16]byte) {
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(h) {
		return [16]byte(b)
	}
	return h
}

// statusChanged takes what the watch says about one object. What somebody else did to it, this relay's agent is asked to make
// good; what was done while a write is under way is judged when that ends.
func (s *Sink) statusChanged(key wire.Key, now storedValues) {
	old, known := s.statuses.byDevice[key]
	if known && now.rv <= old.rv {
		return
	}
	rec := s.index.get(key)
	var n *nodeState
	if rec != nil {
		n, key = s.nodes[rec.node], rec.key
	}
	e := n.entry(key)
	if !now.gone() && !old.gone() {
		now.at = old.at
	}
	busy := e != nil && e.busy
	switch {
	case busy:
	case now.hash == old.hash && !now.gone():
		now.hash = [16]byte{} // somebody changed it and left our mark
	}
	if now.gone() && !busy {
		delete(s.statuses.byDevice, key)
	} else {
		s.statuses.byDevice[key] = now
	}
	switch {
	case e == nil:
	case busy && e.work != nil:
		e.work.seen = max(e.work.seen, now.rv)
	case known && e.work == nil:
		s.askFor(n, e)
	}
}

// statusesOlder reports whether a list as of revision shows an object in an older state than one that was there at that revision:
// see Index.replaceAll.
func (s *Sink) statusesOlder(list []any, revision uint64) bool {
	for _, obj := range list {
		if key, st, ok := storedOf(obj); ok {
			if old, known := s.statuses.byDevice[key]; known && st.rv < old.rv && old.rv <= revision {
				return true
			}
		}
	}
	return false
}

// statusesRestored forgets everything: the cluster was put back to an older state. What the list shows then is compared with what
// agents report anew.
func (s *Sink) statusesRestored() {
	clear(s.statuses.byDevice)
	for _, name := range sortedNames(s.nodes) {
		n := s.nodes[name]
		for i := range n.entries {
			if e := &n.entries[i]; e.key.Kind() == wire.KindDevice {
				e.foreign = true
				s.undone(n, e)
			}
		}
	}
}

// stored returns what is known of a device's DeviceStatus. known is false if it has to be read.
func (s *Sink) stored(key wire.Key) (st storedValues, known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known = s.statuses.byDevice[key]
	t := &s.statuses
	if !known && t.watched && !t.synced && !t.failed {
		return st, false, waitError{statusWait}
	}
	if st.gone() {
		st.hash = [16]byte{}
	}
	return st, known || t.watched && t.synced, nil
}

// trust notes that the Lease was found to be this relay's after the object had been seen at revision rv.
func (s *Sink) trust(w *work, rv uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, ok := s.statuses.byDevice[w.key]; ok && st.rv == rv {
		st.mine = true
		s.statuses.byDevice[w.key] = st
	}
	w.confirmed = true
}

// held is the revision of the Lease when it was last known to be the session's, 0 if it is not. All revisions come from one counter:
// what is older was written before anybody could claim the node from this session. An attempt of an older session, which goes on after
// a newer one of this relay has claimed the Lease, holds nothing: what stands there may have come through another relay in between.
func (s *Sink) held(n *nodeState, epoch uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.lease.relay != s.opts.Relay || n.lease.epoch != epoch || n.newest != epoch {
		return 0
	}
	return n.lease.rv
}

// store notes what was written. If the watch has shown something newer meanwhile, that stands.
func (s *Sink) store(key wire.Key, st storedValues) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.statuses.byDevice[key]; ok && old.rv > st.rv {
		if !old.gone() {
			old.at, old.hash = st.at, [16]byte{}
			s.statuses.byDevice[key] = old
		}
		return
	}
	s.statuses.byDevice[key] = st
}
