package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// ContainerMetadata names a container in its sandbox. Attempt tells restarts apart.
type ContainerMetadata struct {
	Name    string
	Attempt uint32
}

func (m *ContainerMetadata) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Num(f, 2, &m.Attempt)
}

// ContainerConfig is all that a container is created from.
type ContainerConfig struct {
	Metadata    *ContainerMetadata
	Image       *ImageSpec
	Command     []string // replaces the image's entry point
	Args        []string // replaces the image's arguments
	WorkingDir  string
	Envs        []KeyValue
	Mounts      []Mount
	Devices     []Device
	Labels      map[string]string
	Annotations map[string]string
	LogPath     string // relative to the sandbox's LogDirectory
	Stdin       bool
	StdinOnce   bool
	TTY         bool
	Linux       *LinuxContainerConfig
	CDIDevices  []CDIDevice
	StopSignal  Signal
}

func (m *ContainerConfig) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Metadata)
	grpcwire.Opt(f, 2, &m.Image)
	f.Strs(3, &m.Command)
	f.Strs(4, &m.Args)
	f.Str(5, &m.WorkingDir)
	grpcwire.Rep(f, 6, &m.Envs)
	grpcwire.Rep(f, 7, &m.Mounts)
	grpcwire.Rep(f, 8, &m.Devices)
	f.StrMap(9, &m.Labels)
	f.StrMap(10, &m.Annotations)
	f.Str(11, &m.LogPath)
	f.Bool(12, &m.Stdin)
	f.Bool(13, &m.StdinOnce)
	f.Bool(14, &m.TTY)
	grpcwire.Opt(f, 15, &m.Linux)
	grpcwire.Rep(f, 17, &m.CDIDevices)
	grpcwire.Num(f, 18, &m.StopSignal)
}

// KeyValue is an environment variable.
type KeyValue struct{ Key, Value string }

func (m *KeyValue) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Key)
	f.Str(2, &m.Value)
}

// MountPropagation of a Mount.
type MountPropagation int32

const (
	PropagationPrivate         MountPropagation = 0
	PropagationHostToContainer MountPropagation = 1
	PropagationBidirectional   MountPropagation = 2
)

// Mount puts a host path, or an image, into a container.
type Mount struct {
	ContainerPath     string
	HostPath          string
	Readonly          bool
	SELinuxRelabel    bool
	Propagation       MountPropagation
	UIDMappings       []IDMapping
	GIDMappings       []IDMapping
	RecursiveReadOnly bool // needs RuntimeHandlerFeatures.RecursiveReadOnlyMounts
	Image             *ImageSpec
	ImageSubPath      string
	MountOptions      []string
}

func (m *Mount) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerPath)
	f.Str(2, &m.HostPath)
	f.Bool(3, &m.Readonly)
	f.Bool(4, &m.SELinuxRelabel)
	grpcwire.Num(f, 5, &m.Propagation)
	grpcwire.Rep(f, 6, &m.UIDMappings)
	grpcwire.Rep(f, 7, &m.GIDMappings)
	f.Bool(8, &m.RecursiveReadOnly)
	grpcwire.Opt(f, 9, &m.Image)
	f.Str(10, &m.ImageSubPath)
	f.Strs(11, &m.MountOptions)
}

// Device gives a container a host device; Permissions is a subset of "rwm".
type Device struct{ ContainerPath, HostPath, Permissions string }

func (m *Device) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerPath)
	f.Str(2, &m.HostPath)
	f.Str(3, &m.Permissions)
}

// CDIDevice names a device of the Container Device Interface.
type CDIDevice struct{ Name string }

func (m *CDIDevice) Walk(f *grpcwire.Fields) { f.Str(1, &m.Name) }

// LinuxContainerConfig holds a container's Linux settings.
type LinuxContainerConfig struct {
	Resources       *LinuxContainerResources
	SecurityContext *LinuxContainerSecurityContext
}

func (m *LinuxContainerConfig) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Resources)
	grpcwire.Opt(f, 2, &m.SecurityContext)
}

// LinuxContainerResources are cgroup settings. CPU times are in microseconds, memory in bytes; 0 means the
// runtime's default.
type LinuxContainerResources struct {
	CPUPeriod              int64
	CPUQuota               int64
	CPUShares              int64
	MemoryLimitInBytes     int64
	OOMScoreAdj            int64
	CpusetCPUs             string
	CpusetMems             string
	HugepageLimits         []HugepageLimit
	Unified                map[string]string // cgroup v2 only
	MemorySwapLimitInBytes int64
}

func (m *LinuxContainerResources) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.CPUPeriod)
	grpcwire.Num(f, 2, &m.CPUQuota)
	grpcwire.Num(f, 3, &m.CPUShares)
	grpcwire.Num(f, 4, &m.MemoryLimitInBytes)
	grpcwire.Num(f, 5, &m.OOMScoreAdj)
	f.Str(6, &m.CpusetCPUs)
	f.Str(7, &m.CpusetMems)
	grpcwire.Rep(f, 8, &m.HugepageLimits)
	f.StrMap(9, &m.Unified)
	grpcwire.Num(f, 10, &m.MemorySwapLimitInBytes)
}

// HugepageLimit limits huge pages of one size ("2MB", "1GB") to Limit bytes.
type HugepageLimit struct {
	PageSize string
	Limit    uint64
}

func (m *HugepageLimit) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.PageSize)
	grpcwire.Num(f, 2, &m.Limit)
}

// ContainerState of a container.
type ContainerState int32

const (
	ContainerCreated ContainerState = 0
	ContainerRunning ContainerState = 1
	ContainerExited  ContainerState = 2
	ContainerUnknown ContainerState = 3
)

// ContainerFilter selects containers; zero fields match all.
type ContainerFilter struct {
	ID            string
	State         *ContainerState
	PodSandboxID  string
	LabelSelector map[string]string
}

func (m *ContainerFilter) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Wrapped(f, 2, &m.State)
	f.Str(3, &m.PodSandboxID)
	f.StrMap(4, &m.LabelSelector)
}

// Container is a list's short form of a container. CreatedAt is in nanoseconds since 1970.
type Container struct {
	ID           string
	PodSandboxID string
	Metadata     *ContainerMetadata
	Image        *ImageSpec
	ImageRef     string
	State        ContainerState
	CreatedAt    int64
	Labels       map[string]string
	Annotations  map[string]string
	ImageID      string
}

func (m *Container) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	f.Str(2, &m.PodSandboxID)
	grpcwire.Opt(f, 3, &m.Metadata)
	grpcwire.Opt(f, 4, &m.Image)
	f.Str(5, &m.ImageRef)
	grpcwire.Num(f, 6, &m.State)
	grpcwire.Num(f, 7, &m.CreatedAt)
	f.StrMap(8, &m.Labels)
	f.StrMap(9, &m.Annotations)
	f.Str(10, &m.ImageID)
}

// ContainerStatus is the state of a container. Times are in nanoseconds since 1970, 0 if not reached.
type ContainerStatus struct {
	ID          string
	Metadata    *ContainerMetadata
	State       ContainerState
	CreatedAt   int64
	StartedAt   int64
	FinishedAt  int64
	ExitCode    int32
	Image       *ImageSpec
	ImageRef    string
	Reason      string // CamelCase: Completed, Error, OOMKilled
	Message     string
	Labels      map[string]string
	Annotations map[string]string
	Mounts      []Mount
	LogPath     string // absolute
	Resources   *ContainerResources
	ImageID     string
	User        *ContainerUser
	StopSignal  Signal
}

func (m *ContainerStatus) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Opt(f, 2, &m.Metadata)
	grpcwire.Num(f, 3, &m.State)
	grpcwire.Num(f, 4, &m.CreatedAt)
	grpcwire.Num(f, 5, &m.StartedAt)
	grpcwire.Num(f, 6, &m.FinishedAt)
	grpcwire.Num(f, 7, &m.ExitCode)
	grpcwire.Opt(f, 8, &m.Image)
	f.Str(9, &m.ImageRef)
	f.Str(10, &m.Reason)
	f.Str(11, &m.Message)
	f.StrMap(12, &m.Labels)
	f.StrMap(13, &m.Annotations)
	grpcwire.Rep(f, 14, &m.Mounts)
	f.Str(15, &m.LogPath)
	grpcwire.Opt(f, 16, &m.Resources)
	f.Str(17, &m.ImageID)
	grpcwire.Opt(f, 18, &m.User)
	grpcwire.Num(f, 19, &m.StopSignal)
}

// ContainerResources are the resources in force.
type ContainerResources struct{ Linux *LinuxContainerResources }

func (m *ContainerResources) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Linux) }

// ContainerUser is the user that the first process was started as.
type ContainerUser struct{ Linux *LinuxContainerUser }

func (m *ContainerUser) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Linux) }

// LinuxContainerUser is a user, its group and its supplementary groups.
type LinuxContainerUser struct {
	UID, GID           int64
	SupplementalGroups []int64
}

func (m *LinuxContainerUser) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.UID)
	grpcwire.Num(f, 2, &m.GID)
	grpcwire.Nums(f, 3, &m.SupplementalGroups)
}
