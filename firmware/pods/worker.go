package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

const (
	retrySoon    = 10 * time.Second // after an error that nothing will wake us from
	minGrace     = 2                // s; the kubelet gives containers at least this
	tryFirst     = time.Second      // back-off of sandboxes, volumes and container creation
	tryMost      = time.Minute
	initPollFrom = 100 * time.Millisecond // how soon to look whether an init container has ended; doubles to initPollTo
	initPollTo   = time.Second
)

// worker drives one pod. All fields but wake, settled and those in shared belong to its goroutine.
type worker struct {
	m       *Manager
	uid     string
	log     *slog.Logger
	wake    chan struct{}
	settled atomic.Bool   // nothing is going on: the runtime may be asked less often
	turn    turn          // what it is doing now, for whoever looks whether it is stuck
	found   atomic.Uint64 // fingerprint of what the last relist that saw a change has found
	shared  sharedState   // guarded by m.mu

	obs      *observer
	puller   *imagePuller
	probes   *prober
	restarts map[string]*restartBackoff // by container name
	tries    map[string]*backoff        // of sandbox, volumes and container creation
	waiting  map[string]waiting         // by container name
	forced   map[string]bool            // containers to start again whatever their exit code
	hooked   map[string]bool            // ids of running containers whose preStop hook has run
	events   *eventLog
	alloc    allocation

	resets     restartBackoff // of the pod's containers all together
	resetUntil time.Time
	resetting  bool
	pod        *desiredPod       // the newest there was; nil for a pod that was never desired
	status     *corev1.PodStatus // the last one, from this run or the run before
	reported   []byte
	endGrace   *int64  // s, of a pod that fail has ended; nil: its own
	unkept     *unkept // the pod has ended, and the disk does not take it; nil otherwise
	refused    bool    // the last report said that the pod cannot run here
	deleted    bool    // {"deleted":true} was reported
	initPoll   time.Duration
	misplaced  time.Time            // when the node's labels were first found not to match; zero: not
	outdated   map[string]time.Time // service account tokens that were told to have expired: when, by their paths
	left       map[string]bool      // containers and sandboxes that the runtime does not remove, by id: it was said
	final      *corev1.PodStatus    // of a pod that is deleted, once its containers have ended
	looked     bool                 // look was called
	fresh      *observation         // of what was made just now, until the next look; nil: there is none
	made       *made                // what the launch of a pod that had nothing has made; nil: ask the runtime
	since      time.Time            // when it became active, by the monotonic clock; zero: not asked yet
}

// sharedState is what the manager tells a worker.
type sharedState struct {
	desired  *desiredPod
	cancel   context.CancelFunc // ends the sync that is under way
	state    *PodState          // for List; nil until a status was made
	granted  *amounts           // what it has of the node; nil: not known yet
	deferred bool               // its resize waits for room
	failure  *failure           // how the pod is to end, until the worker has taken it
	ended    bool               // the pod has a final phase, and nothing of it runs
	status   *corev1.PodStatus  // the newest; not changed any more. nil until one was made
	ending   bool               // the node ends it
	admitted bool               // it was let in, and has a part of the node
	halt     *int64             // s for it to stop, because the machine goes down; nil: not its turn
	halted   bool               // it has
	strip    bool               // its containers are to go, because the disk is nearly full
	stripped bool               // they are gone
}

// newWorker makes a worker; before is the pod's last status, nil if there is none. m.mu is held.
func newWorker(m *Manager, uid string, before *corev1.PodStatus) *worker {
	w := &worker{
		m: m, uid: uid, wake: make(chan struct{}, 1), log: m.o.Log.With("pod_uid", uid),
		obs:      newObserver(&m.o, uid, m.clocks),
		restarts: map[string]*restartBackoff{}, tries: map[string]*backoff{}, waiting: map[string]waiting{},
		forced: map[string]bool{}, hooked: map[string]bool{}, outdated: map[string]time.Time{}, left: map[string]bool{}, events: &eventLog{to: m.o.Events, seen: map[string]time.Time{}},
		status: before,
	}
	known := before != nil && before.Reason != reasonUnsupported // what could not run here was never asked whether it fits
	w.shared.admitted = (known || m.adopted[uid]) && !terminalPhase(before)
	w.puller = &imagePuller{rt: m.o.Runtime, pulls: m.pulls, access: m.access, tries: map[string]*pullTry{}, now: time.Now, event: w.event, note: func(id, ref string) { m.images.note(id, ref, w.pod.file) }}
	w.resets.most = m.o.MaxRestartDelay
	w.probes = newProber(m.o.Runtime, w.poke, w.events)
	return w
}

// poke makes the worker look again. It never blocks.
func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run drives the pod until it is gone or ctx ends. It leaves containers running.
func (w *worker) run(ctx context.Context) {
	defer w.probes.stop()
	w.poke()
	var timer <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer:
		}
		next, done := w.once(ctx)
		if done && w.m.forget(w) {
			w.m.pokePending()
			return
		}
		timer = nil
		if next > 0 {
			timer = time.After(next)
		}
	}
}

// once runs one sync that the manager can cut short, and survives its panic: one pod must not take the others down.
func (w *worker) once(ctx context.Context) (next time.Duration, done bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := w.m.begin(w, cancel)
	defer w.m.begin(w, nil)
	w.turn.begin(d)
	defer w.turn.end()
	if d != nil {
		if w.pod == nil || w.pod.version != d.version {
			m := &d.pod.Metadata
			w.log = w.m.o.Log.With("pod", m.Namespace+"/"+m.Name, "pod_uid", w.uid)
		}
		w.pod = d
		w.events.about(d.ref(""), w.log)
	}
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("the pod's worker failed and will try again", "panic", p, "stack", string(debug.Stack()))
			next, done = retrySoon, false
		}
	}()
	w.settled.Store(false)
	next, done, err := w.sync(ctx, d)
	switch {
	case ctx.Err() != nil:
	case runtimeGone(err):
		w.withoutRuntime(d, err)
		w.m.poke()
		next = retrySoon
	case err != nil:
		w.log.Warn("pod is not where it should be, will try again", "error", err, "in", retrySoon)
		next = retrySoon
	}
	return next, done
}

// runtimeGone reports whether the runtime did not answer at all.
func runtimeGone(err error) bool { return errors.Is(err, cri.ErrUnavailable) }

// sync brings the pod one step nearer to what d wants; nil wants it gone. It returns when to look again if nothing happens
// before (0: not at all), and whether the pod is gone for good.
func (w *worker) sync(ctx context.Context, d *desiredPod) (next time.Duration, done bool, err error) {
	if err := w.m.runtimeUp(); err != nil {
		return 0, false, err
	}
	obs, err := w.look(ctx)
	if err != nil {
		return 0, false, err
	}
	switch {
	case d == nil && !w.unwanted(obs), d != nil && d.unread:
		return retrySoon, false, nil
	case d == nil:
		if err := w.remove(ctx, obs, w.graceOf(obs)); err != nil {
			return 0, false, err
		}
		if w.pod != nil {
			w.m.statics.withdraw(w.pod.key)
		}
		return 0, true, nil
	case d.terminating():
		return w.terminate(ctx, d, obs)
	}
	d, again := w.m.withinReach(w.judged(d, obs), obs)
	if d.refused != "" && !terminalPhase(w.status) {
		return again, false, w.refuse(ctx, d, obs)
	}
	if w.refused {
		w.refused = false
		clear(w.waiting)
	}
	if obs.sandbox() != nil {
		w.m.holdPorts(w, &d.pod)
	}
	next = w.deadline(d)
	w.obey(d)
	if !terminalPhase(w.status) {
		if atRest, err := w.rest(ctx, d, obs); atRest || err != nil {
			return 0, false, err
		}
		if admitted, wait := w.admit(d, obs); !admitted && !terminalPhase(w.status) {
			return wait, false, nil
		}
	}
	if terminalPhase(w.status) {
		return 0, false, w.finish(ctx, d, obs)
	}
	d, look := w.allocate(d, obs)
	next = sooner(next, look)
	again, obs, err = w.drive(ctx, d, obs)
	if err != nil {
		return 0, false, err
	}
	w.report(d, obs)
	if terminalPhase(w.status) {
		return 0, false, w.finish(ctx, d, obs)
	}
	return sooner(next, again), false, nil
}

// unwanted reports whether a pod that is not desired may be taken away: one of the cluster if the view is whole, a static one if the folder
// of their files can be read, whatever is known of the cluster.
func (w *worker) unwanted(obs *observation) bool {
	if w.pod != nil && w.pod.file || slices.ContainsFunc(obs.sandboxes, func(s sandboxState) bool { return s.file }) {
		return !w.m.statics.blind.Load()
	}
	return w.m.o.Complete()
}

// deadline fails the pod if it has been active for longer than it may, and returns how long it has left otherwise.
func (w *worker) deadline(d *desiredPod) time.Duration {
	limit := d.pod.Spec.ActiveDeadlineSeconds
	if limit == nil || w.status == nil || w.status.StartTime == nil || terminalPhase(w.status) {
		return 0
	}
	left := time.Duration(*limit)*time.Second - w.active(d)
	if left <= 0 {
		w.fail(d, failure{reason: reasonDeadline, message: messageDeadlineOver, eventType: eventNormal})
	}
	return max(left, 0)
}

// reasonUnsupported is the reason of pods that want something that this agent cannot do.
const reasonUnsupported = "Unsupported"

// refuse starts nothing of a pod that wants what is not supported, and says so. The pod stays Pending: were it Failed, as a
// kubelet's admission would have it, its ReplicaSet would make another one at once, and again without end.
func (w *worker) refuse(ctx context.Context, d *desiredPod, obs *observation) error {
	w.event(eventWarning, reasonUnsupported, d.refused)
	w.refused = true
	for _, list := range [][]corev1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range list {
			w.waiting[list[i].Name] = waiting{reason: reasonUnsupported, message: d.refused}
		}
	}
	if err := w.finish(ctx, d, obs); err != nil {
		return err
	}
	w.m.mu.Lock()
	w.shared.halted = true // nothing of it runs: a machine that goes down does not wait for it
	w.m.mu.Unlock()
	return nil
}

// finish stops what a pod that is not to run still has, and reports it. Its containers stay, stopped, for their logs.
func (w *worker) finish(ctx context.Context, d *desiredPod, obs *observation) error {
	w.probes.stop()
	if obs.running() || obs.sandbox() != nil {
		if err := w.stopAll(ctx, obs, w.graceToFail(d)); err != nil {
			return err
		}
		var err error
		if obs, err = w.obs.observe(ctx); err != nil {
			return err
		}
	}
	w.m.releasePorts(w)
	w.report(d, obs)
	if terminalPhase(w.status) {
		if err := removeVolumes(w.m.podDir(w.uid), w.m.o.Mount); err != nil {
			w.log.Warn("volumes of a pod that has ended stay until it is deleted", "error", err)
		}
		w.ended()
		if err := w.strip(ctx, obs); err != nil {
			return err
		}
	}
	if w.unkept != nil {
		return w.unkept.err
	}
	w.settled.Store(true)
	return nil
}

// terminate ends a pod that is being deleted, and says so.
func (w *worker) terminate(ctx context.Context, d *desiredPod, obs *observation) (time.Duration, bool, error) {
	for i := range obs.containers {
		if c := &obs.containers[i]; c.state == cri.ContainerRunning {
			w.eventFor(c.name, eventNormal, "Killing", "Stopping container "+c.name)
		}
	}
	if w.final == nil {
		var err error
		if w.final, obs, err = w.lastWords(ctx, d, obs); err != nil {
			return 0, false, err
		}
	}
	if err := w.remove(ctx, obs, d.grace()); err != nil {
		return 0, false, err
	}
	if !w.deleted {
		body, err := corev1.Canonical(&corev1.PodReport{Deleted: true, Status: w.final})
		if err != nil {
			return 0, false, err
		}
		w.m.statics.say(d.key, body)
		w.deleted = true
		w.ended()
		w.log.Info("pod is gone from this node")
	}
	w.settled.Store(true)
	return 0, false, nil
}

// removeRemains removes the sandboxes of a pod that has ended, with their containers, and its logs.
func (w *worker) removeRemains(ctx context.Context, obs *observation) error {
	for _, s := range obs.sandboxes {
		if err := w.removeSandbox(ctx, s.id, ""); err != nil {
			return err
		}
	}
	return w.removeLogs()
}

// remove takes away all that a pod has: containers, sandboxes, logs, volumes, cgroup. It may be repeated.
func (w *worker) remove(ctx context.Context, obs *observation, grace int64) error {
	w.probes.stop()
	if err := w.stopAll(ctx, obs, grace); err != nil {
		return err
	}
	if err := w.removeRemains(ctx, obs); err != nil {
		return err
	}
	if err := removePodDir(w.m.podDir(w.uid), w.m.o.Mount); err != nil {
		return err
	}
	w.m.removeCgroups(w.uid)
	w.m.ids.release(w.uid)
	w.m.releasePorts(w)
	w.m.forgetTokens(ctx, w.uid)
	return nil
}

// removeLogs removes the pod's log folder, whatever the pod's name was.
func (w *worker) removeLogs() error {
	if strings.ContainsAny(w.uid, `*?[\`) || !safeName(w.uid) {
		return nil // not a UID of ours
	}
	dirs, err := filepath.Glob(filepath.Join(w.m.o.LogDir, "*_"+w.uid))
	if err != nil {
		return fmt.Errorf("look for the pod's logs: %w", err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the pod's logs: %w", err)
		}
	}
	return nil
}

// graceOf is the grace period of a pod that is no longer desired: its own, or what its containers were started with.
func (w *worker) graceOf(obs *observation) int64 {
	if w.pod != nil {
		return w.pod.grace()
	}
	if len(obs.containers) > 0 {
		return obs.containers[0].grace
	}
	return defaultGrace
}

// withoutRuntime makes a status for a pod that the runtime has never been asked about. All others keep the one that they have. A pod that was not
// let in before is asked about when the runtime answers.
func (w *worker) withoutRuntime(d *desiredPod, err error) {
	if d == nil || begun(w.status) || d.refused != "" || d.unread || d.terminating() {
		return
	}
	for i := range d.pod.Spec.Containers {
		w.waiting[d.pod.Spec.Containers[i].Name] = waiting{reason: "ContainerCreating", message: err.Error()}
	}
	w.report(d, new(observation))
	clear(w.waiting)
}

// report makes the pod's status, and reports and keeps it if it changed.
func (w *worker) report(d *desiredPod, obs *observation) {
	w.status = makeStatus(&statusInput{
		pod: &d.pod, obs: obs, waiting: w.waiting, probes: w.probes.state, alloc: &w.alloc, resetting: w.resetting, refused: d.refused, before: w.status,
		hostIPs: w.m.hostIPs(), runtime: w.m.runtimeName(), now: time.Now(),
	})
	w.publish(d)
	doc := &corev1.PodReport{Status: w.status}
	b, err := doc.MarshalMsg(nil)
	if err != nil || bytes.Equal(b, w.reported) && w.unkept == nil {
		return
	}
	if terminalPhase(w.status) && !w.keepEnd() {
		return
	}
	body, err := corev1.Canonical(doc)
	if err != nil {
		w.log.Error("pod status cannot be encoded", "error", err)
		return
	}
	w.reported = b
	w.m.statics.say(d.key, body)
	if !w.m.isAdmitted(w) && !terminalPhase(w.status) && d.refused == "" {
		return // what is kept counts as let in after a restart of the agent
	}
	if terminalPhase(w.status) {
		return // it is kept already
	}
	if err := saveStatus(w.m.podDir(w.uid), w.status); err != nil {
		w.log.Warn("pod status is not kept: after a restart of the agent its times begin anew", "error", err)
	}
}

// event records an event about the pod.
func (w *worker) event(eventType, reason, message string) {
	w.events.record("", eventType, reason, message)
}

// eventFor records an event about one of the pod's containers.
func (w *worker) eventFor(container, eventType, reason, message string) {
	spec := new(corev1.PodSpec)
	if w.pod != nil {
		spec = &w.pod.pod.Spec
	}
	w.events.record(fieldOf(spec, container), eventType, reason, message)
}

// try returns the back-off of something that this pod tries to do.
func (w *worker) try(what string) *backoff {
	b := w.tries[what]
	if b == nil {
		b = new(backoff)
		w.tries[what] = b
	}
	return b
}

func (m *Manager) podDir(uid string) string { return filepath.Join(m.o.Dir, uid) }

// sooner returns the shorter of two delays, where 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func ignoreMissing(err error) error {
	if errors.Is(err, cri.ErrNotFound) {
		return nil
	}
	return err
}
