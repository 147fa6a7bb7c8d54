package pods

import (
	"path"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// PodView is what others may know of a pod of this node: its spec and the newest status that was made of it.
type PodView struct {
	Key    wire.Key
	Spec   *corev1.PodSpec   // read only
	Status *corev1.PodStatus // read only; nil until the agent has looked at the pod
	Dir    string            // the agent's folder of the pod, with volumes/PLUGIN/NAME; it may not be there
	Claims map[string]string // names of claims, by volume
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
			found, view = d, m.view(w)
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
			out = append(out, m.view(w))
		}
	}
	return out
}

// view returns what others may know. m.mu is held.
func (m *Manager) view(w *worker) PodView {
	d := w.shared.desired
	v := PodView{Key: d.key, Spec: &d.pod.Spec, Status: w.shared.status, Dir: m.podDir(d.pod.Metadata.UID)}
	for i := range d.pod.Spec.Volumes {
		if name := claimName(&d.pod, &d.pod.Spec.Volumes[i]); name != "" {
			if v.Claims == nil {
				v.Claims = map[string]string{}
			}
			v.Claims[d.pod.Spec.Volumes[i].Name] = name
		}
	}
	return v
}

// Group returns where cgroups are mounted, and where below that, or below a controller's folder there, a pod's is; uid "": the one of all
// pods. It may be called by any goroutine.
func (m *Manager) Group(uid string) (root, below string) {
	m.mu.Lock()
	systemd := m.rt.systemd
	m.mu.Unlock()
	if uid != "" && !safeName(uid) {
		return "", ""
	}
	if uid != "" {
		return m.o.CgroupRoot, "/" + groupPath(m.o.CgroupParent, uid, systemd)
	}
	return m.o.CgroupRoot, path.Dir("/" + groupPath(m.o.CgroupParent, "x", systemd)) // the folder of any pod's
}
