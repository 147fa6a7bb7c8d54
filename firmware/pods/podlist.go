package pods

import (
	"cmp"
	"slices"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// PodState is one pod in short, for people: what `kubectl get pods` would show.
type PodState struct {
	Namespace, Name, UID string
	Phase                string
	Reason               string // why it is not running or not ready: the pod's reason, or the first waiting container's
	Containers, Ready    int
	Restarts             int
}

// List returns the pods of which a status was made, by namespace and name. It may be called by any goroutine.
func (m *Manager) List() []PodState {
	m.mu.Lock()
	out := make([]PodState, 0, len(m.workers))
	for _, w := range m.workers {
		if w.shared.state != nil {
			out = append(out, *w.shared.state)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b PodState) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return out
}

// publish makes the pod's newest status known to List.
func (w *worker) publish(d *desiredPod) {
	s := podState(d, w.status)
	w.m.mu.Lock()
	w.shared.state, w.shared.status = &s, w.status
	w.m.mu.Unlock()
}

func podState(d *desiredPod, status *corev1.PodStatus) PodState {
	m := &d.pod.Metadata
	s := PodState{Namespace: m.Namespace, Name: m.Name, UID: m.UID, Phase: status.Phase, Reason: status.Reason, Containers: len(d.pod.Spec.Containers)}
	if s.Reason != "" && status.Message != "" {
		s.Reason += ": " + status.Message
	}
	for i := range status.ContainerStatuses {
		c := &status.ContainerStatuses[i]
		s.Restarts += int(c.RestartCount)
		if c.Ready {
			s.Ready++
		}
		if wait := c.State.Waiting; wait != nil && s.Reason == "" {
			s.Reason = c.Name + ": " + wait.Reason
			if wait.Message != "" {
				s.Reason += ": " + wait.Message
			}
		}
	}
	return s
}
