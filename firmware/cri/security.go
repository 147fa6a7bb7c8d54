package cri

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

func (m *NamespaceOption) walk(f *fields) {
	num(f, 1, &m.Network)
	num(f, 2, &m.PID)
	num(f, 3, &m.IPC)
	f.str(4, &m.TargetID)
	opt(f, 5, &m.UsernsOptions)
}

// UserNamespace maps a sandbox's users; Mode is NamespacePod or NamespaceNode.
type UserNamespace struct {
	Mode       NamespaceMode
	UIDs, GIDs []IDMapping
}

func (m *UserNamespace) walk(f *fields) {
	num(f, 1, &m.Mode)
	rep(f, 2, &m.UIDs)
	rep(f, 3, &m.GIDs)
}

// IDMapping maps Length ids from ContainerID on to HostID.
type IDMapping struct{ HostID, ContainerID, Length uint32 }

func (m *IDMapping) walk(f *fields) {
	num(f, 1, &m.HostID)
	num(f, 2, &m.ContainerID)
	num(f, 3, &m.Length)
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

func (m *SecurityProfile) walk(f *fields) {
	num(f, 1, &m.ProfileType)
	f.str(2, &m.LocalhostRef)
}

// SELinuxOption is an SELinux context.
type SELinuxOption struct{ User, Role, Type, Level string }

func (m *SELinuxOption) walk(f *fields) {
	f.str(1, &m.User)
	f.str(2, &m.Role)
	f.str(3, &m.Type)
	f.str(4, &m.Level)
}

// Capability changes the default set of capabilities; names have no CAP_ prefix, or are ALL.
type Capability struct {
	AddCapabilities, DropCapabilities, AddAmbientCapabilities []string
}

func (m *Capability) walk(f *fields) {
	f.strs(1, &m.AddCapabilities)
	f.strs(2, &m.DropCapabilities)
	f.strs(3, &m.AddAmbientCapabilities)
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

func (m *LinuxSandboxSecurityContext) walk(f *fields) {
	opt(f, 1, &m.NamespaceOptions)
	opt(f, 2, &m.SELinuxOptions)
	wrapped(f, 3, &m.RunAsUser)
	wrapped(f, 8, &m.RunAsGroup)
	f.boolean(4, &m.ReadonlyRootfs)
	nums(f, 5, &m.SupplementalGroups)
	num(f, 11, &m.SupplementalGroupsPolicy)
	f.boolean(6, &m.Privileged)
	opt(f, 9, &m.Seccomp)
	opt(f, 10, &m.Apparmor)
	f.str(7, &m.SeccompProfilePath)
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

func (m *LinuxContainerSecurityContext) walk(f *fields) {
	opt(f, 1, &m.Capabilities)
	f.boolean(2, &m.Privileged)
	opt(f, 3, &m.NamespaceOptions)
	opt(f, 4, &m.SELinuxOptions)
	wrapped(f, 5, &m.RunAsUser)
	wrapped(f, 12, &m.RunAsGroup)
	f.str(6, &m.RunAsUsername)
	f.boolean(7, &m.ReadonlyRootfs)
	nums(f, 8, &m.SupplementalGroups)
	num(f, 17, &m.SupplementalGroupsPolicy)
	f.boolean(11, &m.NoNewPrivs)
	f.strs(13, &m.MaskedPaths)
	f.strs(14, &m.ReadonlyPaths)
	opt(f, 15, &m.Seccomp)
	opt(f, 16, &m.Apparmor)
	f.str(9, &m.ApparmorProfile)
	f.str(10, &m.SeccompProfilePath)
}
