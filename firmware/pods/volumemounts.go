package pods

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Values of a volumeMount's recursiveReadOnly and mountPropagation.
const (
	rroDisabled   = "Disabled"
	rroIfPossible = "IfPossible"
	rroEnabled    = "Enabled"

	propagationNone      = "None"
	propagationFromHost  = "HostToContainer"
	propagationBothSides = "Bidirectional"
)

// abilities are what the runtime can do, which not every runtime can.
type abilities struct {
	recursiveReadOnly map[string]bool // by handler; "" is the default one
	userNamespaces    map[string]bool // likewise; with idmapped mounts
	imageVolumes      bool
	imageSignalsOnly  bool // it is known to ignore lifecycle.stopSignal
}

// abilitiesOf reads what the runtime says of itself. Image volumes are nowhere announced: containerd has them from 2.1 on, CRI-O from
// 1.31 (https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/); an older containerd would mount the root folder of nothing.
func abilitiesOf(name, version string, status *cri.StatusResponse) abilities {
	a := abilities{recursiveReadOnly: map[string]bool{}, userNamespaces: map[string]bool{}}
	switch strings.ToLower(name) {
	case "containerd":
		a.imageVolumes, a.imageSignalsOnly = atLeast(version, 2, 1), !atLeast(version, 2, 3)
	case "cri-o":
		a.imageVolumes = atLeast(version, 1, 31)
	}
	if status != nil {
		for _, h := range status.RuntimeHandlers {
			a.recursiveReadOnly[h.Name] = h.Features != nil && h.Features.RecursiveReadOnlyMounts
			a.userNamespaces[h.Name] = h.Features != nil && h.Features.UserNamespaces
		}
	}
	return a
}

// atLeast compares the first two numbers of a version such as v2.1.0-rc.1. One that it cannot read is too old.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return false
	}
	m, err := strconv.Atoi(parts[0])
	n, err2 := strconv.Atoi(parts[1])
	return err == nil && err2 == nil && (m > major || m == major && n >= minor)
}

// can returns what the runtime can do.
func (m *Manager) can() abilities {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rt.can
}

// mounts turns the container's volumeMounts into the runtime's. Volumes that the agent writes are read-only, as by the kubelet: a
// container that could put symbolic links into one could lead the agent's next write anywhere on the gateway.
func (l *launch) mounts() ([]cri.Mount, error) {
	filled, readOnly := filledVolumes(&l.pod.Spec), readOnlyClaims(&l.pod.Spec)
	var out []cri.Mount
	for i := range l.container.VolumeMounts {
		m := &l.container.VolumeMounts[i]
		recursive, err := recursively(m, l.can.recursiveReadOnly[l.handler])
		if err != nil {
			return nil, err
		}
		mount := cri.Mount{ContainerPath: m.MountPath, HostPath: l.volumes[m.Name], Readonly: m.ReadOnly || filled[m.Name] || readOnly[m.Name], RecursiveReadOnly: recursive}
		if part, ok := l.parts[i]; ok {
			mount.HostPath = part
		}
		if image := l.images[m.Name]; image != nil {
			mount.HostPath, mount.Image, mount.ImageSubPath, mount.Readonly = "", image, m.SubPath, true
		}
		switch propagationOf(m) {
		case propagationFromHost:
			mount.Propagation = cri.PropagationHostToContainer
		case propagationBothSides:
			mount.Propagation = cri.PropagationBidirectional
		}
		out = append(out, mount)
	}
	return out, nil
}

func propagationOf(m *corev1.VolumeMount) string {
	if m.MountPropagation == nil {
		return propagationNone
	}
	return *m.MountPropagation
}

// recursively decides whether a mount is read-only with all that is mounted below it. The errors are the kubelet's words.
func recursively(m *corev1.VolumeMount, can bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == rroDisabled {
		return false, nil
	}
	mode := *m.RecursiveReadOnly
	switch {
	case mode != rroIfPossible && mode != rroEnabled:
		return false, waitFor(reasonConfigError, "volume %q: recursiveReadOnly %q is unknown: use Disabled, IfPossible or Enabled", m.Name, mode)
	case !m.ReadOnly:
		return false, waitFor(reasonConfigError, "volume %q requested recursive read-only mode, but it is not read-only", m.Name)
	case propagationOf(m) != propagationNone:
		return false, waitFor(reasonConfigError, "volume %q requested recursive read-only mode, but it is not compatible with propagation %q", m.Name, propagationOf(m))
	case !can && mode == rroEnabled:
		return false, waitFor(reasonConfigError, "volume %q requested recursive read-only mode, but it is not supported by the runtime: "+
			"it needs containerd 2.0 or newer and Linux 5.12 or newer; use IfPossible to go without", m.Name)
	}
	return can, nil
}

// imageVolumes gets the images that the container mounts. They are pulled as the container's own is, with its reasons.
func (s *starter) imageVolumes(ctx context.Context, l *launch, prior bool) error {
	refs := references{desired: s.w.m.o.Desired, namespace: s.d.pod.Metadata.Namespace}
	for i := range l.pod.Spec.Volumes {
		vol := &l.pod.Spec.Volumes[i]
		if vol.Image == nil || vol.Image.Reference == "" || !slices.ContainsFunc(l.container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == vol.Name }) {
			continue
		}
		if !l.can.imageVolumes {
			return waitFor(reasonConfigError, "volume %q: the container runtime cannot mount images (containerd can from 2.1 on, CRI-O from 1.31 on): upgrade it, or copy the files with an init container", vol.Name)
		}
		c := imageOf(l.container.Name, vol.Image)
		creds := func() (credentials, error) { return pullCredentials(&l.pod.Spec, c.Image, refs) }
		back := s.w.turn.elsewhere()
		image, _, err := s.w.puller.ensure(ctx, imageWant{c, earlierRun{ran: prior}, creds, s.config})
		back()
		if err != nil {
			return err
		}
		s.uses(image)
		if l.images == nil {
			l.images = map[string]*cri.ImageSpec{}
		}
		l.images[vol.Name] = &cri.ImageSpec{Image: image.ID, UserSpecifiedImage: c.Image}
	}
	return nil
}

// imageOf is the container that the image of a volume is pulled for.
func imageOf(container string, v *corev1.ImageVolume) *corev1.Container {
	c := &corev1.Container{Name: container, Image: v.Reference, ImagePullPolicy: v.PullPolicy}
	setDefault(&c.ImagePullPolicy, defaultPullPolicy(c.Image))
	return c
}
