package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// NamespaceMode says whose namespace a sandbox or container uses.
type NamespaceMode int32

const (
	NamespacePod       NamespaceMode = 0 // shared by the pod
	NamespaceContainer NamespaceMode = 1 // the container's own
	NamespaceNode      NamespaceMode = 2 // the host's
	NamespaceTarget    NamespaceMode = 3 // that of NamespaceOption.TargetID
)

// NamespaceOption chooses namespaces. Note that the zero PID mode is the pod's, while Kubernetes' default
// is NamespaceContainer.
type NamespaceOption struct {
	Network, PID, IPC NamespaceMode
	TargetID          string
	UsernsOptions     *UserNamespace
}

func (m *NamespaceOption) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Network)
	grpcwire.Num(f, 2, &m.PID)
	grpcwire.Num(f, 3, &m.IPC)
	f.Str(4, &m.TargetID)
	grpcwire.Opt(f, 5, &m.UsernsOptions)
}

// UserNamespace maps a sandbox's users; Mode is NamespacePod or NamespaceNode.
type UserNamespace struct {
	Mode       NamespaceMode
	UIDs, GIDs []IDMapping
}

func (m *UserNamespace) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Mode)
	grpcwire.Rep(f, 2, &m.UIDs)
	grpcwire.Rep(f, 3, &m.GIDs)
}

// IDMapping maps Length ids from ContainerID on to HostID.
type IDMapping struct{ HostID, ContainerID, Length uint32 }

func (m *IDMapping) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.HostID)
	grpcwire.Num(f, 2, &m.ContainerID)
	grpcwire.Num(f, 3, &m.Length)
}

// SupplementalGroupsPolicy says whether the image's groups of the user are added.
type SupplementalGroupsPolicy int32

const (
	SupplementalGroupsMerge  SupplementalGroupsPolicy = 0
	SupplementalGroupsStrict SupplementalGroupsPolicy = 1
)

// ProfileType of a SecurityProfile.
type ProfileType int32

const (
	ProfileRuntimeDefault ProfileType = 0
	ProfileUnconfined     ProfileType = 1
	ProfileLocalhost      ProfileType = 2 // LocalhostRef names it
)

// SecurityProfile is a seccomp or AppArmor profile.
type SecurityProfile struct {
	ProfileType  ProfileType
	LocalhostRef string
}

func (m *SecurityProfile) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.ProfileType)
	f.Str(2, &m.LocalhostRef)
}

// SELinuxOption is an SELinux context.
type SELinuxOption struct{ User, Role, Type, Level string }

func (m *SELinuxOption) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.User)
	f.Str(2, &m.Role)
	f.Str(3, &m.Type)
	f.Str(4, &m.Level)
}

// Capability changes the default set of capabilities; names have no CAP_ prefix, or are ALL.
type Capability struct {
	AddCapabilities, DropCapabilities, AddAmbientCapabilities []string
}

func (m *Capability) Walk(f *grpcwire.Fields) {
	f.Strs(1, &m.AddCapabilities)
	f.Strs(2, &m.DropCapabilities)
	f.Strs(3, &m.AddAmbientCapabilities)
}

// LinuxSandboxSecurityContext is the security of the sandbox itself and of its namespaces.
type LinuxSandboxSecurityContext struct {
	NamespaceOptions         *NamespaceOption
	SELinuxOptions           *SELinuxOption
	RunAsUser                *int64
	RunAsGroup               *int64 // needs RunAsUser
	ReadonlyRootfs           bool
	SupplementalGroups       []int64
	SupplementalGroupsPolicy SupplementalGroupsPolicy
	Privileged               bool
	Seccomp                  *SecurityProfile
	Apparmor                 *SecurityProfile
	SeccompProfilePath       string // deprecated in CRI; containerd 1.6 honours it when Seccomp is nil
}

func (m *LinuxSandboxSecurityContext) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.NamespaceOptions)
	grpcwire.Opt(f, 2, &m.SELinuxOptions)
	grpcwire.Wrapped(f, 3, &m.RunAsUser)
	grpcwire.Wrapped(f, 8, &m.RunAsGroup)
	f.Bool(4, &m.ReadonlyRootfs)
	grpcwire.Nums(f, 5, &m.SupplementalGroups)
	grpcwire.Num(f, 11, &m.SupplementalGroupsPolicy)
	f.Bool(6, &m.Privileged)
	grpcwire.Opt(f, 9, &m.Seccomp)
	grpcwire.Opt(f, 10, &m.Apparmor)
	f.Str(7, &m.SeccompProfilePath)
}

// LinuxContainerSecurityContext is the security of one container.
type LinuxContainerSecurityContext struct {
	Capabilities             *Capability
	Privileged               bool
	NamespaceOptions         *NamespaceOption
	SELinuxOptions           *SELinuxOption
	RunAsUser                *int64
	RunAsGroup               *int64 // needs RunAsUser or RunAsUsername
	RunAsUsername            string
	ReadonlyRootfs           bool
	SupplementalGroups       []int64
	SupplementalGroupsPolicy SupplementalGroupsPolicy
	NoNewPrivs               bool
	MaskedPaths              []string
	ReadonlyPaths            []string
	Seccomp                  *SecurityProfile
	Apparmor                 *SecurityProfile
	ApparmorProfile          string // deprecated in CRI, for runtimes that do not know Apparmor
	SeccompProfilePath       string // deprecated in CRI, for runtimes that do not know Seccomp
}

func (m *LinuxContainerSecurityContext) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Capabilities)
	f.Bool(2, &m.Privileged)
	grpcwire.Opt(f, 3, &m.NamespaceOptions)
	grpcwire.Opt(f, 4, &m.SELinuxOptions)
	grpcwire.Wrapped(f, 5, &m.RunAsUser)
	grpcwire.Wrapped(f, 12, &m.RunAsGroup)
	f.Str(6, &m.RunAsUsername)
	f.Bool(7, &m.ReadonlyRootfs)
	grpcwire.Nums(f, 8, &m.SupplementalGroups)
	grpcwire.Num(f, 17, &m.SupplementalGroupsPolicy)
	f.Bool(11, &m.NoNewPrivs)
	f.Strs(13, &m.MaskedPaths)
	f.Strs(14, &m.ReadonlyPaths)
	grpcwire.Opt(f, 15, &m.Seccomp)
	grpcwire.Opt(f, 16, &m.Apparmor)
	f.Str(9, &m.ApparmorProfile)
	f.Str(10, &m.SeccompProfilePath)
}
