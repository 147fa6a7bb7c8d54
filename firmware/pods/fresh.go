package pods

import (
	"context"
	"os"
	"slices"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// A pod that comes for the first time has nothing in the runtime, and what it has a moment later is what its worker has just made: to ask for lists of
// that is time in which the pod does not run, and on a small gateway the runtime's answers are what takes it. The next relist compares what it has made with
// what the runtime has, and the worker asks only if that is something else.

// noteThere keeps which pods the runtime has something of. m.mu is held.
func (m *Manager) noteThere(sandboxes []cri.PodSandbox) {
	m.there = make(map[string]bool, len(sandboxes))
	for i := range sandboxes {
		m.there[sandboxes[i].Labels[labelPodUID]] = true
	}
}

// isFresh reports whether a pod cannot have anything in the runtime: the runtime was asked since the agent started and had nothing, only its worker makes
// anything, and that writes into the pod's folder before.
func (m *Manager) isFresh(uid string) bool {
	m.mu.Lock()
	nothing := m.there != nil && !m.there[uid]
	m.mu.Unlock()
	if !nothing {
		return false
	}
	_, err := os.Lstat(m.podDir(uid))
	return os.IsNotExist(err)
}

// look returns what the runtime has of the pod.
func (w *worker) look(ctx context.Context) (*observation, error) {
	first := !w.looked
	w.looked = true
	fresh := w.fresh
	w.fresh = nil
	switch {
	case first && w.m.isFresh(w.uid):
		return new(observation), nil
	case fresh != nil && w.found.Load() == w.obs.print: // the relist has just found what was made, as it was made
		return fresh, nil
	}
	return w.obs.observe(ctx)
}

// begun reports whether a status tells of anything that has been made of a pod, or how it ended.
func begun(s *corev1.PodStatus) bool {
	if s == nil {
		return false
	}
	has := func(c corev1.ContainerStatus) bool {
		return c.ContainerID != "" || c.State.Waiting == nil || c.LastState.Terminated != nil
	}
	return terminal(s.Phase) || slices.ContainsFunc(s.InitContainerStatuses, has) || slices.ContainsFunc(s.ContainerStatuses, has)
}

// made is what a worker has made of a pod that had nothing.
type made struct {
	sandbox    sandboxState
	containers []cri.Container
}

// lookAt returns what has become of it.
func (v *observer) lookAt(ctx context.Context, m *made) (*observation, error) {
	obs := &observation{sandboxes: []sandboxState{m.sandbox}, ips: v.ips}
	fresh := map[string]containerState{}
	print := fingerprint(m.sandbox.id, int32(cri.SandboxReady))
	for _, c := range m.containers {
		st, err := v.inspect(ctx, c)
		if err != nil {
			return nil, err
		}
		v.date(&st, fresh[c.ID].began)
		fresh[c.ID] = st
		obs.containers = append(obs.containers, st)
		print += fingerprint(st.id, int32(st.state))
	}
	v.cache = fresh
	v.print = print
	obs.sort()
	return obs, nil
}
