package cri

// The requests and responses of the calls. Client's methods build and unpack most of them; they are
// exported because together with Marshal and Unmarshal they are the wire contract.

type (
	VersionRequest                   struct{ Version string }
	StatusRequest                    struct{ Verbose bool }
	RuntimeConfigRequest             struct{}
	RunPodSandboxResponse            struct{ PodSandboxID string }
	StopPodSandboxRequest            struct{ PodSandboxID string }
	StopPodSandboxResponse           struct{}
	RemovePodSandboxRequest          struct{ PodSandboxID string }
	RemovePodSandboxResponse         struct{}
	ListPodSandboxRequest            struct{ Filter *PodSandboxFilter }
	ListPodSandboxResponse           struct{ Items []PodSandbox }
	CreateContainerResponse          struct{ ContainerID string }
	StartContainerRequest            struct{ ContainerID string }
	StartContainerResponse           struct{}
	StopContainerResponse            struct{}
	RemoveContainerRequest           struct{ ContainerID string }
	RemoveContainerResponse          struct{}
	ListContainersRequest            struct{ Filter *ContainerFilter }
	ListContainersResponse           struct{ Containers []Container }
	ReopenContainerLogRequest        struct{ ContainerID string }
	ReopenContainerLogResponse       struct{}
	UpdateContainerResourcesResponse struct{}
	ContainerStatsRequest            struct{ ContainerID string }
	ContainerStatsResponse           struct{ Stats *ContainerStats }
	ListContainerStatsRequest        struct{ Filter *ContainerStatsFilter }
	ListContainerStatsResponse       struct{ Stats []ContainerStats }
	GetEventsRequest                 struct{}
	ListImagesRequest                struct{ Filter *ImageFilter }
	ListImagesResponse               struct{ Images []Image }
	PullImageResponse                struct{ ImageRef string }
	RemoveImageRequest               struct{ Image *ImageSpec }
	RemoveImageResponse              struct{}
	ImageFsInfoRequest               struct{}
)

func (m *VersionRequest) walk(f *fields)               { f.str(1, &m.Version) }
func (m *StatusRequest) walk(f *fields)                { f.boolean(1, &m.Verbose) }
func (*RuntimeConfigRequest) walk(*fields)             {}
func (m *RunPodSandboxResponse) walk(f *fields)        { f.str(1, &m.PodSandboxID) }
func (m *StopPodSandboxRequest) walk(f *fields)        { f.str(1, &m.PodSandboxID) }
func (*StopPodSandboxResponse) walk(*fields)           {}
func (m *RemovePodSandboxRequest) walk(f *fields)      { f.str(1, &m.PodSandboxID) }
func (*RemovePodSandboxResponse) walk(*fields)         {}
func (m *ListPodSandboxRequest) walk(f *fields)        { opt(f, 1, &m.Filter) }
func (m *ListPodSandboxResponse) walk(f *fields)       { rep(f, 1, &m.Items) }
func (m *CreateContainerResponse) walk(f *fields)      { f.str(1, &m.ContainerID) }
func (m *StartContainerRequest) walk(f *fields)        { f.str(1, &m.ContainerID) }
func (*StartContainerResponse) walk(*fields)           {}
func (*StopContainerResponse) walk(*fields)            {}
func (m *RemoveContainerRequest) walk(f *fields)       { f.str(1, &m.ContainerID) }
func (*RemoveContainerResponse) walk(*fields)          {}
func (m *ListContainersRequest) walk(f *fields)        { opt(f, 1, &m.Filter) }
func (m *ListContainersResponse) walk(f *fields)       { rep(f, 1, &m.Containers) }
func (m *ReopenContainerLogRequest) walk(f *fields)    { f.str(1, &m.ContainerID) }
func (*ReopenContainerLogResponse) walk(*fields)       {}
func (*UpdateContainerResourcesResponse) walk(*fields) {}
func (m *ContainerStatsRequest) walk(f *fields)        { f.str(1, &m.ContainerID) }
func (m *ContainerStatsResponse) walk(f *fields)       { opt(f, 1, &m.Stats) }
func (m *ListContainerStatsRequest) walk(f *fields)    { opt(f, 1, &m.Filter) }
func (m *ListContainerStatsResponse) walk(f *fields)   { rep(f, 1, &m.Stats) }
func (*GetEventsRequest) walk(*fields)                 {}
func (m *ListImagesRequest) walk(f *fields)            { opt(f, 1, &m.Filter) }
func (m *ListImagesResponse) walk(f *fields)           { rep(f, 1, &m.Images) }
func (m *PullImageResponse) walk(f *fields)            { f.str(1, &m.ImageRef) }
func (m *RemoveImageRequest) walk(f *fields)           { opt(f, 1, &m.Image) }
func (*RemoveImageResponse) walk(*fields)              {}
func (*ImageFsInfoRequest) walk(*fields)               {}

// VersionResponse names the runtime. RuntimeAPIVersion is "v1".
type VersionResponse struct {
	Version, RuntimeName, RuntimeVersion, RuntimeAPIVersion string
}

func (m *VersionResponse) walk(f *fields) {
	f.str(1, &m.Version)
	f.str(2, &m.RuntimeName)
	f.str(3, &m.RuntimeVersion)
	f.str(4, &m.RuntimeAPIVersion)
}

// StatusResponse is the runtime's status; Info is set in verbose answers only, for people to read.
type StatusResponse struct {
	Status          *RuntimeStatus
	Info            map[string]string
	RuntimeHandlers []RuntimeHandler
	Features        *RuntimeFeatures
}

func (m *StatusResponse) walk(f *fields) {
	opt(f, 1, &m.Status)
	f.strMap(2, &m.Info)
	rep(f, 3, &m.RuntimeHandlers)
	opt(f, 4, &m.Features)
}

// RuntimeConfigResponse is the runtime's own configuration.
type RuntimeConfigResponse struct{ Linux *LinuxRuntimeConfiguration }

func (m *RuntimeConfigResponse) walk(f *fields) { opt(f, 1, &m.Linux) }

// RunPodSandboxRequest creates and starts a sandbox.
type RunPodSandboxRequest struct {
	Config         *PodSandboxConfig
	RuntimeHandler string
}

func (m *RunPodSandboxRequest) walk(f *fields) {
	opt(f, 1, &m.Config)
	f.str(2, &m.RuntimeHandler)
}

// PodSandboxStatusRequest asks for a sandbox's status.
type PodSandboxStatusRequest struct {
	PodSandboxID string
	Verbose      bool
}

func (m *PodSandboxStatusRequest) walk(f *fields) {
	f.str(1, &m.PodSandboxID)
	f.boolean(2, &m.Verbose)
}

// PodSandboxStatusResponse is a sandbox's status; runtimes that have events also fill the last two.
type PodSandboxStatusResponse struct {
	Status             *PodSandboxStatus
	Info               map[string]string
	ContainersStatuses []ContainerStatus
	Timestamp          int64 // nanoseconds since 1970
}

func (m *PodSandboxStatusResponse) walk(f *fields) {
	opt(f, 1, &m.Status)
	f.strMap(2, &m.Info)
	rep(f, 3, &m.ContainersStatuses)
	num(f, 4, &m.Timestamp)
}

// CreateContainerRequest creates a container in a sandbox; SandboxConfig is the one the sandbox was made from.
type CreateContainerRequest struct {
	PodSandboxID  string
	Config        *ContainerConfig
	SandboxConfig *PodSandboxConfig
}

func (m *CreateContainerRequest) walk(f *fields) {
	f.str(1, &m.PodSandboxID)
	opt(f, 2, &m.Config)
	opt(f, 3, &m.SandboxConfig)
}

// StopContainerRequest stops a container; Timeout is in seconds.
type StopContainerRequest struct {
	ContainerID string
	Timeout     int64
}

func (m *StopContainerRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	num(f, 2, &m.Timeout)
}

// ContainerStatusRequest asks for a container's status.
type ContainerStatusRequest struct {
	ContainerID string
	Verbose     bool
}

func (m *ContainerStatusRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	f.boolean(2, &m.Verbose)
}

// ContainerStatusResponse is a container's status; Info is set in verbose answers only.
type ContainerStatusResponse struct {
	Status *ContainerStatus
	Info   map[string]string
}

func (m *ContainerStatusResponse) walk(f *fields) {
	opt(f, 1, &m.Status)
	f.strMap(2, &m.Info)
}

// UpdateContainerResourcesRequest changes a container's cgroup settings.
type UpdateContainerResourcesRequest struct {
	ContainerID string
	Linux       *LinuxContainerResources
	Annotations map[string]string
}

func (m *UpdateContainerResourcesRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	opt(f, 2, &m.Linux)
	f.strMap(4, &m.Annotations)
}

// ExecSyncRequest runs a command in a container; Timeout is in seconds, 0 for none.
type ExecSyncRequest struct {
	ContainerID string
	Cmd         []string
	Timeout     int64
}

func (m *ExecSyncRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	f.strs(2, &m.Cmd)
	num(f, 3, &m.Timeout)
}

// ExecSyncResponse is what a command wrote and how it ended.
type ExecSyncResponse struct {
	Stdout, Stderr []byte
	ExitCode       int32
}

func (m *ExecSyncResponse) walk(f *fields) {
	f.bytes(1, &m.Stdout)
	f.bytes(2, &m.Stderr)
	num(f, 3, &m.ExitCode)
}

// ExecRequest asks for a streaming session with a command.
type ExecRequest struct {
	ContainerID                string
	Cmd                        []string
	TTY, Stdin, Stdout, Stderr bool
}

func (m *ExecRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	f.strs(2, &m.Cmd)
	f.boolean(3, &m.TTY)
	f.boolean(4, &m.Stdin)
	f.boolean(5, &m.Stdout)
	f.boolean(6, &m.Stderr)
}

// AttachRequest asks for a streaming session with a container's first process.
type AttachRequest struct {
	ContainerID                string
	Stdin, TTY, Stdout, Stderr bool
}

func (m *AttachRequest) walk(f *fields) {
	f.str(1, &m.ContainerID)
	f.boolean(2, &m.Stdin)
	f.boolean(3, &m.TTY)
	f.boolean(4, &m.Stdout)
	f.boolean(5, &m.Stderr)
}

// PortForwardRequest asks for a streaming session with ports of a sandbox.
type PortForwardRequest struct {
	PodSandboxID string
	Port         []int32
}

func (m *PortForwardRequest) walk(f *fields) {
	f.str(1, &m.PodSandboxID)
	nums(f, 2, &m.Port)
}

// The answers to Exec, Attach and PortForward: where the runtime serves the session.
type (
	ExecResponse        struct{ URL string }
	AttachResponse      struct{ URL string }
	PortForwardResponse struct{ URL string }
)

func (m *ExecResponse) walk(f *fields)        { f.str(1, &m.URL) }
func (m *AttachResponse) walk(f *fields)      { f.str(1, &m.URL) }
func (m *PortForwardResponse) walk(f *fields) { f.str(1, &m.URL) }

// ImageStatusRequest asks for an image's status.
type ImageStatusRequest struct {
	Image   *ImageSpec
	Verbose bool
}

func (m *ImageStatusRequest) walk(f *fields) {
	opt(f, 1, &m.Image)
	f.boolean(2, &m.Verbose)
}

// ImageStatusResponse is an image's status; Image is nil if the runtime does not hold it.
type ImageStatusResponse struct {
	Image *Image
	Info  map[string]string
}

func (m *ImageStatusResponse) walk(f *fields) {
	opt(f, 1, &m.Image)
	f.strMap(2, &m.Info)
}

// PullImageRequest pulls an image; SandboxConfig may be nil.
type PullImageRequest struct {
	Image         *ImageSpec
	Auth          *AuthConfig
	SandboxConfig *PodSandboxConfig
}

func (m *PullImageRequest) walk(f *fields) {
	opt(f, 1, &m.Image)
	opt(f, 2, &m.Auth)
	opt(f, 3, &m.SandboxConfig)
}

// ImageFsInfoResponse is the use of the file systems that hold images and containers.
type ImageFsInfoResponse struct {
	ImageFilesystems, ContainerFilesystems []FilesystemUsage
}

func (m *ImageFsInfoResponse) walk(f *fields) {
	rep(f, 1, &m.ImageFilesystems)
	rep(f, 2, &m.ContainerFilesystems)
}

// ContainerEventType of a ContainerEventResponse.
type ContainerEventType int32

const (
	ContainerCreatedEvent ContainerEventType = 0
	ContainerStartedEvent ContainerEventType = 1
	ContainerStoppedEvent ContainerEventType = 2
	ContainerDeletedEvent ContainerEventType = 3
)

// ContainerEventResponse is an event of a container or sandbox. CreatedAt is in nanoseconds since 1970.
type ContainerEventResponse struct {
	ContainerID        string
	ContainerEventType ContainerEventType
	CreatedAt          int64
	PodSandboxStatus   *PodSandboxStatus
	ContainersStatuses []ContainerStatus
}

func (m *ContainerEventResponse) walk(f *fields) {
	f.str(1, &m.ContainerID)
	num(f, 2, &m.ContainerEventType)
	num(f, 3, &m.CreatedAt)
	opt(f, 4, &m.PodSandboxStatus)
	rep(f, 5, &m.ContainersStatuses)
}
