package cri

// ContainerMetadata names a container in its sandbox. Attempt tells restarts apart.
type ContainerMetadata struct {
	Name    string
	Attempt uint32
}

func (m *ContainerMetadata) walk(f *fields) {
	f.str(1, &m.Name)
	num(f, 2, &m.Attempt)
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

func (m *ContainerConfig) walk(f *fields) {
	opt(f, 1, &m.Metadata)
	opt(f, 2, &m.Image)
	f.strs(3, &m.Command)
	f.strs(4, &m.Args)
	f.str(5, &m.WorkingDir)
	rep(f, 6, &m.Envs)
	rep(f, 7, &m.Mounts)
	rep(f, 8, &m.Devices)
	f.strMap(9, &m.Labels)
	f.strMap(10, &m.Annotations)
	f.str(11, &m.LogPath)
	f.boolean(12, &m.Stdin)
	f.boolean(13, &m.StdinOnce)
	f.boolean(14, &m.TTY)
	opt(f, 15, &m.Linux)
	rep(f, 17, &m.CDIDevices)
	num(f, 18, &m.StopSignal)
}

// KeyValue is an environment variable.
type KeyValue struct{ Key, Value string }

func (m *KeyValue) walk(f *fields) {
	f.str(1, &m.Key)
	f.str(2, &m.Value)
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

func (m *Mount) walk(f *fields) {
	f.str(1, &m.ContainerPath)
	f.str(2, &m.HostPath)
	f.boolean(3, &m.Readonly)
	f.boolean(4, &m.SELinuxRelabel)
	num(f, 5, &m.Propagation)
	rep(f, 6, &m.UIDMappings)
	rep(f, 7, &m.GIDMappings)
	f.boolean(8, &m.RecursiveReadOnly)
	opt(f, 9, &m.Image)
	f.str(10, &m.ImageSubPath)
	f.strs(11, &m.MountOptions)
}

// Device gives a container a host device; Permissions is a subset of "rwm".
type Device struct{ ContainerPath, HostPath, Permissions string }

func (m *Device) walk(f *fields) {
	f.str(1, &m.ContainerPath)
	f.str(2, &m.HostPath)
	f.str(3, &m.Permissions)
}

// CDIDevice names a device of the Container Device Interface.
type CDIDevice struct{ Name string }

func (m *CDIDevice) walk(f *fields) { f.str(1, &m.Name) }

// LinuxContainerConfig holds a container's Linux settings.
type LinuxContainerConfig struct {
	Resources       *LinuxContainerResources
	SecurityContext *LinuxContainerSecurityContext
}

func (m *LinuxContainerConfig) walk(f *fields) {
	opt(f, 1, &m.Resources)
	opt(f, 2, &m.SecurityContext)
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

func (m *LinuxContainerResources) walk(f *fields) {
	num(f, 1, &m.CPUPeriod)
	num(f, 2, &m.CPUQuota)
	num(f, 3, &m.CPUShares)
	num(f, 4, &m.MemoryLimitInBytes)
	num(f, 5, &m.OOMScoreAdj)
	f.str(6, &m.CpusetCPUs)
	f.str(7, &m.CpusetMems)
	rep(f, 8, &m.HugepageLimits)
	f.strMap(9, &m.Unified)
	num(f, 10, &m.MemorySwapLimitInBytes)
}

// HugepageLimit limits huge pages of one size ("2MB", "1GB") to Limit bytes.
type HugepageLimit struct {
	PageSize string
	Limit    uint64
}

func (m *HugepageLimit) walk(f *fields) {
	f.str(1, &m.PageSize)
	num(f, 2, &m.Limit)
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

func (m *ContainerFilter) walk(f *fields) {
	f.str(1, &m.ID)
	wrapped(f, 2, &m.State)
	f.str(3, &m.PodSandboxID)
	f.strMap(4, &m.LabelSelector)
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

func (m *Container) walk(f *fields) {
	f.str(1, &m.ID)
	f.str(2, &m.PodSandboxID)
	opt(f, 3, &m.Metadata)
	opt(f, 4, &m.Image)
	f.str(5, &m.ImageRef)
	num(f, 6, &m.State)
	num(f, 7, &m.CreatedAt)
	f.strMap(8, &m.Labels)
	f.strMap(9, &m.Annotations)
	f.str(10, &m.ImageID)
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

func (m *ContainerStatus) walk(f *fields) {
	f.str(1, &m.ID)
	opt(f, 2, &m.Metadata)
	num(f, 3, &m.State)
	num(f, 4, &m.CreatedAt)
	num(f, 5, &m.StartedAt)
	num(f, 6, &m.FinishedAt)
	num(f, 7, &m.ExitCode)
	opt(f, 8, &m.Image)
	f.str(9, &m.ImageRef)
	f.str(10, &m.Reason)
	f.str(11, &m.Message)
	f.strMap(12, &m.Labels)
	f.strMap(13, &m.Annotations)
	rep(f, 14, &m.Mounts)
	f.str(15, &m.LogPath)
	opt(f, 16, &m.Resources)
	f.str(17, &m.ImageID)
	opt(f, 18, &m.User)
	num(f, 19, &m.StopSignal)
}

// ContainerResources are the resources in force.
type ContainerResources struct{ Linux *LinuxContainerResources }

func (m *ContainerResources) walk(f *fields) { opt(f, 1, &m.Linux) }

// ContainerUser is the user that the first process was started as.
type ContainerUser struct{ Linux *LinuxContainerUser }

func (m *ContainerUser) walk(f *fields) { opt(f, 1, &m.Linux) }

// LinuxContainerUser is a user, its group and its supplementary groups.
type LinuxContainerUser struct {
	UID, GID           int64
	SupplementalGroups []int64
}

func (m *LinuxContainerUser) walk(f *fields) {
	num(f, 1, &m.UID)
	num(f, 2, &m.GID)
	nums(f, 3, &m.SupplementalGroups)
}
