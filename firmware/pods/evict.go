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

// evictor looks after the node's memory, disks and processes, and ends pods when they run short. It belongs to one goroutine; what takes
// its time on a disk is done by others (evictdisk.go), so that memory is looked at meanwhile.
type evictor struct {
	m     *Manager
	state eviction.State

	victim string               // UID of the pod that was evicted last
	until  time.Time            // when the next one is looked for even if that one has not ended
	images string               // where the images are; "" until the runtime has said it
	told   map[string]time.Time // when the node's event was recorded last, by resource
	alone  map[string]bool      // resources of which it was said that no pod is left to evict for them
	blind  bool                 // it was said that what pods use cannot be measured

	relieving map[uint64]bool      // disks on which room is being made, by device
	relieved  chan relief          // what came of it
	rests     map[shortage]resting // disks on which no pod is left to evict
}

func newEvictor(m *Manager) *evictor {
	return &evictor{
		m: m, told: map[string]time.Time{}, alone: map[string]bool{}, state: eviction.State{Transition: m.o.Eviction.Transition},
		relieving: map[uint64]bool{}, relieved: make(chan relief), rests: map[shortage]resting{},
	}
}

// run looks until ctx ends.
func (e *evictor) run(ctx context.Context) {
	for {
		o := e.observe(ctx)
		e.act(ctx, e.decide(o).Due, o)
		wait := e.m.o.Eviction.Period
		if o.Near(e.m.o.Eviction.Thresholds) {
			wait = min(wait, evictionNear)
		}
		for look := time.After(wait); look != nil; { // a relief that ends does not bring the next look nearer: that would begin another one at once
			select {
			case <-ctx.Done():
				return
			case r := <-e.relieved:
				e.finish(ctx, r)
			case <-look:
				look = nil
			}
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
	return e.m.observe(e.imageDir(ctx))
}

// observe measures the node; images is where its images are, "" if that is not known.
func (m *Manager) observe(images string) eviction.Observations {
	o := eviction.Observations{}
	v, err := m.o.Machine.Measure()
	if err != nil && v == (Measurement{}) {
		return o // the node's status tells about it
	}
	o[eviction.Memory] = eviction.Observation{Available: v.MemoryAvailable, Capacity: v.Memory}
	o[eviction.NodeDisk] = eviction.Observation{Available: v.DiskAvailable, Capacity: v.Disk}
	o[eviction.NodeInodes] = eviction.Observation{Available: v.InodesFree, Capacity: v.Inodes}
	o[eviction.PIDs] = eviction.Observation{Available: v.PIDsMax - v.PIDs, Capacity: v.PIDsMax}
	if images != "" {
		if fs, err := m.o.FileSystem(images); err == nil {
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

// act makes room: for disks in the background, for memory and processes at once. One pod is evicted at a time.
func (e *evictor) act(ctx context.Context, due []eviction.Threshold, o eviction.Observations) {
	if len(due) == 0 {
		clear(e.alone)
		clear(e.rests)
	}
	if e.waits() || e.m.runtimeUp() != nil {
		return
	}
	for i := range due {
		t := &due[i]
		if t.Signal.Disk() {
			e.relieve(ctx, t, o)
			continue
		}
		e.announce(t)
		candidates, err := e.m.candidates(ctx, t.Signal, e.imageDir(ctx))
		e.mention(err)
		if e.evict(t, o, candidates) {
			return
		}
	}
}

// waits reports whether the pod that was evicted last is still ending.
func (e *evictor) waits() bool {
	return e.victim != "" && time.Now().Before(e.until) && !e.m.podEnded(e.victim)
}

// announce records the node's event, not more often than each event is: it goes through the durable outbox.
func (e *evictor) announce(t *eviction.Threshold) {
	resource, now := t.Signal.Resource(), time.Now()
	if last, ok := e.told[resource]; !ok || now.Sub(last) >= eventRepeat || now.Before(last) {
		e.told[resource] = now
		e.m.o.Events.Event(e.m.nodeRef(), eventWarning, "EvictionThresholdMet", "Attempting to reclaim "+resource)
	}
}

// mention says in the log, once, that what pods use cannot be measured.
func (e *evictor) mention(err error) {
	if err != nil && !e.blind {
		e.m.o.Log.Warn("what containers use is not known: pods are evicted by their priority", "error", err)
	}
	e.blind = err != nil
}

// evict ends the first of the candidates that may be evicted. It returns false if there is none, and says so once.
func (e *evictor) evict(t *eviction.Threshold, o eviction.Observations, candidates []eviction.Pod) bool {
	eviction.Rank(t.Signal, candidates)
	active := map[string]bool{} // some may have ended, or begun to, since they were measured
	for _, d := range e.m.activePods() {
		active[d.pod.Metadata.UID] = true
	}
	for i := range candidates {
		p := &candidates[i]
		if !active[p.ID] || p.Critical || t.Signal.Disk() && !e.helps(t, o, p) {
			continue
		}
		grace := int64(hardEvictionGrace)
		if t.Grace > 0 {
			grace = e.m.o.Eviction.MaxGrace
		}
		if e.m.failPod(p.ID, evicted(eviction.Message(t, o, p), &grace)) {
			e.m.o.Log.Warn("a pod is evicted", "pod_uid", p.ID, "signal", t.Signal, "threshold", t.Least.String(), "available", o[t.Signal].Available)
			e.victim, e.until = p.ID, time.Now().Add(victimPatience)
			clear(e.alone)
			return true
		}
	}
	if resource := t.Signal.Resource(); !e.alone[resource] {
		e.alone[resource] = true
		e.m.o.Log.Error("the node runs short, and no pod is left that may be evicted: stop or limit what else runs on this gateway", "signal", t.Signal,
			"threshold", t.Least.String(), "available", o[t.Signal].Available)
	}
	return false
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
