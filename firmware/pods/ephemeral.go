package pods

import (
	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Ephemeral containers (kubectl debug) are added to a pod that runs. Each is started once, beside whatever else runs, init containers
// included; it is never started again, has no probes, and counts neither for the pod's readiness nor for its phase.

// allContainers returns all containers of a pod: init containers, containers, ephemeral containers.
func allContainers(s *corev1.PodSpec) []*corev1.Container {
	out := make([]*corev1.Container, 0, len(s.InitContainers)+len(s.Containers)+len(s.EphemeralContainers))
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers, s.EphemeralContainers} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	return out
}

// bar notes which ephemeral containers want what is not supported. The pod itself runs on.
func (d *desiredPod) bar(barred map[int][]string) {
	for i, why := range barred {
		if i >= len(d.pod.Spec.EphemeralContainers) {
			continue
		}
		if d.barred == nil {
			d.barred = map[string]string{}
		}
		d.barred[d.pod.Spec.EphemeralContainers[i].Name] = joinSome(why)
	}
}

// planEphemeral returns the ephemeral containers that are to be started in the pod's sandbox: those that have never run. The pod's last
// status remembers those that the runtime has forgotten.
func (w *worker) planEphemeral(d *desiredPod, obs *observation, p *plan) []*corev1.Container {
	if obs.sandbox() == nil || p.stopAll || p.newSandbox {
		return nil
	}
	var out []*corev1.Container
	for i := range d.pod.Spec.EphemeralContainers {
		spec := &d.pod.Spec.EphemeralContainers[i]
		if why := d.barred[spec.Name]; why != "" {
			w.waiting[spec.Name] = waiting{reason: reasonUnsupported, message: why}
			w.eventFor(spec.Name, eventWarning, reasonUnsupported, why)
			continue
		}
		c := obs.newest(spec.Name)
		old := statusOf(w.status, spec.Name)
		if c == nil && (old == nil || old.ContainerID == "") || c != nil && c.state == cri.ContainerCreated {
			out = append(out, spec)
		}
	}
	return out
}

// target returns the id of the container whose processes an ephemeral container is to see, "" if it names none.
func (s *starter) target(c *corev1.Container) (string, error) {
	if c.TargetContainerName == "" {
		return "", nil
	}
	t := s.obs.newest(c.TargetContainerName)
	if t == nil || t.state != cri.ContainerRunning {
		return "", waitFor(reasonConfigError, "target container %q is not running: it is waited for", c.TargetContainerName)
	}
	return t.id, nil
}

// aim makes a container use the process namespace of another one, unless its pod shares one anyway.
func aim(o *cri.NamespaceOption, target string) {
	if target != "" && o.PID == cri.NamespaceContainer {
		o.PID, o.TargetID = cri.NamespaceTarget, target
	}
}

// ephemeralStatuses makes the statuses of the ephemeral containers.
func (in *statusInput) ephemeralStatuses(initialized bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range in.pod.Spec.EphemeralContainers {
		spec := &in.pod.Spec.EphemeralContainers[i]
		st := in.containerStatus(spec, false, initialized)
		if old := in.previous(spec.Name); in.obs.newest(spec.Name) == nil && old != nil && old.ContainerID != "" {
			st = *old // the runtime has forgotten it, and it does not run again
			if st.State.Running != nil {
				st.State = corev1.ContainerState{Terminated: lostEnd(&st, in.now)}
			}
		}
		st.Started, st.Ready = nil, false
		out = append(out, st)
	}
	return out
}

// fieldOf names a container of a pod as events do.
func fieldOf(s *corev1.PodSpec, name string) string {
	for field, list := range map[string][]corev1.Container{"initContainers": s.InitContainers, "ephemeralContainers": s.EphemeralContainers} {
		for i := range list {
			if list[i].Name == name {
				return "spec." + field + "{" + name + "}"
			}
		}
	}
	return "spec.containers{" + name + "}"
}
