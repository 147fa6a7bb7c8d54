package pods

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// host is what a pod's configuration needs to know about its node.
type host struct {
	node       string
	ips        []string
	memory     int64    // capacity in bytes
	oomFloor   int64    // the lowest OOM score adjustment that can be set
	hugepages  []string // sizes that can be limited
	cgroup2    bool     // cgroups are version 2
	cgroup     string
	systemd    bool // whether the runtime's cgroup driver is systemd
	resolvConf string
	resolver   *resolver // nil: nothing is remembered
	logDir     string
	domain     string             // of the cluster's DNS
	users      *cri.UserNamespace // that the pod has of its own; nil: the node's
	clusterDNS []string
}

// podLogDir is where the runtime writes a pod's logs: NAMESPACE_NAME_UID, as log collectors expect it.
func podLogDir(base string, m *corev1.ObjectMeta) string {
	return filepath.Join(base, m.Namespace+"_"+m.Name+"_"+m.UID)
}

// podLabels are on every sandbox and container, and all that adoption needs.
func podLabels(node string, m *corev1.ObjectMeta) map[string]string {
	return map[string]string{labelPodName: m.Name, labelPodNamespace: m.Namespace, labelPodUID: m.UID, labelNode: node}
}

// sandboxConfig makes the configuration of a pod's sandbox. It depends on its arguments alone, because CreateContainer has to be
// given the same again.
func sandboxConfig(pod *corev1.Pod, attempt uint32, h *host) (*cri.PodSandboxConfig, error) {
	m, s := &pod.Metadata, &pod.Spec
	labels := maps.Clone(map[string]string(m.Labels))
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, podLabels(h.node, m))
	dns, _, err := dnsConfig(pod, h)
	if err != nil {
		return nil, err
	}
	c := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: m.Name, UID: m.UID, Namespace: m.Namespace, Attempt: attempt},
		LogDirectory: podLogDir(h.logDir, m),
		DNSConfig:    dns,
		Labels:       labels,
		Annotations:  m.Annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: podCgroup(h.cgroup, m.UID, h.systemd),
			Resources:    sandboxResources(s),
			Overhead:     overheadResources(s),
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: namespaces(s, h.users),
				Privileged:       privilegedPod(s),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.ProfileRuntimeDefault},
			},
		},
	}
	if !s.HostNetwork {
		if c.Hostname, err = kernelHostname(pod, h.domain); err != nil {
			return nil, err
		}
		c.PortMappings = portMappings(s)
	}
	if sc := s.SecurityContext; sc != nil {
		if len(sc.Sysctls) > 0 {
			c.Linux.Sysctls = map[string]string{}
			for _, ctl := range sc.Sysctls {
				c.Linux.Sysctls[sysctlName(ctl.Name)] = ctl.Value
			}
		}
		c.Linux.SecurityContext.RunAsUser = sc.RunAsUser
		if sc.RunAsUser != nil {
			c.Linux.SecurityContext.RunAsGroup = sc.RunAsGroup
		}
		c.Linux.SecurityContext.SupplementalGroups, c.Linux.SecurityContext.SupplementalGroupsPolicy = supplementalGroups(sc), groupsPolicy(sc)
		c.Linux.SecurityContext.SELinuxOptions = seLinuxOptions(sc.SELinuxOptions)
	}
	return c, nil
}

func namespaces(s *corev1.PodSpec, users *cri.UserNamespace) *cri.NamespaceOption {
	o := &cri.NamespaceOption{Network: cri.NamespacePod, IPC: cri.NamespacePod, PID: cri.NamespaceContainer, UsernsOptions: users}
	if s.HostNetwork {
		o.Network = cri.NamespaceNode
	}
	if s.HostIPC {
		o.IPC = cri.NamespaceNode
	}
	switch {
	case s.HostPID:
		o.PID = cri.NamespaceNode
	case s.ShareProcessNamespace != nil && *s.ShareProcessNamespace:
		o.PID = cri.NamespacePod
	}
	return o
}

func privilegedPod(s *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
				return true
			}
		}
	}
	return false
}

func supplementalGroups(sc *corev1.PodSecurityContext) []int64 {
	groups := append([]int64(nil), sc.SupplementalGroups...)
	if sc.FSGroup != nil {
		groups = append(groups, *sc.FSGroup)
	}
	return groups
}

func portMappings(s *corev1.PodSpec) []cri.PortMapping {
	var out []cri.PortMapping
	for _, c := range longRunning(s) {
		for _, p := range c.Ports {
			protocol := cri.ProtocolTCP
			switch p.Protocol {
			case "UDP":
				protocol = cri.ProtocolUDP
			case "SCTP":
				protocol = cri.ProtocolSCTP
			}
			out = append(out, cri.PortMapping{Protocol: protocol, ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIP: p.HostIP})
		}
	}
	return out
}

// hostsFile makes a pod's /etc/hosts.
func hostsFile(pod *corev1.Pod, ips []string, domain string) []byte {
	var b strings.Builder
	b.WriteString("# Managed by skerryd.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		fmt.Fprintf(&b, "%s\t%s\n", ip, hostsNames(pod, domain))
	}
	for _, a := range pod.Spec.HostAliases {
		if _, err := netip.ParseAddr(a.IP); err == nil && len(a.Hostnames) > 0 {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}
