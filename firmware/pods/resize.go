package pods

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// CPU and memory of a pod that runs may be changed (kubectl patch --subresource resize). What the pod wants is one thing, what the node has
// granted it (its allocation) another, and what is in force in the containers' cgroups a third:
//
//   - wanted ≠ granted: condition PodResizePending, reason Infeasible (more than the node has at all) or Deferred (others have it now);
//   - granted ≠ in force: condition PodResizeInProgress, with reason Error if the runtime refuses it.
//
// Containers are always made from what is granted. Which resources a container was made with is in an annotation of it; what was granted is
// in the pod's last status. Should that be lost, what runs counts as granted, and the resize is decided again.

// Reasons of PodResizePending and PodResizeInProgress, and their types.
const (
	condResizePending    = "PodResizePending"
	condResizeInProgress = "PodResizeInProgress"
	resizeDeferred       = "Deferred"
	resizeInfeasible     = "Infeasible"
	resizeError          = "Error"
)

// resizeRetry is how often a resize that waits for room is looked at, beside when another pod leaves.
const resizeRetry = 10 * time.Second

// allocation is what a pod was granted, by container, and how a change of it stands. It belongs to the pod's worker.
type allocation struct {
	granted map[string]corev1.ResourceRequirements
	actual  map[string]corev1.ResourceRequirements // in force, by container id; only where a resize has changed it

	pending    *waiting // why the node does not grant what is wanted
	inProgress bool
	failure    string // why what is granted is not in force
	generation int64  // of the pod that was granted last
}

// amounts are a pod's requests: thousandths of a CPU, and bytes.
type amounts struct{ cpu, memory int64 }

func (a amounts) plus(b amounts) amounts { return amounts{a.cpu + b.cpu, a.memory + b.memory} }

func requestsOf(r *corev1.ResourceRequirements) amounts {
	return amounts{cpu: milli(request(r, "cpu")), memory: whole(request(r, "memory"))}
}

// podRequests is what a pod needs at most at a time: its containers and sidecars together, or an init container with the sidecars before it.
func podRequests(s *corev1.PodSpec) amounts {
	var sidecars, most, sum amounts
	for i := range s.InitContainers {
		r := requestsOf(&s.InitContainers[i].Resources)
		if sidecar(&s.InitContainers[i]) {
			sidecars = sidecars.plus(r)
			r = sidecars
		} else {
			r = r.plus(sidecars)
		}
		most = amounts{max(most.cpu, r.cpu), max(most.memory, r.memory)}
	}
	for i := range s.Containers {
		sum = sum.plus(requestsOf(&s.Containers[i].Resources))
	}
	sum = sum.plus(sidecars)
	sum = amounts{max(most.cpu, sum.cpu), max(most.memory, sum.memory)}
	if own := podLevel(s); own != nil { // what the pod says of itself goes before its containers' sum
		r := requestsOf(own)
		if r.cpu > 0 {
			sum.cpu = r.cpu
		}
		if r.memory > 0 {
			sum.memory = r.memory
		}
	}
	return sum.plus(amounts{cpu: milli(s.Overhead["cpu"]), memory: whole(s.Overhead["memory"])})
}

// compute is what of a container's resources can be resized.
type compute struct{ cpuRequest, cpuLimit, memoryRequest, memoryLimit int64 }

func computeOf(r *corev1.ResourceRequirements) compute {
	a := requestsOf(r)
	return compute{a.cpu, milli(r.Limits["cpu"]), a.memory, whole(r.Limits["memory"])}
}

// resizable returns the containers whose resources may change: all but the ephemeral ones.
func resizable(s *corev1.PodSpec) []*corev1.Container {
	return allContainers(s)[:len(s.InitContainers)+len(s.Containers)]
}

// allocate decides about a change of the pod's resources, and returns the pod as the node grants it, and when to look again.
func (w *worker) allocate(d *desiredPod, obs *observation) (*desiredPod, time.Duration) {
	a := &w.alloc
	if a.granted == nil {
		a.granted = w.grantedBefore(d, obs)
	}
	changed := false
	for _, c := range resizable(&d.pod.Spec) {
		g, ok := a.granted[c.Name]
		changed = changed || !ok || computeOf(&g) != computeOf(&c.Resources)
	}
	if !changed {
		a.pending = nil
		w.m.grant(w, podRequests(&d.pod.Spec))
		w.m.defers(w, false)
		return d, 0
	}
	granted := d.with(a.granted)
	why := w.m.admitResize(w, d, granted)
	if why == nil {
		w.m.defers(w, false)
		for _, c := range resizable(&d.pod.Spec) {
			a.granted[c.Name] = c.Resources
		}
		a.pending, a.inProgress, a.failure, a.generation = nil, true, "", d.pod.Metadata.Generation
		w.event(eventNormal, "ResizeStarted", resizeMessage("Pod resize started", d, ""))
		w.m.pokePending()
		return d, 0
	}
	a.pending = why
	w.m.defers(w, true)
	w.event(eventWarning, "Resize"+why.reason, resizeMessage("Pod resize "+why.reason, d, why.message))
	if why.reason == resizeInfeasible {
		return granted, 0
	}
	return granted, resizeRetry
}

// grantedBefore finds what was granted before this run of the agent: the last status says it, else what a container was made with. A pod
// that is new here gets what it wants: whether the node has room for it was decided before.
func (w *worker) grantedBefore(d *desiredPod, obs *observation) map[string]corev1.ResourceRequirements {
	out := map[string]corev1.ResourceRequirements{}
	for _, c := range resizable(&d.pod.Spec) {
		out[c.Name] = c.Resources
		made := obs.newest(c.Name)
		before := statusOf(w.status, c.Name)
		switch {
		case before != nil && before.Resources != nil:
			r := *before.Resources
			if before.AllocatedResources != nil {
				r.Requests = before.AllocatedResources
			}
			out[c.Name] = onlyCompute(&c.Resources, &r)
		case made != nil && made.resources != nil:
			out[c.Name] = onlyCompute(&c.Resources, made.resources)
		}
	}
	return out
}

// onlyCompute returns base with cpu and memory of r.
func onlyCompute(base, r *corev1.ResourceRequirements) corev1.ResourceRequirements {
	out := corev1.ResourceRequirements{Limits: maps.Clone(base.Limits), Requests: maps.Clone(base.Requests)}
	for _, l := range []struct {
		to   *corev1.ResourceList
		from corev1.ResourceList
	}{{&out.Limits, r.Limits}, {&out.Requests, r.Requests}} {
		for _, name := range []string{"cpu", "memory"} {
			if q, ok := l.from[name]; ok {
				if *l.to == nil {
					*l.to = corev1.ResourceList{}
				}
				(*l.to)[name] = q
			} else {
				delete(*l.to, name)
			}
		}
	}
	return out
}

// with returns the pod with other resources.
func (d *desiredPod) with(granted map[string]corev1.ResourceRequirements) *desiredPod {
	out := *d
	s := &out.pod.Spec
	s.InitContainers, s.Containers = slices.Clone(s.InitContainers), slices.Clone(s.Containers)
	for _, c := range resizable(s) {
		if g, ok := granted[c.Name]; ok {
			c.Resources = g
		}
	}
	return &out
}

// grantAgain notes what a pod had of the node when the agent ended, before its worker has looked for the first time: others must not be turned away
// for what a resize of it wants and was not granted. m.mu is held, and the worker has not begun.
func (w *worker) grantAgain(d *desiredPod) {
	if w.status == nil || d.unread {
		return // it is new here, and gets what it wants
	}
	a := podRequests(&d.with(w.grantedBefore(d, new(observation))).pod.Spec)
	w.shared.granted = &a
}

// grant notes what a pod has of the node.
func (m *Manager) grant(w *worker, a amounts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.shared.granted = &a
}

// defers notes whether a pod's resize waits for room.
func (m *Manager) defers(w *worker, waits bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.shared.deferred = waits
}

// admitResize grants what a pod wants if the node has it, or says why not.
func (m *Manager) admitResize(w *worker, want, have *desiredPod) *waiting {
	if want.file {
		return &waiting{reason: resizeInfeasible, message: "In-place resize of static pods is not supported: change the pod's file instead"}
	}
	<-m.assigned // what pods have that are not known yet is not free
	need, before := podRequests(&want.pod.Spec), podRequests(&have.pod.Spec)
	m.mu.Lock()
	defer m.mu.Unlock()
	var used amounts
	for _, other := range m.workers {
		switch {
		case other == w || !other.tenant(): // as admission counts
		case other.shared.granted != nil:
			used = used.plus(*other.shared.granted)
		default:
			used = used.plus(podRequests(&other.shared.desired.pod.Spec))
		}
	}
	for _, r := range []struct {
		name                         string
		need, before, used, capacity int64
	}{
		{"cpu", need.cpu, before.cpu, used.cpu, milli(m.resource["cpu"])}, {"memory", need.memory, before.memory, used.memory, whole(m.resource["memory"])},
	} {
		switch {
		case r.need <= r.before: // what it needs less of it may have
		case r.need > r.capacity:
			return &waiting{reason: resizeInfeasible, message: fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", r.name, r.need, r.capacity)}
		case r.need+r.used > r.capacity:
			return &waiting{reason: resizeDeferred, message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", r.name, r.need, r.used, r.capacity)}
		}
	}
	w.shared.granted = &need
	return nil
}

// pokePending wakes the pods whose resize waits for room: another pod may have given some back.
func (m *Manager) pokePending() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		if w.shared.deferred {
			w.poke()
		}
	}
}

// resizeMessage tells what a pod wants of cpu and memory, as the kubelet's events do.
func resizeMessage(what string, d *desiredPod, problem string) string {
	type one struct {
		Name      string `json:"name"`
		Resources struct {
			Limits   corev1.ResourceList `json:"limits,omitempty"`
			Requests corev1.ResourceList `json:"requests,omitempty"`
		} `json:"resources"`
	}
	var doc struct {
		InitContainers []one  `json:"initContainers,omitempty"`
		Containers     []one  `json:"containers,omitempty"`
		Generation     int64  `json:"generation"`
		Error          string `json:"error,omitempty"`
	}
	doc.Generation, doc.Error = d.pod.Metadata.Generation, problem
	for i, c := range resizable(&d.pod.Spec) {
		o := one{Name: c.Name}
		o.Resources.Limits, o.Resources.Requests = c.Resources.Limits, c.Resources.Requests
		if i < len(d.pod.Spec.InitContainers) {
			doc.InitContainers = append(doc.InitContainers, o)
		} else {
			doc.Containers = append(doc.Containers, o)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return what
	}
	return what + ": " + string(text)
}

// conditions are those of a resize that is not done.
func (a *allocation) conditions(generation int64) []corev1.Condition {
	var out []corev1.Condition
	if a.pending != nil {
		out = append(out, corev1.Condition{Type: condResizePending, Status: "True", Reason: a.pending.reason, Message: a.pending.message, ObservedGeneration: generation})
	}
	if a.inProgress {
		c := corev1.Condition{Type: condResizeInProgress, Status: "True", ObservedGeneration: a.generation}
		if a.failure != "" {
			c.Reason, c.Message = resizeError, a.failure
		}
		out = append(out, c)
	}
	return out
}

// resources says in a container's status what it was granted, and what is in force.
func (in *statusInput) resources(spec *corev1.Container, c *containerState, st *corev1.ContainerStatus) {
	st.AllocatedResources = spec.Resources.Requests
	force := spec.Resources
	if c != nil && c.state == cri.ContainerRunning && in.alloc != nil {
		if have := in.alloc.inForce(c); have != nil {
			force = onlyCompute(&spec.Resources, have)
		}
	}
	if len(force.Limits) > 0 || len(force.Requests) > 0 {
		st.Resources = &force
	}
}
