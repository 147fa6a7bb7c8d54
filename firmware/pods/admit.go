package pods

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Reasons for which a node does not let a pod in (the kubelet's, pkg/kubelet/lifecycle and the scheduler's plugins).
const (
	reasonOutOf      = "OutOf" // and the resource
	reasonAffinity   = "NodeAffinity"
	reasonTaint      = "TaintToleration"
	reasonPorts      = "NodePorts"
	reasonOSLabel    = "PodOSSelectorNodeLabelDoesNotMatch"
	reasonUnexpected = "UnexpectedAdmissionError"
	reasonPreempting = "Preempting"
)

const (
	affinityPatience = 5 * time.Second // the node's labels may arrive after the pod that asks for them
	admitAgain       = time.Second
)

// rejection is why a pod is not let in. resource and short are set if something is not there: name and how much.
type rejection struct {
	reason, message string
	resource        string
	short           int64
}

// admit decides whether a pod that is new here may run: whether it fits, and belongs here. What has run here before is not asked
// again, whatever has changed since. It returns true, or when to look again (0: the pod has failed, or waits to be woken).
func (w *worker) admit(d *desiredPod, obs *observation) (admitted bool, next time.Duration) {
	if len(obs.containers)+len(obs.sandboxes) > 0 || w.m.isAdmitted(w) {
		w.m.setAdmitted(w)
		return true, 0
	}
	why := w.m.place(w, d)
	if len(why) == 0 {
		return true, 0
	}
	r := why[0]
	if r.reason == reasonAffinity && len(why) == 1 {
		if w.misplaced.IsZero() {
			w.misplaced = time.Now()
		}
		if !w.m.nodeKnown() {
			return false, retrySoon
		}
		if time.Since(w.misplaced) < affinityPatience {
			return false, admitAgain
		}
	}
	short := slices.IndexFunc(why, func(r rejection) bool { return r.resource == "" }) < 0
	if d.critical() && short {
		err := w.m.preempt(w, d, why)
		if err == nil {
			return false, admitAgain
		}
		r = rejection{reason: reasonUnexpected, message: "Unexpected error while attempting to recover from admission failure: " + err.Error()}
	}
	w.event(eventWarning, r.reason, r.message)
	w.fail(d, failure{reason: r.reason, message: "Pod was rejected: " + r.message})
	return false, 0
}

func (m *Manager) isAdmitted(w *worker) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return w.shared.admitted
}

func (m *Manager) setAdmitted(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.shared.admitted = true
}

// nodeKnown reports whether the node's own object has arrived.
func (m *Manager) nodeKnown() bool {
	o, ok := m.o.Desired.Get(wire.NewKey(wire.KindNode, "", m.o.Node, ""))
	return ok && !o.Absent && len(o.Body) > 0
}

// self returns the labels and taints of this node, as far as they are known.
func (m *Manager) self() (labels map[string]string, taints []corev1.Taint) {
	labels = map[string]string{}
	for k, v := range m.ownLabels() {
		labels[k] = v
	}
	o, ok := m.o.Desired.Get(wire.NewKey(wire.KindNode, "", m.o.Node, ""))
	if !ok || o.Absent || len(o.Body) == 0 {
		return labels, m.o.Taints
	}
	var n corev1.Node
	if _, err := n.UnmarshalMsg(o.Body); err != nil {
		return labels, nil
	}
	for k, v := range n.Metadata.Labels {
		labels[k] = v
	}
	return labels, n.Spec.Taints
}

// place lets a pod in, or says all that speaks against it.
func (m *Manager) place(w *worker, d *desiredPod) (why []rejection) {
	if r := m.insecure(&d.pod.Spec); r != nil {
		return []rejection{*r}
	}
	labels, taints := m.self()
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := underPressure(m.pressure, d); r != nil {
		return []rejection{*r}
	}
	if os, ok := d.pod.Metadata.Labels["kubernetes.io/os"]; ok && os != "linux" {
		return []rejection{{reason: reasonOSLabel, message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}}
	}
	why = m.lacks(w, d)
	if !matchesNode(&d.pod.Spec, labels, m.o.Node) {
		why = append(why, rejection{reason: reasonAffinity, message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"})
	}
	if m.portsTaken(w, d) {
		why = append(why, rejection{reason: reasonPorts, message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"})
	}
	if !d.file && untolerated(taints, d.pod.Spec.Tolerations) {
		why = append(why, rejection{reason: reasonTaint, message: "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"})
	}
	if len(why) == 0 {
		w.shared.admitted = true
	}
	return why
}

// underPressure says why a node under pressure takes no such pod, nil if it does.
func underPressure(on map[string]eviction.Threshold, d *desiredPod) *rejection {
	if len(on) == 0 || d.critical() {
		return nil
	}
	if _, memory := on[eviction.MemoryPressure]; memory && len(on) == 1 {
		taint := corev1.Taint{Key: "node.kubernetes.io/memory-pressure", Effect: "NoSchedule"}
		if qosClass(&d.pod.Spec) != qosBestEffort || slices.ContainsFunc(d.pod.Spec.Tolerations, func(t corev1.Toleration) bool { return tolerates(&t, &taint) }) {
			return nil
		}
	}
	var names []string
	for _, kind := range eviction.Conditions() {
		if _, ok := on[kind]; ok {
			names = append(names, kind)
		}
	}
	return &rejection{reason: reasonEvicted, message: fmt.Sprintf("The node had condition: [%s]. ", strings.Join(names, " "))}
}

// tenant reports whether a pod has a part of the node. m.mu is held.
func (w *worker) tenant() bool {
	return w.shared.admitted && w.shared.desired != nil && !w.shared.ended
}

// lacks says what the node has too little of for the pod. m.mu is held.
func (m *Manager) lacks(w *worker, d *desiredPod) (why []rejection) {
	need := wants(&d.pod.Spec)
	used := map[string]int64{}
	for _, other := range m.workers {
		if other == w || !other.tenant() {
			continue
		}
		for name, n := range other.holds() {
			used[name] += n
		}
	}
	for _, name := range sortedWants(need) {
		q, there := m.resource[name]
		if !there && extended(name) {
			continue // of the cluster, or of a device plugin that this node does not have
		}
		capacity := whole(q)
		if name == "cpu" {
			capacity = milli(q)
		}
		if need[name] > 0 && need[name]+used[name] > capacity {
			why = append(why, rejection{
				reason: reasonOutOf + name, resource: name, short: need[name] - (capacity - used[name]),
				message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, need[name], used[name], capacity),
			})
		}
	}
	return why
}

// holds returns what a tenant has of the node. m.mu is held.
func (w *worker) holds() map[string]int64 {
	out := wants(&w.shared.desired.pod.Spec)
	if g := w.shared.granted; g != nil { // a resize may not have been granted
		out["cpu"], out["memory"] = g.cpu, g.memory
	}
	return out
}

// wants adds up what a pod asks for: thousandths of CPUs, bytes, and one pod.
func wants(s *corev1.PodSpec) map[string]int64 {
	a := podRequests(s)
	out := map[string]int64{"pods": 1, "cpu": a.cpu, "memory": a.memory}
	sidecars, peak := map[string]int64{}, map[string]int64{}
	add := func(to map[string]int64, c *corev1.Container) {
		for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
			for name := range list {
				if name != "cpu" && name != "memory" {
					to[name] = whole(request(&c.Resources, name))
				}
			}
		}
	}
	sum := func(to, from map[string]int64) {
		for name, n := range from {
			to[name] += n
		}
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		one := map[string]int64{}
		add(one, c)
		if sidecar(c) {
			sum(sidecars, one)
			one = map[string]int64{}
		}
		sum(one, sidecars)
		for name, n := range one {
			peak[name] = max(peak[name], n)
		}
	}
	all := map[string]int64{}
	sum(all, sidecars)
	for i := range s.Containers {
		one := map[string]int64{}
		add(one, &s.Containers[i])
		sum(all, one)
	}
	for name, n := range peak {
		all[name] = max(all[name], n)
	}
	sum(out, all)
	return out
}

// extended reports whether a resource is not one of Kubernetes' own.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

// sortedWants puts cpu, memory and storage first, as the kubelet looks at them.
func sortedWants(need map[string]int64) []string {
	order := []string{"pods", "cpu", "memory", "ephemeral-storage"}
	var rest []string
	for name := range need {
		if !slices.Contains(order, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	return append(order, rest...)
}

// portsTaken reports whether another pod that stays has one of the pod's host ports. One of a pod that ends is waited for. m.mu is held.
func (m *Manager) portsTaken(w *worker, d *desiredPod) bool {
	for _, want := range hostPorts(&d.pod) {
		for have, owner := range m.ports {
			if owner != w && want.clashes(have) && owner.tenant() && !owner.shared.ending && !owner.shared.desired.terminating() {
				return true
			}
		}
	}
	return false
}
