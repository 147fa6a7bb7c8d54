package pods

import (
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Pod phases.
const (
	phasePending   = "Pending"
	phaseRunning   = "Running"
	phaseSucceeded = "Succeeded"
	phaseFailed    = "Failed"
)

// waiting is why a container is not running.
type waiting struct{ reason, message string }

// statusInput is all that a pod's status is made from.
type statusInput struct {
	pod     *corev1.Pod
	obs     *observation
	waiting map[string]waiting // by container name: what the last attempt to start it said
	alloc   *allocation

	resetting bool // all containers are being restarted
	final     bool // the pod is gone from the node
	probes    func(containerID string) (started, ready bool)
	refused   string            // why the pod cannot run here; "" if it can
	before    *corev1.PodStatus // the status before this one; nil: none
	hostIPs   []string
	runtime   string // name of the runtime: prefix of container ids
	now       time.Time
}

// startOf returns when a pod began.
func startOf(before *corev1.PodStatus, created *corev1.Time, now time.Time) *corev1.Time {
	if before == nil || !believable(before.StartTime, created, now) {
		return corev1.NewTime(now)
	}
	return before.StartTime
}

// terminal reports whether a phase is final.
func terminal(phase string) bool { return phase == phaseSucceeded || phase == phaseFailed }

// makeStatus makes a pod's status as the kubelet would write it. PodScheduled is the API server's and not part of it.
func makeStatus(in *statusInput) *corev1.PodStatus {
	s := &corev1.PodStatus{
		ObservedGeneration: in.pod.Metadata.Generation,
		QOSClass:           qosClass(&in.pod.Spec),
		StartTime:          startOf(in.before, in.pod.Metadata.CreationTimestamp, in.now),
	}
	s.HostIP = first(in.hostIPs)
	for _, ip := range in.hostIPs {
		s.HostIPs = append(s.HostIPs, corev1.IP{IP: ip})
	}
	ips := in.obs.ips
	if in.pod.Spec.HostNetwork && in.obs.sandbox() != nil {
		ips = in.hostIPs
	}
	s.PodIP = first(ips)
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.IP{IP: ip})
	}
	plain := len(in.pod.Spec.InitContainers) == 0 // or else all that waits for its turn waits for the pod's initialization, as in the kubelet
	s.InitContainerStatuses = in.containers(in.pod.Spec.InitContainers, true, plain)
	initialized := in.initialized(s)
	s.ContainerStatuses = in.containers(in.pod.Spec.Containers, false, plain)
	s.EphemeralStatuses = in.ephemeralStatuses(initialized)
	s.Phase = phaseOf(in.pod, s, initialized)
	if in.final {
		in.conclude(s)
	}
	if in.refused != "" {
		s.Phase, s.Reason, s.Message = phasePending, reasonUnsupported, in.refused
	}
	if terminalPhase(in.before) {
		s.Phase, s.Reason, s.Message = in.before.Phase, in.before.Reason, in.before.Message // never goes back
		if len(in.obs.containers) == 0 && len(in.before.ContainerStatuses) == 0 {           // it was not let in
			s.ContainerStatuses, s.InitContainerStatuses = nil, nil
		}
	}
	shortenMessages(s)
	s.Conditions = conditions(in, s, initialized)
	return s
}

// initialized reports whether all init containers have succeeded. Once a container was made they had, even if the runtime has
// forgotten them since.
func (in *statusInput) initialized(s *corev1.PodStatus) bool {
	if in.begun() {
		return true
	}
	for i := range s.InitContainerStatuses {
		if !initDone(&in.pod.Spec.InitContainers[i], &s.InitContainerStatuses[i]) {
			return false
		}
	}
	return true
}

// begun reports whether a container was made in the newest sandbox, which may have been stopped since.
func (in *statusInput) begun() bool {
	if len(in.obs.sandboxes) == 0 {
		return false
	}
	return slices.ContainsFunc(in.pod.Spec.Containers, func(c corev1.Container) bool { return in.obs.inSandbox(c.Name, in.obs.sandboxes[0].id) != nil })
}

// initDone reports whether an init container has succeeded, or started if it is a sidecar.
func initDone(spec *corev1.Container, s *corev1.ContainerStatus) bool {
	if sidecar(spec) {
		return isTrue(s.Started)
	}
	return s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
}

// containers makes the statuses of a list of containers.
func (in *statusInput) containers(list []corev1.Container, isInit, initialized bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		out = append(out, in.containerStatus(&list[i], isInit, initialized))
	}
	return out
}

func (in *statusInput) containerStatus(spec *corev1.Container, isInit, initialized bool) corev1.ContainerStatus {
	no := false
	once := isInit && !sidecar(spec)
	st := corev1.ContainerStatus{Name: spec.Name, Image: spec.Image, Started: &no}
	c := in.obs.newest(spec.Name)
	in.resources(spec, c, &st)
	st.VolumeMounts = mountStatuses(spec)
	if c == nil {
		st.State.Waiting = in.waitingFor(spec.Name, initialized)
		if old := in.previous(spec.Name); old != nil && (terminalPhase(in.before) || once && old.State.Terminated != nil && in.begun()) {
			return *old // the runtime has forgotten it; its end is history
		}
		in.remember(&st)
		return st
	}
	st.ContainerID, st.Image, st.ImageID, st.RestartCount = in.runtime+"://"+c.id, c.image, c.imageRef, c.restarts
	st.User, st.StopSignal = c.user, c.stopSignal
	if st.Image == "" {
		st.Image = spec.Image
	}
	if last := in.obs.lastExited(spec.Name, c.id); last != nil {
		st.LastState.Terminated = in.terminated(last)
	} else if c.restarts > 0 {
		in.remember(&st)
	}
	switch c.state {
	case cri.ContainerRunning:
		st.State.Running = &corev1.StateRunning{StartedAt: corev1.NewTime(c.started)}
		started, ready := true, !once
		if in.probes != nil && !once {
			started, ready = in.probes(c.id)
		}
		st.Started, st.Ready = &started, ready
	case cri.ContainerExited:
		if w, ok := in.waiting[spec.Name]; ok && restartable(&in.pod.Spec, spec) {
			st.State.Waiting = &corev1.StateWaiting{Reason: w.reason, Message: w.message}
			st.LastState.Terminated = in.terminated(c)
			break
		}
		st.State.Terminated = in.terminated(c)
		st.Ready = once && c.exitCode == 0
	case cri.ContainerUnknown:
		st.State.Waiting = &corev1.StateWaiting{Reason: "ContainerStatusUnknown", Message: "the container runtime lost the container; it will be started again"}
	default:
		st.State.Waiting = in.waitingFor(spec.Name, initialized)
	}
	return st
}

func (in *statusInput) waitingFor(name string, initialized bool) *corev1.StateWaiting {
	if w, ok := in.waiting[name]; ok {
		return &corev1.StateWaiting{Reason: w.reason, Message: w.message}
	}
	if !initialized || len(in.pod.Spec.InitContainers) > 0 {
		return &corev1.StateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.StateWaiting{Reason: "ContainerCreating"}
}

// previous returns a container's status before this one.
func (in *statusInput) previous(name string) *corev1.ContainerStatus {
	return statusOf(in.before, name)
}

// statusOf returns the status of one container, nil if there is none.
func statusOf(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	if s == nil {
		return nil
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func terminalPhase(s *corev1.PodStatus) bool { return s != nil && terminal(s.Phase) }

func (in *statusInput) terminated(c *containerState) *corev1.StateTerminated {
	t := &corev1.StateTerminated{
		ContainerID: in.runtime + "://" + c.id, ExitCode: c.exitCode, Reason: c.reason, Message: c.message,
		StartedAt: corev1.NewTime(c.started), FinishedAt: corev1.NewTime(c.finished),
	}
	if in.resetting && matchRule(in.spec(c.name), c.exitCode) != actionRestartAll {
		t.Reason = reasonRestartingAll
	}
	if t.Reason == "" {
		t.Reason = "Error"
		if c.exitCode == 0 {
			t.Reason = "Completed"
		}
	}
	return t
}

// phaseOf follows the kubelet's getPhase (k8s.io/kubernetes/pkg/kubelet/kubelet_pods.go).
func phaseOf(pod *corev1.Pod, s *corev1.PodStatus, initialized bool) string {
	if !initialized {
		for i := range s.InitContainerStatuses {
			spec := &pod.Spec.InitContainers[i]
			if t := ended(&s.InitContainerStatuses[i]); t != nil && t.ExitCode != 0 && !sidecar(spec) && !startsAgain(&pod.Spec, spec, t) {
				return phaseFailed
			}
		}
		return phasePending
	}
	var pending, running, stopped, final, succeeded int
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		switch t := ended(c); {
		case c.State.Running != nil:
			running++
		case t != nil:
			stopped++
			if !startsAgain(&pod.Spec, &pod.Spec.Containers[i], t) {
				final++
			}
			if t.ExitCode == 0 && c.State.Terminated != nil {
				succeeded++
			}
		default:
			pending++
		}
	}
	switch {
	case pending > 0:
		return phasePending
	case running > 0:
		return phaseRunning
	case stopped != final: // at least one is about to start again
		return phaseRunning
	case stopped == succeeded:
		return phaseSucceeded
	default:
		return phaseFailed
	}
}

// ended returns how a container that does not run ended last, nil if it never ran.
func ended(c *corev1.ContainerStatus) *corev1.StateTerminated {
	if c.State.Terminated != nil {
		return c.State.Terminated
	}
	if c.State.Running == nil {
		return c.LastState.Terminated
	}
	return nil
}

// Condition types.
const (
	condReadyToStart    = "PodReadyToStartContainers"
	condInitialized     = "Initialized"
	condReady           = "Ready"
	condContainersReady = "ContainersReady"
)

// conditions makes the pod's conditions; a transition time changes only with the status.
func conditions(in *statusInput, s *corev1.PodStatus, initialized bool) []corev1.Condition {
	ready := readiness(&in.pod.Spec, s)
	ready.Type = condReady
	containersReady := ready
	containersReady.Type = condContainersReady
	ready = gated(in.pod, ready)
	sandbox := in.sandboxCondition()
	ini := corev1.Condition{Type: condInitialized, Status: "True"}
	switch {
	case s.Phase == phaseSucceeded:
		ini.Reason = "PodCompleted"
	case !initialized:
		ini.Status, ini.Reason = "False", "ContainersNotInitialized"
		ini.Message = "containers with incomplete status: " + bracketed(names(in.pod.Spec.InitContainers, s.InitContainerStatuses, func(spec *corev1.Container, c *corev1.ContainerStatus) bool { return !initDone(spec, c) }))
	}
	list := []corev1.Condition{sandbox, ini, ready, containersReady}
	list = append(list, in.allRestarting()...)
	if in.alloc != nil && !terminal(s.Phase) {
		list = append(list, in.alloc.conditions(in.pod.Metadata.Generation)...)
	}
	kept := keptConditions(in.before, list)
	for i := range list {
		c := &list[i]
		setDefault(&c.ObservedGeneration, in.pod.Metadata.Generation)
		c.LastTransitionTime = corev1.NewTime(in.now)
		if in.before == nil {
			continue
		}
		for j := range in.before.Conditions {
			if old := &in.before.Conditions[j]; old.Type == c.Type && old.Status == c.Status && believable(old.LastTransitionTime, in.pod.Metadata.CreationTimestamp, in.now) {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return append(list, kept...)
}

func readiness(spec *corev1.PodSpec, s *corev1.PodStatus) corev1.Condition {
	switch s.Phase {
	case phaseSucceeded:
		return corev1.Condition{Status: "False", Reason: "PodCompleted"}
	case phaseFailed:
		return corev1.Condition{Status: "False", Reason: "PodFailed", Message: s.Message}
	}
	if s.Reason == reasonUnsupported {
		return corev1.Condition{Status: "False", Reason: reasonUnsupported, Message: s.Message}
	}
	unready := append(names(spec.InitContainers, s.InitContainerStatuses, func(spec *corev1.Container, c *corev1.ContainerStatus) bool { return sidecar(spec) && !c.Ready }),
		names(spec.Containers, s.ContainerStatuses, func(_ *corev1.Container, c *corev1.ContainerStatus) bool { return !c.Ready })...)
	if len(unready) == 0 {
		return corev1.Condition{Status: "True"}
	}
	return corev1.Condition{Status: "False", Reason: "ContainersNotReady", Message: "containers with unready status: " + bracketed(unready)}
}

// names lists the containers that match. specs and statuses are in the same order.
func names(specs []corev1.Container, statuses []corev1.ContainerStatus, match func(*corev1.Container, *corev1.ContainerStatus) bool) []string {
	var out []string
	for i := range statuses {
		if match(&specs[i], &statuses[i]) {
			out = append(out, statuses[i].Name)
		}
	}
	return out
}

// bracketed writes a list as [a b].
func bracketed(list []string) string { return "[" + strings.Join(list, " ") + "]" }
