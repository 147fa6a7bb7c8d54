package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// PodSandboxMetadata names a sandbox. Runtimes derive the sandbox's own name from all four fields, so that
// two attempts of one pod can exist side by side.
type PodSandboxMetadata struct {
	Name, UID, Namespace string
	Attempt              uint32
}

func (m *PodSandboxMetadata) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.UID)
	f.Str(3, &m.Namespace)
	grpcwire.Num(f, 4, &m.Attempt)
}

// PodSandboxConfig is all that a sandbox is created from.
type PodSandboxConfig struct {
	Metadata     *PodSandboxMetadata
	Hostname     string // empty only with the node's network
	LogDirectory string // absolute; containers' LogPath is relative to it
	DNSConfig    *DNSConfig
	PortMappings []PortMapping
	Labels       map[string]string
	Annotations  map[string]string
	Linux        *LinuxPodSandboxConfig
}

func (m *PodSandboxConfig) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Metadata)
	f.Str(2, &m.Hostname)
	f.Str(3, &m.LogDirectory)
	grpcwire.Opt(f, 4, &m.DNSConfig)
	grpcwire.Rep(f, 5, &m.PortMappings)
	f.StrMap(6, &m.Labels)
	f.StrMap(7, &m.Annotations)
	grpcwire.Opt(f, 8, &m.Linux)
}

// DNSConfig is written to the sandbox's resolv.conf; nil means the host's.
type DNSConfig struct {
	Servers, Searches, Options []string
}

func (m *DNSConfig) Walk(f *grpcwire.Fields) {
	f.Strs(1, &m.Servers)
	f.Strs(2, &m.Searches)
	f.Strs(3, &m.Options)
}

// Protocol of a PortMapping.
type Protocol int32

const (
	ProtocolTCP  Protocol = 0
	ProtocolUDP  Protocol = 1
	ProtocolSCTP Protocol = 2
)

// PortMapping publishes a port of the sandbox on the host.
type PortMapping struct {
	Protocol      Protocol
	ContainerPort int32
	HostPort      int32 // 0: not published
	HostIP        string
}

func (m *PortMapping) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Protocol)
	grpcwire.Num(f, 2, &m.ContainerPort)
	grpcwire.Num(f, 3, &m.HostPort)
	f.Str(4, &m.HostIP)
}

// LinuxPodSandboxConfig holds a sandbox's Linux settings.
type LinuxPodSandboxConfig struct {
	// CgroupParent is a path below the cgroup root (cgroupfs driver) or a slice (systemd driver).
	CgroupParent    string
	SecurityContext *LinuxSandboxSecurityContext
	Sysctls         map[string]string
	Overhead        *LinuxContainerResources
	Resources       *LinuxContainerResources // the sum over the pod's containers
}

func (m *LinuxPodSandboxConfig) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.CgroupParent)
	grpcwire.Opt(f, 2, &m.SecurityContext)
	f.StrMap(3, &m.Sysctls)
	grpcwire.Opt(f, 4, &m.Overhead)
	grpcwire.Opt(f, 5, &m.Resources)
}

// PodSandboxState says whether a sandbox's namespaces are usable.
type PodSandboxState int32

const (
	SandboxReady    PodSandboxState = 0
	SandboxNotReady PodSandboxState = 1
)

// PodSandbox is a list's short form of a sandbox. CreatedAt is in nanoseconds since 1970.
type PodSandbox struct {
	ID             string
	Metadata       *PodSandboxMetadata
	State          PodSandboxState
	CreatedAt      int64
	Labels         map[string]string
	Annotations    map[string]string
	RuntimeHandler string
}

func (m *PodSandbox) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Opt(f, 2, &m.Metadata)
	grpcwire.Num(f, 3, &m.State)
	grpcwire.Num(f, 4, &m.CreatedAt)
	f.StrMap(5, &m.Labels)
	f.StrMap(6, &m.Annotations)
	f.Str(7, &m.RuntimeHandler)
}

// PodSandboxFilter selects sandboxes; zero fields match all.
type PodSandboxFilter struct {
	ID            string
	State         *PodSandboxState
	LabelSelector map[string]string
}

func (m *PodSandboxFilter) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Wrapped(f, 2, &m.State)
	f.StrMap(3, &m.LabelSelector)
}

// PodIP is an address of a sandbox.
type PodIP struct{ IP string }

func (m *PodIP) Walk(f *grpcwire.Fields) { f.Str(1, &m.IP) }

// PodSandboxNetworkStatus holds the sandbox's addresses; IP is empty with the node's network.
type PodSandboxNetworkStatus struct {
	IP            string
	AdditionalIPs []PodIP
}

func (m *PodSandboxNetworkStatus) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.IP)
	grpcwire.Rep(f, 2, &m.AdditionalIPs)
}

// Namespace holds the namespaces' options of a running sandbox.
type Namespace struct{ Options *NamespaceOption }

func (m *Namespace) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 2, &m.Options) }

// LinuxPodSandboxStatus is the Linux part of a sandbox's status.
type LinuxPodSandboxStatus struct{ Namespaces *Namespace }

func (m *LinuxPodSandboxStatus) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Namespaces) }

// PodSandboxStatus is the state of a sandbox. CreatedAt is in nanoseconds since 1970.
type PodSandboxStatus struct {
	ID             string
	Metadata       *PodSandboxMetadata
	State          PodSandboxState
	CreatedAt      int64
	Network        *PodSandboxNetworkStatus
	Linux          *LinuxPodSandboxStatus
	Labels         map[string]string
	Annotations    map[string]string
	RuntimeHandler string
}

func (m *PodSandboxStatus) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Opt(f, 2, &m.Metadata)
	grpcwire.Num(f, 3, &m.State)
	grpcwire.Num(f, 4, &m.CreatedAt)
	grpcwire.Opt(f, 5, &m.Network)
	grpcwire.Opt(f, 6, &m.Linux)
	f.StrMap(7, &m.Labels)
	f.StrMap(8, &m.Annotations)
	f.Str(9, &m.RuntimeHandler)
}
