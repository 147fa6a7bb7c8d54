package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Reasons for which a node does not let a pod in because of its security context (the kubelet's, pkg/kubelet/sysctl, pkg/security/apparmor and
// kubelet.go; the last one is ours: a kubelet leaves SELinux to the runtime, which ignores what it cannot do).
const (
	reasonSysctl   = "SysctlForbidden"
	reasonAppArmor = "AppArmor"
	reasonGroups   = "SupplementalGroupsPolicyNotSupported"
	reasonSELinux  = "SELinux"
)

// safeSysctls are those that act on the pod alone (Kubernetes documentation, Using sysctls in a cluster), with the oldest kernel where they do.
func safeSysctls() map[string]kernel {
	return map[string]kernel{
		"kernel.shm_rmid_forced": {}, "net.ipv4.ip_local_port_range": {}, "net.ipv4.tcp_syncookies": {}, "net.ipv4.ping_group_range": {},
		"net.ipv4.ip_unprivileged_port_start": {}, "net.ipv4.ip_local_reserved_ports": {3, 16}, "net.ipv4.tcp_keepalive_time": {4, 5},
		"net.ipv4.tcp_fin_timeout": {4, 6}, "net.ipv4.tcp_keepalive_intvl": {4, 5}, "net.ipv4.tcp_keepalive_probes": {4, 5},
		"net.ipv4.tcp_rmem": {4, 15}, "net.ipv4.tcp_wmem": {4, 15}, "net.ipv4.tcp_slow_start_after_idle": {4, 15}, "net.ipv4.tcp_notsent_lowat": {4, 6},
	}
}

// kernel is a version of Linux.
type kernel struct{ major, minor int }

// kernelOf reads a release such as 6.1.0-18-arm64; the zero version if it is none.
func kernelOf(release string) (k kernel) {
	if _, err := fmt.Sscanf(release, "%d.%d", &k.major, &k.minor); err != nil {
		return kernel{}
	}
	return k
}

func (k kernel) atLeast(o kernel) bool {
	return k.major > o.major || k.major == o.major && k.minor >= o.minor
}

// sysctlName writes a name with dots: names may be written with slashes too (sysctl.d(5)), and then dots are part of a name.
func sysctlName(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, name)
}

// sysctlSpace is the namespace that a sysctl belongs to; "" if it is not known to belong to one.
func sysctlSpace(name string) string {
	switch {
	case strings.HasPrefix(name, "net."):
		return "net"
	case strings.HasPrefix(name, "user."):
		return "user"
	case name == "kernel.sem", strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), strings.HasPrefix(name, "fs.mqueue."):
		return "ipc"
	}
	return ""
}

// forbiddenSysctl says why a sysctl may not be set; "" if it may. allowed are those that the configuration allows beside the safe ones, whole or
// as a prefix with "*".
func forbiddenSysctl(spec *corev1.PodSpec, name string, allowed []string, running kernel) string {
	name = sysctlName(name)
	since, safe := safeSysctls()[name]
	if !safe || !running.atLeast(since) {
		if !slices.ContainsFunc(allowed, func(a string) bool {
			prefix, pattern := strings.CutSuffix(sysctlName(a), "*")
			return pattern && strings.HasPrefix(name, prefix) || !pattern && prefix == name
		}) {
			return fmt.Sprintf("%q not allowlisted", name)
		}
	}
	switch space := sysctlSpace(name); {
	case space == "":
		return fmt.Sprintf("%q is not known to be namespaced", name)
	case space == "net" && spec.HostNetwork, space == "ipc" && spec.HostIPC, space == "user" && !ownUsers(spec):
		return fmt.Sprintf("%q not allowed with host %s enabled", name, space)
	}
	return ""
}

// insecure says why this node does not let a pod in because of its security context; nil if it does.
func (m *Manager) insecure(spec *corev1.PodSpec) *rejection {
	psc := spec.SecurityContext
	if psc == nil {
		psc = &corev1.PodSecurityContext{}
	}
	for _, s := range psc.Sysctls {
		release, _ := os.ReadFile(filepath.Join(m.o.Proc, "sys/kernel/osrelease")) //nolint:errcheck // without a version only the oldest sysctls are safe
		if why := forbiddenSysctl(spec, s.Name, m.o.UnsafeSysctls, kernelOf(string(release))); why != "" {
			return &rejection{reason: reasonSysctl, message: "forbidden sysctl: " + why}
		}
	}
	m.mu.Lock()
	strict := m.rt.strictGroups
	m.mu.Unlock()
	if psc.SupplementalGroupsPolicy == "Strict" && !strict {
		return &rejection{reason: reasonGroups, message: "SupplementalGroupsPolicy=Strict is not supported in this node"}
	}
	appArmor, seLinux := psc.AppArmorProfile, psc.SELinuxOptions
	confined := confines(appArmor)
	for _, c := range allContainers(spec) {
		if sc := c.SecurityContext; sc != nil {
			confined = confined || confines(sc.AppArmorProfile)
			seLinux = either(seLinux, sc.SELinuxOptions)
		}
	}
	if confined && !appArmorOn(m.o.Sys) {
		return &rejection{reason: reasonAppArmor, message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
	}
	if seLinux != nil && !seLinuxOn(m.o.Sys) {
		return &rejection{reason: reasonSELinux, message: "Cannot enforce seLinuxOptions: SELinux is not enabled on the host"}
	}
	return nil
}

// confines reports whether a profile asks for what only AppArmor in the kernel can give.
func confines(p *corev1.AppArmorProfile) bool {
	return p != nil && p.Type != "" && p.Type != "Unconfined"
}

// appArmorOn reports whether the kernel enforces AppArmor profiles.
func appArmorOn(sys string) bool {
	b, err := os.ReadFile(filepath.Join(sys, "module/apparmor/parameters/enabled")) //nolint:gosec // below /sys
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

// seLinuxOn reports whether the kernel has an SELinux policy.
func seLinuxOn(sys string) bool {
	_, err := os.Stat(filepath.Join(sys, "fs/selinux/enforce"))
	return err == nil
}

// appArmorProfile is the runtime's word for a profile; nil leaves it to the runtime.
func appArmorProfile(p *corev1.AppArmorProfile) (*cri.SecurityProfile, error) {
	switch {
	case p == nil:
		return nil, nil
	case p.Type == "RuntimeDefault":
		return &cri.SecurityProfile{ProfileType: cri.ProfileRuntimeDefault}, nil
	case p.Type == "Unconfined":
		return &cri.SecurityProfile{ProfileType: cri.ProfileUnconfined}, nil
	case p.Type == "Localhost" && p.LocalhostProfile != nil && strings.TrimSpace(*p.LocalhostProfile) != "":
		return &cri.SecurityProfile{ProfileType: cri.ProfileLocalhost, LocalhostRef: *p.LocalhostProfile}, nil
	default:
		return nil, waitFor(reasonConfigError, "appArmorProfile of type %q needs a localhostProfile: the name of a profile that the kernel has loaded", p.Type)
	}
}

func seLinuxOptions(o *corev1.SELinuxOptions) *cri.SELinuxOption {
	if o == nil {
		return nil
	}
	return &cri.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func groupsPolicy(sc *corev1.PodSecurityContext) cri.SupplementalGroupsPolicy {
	if sc.SupplementalGroupsPolicy == "Strict" {
		return cri.SupplementalGroupsStrict
	}
	return cri.SupplementalGroupsMerge
}
