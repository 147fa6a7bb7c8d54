package pods

import (
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// mountStatuses says how a container's volumes are mounted.
func mountStatuses(c *corev1.Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		st := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := "Disabled"
			st.RecursiveReadOnly = &mode
		}
		out = append(out, st)
	}
	return out
}

// userOf returns who the runtime started a container as, nil if it does not tell (containerd before 2.0).
func userOf(u *cri.ContainerUser) *corev1.ContainerUser {
	if u == nil || u.Linux == nil {
		return nil
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxUser{UID: u.Linux.UID, GID: u.Linux.GID, SupplementalGroups: u.Linux.SupplementalGroups}}
}

// sandboxCondition says whether a pod's sandbox is there, with its network.
func (in *statusInput) sandboxCondition() corev1.Condition {
	c := corev1.Condition{Type: condReadyToStart, Status: "True"}
	switch {
	case in.obs.sandbox() != nil:
		return c
	case len(in.obs.sandboxes) == 0:
		c.Message = "no sandbox for the pod has been created yet"
	default:
		c.Message = "the pod's sandbox is not ready"
	}
	c.Status, c.Reason = "False", "PodSandboxNotReady"
	return c
}

// maxPodMessages is how long the termination messages of a pod may be together, in bytes, as in Kubernetes.
const maxPodMessages = 12 << 10

// shortenMessages gives each container of a pod the same share of that.
func shortenMessages(s *corev1.PodStatus) {
	n := len(s.InitContainerStatuses) + len(s.ContainerStatuses) + len(s.EphemeralStatuses)
	if n == 0 {
		return
	}
	share := maxPodMessages / n
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralStatuses} {
		for i := range list {
			for _, t := range []**corev1.StateTerminated{&list[i].State.Terminated, &list[i].LastState.Terminated} {
				if *t != nil && len((*t).Message) > share {
					short := **t // the long one may belong to the last status
					short.Message = strings.ToValidUTF8(short.Message[:share], "")
					*t = &short
				}
			}
		}
	}
}

// declaredFeatures tells schedulers and the API server, from Kubernetes 1.36 on, what a node can that others may not: without the first, no pod
// with such a rule is scheduled here, without the second, resizes of init containers are refused. Sorted.
func declaredFeatures() []string {
	return []string{"InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits"}
}
