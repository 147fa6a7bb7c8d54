package pods

import (
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// PodView is what others may know of a pod of this node: its spec and the newest status that was made of it.
type PodView struct {
	Key    wire.Key
	Spec   *corev1.PodSpec   // read only
	Status *corev1.PodStatus // read only; nil until the agent has looked at the pod
}

// Pod returns the pod of a name, the newest if one follows another that is still being removed. It may be called by any goroutine.
func (m *Manager) Pod(namespace, name string) (PodView, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *desiredPod
	var view PodView
	for _, w := range m.workers {
		d := w.shared.desired
		if d == nil || d.pod.Metadata.Name != name || d.pod.Metadata.Namespace != namespace {
			continue
		}
		if found == nil || found.terminating() && !d.terminating() {
			found, view = d, w.view()
		}
	}
	return view, found != nil
}

// Pods returns all pods that are wanted on this node. It may be called by any goroutine.
func (m *Manager) Pods() []PodView {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]PodView, 0, len(m.workers))
	for _, w := range m.workers {
		if w.shared.desired != nil {
			out = append(out, w.view())
		}
	}
	return out
}

// view returns what others may know. m.mu is held.
func (w *worker) view() PodView {
	d := w.shared.desired
	return PodView{Key: d.key, Spec: &d.pod.Spec, Status: w.shared.status}
}
