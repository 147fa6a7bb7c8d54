package pods

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Manager runs the pods of one node. Make it with New; see the package comment.
type Manager struct {
	o         Options
	fields    *fieldTable
	poked     chan struct{} // relist soon
	nodePoked chan struct{} // look at the node soon
	toldNoDNS atomic.Bool   // the node has said that it knows no cluster DNS
	wg        sync.WaitGroup
	reread    time.Time // when to read pods again that the store could not read; zero: not at all. Run's own

	mu       sync.Mutex
	workers  map[string]*worker // by pod UID
	changed  time.Time          // when desired objects changed last
	rt       runtimeState
	resource corev1.ResourceList // the node's allocatable
	memory   int64               // the node's capacity in bytes
	ips      []string
	ports    map[hostPort]*worker          // who publishes what
	adopted  map[string]bool               // UIDs of pods that were found running
	there    map[string]bool               // UIDs of pods that the runtime had something of at the last look; nil: it has not been asked
	logs     []containerLog                // of the containers that run
	closing  bool                          // the machine is about to go down
	statics  *statics                      // set by Run before there are workers
	images   *imageKeeper                  // set by Run before there are workers
	ids      *idKeeper                     // likewise
	resolver *resolver                     // likewise
	clocks   *clocks                       // likewise
	pulls    *pulls                        // likewise
	flusher  *flusher                      // likewise
	assigned chan struct{}                 // likewise; closed when all pods that were there at the start have their workers
	access   *imageAccess                  // likewise
	offline  string                        // why pods have no network; "" if they have, or nobody knows
	pressure map[string]eviction.Threshold // the node's pressure conditions that are true, and why
}

// runtimeState is what is known about the runtime.
type runtimeState struct {
	up      bool
	lost    bool  // it was said in the log that it does not answer
	err     error // why it is not up
	name    string
	version string
	systemd bool // its cgroup driver

	strictGroups bool // it knows supplementalGroupsPolicy
	can          abilities
}

// Status says how the manager is doing.
type Status struct {
	Pods         int    // pods that have a worker, those being removed included
	RuntimeReady bool   // the last question to the runtime was answered
	RuntimeError string // why not
	Runtime      string // name and version
}

// New checks the options. It does nothing else.
func New(o Options) (*Manager, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	m := &Manager{o: o, fields: newFieldTable(), poked: make(chan struct{}, 1), nodePoked: make(chan struct{}, 1)}
	m.reset()
	return m, nil
}

// reset forgets what an earlier run knew. Its workers have ended.
func (m *Manager) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers, m.ports, m.adopted = map[string]*worker{}, map[hostPort]*worker{}, map[string]bool{}
	m.there = nil
	m.rt = runtimeState{name: "containerd", err: fmt.Errorf("the container runtime at %s has not answered yet", m.o.Socket)}
}

// Status returns how the manager is doing. It may be called by any goroutine.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Pods: len(m.workers), RuntimeReady: m.rt.up, Runtime: m.rt.name + " " + m.rt.version}
	if m.rt.err != nil {
		s.RuntimeError = m.rt.err.Error()
	}
	return s
}

// Run runs the pods until ctx ends, then waits for all workers. Containers keep running. The error is ctx's, or that Dir cannot be
// made. It may be called again after it returned, as its supervisor does after a panic, but not twice at a time.
func (m *Manager) Run(ctx context.Context) error {
	for dir, mode := range map[string]os.FileMode{m.o.Dir: 0o750, m.o.LogDir: folderMode} { // volumes are not for other users of the gateway
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("pods: make folder: %w", err)
		}
	}
	m.reset()
	m.assigned = make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer m.wg.Wait()
	defer cancel()
	pods := m.o.Watch(wire.KindPod)
	defer pods.Close()
	refs := m.o.Watch(wire.KindConfigMap, wire.KindSecret, wire.KindRuntimeClass, wire.KindPersistentVolumeClaim, wire.KindPersistentVolume)
	defer refs.Close()

	m.clocks = openClocks(m.o.Dir, m.o.Uptime)
	m.lookAtClock()
	m.flusher = newFlusher(&m.o)
	m.pulls = newPulls(ctx, &m.o, m.wg.Go)
	m.pulls.pulled = m.flusher.pulled
	m.access = newImageAccess(m.o.ImageCheck, m.o.ImageRecords, func() (map[string]string, error) { return importedImages(m.o.Dir) }, m.o.Log)
	m.statics, m.images, m.ids = newStatics(m), newImageKeeper(m), newIDKeeper(&m.o)
	m.resolver = &resolver{path: filepath.Join(m.o.Dir, resolverFileName), log: m.o.Log}
	evict := newEvictor(m)
	evict.decide(evict.observe(ctx))
	node := newNodeReporter(m)
	node.sample(ctx) // workers want to know the node's memory and addresses
	m.census(ctx)
	m.wg.Go(func() { node.run(ctx) })
	m.wg.Go(func() { m.rotateLogs(ctx) })
	m.wg.Go(func() { m.sweepCgroups(ctx) })
	m.wg.Go(func() { evict.run(ctx) })
	m.wg.Go(func() { m.limitStorage(ctx) })
	m.wg.Go(func() { m.collectImages(ctx) })
	m.wg.Go(func() { m.prePull(ctx) })
	if m.o.StaticDir != "" {
		m.statics.load()
		m.wg.Go(func() { m.statics.run(ctx) })
	}
	m.reconcile(ctx) // before the first relist, which takes pods without a worker for pods that nobody wants
	close(m.assigned)
	m.adoptStrays(ctx)

	seen := map[string]uint64{}
	for ctx.Err() == nil {
		m.lookAtClock()
		if !m.reread.IsZero() && !time.Now().Before(m.reread) {
			m.reconcile(ctx)
		}
		next := m.relist(ctx, seen)
		m.signOfLife()
		m.await(ctx, next, pods, refs)
	}
	return ctx.Err()
}

// await serves the watches until the next relist is due.
func (m *Manager) await(ctx context.Context, next time.Duration, pods, refs Watch) {
	deadline := time.Now().Add(next)
	due := time.After(next)
	soon := func() { // never puts off: whoever asks often must not starve the relist
		if at := time.Now().Add(m.o.RelistActive); at.Before(deadline) {
			deadline, due = at, time.After(m.o.RelistActive)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-pods.C():
			pods.Take() // what changed does not matter: all of the view is looked at
			m.reconcile(ctx)
			soon()
		case <-refs.C():
			refs.Take()
			m.referencesChanged()
			soon()
		case <-m.tokenNews():
			m.tokensChanged()
			soon()
		case <-m.statics.changed:
			m.reconcile(ctx)
			soon()
		case <-m.poked:
			soon()
		case <-due:
			return
		}
	}
}

// poke asks for a relist soon. It never blocks.
func (m *Manager) poke() {
	select {
	case m.poked <- struct{}{}:
	default:
	}
}

// reconcile gives each desired pod a worker, and tells the workers of pods that are gone.
func (m *Manager) reconcile(ctx context.Context) {
	gone := map[string]bool{}
	m.reread = time.Time{}
	m.mu.Lock()
	for uid := range m.workers {
		gone[uid] = true
	}
	m.changed = time.Now()
	m.mu.Unlock()
	objects := append(m.o.Desired.List(wire.KindPod), m.statics.objects()...)
	mirrors := map[wire.Key]*desiredPod{}
	precedence := m.precedence(objects)
	slices.SortStableFunc(objects, func(a, b wire.Object) int {
		return cmp.Compare(precedence[b.Key.UID()], precedence[a.Key.UID()])
	})
	for _, o := range objects {
		uid := o.Key.UID()
		if o.Absent || !safeName(uid) {
			continue
		}
		delete(gone, uid)
		if len(o.Body) == 0 { // not to be able to read a pod is no reason to stop it
			m.reread = time.Now().Add(retrySoon)
		}
		if d := m.assign(ctx, uid, o); d != nil {
			mirrors[o.Key] = d
		}
	}
	m.statics.reconcile(mirrors)
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid := range gone {
		if w := m.workers[uid]; w != nil && w.shared.desired != nil {
			w.set(nil)
		}
	}
}

// Which pods get their workers first, and with them ports and a place on the node.
const (
	pastNew  = iota
	pastHere // it was let in before
	pastRuns // it keeps the ports that it has
)

// precedence finds which pods run, and which were here before, by their UIDs.
func (m *Manager) precedence(objects []wire.Object) map[string]int {
	out := make(map[string]int, len(objects))
	m.mu.Lock()
	for i := range objects {
		switch uid := objects[i].Key.UID(); {
		case m.adopted[uid]:
			out[uid] = pastRuns
		case m.workers[uid] != nil:
			out[uid] = pastHere
		default:
			out[uid] = pastNew
		}
	}
	m.mu.Unlock()
	for uid, past := range out { // flash may be slow: nobody waits for it
		if past != pastNew || !safeName(uid) {
			continue
		}
		if _, err := os.Stat(filepath.Join(m.podDir(uid), statusFile)); err == nil {
			out[uid] = pastHere
		}
	}
	return out
}

// assign hands a desired pod to its worker, if it is not the version that the worker has. A pod that only mirrors a static one has no
// worker, and is returned.
func (m *Manager) assign(ctx context.Context, uid string, o wire.Object) (mirror *desiredPod) {
	m.mu.Lock()
	w := m.workers[uid]
	stays := w != nil && w.shared.desired != nil // else it may be gone in a moment
	same := stays && (len(o.Body) == 0 || w.shared.desired.version == o.Version && !w.shared.desired.unread)
	m.mu.Unlock()
	if same {
		return nil
	}
	d := m.fields.decodePod(o)
	if d.file = m.statics.has(o.Key); !d.file && mirrorOf(&d.pod) != "" {
		return d
	}
	var before *corev1.PodStatus
	if !stays {
		before = loadStatus(m.podDir(uid))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w = m.workers[uid]
	if w == nil {
		w = m.start(ctx, uid, before)
		w.grantAgain(d)
		if m.adopted[uid] {
			m.take(w, hostPorts(&d.pod))
		}
	}
	w.set(d)
	return nil
}

// start starts a worker; before is the pod's last status, nil if there is none. m.mu is held. It is called by Run's goroutine.
func (m *Manager) start(ctx context.Context, uid string, before *corev1.PodStatus) *worker {
	w := newWorker(m, uid, before)
	m.workers[uid] = w
	m.wg.Go(func() { w.run(ctx) })
	return w
}

// startUnwanted gives a worker to a pod that nobody desires: it cleans up. It returns false if the pod has one.
func (m *Manager) startUnwanted(ctx context.Context, uid string) bool {
	before := loadStatus(m.podDir(uid))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.workers[uid] != nil {
		return false
	}
	m.start(ctx, uid, before)
	return true
}

// set gives a worker a new desired pod. What it is doing is cut short if the pod is to end, or to end sooner. m.mu is held.
func (w *worker) set(d *desiredPod) {
	old := w.shared.desired
	w.shared.desired = d
	ends := d == nil || d.terminating() && (old == nil || !old.terminating() || d.grace() < old.grace())
	if ends && w.shared.cancel != nil {
		w.shared.cancel()
	}
	w.poke()
}

// begin returns what a worker should do now, and keeps how to cut it short.
func (m *Manager) begin(w *worker, cancel context.CancelFunc) *desiredPod {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.shared.cancel = cancel
	return w.shared.desired
}

// forget drops the worker of a pod that is gone, unless the pod is wanted again.
func (m *Manager) forget(w *worker) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.shared.desired != nil {
		return false
	}
	delete(m.workers, w.uid)
	m.releaseLocked(w)
	return true
}

// referencesChanged wakes the pods that use configMaps, secrets, claims or runtime classes. Services only count when a container starts.
func (m *Manager) referencesChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = time.Now()
	for _, w := range m.workers {
		if w.shared.desired != nil && w.shared.desired.refs {
			w.poke()
		}
	}
}

// changedSince reports whether desired objects changed at t or later, so that a back-off need not be waited for.
func (m *Manager) changedSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.changed.Before(t)
}

// adoptStrays gives workers to folders of pods that are no longer desired: they find nothing in the runtime, and clean up.
func (m *Manager) adoptStrays(ctx context.Context) {
	uids, err := strayDirs(m.o.Dir, m.hasWorker)
	if err != nil {
		m.o.Log.Warn("folders of pods that are gone may stay", "error", err)
	}
	for _, uid := range uids {
		m.startUnwanted(ctx, uid)
	}
}

// pace returns how long until the next relist. m.mu is held.
func (m *Manager) pace() time.Duration {
	if len(m.workers) == 0 && m.rt.up {
		return m.o.RelistEmpty
	}
	for _, w := range m.workers {
		if !w.settled.Load() {
			return m.o.RelistActive
		}
	}
	return m.o.RelistIdle
}

// relist asks the runtime for all that is ours, wakes the workers of pods whose state changed since seen was filled, and
// returns when to ask again.
func (m *Manager) relist(ctx context.Context, seen map[string]uint64) time.Duration {
	selector := map[string]string{labelNode: m.o.Node}
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	sandboxes, err := m.o.Runtime.ListPodSandbox(ask, &cri.PodSandboxFilter{LabelSelector: selector})
	var containers []cri.Container
	if err == nil {
		containers, err = m.o.Runtime.ListContainers(ask, &cri.ContainerFilter{LabelSelector: selector})
	}
	if ctx.Err() != nil {
		return m.o.RelistActive
	}
	if err != nil {
		m.runtimeLost(err)
		return m.o.RelistActive
	}
	m.adopt(sandboxes)
	recovered := m.runtimeFound(ctx)
	now := fingerprints(sandboxes, containers)
	logs := runningLogs(m.o.LogDir, containers)
	for uid := range now {
		if safeName(uid) && !m.hasWorker(uid) && m.startUnwanted(ctx, uid) {
			m.o.Log.Info("found a pod that is no longer desired; it will be stopped and removed", "pod_uid", uid)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs = logs
	m.noteThere(sandboxes)
	for uid, print := range now {
		if w := m.workers[uid]; w != nil && seen[uid] != print {
			w.found.Store(print)
			w.poke()
		}
	}
	for uid, w := range m.workers {
		if _, there := now[uid]; recovered || !there && seen[uid] != 0 {
			w.poke()
		}
	}
	clear(seen)
	maps.Copy(seen, now)
	return m.pace()
}
