package pods

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire"
)

// Eviction configures what happens when the node runs short.
type Eviction struct {
	Thresholds []eviction.Threshold // default: eviction.DefaultHard
	Transition time.Duration        // default 5 min: how long a pressure condition stays after it was seen last
	MaxGrace   int64                // default 30: seconds that pods get to end at most when a soft threshold is met
	Period     time.Duration        // default 10 s: how often the node is looked at; every second when something is nearly short
}

const (
	evictionNear   = time.Second      // between looks when something is nearly short
	victimPatience = 30 * time.Second // how long the next pod is spared while the last one ends
	reclaimSettles = time.Second      // what is removed is free a moment later
	aloneRest      = time.Minute      // between attempts to make room on a disk that no pod fills: to measure all pods is dear
)

func (e *Eviction) fill() error {
	if e.Thresholds == nil {
		rules, err := eviction.Rules{Hard: eviction.DefaultHard()}.Parse()
		if err != nil {
			return err
		}
		e.Thresholds = rules
	}
	setDefault(&e.Transition, 5*time.Minute)
	setDefault(&e.MaxGrace, defaultGrace)
	setDefault(&e.Period, 10*time.Second)
	return nil
}

// StatsRuntime tells what containers use. *cri.Client implements it.
type StatsRuntime interface {
	ListContainerStats(ctx context.Context, filter *cri.ContainerStatsFilter) ([]cri.ContainerStats, error)
}

// FileSystem is what a file system has. Device tells two of them apart.
type FileSystem struct {
	Device             uint64
	Size, Available    int64 // bytes
	Inodes, InodesFree int64
}

// evictor looks after the node's memory, disks and processes, and ends pods when they run short. It belongs to one goroutine.
type evictor struct {
	m     *Manager
	state eviction.State

	victim string               // UID of the pod that was evicted last
	until  time.Time            // when the next one is looked for even if that one has not ended
	rest   time.Time            // when a disk on which nothing was left to evict is looked at again
	idle   eviction.Signal      // whose disk that is
	left   int64                // and what was available there
	images string               // where the images are; "" until the runtime has said it
	told   map[string]time.Time // when the node's event was recorded last, by resource
	alone  bool                 // it was said that nothing is left to evict
	blind  bool                 // it was said that what pods use cannot be measured
}

func newEvictor(m *Manager) *evictor {
	return &evictor{m: m, told: map[string]time.Time{}, state: eviction.State{Transition: m.o.Eviction.Transition}}
}

// run looks until ctx ends.
func (e *evictor) run(ctx context.Context) {
	for {
		o := e.observe(ctx)
		d := e.decide(o)
		switch {
		case d.Act == nil:
			e.alone, e.rest = false, time.Time{}
		case e.m.runtimeUp() == nil:
			e.act(ctx, d.Act, o)
		}
		wait := e.m.o.Eviction.Period
		if o.Near(e.m.o.Eviction.Thresholds) {
			wait = min(wait, evictionNear)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// decide takes a look into account, and tells the node's conditions.
func (e *evictor) decide(o eviction.Observations) eviction.Decision {
	d := e.state.Step(e.m.o.Eviction.Thresholds, o, time.Now())
	e.m.mu.Lock()
	changed := !maps.Equal(e.m.pressure, d.Pressure)
	e.m.pressure = d.Pressure
	e.m.mu.Unlock()
	if changed {
		e.m.pokeNode()
	}
	return d
}

// observe measures the node. What cannot be measured is missing.
func (e *evictor) observe(ctx context.Context) eviction.Observations {
	o := eviction.Observations{}
	v, err := e.m.o.Machine.Measure()
	if err != nil && v == (Measurement{}) {
		return o // the node's status tells about it
	}
	o[eviction.Memory] = eviction.Observation{Available: v.MemoryAvailable, Capacity: v.Memory}
	o[eviction.NodeDisk] = eviction.Observation{Available: v.DiskAvailable, Capacity: v.Disk}
	o[eviction.NodeInodes] = eviction.Observation{Available: v.InodesFree, Capacity: v.Inodes}
	o[eviction.PIDs] = eviction.Observation{Available: v.PIDsMax - v.PIDs, Capacity: v.PIDsMax}
	if dir := e.imageDir(ctx); dir != "" {
		if fs, err := e.m.o.FileSystem(dir); err == nil {
			o[eviction.ImageDisk] = eviction.Observation{Available: fs.Available, Capacity: fs.Size}
			o[eviction.ImageInodes] = eviction.Observation{Available: fs.InodesFree, Capacity: fs.Inodes}
		}
	}
	return o
}

// imageDir returns where the runtime keeps images, "" while it has not said so.
func (e *evictor) imageDir(ctx context.Context) string {
	if e.images != "" || e.m.runtimeUp() != nil {
		return e.images
	}
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if fs, err := e.m.o.Runtime.ImageFsInfo(ask); err == nil && len(fs.ImageFilesystems) > 0 && fs.ImageFilesystems[0].FsID != nil {
		e.images = fs.ImageFilesystems[0].FsID.Mountpoint
	}
	return e.images
}

// act makes room for t: what nobody uses goes first, then one pod.
func (e *evictor) act(ctx context.Context, t *eviction.Threshold, o eviction.Observations) {
	resource := t.Signal.Resource()
	if e.victim != "" && time.Now().Before(e.until) && !e.m.podEnded(e.victim) {
		return
	}
	share := t.Goal(o[t.Signal].Capacity, true) / helpShare
	if t.Signal == e.idle && time.Now().Before(e.rest) && o[t.Signal].Available > e.left-share { // nobody has begun to fill it meanwhile
		return
	}
	if now := time.Now(); e.told[resource].IsZero() || now.Sub(e.told[resource]) >= eventRepeat || now.Before(e.told[resource]) { // each goes through the durable outbox
		e.told[resource] = now
		e.m.o.Events.Event(e.m.nodeRef(), eventWarning, "EvictionThresholdMet", "Attempting to reclaim "+resource)
	}
	if t.Signal.Disk() && e.reclaim(ctx, t, o) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(reclaimSettles):
		}
		if o = e.observe(ctx); !o.Met(t, true) {
			e.m.o.Log.Info("room was made without evicting pods", "resource", resource, "signal", t.Signal)
			return
		}
	}
	candidates := e.candidates(ctx, t.Signal)
	eviction.Rank(t.Signal, candidates)
	for i := range candidates {
		p := &candidates[i]
		if p.Critical || t.Signal.Disk() && !e.helps(t, o, p) {
			continue
		}
		grace := int64(hardEvictionGrace)
		if t.Grace > 0 {
			grace = e.m.o.Eviction.MaxGrace
		}
		if e.m.failPod(p.ID, evicted(eviction.Message(t, o, p), &grace)) {
			e.m.o.Log.Warn("a pod is evicted", "pod_uid", p.ID, "signal", t.Signal, "threshold", t.Least.String(), "available", o[t.Signal].Available)
			e.victim, e.until, e.alone = p.ID, time.Now().Add(victimPatience), false
			return
		}
	}
	if t.Signal.Disk() {
		e.rest, e.idle, e.left = time.Now().Add(aloneRest), t.Signal, o[t.Signal].Available
	}
	if !e.alone {
		e.alone = true
		e.m.o.Log.Error("the node runs short, and no pod is left that may be evicted: stop or limit what else runs on this gateway", "signal", t.Signal,
			"threshold", t.Least.String(), "available", o[t.Signal].Available)
	}
}

// helpShare is which part of what a disk has to have free a pod must have on it, to be evicted for it.
const helpShare = 16

// helps reports whether a disk would be any better off without the pod. A kubelet evicts regardless; at the edge nobody takes a pod's
// place, and a disk that something else fills must not cost the gateway all that it does. What the disk lacks at the moment is no
// measure: one that fills slowly lacks a few bytes at each look.
func (e *evictor) helps(t *eviction.Threshold, o eviction.Observations, p *eviction.Pod) bool {
	least := t.Goal(o[t.Signal].Capacity, true) / helpShare
	if t.Signal == eviction.NodeInodes || t.Signal == eviction.ImageInodes {
		return p.Inodes > 0 && p.Inodes >= least
	}
	return p.Disk.Used > 0 && p.Disk.Used >= least
}

// nodeRef names the node in events, as a kubelet does.
func (m *Manager) nodeRef() wire.ObjectRef {
	return wire.ObjectRef{APIVersion: "v1", Kind: "Node", Name: m.o.Node, UID: m.o.Node}
}

// reclaim removes what nobody uses of a disk: containers and logs of pods that have ended, old files of logs, then images. It returns
// whether there was anything.
func (e *evictor) reclaim(ctx context.Context, t *eviction.Threshold, o eviction.Observations) bool {
	found := e.m.stripEnded()
	goal := t.Goal(o[t.Signal].Capacity, true)
	if t.Signal != eviction.NodeDisk && t.Signal != eviction.ImageDisk {
		goal = 1<<63 - 1 // how many inodes an image has is not known
	}
	if t.Signal == eviction.NodeDisk || t.Signal == eviction.NodeInodes {
		own, err := e.m.o.FileSystem(e.m.o.Dir)
		other, err2 := e.m.o.FileSystem(e.imageDir(ctx))
		if err != nil || err2 != nil || own.Device != other.Device {
			return found // the images are on another disk
		}
	}
	if !e.m.o.Complete() {
		return found // what the view does not know may still be wanted
	}
	pass, cancel := context.WithTimeout(ctx, imagePatience)
	defer cancel()
	removed, err := e.m.images.makeRoom(pass, goal)
	if err != nil && ctx.Err() == nil {
		e.m.o.Log.Warn("images could not be removed to make room", "error", err)
	}
	return found || removed
}

// makeRoom removes images that no pod uses until there are goal bytes free. It returns whether any went.
func (k *imageKeeper) makeRoom(ctx context.Context, goal int64) (bool, error) {
	images, err := k.rt.ListImages(ctx, nil)
	if err != nil {
		return false, err
	}
	used, err := k.inUse(ctx, images)
	if err != nil {
		return false, err
	}
	k.mark(images, used)
	fs, err := k.rt.ImageFsInfo(ctx)
	if err != nil || len(fs.ImageFilesystems) == 0 || fs.ImageFilesystems[0].FsID == nil || fs.ImageFilesystems[0].FsID.Mountpoint == "" {
		return false, err
	}
	count := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.pulled)
	}
	before := count()
	err = k.collect(ctx, images, used, fs.ImageFilesystems[0].FsID.Mountpoint, goal)
	return count() < before, err
}

// stripEnded has the workers of pods that have ended remove their containers, and returns whether there are any.
func (m *Manager) stripEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := false
	for _, w := range m.workers {
		if w.shared.desired != nil && w.shared.ended && !w.shared.stripped {
			w.shared.strip, found = true, true
			w.poke()
		}
	}
	return found
}

// strip removes the containers, sandboxes and logs of a pod that has ended, if stripEnded asked for it. Its status stays.
func (w *worker) strip(ctx context.Context, obs *observation) error {
	w.m.mu.Lock()
	wanted := w.shared.strip && !w.shared.stripped
	w.m.mu.Unlock()
	if !wanted {
		return nil
	}
	if err := syncStatus(w.m.podDir(w.uid), w.status); err != nil { // from now on only this says that the pod has ended
		return err
	}
	for _, s := range obs.sandboxes {
		if err := ignoreMissing(w.m.o.Runtime.RemovePodSandbox(ctx, s.id)); err != nil {
			return err
		}
	}
	if err := w.removeLogs(); err != nil {
		return err
	}
	w.m.mu.Lock()
	w.shared.stripped = true
	w.m.mu.Unlock()
	w.log.Info("removed the containers and logs of a pod that has ended, because the disk is nearly full")
	return nil
}

// activePods returns the pods that may be evicted: those that are wanted, and have neither ended nor begun to.
func (m *Manager) activePods() []*desiredPod {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*desiredPod
	for _, w := range m.workers {
		d := w.shared.desired
		if d != nil && !d.terminating() && !w.shared.ending && !w.shared.ended && !d.unread && (w.shared.state == nil || !terminal(w.shared.state.Phase)) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *desiredPod) int { return cmp.Compare(a.key, b.key) })
	return out
}
