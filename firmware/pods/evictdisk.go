package pods

import (
	"context"
	"time"

	"github.com/skerry/skerry/firmware/eviction"
)

// To remove images and to walk through volumes takes minutes on slow flash. So a disk that runs short is relieved by a goroutine of its own:
// it removes what nobody uses, and measures the pods if that was not enough. The evictor goes on meanwhile, and decides when it is told.

const (
	reclaimSettles = time.Second // what is removed is free a moment later
	aloneRest      = time.Minute // between attempts to make room on a disk that no pod fills: to measure all pods is dear
)

// shortage is what there is too little of on a disk: bytes, or inodes.
type shortage struct {
	device   uint64
	resource string
}

// resting says when a disk on which no pod is left to evict is looked through again, and what was available there when it was.
type resting struct {
	until     time.Time
	available int64
}

// relief is what came of making room on a disk.
type relief struct {
	device     uint64
	threshold  eviction.Threshold
	enough     bool           // there is room again
	candidates []eviction.Pod // else: pods that may be evicted for it
	err        error          // why it is not known what they use
}

// relieve begins to make room on a disk, unless that is under way, or was in vain just now.
func (e *evictor) relieve(ctx context.Context, t *eviction.Threshold, o eviction.Observations) {
	images := e.imageDir(ctx)
	device, _ := e.m.diskOf(t.Signal, images) // those that cannot be told apart count as one
	if e.relieving[device] {
		return
	}
	least := t.Goal(o[t.Signal].Capacity, true) / helpShare
	if r, ok := e.rests[shortage{device, t.Signal.Resource()}]; ok && time.Now().Before(r.until) && o[t.Signal].Available > r.available-least {
		return // nobody has begun to fill it meanwhile
	}
	e.announce(t)
	e.relieving[device] = true
	r := relief{device: device, threshold: *t}
	e.m.wg.Go(func() {
		e.m.relieve(ctx, &r, images, o)
		select {
		case e.relieved <- r:
		case <-ctx.Done():
		}
	})
}

// relieve removes what nobody uses of a disk, and finds the candidates for eviction if more has to go. images is where the images are.
func (m *Manager) relieve(ctx context.Context, r *relief, images string, o eviction.Observations) {
	t := &r.threshold
	if m.reclaim(ctx, t, o, images) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(reclaimSettles):
		}
		if !m.observe(images).Met(t, true) {
			m.o.Log.Info("room was made without evicting pods", "resource", t.Signal.Resource(), "signal", t.Signal)
			r.enough = true
			return
		}
	}
	r.candidates, r.err = m.candidates(ctx, t.Signal, images)
}

// finish evicts a pod if a disk still runs short after all that nobody uses is gone.
func (e *evictor) finish(ctx context.Context, r relief) {
	delete(e.relieving, r.device)
	e.mention(r.err)
	t, o := &r.threshold, e.observe(ctx) // minutes may have passed
	if r.enough || !o.Met(t, true) || e.waits() || ctx.Err() != nil {
		return
	}
	if !e.evict(t, o, r.candidates) {
		e.rests[shortage{r.device, t.Signal.Resource()}] = resting{until: time.Now().Add(aloneRest), available: o[t.Signal].Available}
	}
}

// onImages reports whether a signal is about the disk of the images.
func onImages(s eviction.Signal) bool { return s == eviction.ImageDisk || s == eviction.ImageInodes }

// diskOf returns the device of the disk that a signal is about. images is where the images are.
func (m *Manager) diskOf(s eviction.Signal, images string) (uint64, error) {
	dir := m.o.Dir
	if onImages(s) {
		dir = images
	}
	fs, err := m.o.FileSystem(dir)
	return fs.Device, err
}

// reclaim removes what nobody uses of a disk: containers and logs of pods that have ended, old files of logs, then images. It returns
// whether there was anything.
func (m *Manager) reclaim(ctx context.Context, t *eviction.Threshold, o eviction.Observations, images string) bool {
	found := m.stripEnded()
	goal := t.Goal(o[t.Signal].Capacity, true)
	if t.Signal != eviction.NodeDisk && t.Signal != eviction.ImageDisk {
		goal = 1<<63 - 1 // how many inodes an image has is not known
	}
	own, err := m.diskOf(t.Signal, images)
	other, err2 := m.diskOf(eviction.ImageDisk, images)
	if err != nil || err2 != nil || own != other {
		return found // the images are on another disk
	}
	pass, cancel := context.WithTimeout(ctx, imagePatience)
	defer cancel()
	removed, err := m.images.makeRoom(pass, goal)
	if err != nil && ctx.Err() == nil {
		m.o.Log.Warn("images could not be removed to make room", "error", err)
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
	if err := w.removeRemains(ctx, obs); err != nil {
		return err
	}
	w.m.mu.Lock()
	w.shared.stripped = true
	w.m.mu.Unlock()
	w.log.Info("removed the containers and logs of a pod that has ended, because the disk is nearly full")
	return nil
}
