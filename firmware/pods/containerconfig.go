package pods

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// launch is all that one start of a container is made from.
type launch struct {
	pod       *corev1.Pod
	container *corev1.Container
	restarts  int32
	image     *cri.Image // as the runtime has it
	imageRef  string     // what to give to the runtime
	env       []cri.KeyValue
	volumes   map[string]string         // volume name → path on the host
	parts     map[int]string            // index of a volumeMount with a subPath → path on the host
	images    map[string]*cri.ImageSpec // volume name → image that is mounted
	handler   string                    // of the runtime; "" is the default one
	can       abilities                 // of the runtime
	hosts     string                    // path of the pod's /etc/hosts on the host; empty: none
	termFile  string                    // path of the termination message file on the host; empty: none
	host      *host
	target    string // id of the container whose processes it sees; "": its own
}

// containerLogPath is where a container's log goes, below the pod's log folder.
func containerLogPath(name string, restarts int32) string {
	return path.Join(name, strconv.Itoa(int(restarts))+".log")
}

// config makes the runtime's configuration of the container.
func (l *launch) config() (*cri.ContainerConfig, error) {
	c := l.container
	security, err := l.security()
	if err != nil {
		return nil, err
	}
	aim(security.NamespaceOptions, l.target)
	labels := podLabels(l.host.node, &l.pod.Metadata)
	labels[labelContainer] = c.Name
	mounts, err := l.mounts()
	if err != nil {
		return nil, err
	}
	cfg := &cri.ContainerConfig{
		Metadata:   &cri.ContainerMetadata{Name: c.Name, Attempt: uint32(max(l.restarts, 0))},
		Image:      &cri.ImageSpec{Image: l.imageRef, UserSpecifiedImage: c.Image},
		Command:    expandAll(c.Command, l.env),
		Args:       expandAll(c.Args, l.env),
		WorkingDir: c.WorkingDir,
		Envs:       l.env,
		Mounts:     mounts,
		Labels:     labels,
		Annotations: map[string]string{
			annoHash:       containerHash(c),
			annoRestarts:   strconv.Itoa(int(l.restarts)),
			annoResources:  encodeResources(&c.Resources),
			annoTermPath:   c.TerminationMessagePath,
			annoTermPolicy: c.TerminationMessagePolicy,
			annoTermFile:   l.termFile,
			annoGrace:      strconv.FormatInt(*l.pod.Spec.TerminationGracePeriodSeconds, 10),
		},
		LogPath: containerLogPath(c.Name, l.restarts),
		Stdin:   c.Stdin, StopSignal: cri.SignalOf(stopSignal(c)),
		StdinOnce: c.StdinOnce,
		TTY:       c.TTY,
		Linux: &cri.LinuxContainerConfig{
			Resources:       containerResources(&l.pod.Spec, c, l.host),
			SecurityContext: security,
		},
	}
	mounted := func(at string) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return filepath.Clean(m.MountPath) == at })
	}
	if l.hosts != "" && !mounted("/etc/hosts") {
		cfg.Mounts = append(cfg.Mounts, cri.Mount{ContainerPath: "/etc/hosts", HostPath: l.hosts})
	}
	if l.termFile != "" && !mounted(filepath.Clean(c.TerminationMessagePath)) {
		cfg.Mounts = append(cfg.Mounts, cri.Mount{ContainerPath: c.TerminationMessagePath, HostPath: l.termFile})
	}
	mapMounts(cfg.Mounts, l.host.users)
	return cfg, nil
}

// security makes the container's security context: the container's own fields go before the pod's.
func (l *launch) security() (*cri.LinuxContainerSecurityContext, error) {
	psc, sc := l.pod.Spec.SecurityContext, l.container.SecurityContext
	if psc == nil {
		psc = &corev1.PodSecurityContext{}
	}
	if sc == nil {
		sc = &corev1.SecurityContext{}
	}
	out := &cri.LinuxContainerSecurityContext{
		NamespaceOptions:   namespaces(&l.pod.Spec, l.host.users),
		RunAsUser:          either(sc.RunAsUser, psc.RunAsUser),
		Privileged:         isTrue(sc.Privileged),
		ReadonlyRootfs:     isTrue(sc.ReadOnlyRootFilesystem),
		NoNewPrivs:         sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation,
		SupplementalGroups: supplementalGroups(psc),

		SupplementalGroupsPolicy: groupsPolicy(psc), SELinuxOptions: seLinuxOptions(either(sc.SELinuxOptions, psc.SELinuxOptions)),
	}
	if out.RunAsUser == nil && l.image != nil {
		switch {
		case l.image.UID != nil:
			out.RunAsUser = l.image.UID
		case l.image.Username != "":
			out.RunAsUsername = l.image.Username
		}
	}
	group := either(sc.RunAsGroup, psc.RunAsGroup)
	if group != nil && out.RunAsUser == nil && out.RunAsUsername == "" {
		root := int64(0) // the runtime wants a user beside the group; an image that names none runs as root
		out.RunAsUser = &root
	}
	out.RunAsGroup = group
	if isTrue(either(sc.RunAsNonRoot, psc.RunAsNonRoot)) {
		if err := verifyNonRoot(out); err != nil {
			return nil, err
		}
	}
	if c := sc.Capabilities; c != nil {
		out.Capabilities = &cri.Capability{AddCapabilities: capabilities(c.Add), DropCapabilities: capabilities(c.Drop)}
	}
	if !out.Privileged && sc.ProcMount != procUnmasked {
		out.MaskedPaths, out.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	seccomp, err := seccompProfile(either(sc.SeccompProfile, psc.SeccompProfile))
	if err != nil {
		return nil, err
	}
	out.Seccomp = seccomp
	out.Apparmor, err = appArmorProfile(either(sc.AppArmorProfile, psc.AppArmorProfile))
	return out, err
}

// verifyNonRoot refuses what runAsNonRoot forbids, in the kubelet's words.
func verifyNonRoot(out *cri.LinuxContainerSecurityContext) error {
	switch {
	case out.RunAsUser != nil && *out.RunAsUser != 0:
		return nil
	case out.RunAsUser != nil:
		return waitFor(reasonConfigError, "container has runAsNonRoot and would run as root: set runAsUser to another user than 0")
	case out.RunAsUsername != "":
		return waitFor(reasonConfigError, "container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root: set runAsUser", out.RunAsUsername)
	default:
		return waitFor(reasonConfigError, "container has runAsNonRoot and image will run as root: set runAsUser")
	}
}

func seccompProfile(p *corev1.SeccompProfile) (*cri.SecurityProfile, error) {
	switch {
	case p == nil || p.Type == "Unconfined": // Kubernetes' default, unless the kubelet is told otherwise
		return &cri.SecurityProfile{ProfileType: cri.ProfileUnconfined}, nil
	case p.Type == "RuntimeDefault":
		return &cri.SecurityProfile{ProfileType: cri.ProfileRuntimeDefault}, nil
	case p.Type == "Localhost" && p.LocalhostProfile != nil && filepath.IsLocal(*p.LocalhostProfile):
		return &cri.SecurityProfile{ProfileType: cri.ProfileLocalhost, LocalhostRef: "/var/lib/skerry/seccomp/" + *p.LocalhostProfile}, nil
	default:
		return nil, waitFor(reasonConfigError, "seccompProfile %q needs a localhostProfile below /var/lib/skerry/seccomp", p.Type)
	}
}

// capabilities are given to the runtime without their prefix.
func capabilities(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, strings.TrimPrefix(strings.ToUpper(n), "CAP_"))
	}
	return out
}

// maskedPaths and readonlyPaths are Kubernetes' defaults for procMount Default (k8s.io/kubernetes/pkg/securitycontext).
func maskedPaths() []string {
	return []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func isTrue(b *bool) bool { return b != nil && *b }
