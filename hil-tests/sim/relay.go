package sim

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/kube"
	"github.com/skerry/skerry/relay/session"
)

// relay is one process of a relay: the real Index and Sink, the real session machine for each connection, and a model of the
// hub between them. A relay that is started again is another value with the same name.
type relay struct {
	s     *Sim
	id    int
	who   string // relay-N
	life  int
	dead  bool
	died  time.Time
	cutTo time.Time     // the API server is out of this relay's reach until then
	skew  time.Duration // of its clock
	epoch uint64

	index    *kube.Index
	sink     *kube.Sink
	cursors  []*cursor
	procs    []*proc
	sessions map[string]*conn // by node: the newest wins
	conns    []*conn          // that live, in order
	closing  bool
	claimed  map[string]map[string]string // annotations that it wrote to Leases; of IgnoreFencing only
}

// cursor is the place of one relay in the watch log of one kind.
type cursor struct {
	r        *relay
	kind     wire.Kind
	feed     cache.ReflectorStore
	listed   bool
	listing  bool
	pos      int
	seen     uint64 // highest revision that list and watch have brought
	due      bool   // a delivery is planned
	stalled  time.Time
	bookmark time.Time
}

// startRelay begins a relay's process with empty caches.
func (s *Sim) startRelay(id, life int) *relay {
	r := &relay{s: s, id: id, who: "relay-" + strconv.Itoa(id), life: life, sessions: map[string]*conn{}, claimed: map[string]map[string]string{}}
	r.skew = time.Duration(s.r.Int64N(int64(2*s.world.Skew)+1)) - s.world.Skew
	log := slog.New(slog.DiscardHandler)
	r.index = kube.NewIndex(kube.IndexOptions{Client: &client{r}, Log: log})
	r.sink = kube.NewDrivenSink(kube.SinkOptions{
		Index: r.index, Client: &client{r}, Relay: r.who, Log: log, Statuses: played{},
		Fenced: func(node string, epoch uint64) {
			s.note(r.who, "fenced", node)
			s.count.fenced++
			r.shut(node, epoch, session.Shut{Code: wire.CloseReplaced, Reason: "another relay owns the node"})
		},
		Want: func(node string, epoch uint64, keys []wire.Key) {
			if c := r.sessions[node]; c != nil && c.epoch == epoch {
				c.step(session.Wanted{Keys: keys})
			}
		},
		Alive: func() map[string]bool { return s.living(r) },
	}, r.later, func() { s.current.wait(100 * time.Millisecond) })
	r.later(0, "read leases", r.readLeases)
	for _, k := range wire.Kinds() {
		c := &cursor{r: r, kind: k, feed: r.index.Feed(k)}
		r.cursors = append(r.cursors, c)
		c.relist(s.world.StaleList)
	}
	c := &cursor{r: r, kind: wire.Kind(deviceStatuses), feed: metadataFeed{r.sink.StatusFeed()}}
	r.cursors = append(r.cursors, c)
	c.relist(s.world.StaleList)
	s.note(r.who, "start", "life "+strconv.Itoa(life))
	return r
}

// readLeases is the first thing that a sink does.
func (r *relay) readLeases(ctx context.Context) {
	if again := r.sink.ReadLeases(ctx); again > 0 {
		r.later(again, "read leases", r.readLeases)
	}
}

// living is what a relay knows of the others: one that died is missed after a while.
func (s *Sim) living(*relay) map[string]bool {
	alive := map[string]bool{}
	for _, r := range s.relays {
		if !r.dead || s.now.Sub(r.died) < 15*time.Second {
			alive[r.who] = true
		}
	}
	return alive
}

// later takes work that the sink or the index wants to have done.
func (r *relay) later(after time.Duration, what string, work func(context.Context)) {
	if !r.dead {
		r.s.spawned = append(r.s.spawned, spawn{owner: r, after: after, what: what, work: work})
	}
}

// start runs work of the sink as a coroutine.
func (r *relay) start(what string, work func(context.Context)) {
	if !r.dead {
		r.s.newProc(r, what, &proc{}, work)
	}
}

// cutOff reports whether the relay cannot reach the API server now.
func (r *relay) cutOff() bool { return r.s.now.Before(r.cutTo) }

// now is the time on this relay's clock.
func (r *relay) now() time.Time { return r.s.now.Add(r.skew) }

// crash ends the process at once. What its coroutines had asked of the API server may still happen.
func (r *relay) crash() {
	r.s.note(r.who, "crash", "")
	r.s.count.relayCrashes++
	r.dead, r.died = true, r.s.now
	for len(r.procs) > 0 {
		p := r.procs[0]
		r.procs = r.procs[1:]
		p.kill()
	}
	for _, c := range append([]*conn(nil), r.conns...) {
		c.relayGone()
	}
	r.conns, r.sessions = nil, map[string]*conn{}
}

// stop ends the process in order, as SIGTERM does.
func (r *relay) stop() {
	r.s.note(r.who, "stop", "")
	r.closing = true
	var elsewhere []string
	for _, other := range r.s.relays {
		if other != r && !other.dead && !other.closing {
			elsewhere = append(elsewhere, other.who+":7443")
		}
	}
	for _, c := range append([]*conn(nil), r.conns...) {
		c.step(session.Shut{Code: wire.CloseGoingAway, Reason: "the relay shuts down", Elsewhere: elsewhere})
	}
}

// shut ends a node's session.
func (r *relay) shut(node string, epoch uint64, why session.Shut) {
	if c := r.sessions[node]; c != nil && c.epoch == epoch {
		c.step(why)
	}
}

// watchKind is called when something was written to the log of a resource.
func (r *relay) watchKind(resource string) {
	for _, c := range r.cursors {
		if string(c.kind) == resource {
			c.kick()
		}
	}
}

// position returns the next index that this relay will read, or def.
func (r *relay) position(resource string, def int) int {
	if r.dead {
		return def
	}
	for _, c := range r.cursors {
		if string(c.kind) == resource && c.listed {
			return c.pos
		}
	}
	return def
}

func (r *relay) relistAll(why string) {
	for _, c := range r.cursors {
		c.seen = 0 // what it asks for lies in the future: it takes what there is
		c.broken(why)
	}
}

// lag is how long this kind's watch is behind now.
func (c *cursor) lag() time.Duration {
	s := c.r.s
	d := s.upTo(s.world.Lag)
	if s.chance(s.world.Stall) {
		c.stalled = s.now.Add(s.upTo(s.world.StallFor))
	}
	return max(d, c.stalled.Sub(s.now))
}

// kick plans the delivery of what is in the log.
func (c *cursor) kick() {
	if c.due || !c.listed || c.r.dead {
		return
	}
	h := c.r.s.api.logs[string(c.kind)]
	if c.pos >= h.end() {
		return
	}
	c.due = true
	c.r.s.after(c.lag(), c.deliver)
}

// deliver brings some of what is in the log to the index, in order.
func (c *cursor) deliver() {
	c.due = false
	if c.r.dead || !c.listed {
		return
	}
	s := c.r.s
	if s.api.down || c.r.cutOff() {
		s.after(time.Second, c.kick)
		return
	}
	if s.chance(s.world.WatchBreak) {
		c.broken("the watch broke")
		return
	}
	h := s.api.logs[string(c.kind)]
	if c.pos < h.from {
		c.broken("the watch is too old")
		return
	}
	n := h.end() - c.pos
	if n > 1 && s.world.Lag > 0 {
		n = 1 + s.r.IntN(n)
	}
	for _, e := range h.entries[c.pos-h.from : c.pos-h.from+n] {
		if s.detailed(string(c.kind), "watch") {
			s.note(c.r.who, "watch", string(e.kind)+" "+string(c.kind)+" "+e.obj.name+"@"+strconv.FormatUint(e.obj.rv, 10))
		}
		c.take(e)
	}
	c.pos += n
	c.kick()
}

func (c *cursor) take(e logged) {
	c.seen = e.obj.rv
	obj := e.obj.copy()
	var err error
	switch e.kind {
	case watch.Added:
		err = c.feed.Add(obj)
	case watch.Modified:
		err = c.feed.Update(obj)
	case watch.Deleted:
		err = c.feed.Delete(obj)
	}
	if err != nil {
		c.r.s.fail("index", "%s took no %s event: %v", c.r.who, e.kind, err)
	}
}

// mark tells the cache that it is complete, as bookmarks do about once a minute.
func (c *cursor) mark() {
	s := c.r.s
	if c.r.dead || !c.listed || s.now.Before(c.bookmark) {
		return
	}
	if h := s.api.logs[string(c.kind)]; c.pos < h.end() || s.api.down || c.r.cutOff() {
		return
	}
	c.bookmark = s.now.Add(50*time.Second + s.upTo(20*time.Second))
	if b, ok := c.feed.(cache.ReflectorBookmarkStore); ok {
		c.seen = s.api.rv
		_ = b.Bookmark(strconv.FormatUint(s.api.rv, 10))
	}
}

// broken ends the watch; a new list follows.
func (c *cursor) broken(why string) {
	if c.r.dead {
		return
	}
	c.r.s.note(c.r.who, "watch ends", string(c.kind)+": "+why)
	c.listed = false
	c.relist(c.r.s.world.StaleList)
}

// relist reads all objects of the kind, with some probability from a watch cache that lags.
func (c *cursor) relist(stale float64) {
	if c.listing {
		return
	}
	c.listing = true
	s := c.r.s
	s.after(s.upTo(max(s.world.Lag, 100*time.Millisecond)), func() {
		c.listing = false
		if c.r.dead {
			return
		}
		if s.api.down || c.r.cutOff() {
			s.after(time.Second, func() { c.relist(stale) })
			return
		}
		objects, rv, pos := s.api.objects[string(c.kind)], s.api.rv, s.api.logs[string(c.kind)].end()
		// A reflector asks for nothing older than what it has seen; its first list may show any state.
		if n := len(s.api.snapshots); n > 0 && s.chance(stale) && s.api.snapshots[n-1].rv >= c.seen {
			snap := s.api.snapshots[s.r.IntN(n)]
			for i := n - 1; snap.rv < c.seen; i-- {
				snap = s.api.snapshots[i]
			}
			objects, rv, pos = snap.objects[string(c.kind)], snap.rv, snap.ends[string(c.kind)]
		}
		var list []any
		for _, name := range sortedKeys(objects) {
			if o := objects[name]; o.resource != pods || o.node() != "" {
				list = append(list, o.copy())
			}
		}
		s.note(c.r.who, "list", fmt.Sprintf("%s: %d as of %d, now %d", c.kind, len(list), rv, s.api.rv))
		c.pos, c.seen, c.listed = pos, rv, true
		if err := c.feed.Replace(list, strconv.FormatUint(rv, 10)); err != nil {
			s.fail("index", "%s took no list of %s: %v", c.r.who, c.kind, err)
		}
		c.kick()
	})
}

// played says that DeviceStatuses are watched, by the simulator.
type played struct{ metadata.Interface }

// metadataFeed hands on what is left of an object in a watch of metadata.
type metadataFeed struct{ cache.ReflectorStore }

func reduced(obj any) any {
	u := obj.(*unstructured.Unstructured)
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
		Annotations: u.GetAnnotations(), OwnerReferences: u.GetOwnerReferences(),
	}}
}

// Add implements cache.ReflectorStore.
func (f metadataFeed) Add(obj any) error { return f.ReflectorStore.Add(reduced(obj)) }

// Update implements cache.ReflectorStore.
func (f metadataFeed) Update(obj any) error { return f.ReflectorStore.Update(reduced(obj)) }

// Delete implements cache.ReflectorStore.
func (f metadataFeed) Delete(obj any) error { return f.ReflectorStore.Delete(reduced(obj)) }

// Replace implements cache.ReflectorStore.
func (f metadataFeed) Replace(list []any, revision string) error {
	for i := range list {
		list[i] = reduced(list[i])
	}
	return f.ReflectorStore.Replace(list, revision)
}

// source is what a session sees of the index. Broken variants lie here.
type source struct {
	*kube.Index
	s *Sim
}

// Revisions implements session.Source.
func (x source) Revisions() map[wire.Kind]uint64 {
	revs := x.Index.Revisions()
	if x.s.broken(IgnoreRevisions) {
		for k := range revs {
			revs[k] = 1 << 60
		}
	}
	return revs
}

// Object implements session.Source.
func (x source) Object(node string, key wire.Key) (wire.Object, []wire.Key, bool) {
	obj, refs, ok := x.Index.Object(node, key)
	if x.s.broken(IgnoreReferences) {
		refs = nil
	}
	return obj, refs, ok
}
