package cri

import "github.com/skerry/skerry/firmware/grpcwire"

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

func (m *VersionRequest) Walk(f *grpcwire.Fields)               { f.Str(1, &m.Version) }
func (m *StatusRequest) Walk(f *grpcwire.Fields)                { f.Bool(1, &m.Verbose) }
func (*RuntimeConfigRequest) Walk(*grpcwire.Fields)             {}
func (m *RunPodSandboxResponse) Walk(f *grpcwire.Fields)        { f.Str(1, &m.PodSandboxID) }
func (m *StopPodSandboxRequest) Walk(f *grpcwire.Fields)        { f.Str(1, &m.PodSandboxID) }
func (*StopPodSandboxResponse) Walk(*grpcwire.Fields)           {}
func (m *RemovePodSandboxRequest) Walk(f *grpcwire.Fields)      { f.Str(1, &m.PodSandboxID) }
func (*RemovePodSandboxResponse) Walk(*grpcwire.Fields)         {}
func (m *ListPodSandboxRequest) Walk(f *grpcwire.Fields)        { grpcwire.Opt(f, 1, &m.Filter) }
func (m *ListPodSandboxResponse) Walk(f *grpcwire.Fields)       { grpcwire.Rep(f, 1, &m.Items) }
func (m *CreateContainerResponse) Walk(f *grpcwire.Fields)      { f.Str(1, &m.ContainerID) }
func (m *StartContainerRequest) Walk(f *grpcwire.Fields)        { f.Str(1, &m.ContainerID) }
func (*StartContainerResponse) Walk(*grpcwire.Fields)           {}
func (*StopContainerResponse) Walk(*grpcwire.Fields)            {}
func (m *RemoveContainerRequest) Walk(f *grpcwire.Fields)       { f.Str(1, &m.ContainerID) }
func (*RemoveContainerResponse) Walk(*grpcwire.Fields)          {}
func (m *ListContainersRequest) Walk(f *grpcwire.Fields)        { grpcwire.Opt(f, 1, &m.Filter) }
func (m *ListContainersResponse) Walk(f *grpcwire.Fields)       { grpcwire.Rep(f, 1, &m.Containers) }
func (m *ReopenContainerLogRequest) Walk(f *grpcwire.Fields)    { f.Str(1, &m.ContainerID) }
func (*ReopenContainerLogResponse) Walk(*grpcwire.Fields)       {}
func (*UpdateContainerResourcesResponse) Walk(*grpcwire.Fields) {}
func (m *ContainerStatsRequest) Walk(f *grpcwire.Fields)        { f.Str(1, &m.ContainerID) }
func (m *ContainerStatsResponse) Walk(f *grpcwire.Fields)       { grpcwire.Opt(f, 1, &m.Stats) }
func (m *ListContainerStatsRequest) Walk(f *grpcwire.Fields)    { grpcwire.Opt(f, 1, &m.Filter) }
func (m *ListContainerStatsResponse) Walk(f *grpcwire.Fields)   { grpcwire.Rep(f, 1, &m.Stats) }
func (*GetEventsRequest) Walk(*grpcwire.Fields)                 {}
func (m *ListImagesRequest) Walk(f *grpcwire.Fields)            { grpcwire.Opt(f, 1, &m.Filter) }
func (m *ListImagesResponse) Walk(f *grpcwire.Fields)           { grpcwire.Rep(f, 1, &m.Images) }
func (m *PullImageResponse) Walk(f *grpcwire.Fields)            { f.Str(1, &m.ImageRef) }
func (m *RemoveImageRequest) Walk(f *grpcwire.Fields)           { grpcwire.Opt(f, 1, &m.Image) }
func (*RemoveImageResponse) Walk(*grpcwire.Fields)              {}
func (*ImageFsInfoRequest) Walk(*grpcwire.Fields)               {}

// VersionResponse names the runtime. RuntimeAPIVersion is "v1".
type VersionResponse struct {
	Version, RuntimeName, RuntimeVersion, RuntimeAPIVersion string
}

func (m *VersionResponse) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Version)
	f.Str(2, &m.RuntimeName)
	f.Str(3, &m.RuntimeVersion)
	f.Str(4, &m.RuntimeAPIVersion)
}

// StatusResponse is the runtime's status; Info is set in verbose answers only, for people to read.
type StatusResponse struct {
	Status          *RuntimeStatus
	Info            map[string]string
	RuntimeHandlers []RuntimeHandler
	Features        *RuntimeFeatures
}

func (m *StatusResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Status)
	f.StrMap(2, &m.Info)
	grpcwire.Rep(f, 3, &m.RuntimeHandlers)
	grpcwire.Opt(f, 4, &m.Features)
}

// RuntimeConfigResponse is the runtime's own configuration.
type RuntimeConfigResponse struct{ Linux *LinuxRuntimeConfiguration }

func (m *RuntimeConfigResponse) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Linux) }

// RunPodSandboxRequest creates and starts a sandbox.
type RunPodSandboxRequest struct {
	Config         *PodSandboxConfig
	RuntimeHandler string
}

func (m *RunPodSandboxRequest) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Config)
	f.Str(2, &m.RuntimeHandler)
}

// PodSandboxStatusRequest asks for a sandbox's status.
type PodSandboxStatusRequest struct {
	PodSandboxID string
	Verbose      bool
}

func (m *PodSandboxStatusRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.PodSandboxID)
	f.Bool(2, &m.Verbose)
}

// PodSandboxStatusResponse is a sandbox's status; runtimes that have events also fill the last two.
type PodSandboxStatusResponse struct {
	Status             *PodSandboxStatus
	Info               map[string]string
	ContainersStatuses []ContainerStatus
	Timestamp          int64 // nanoseconds since 1970
}

func (m *PodSandboxStatusResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Status)
	f.StrMap(2, &m.Info)
	grpcwire.Rep(f, 3, &m.ContainersStatuses)
	grpcwire.Num(f, 4, &m.Timestamp)
}

// CreateContainerRequest creates a container in a sandbox; SandboxConfig is the one the sandbox was made from.
type CreateContainerRequest struct {
	PodSandboxID  string
	Config        *ContainerConfig
	SandboxConfig *PodSandboxConfig
}

func (m *CreateContainerRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.PodSandboxID)
	grpcwire.Opt(f, 2, &m.Config)
	grpcwire.Opt(f, 3, &m.SandboxConfig)
}

// StopContainerRequest stops a container; Timeout is in seconds.
type StopContainerRequest struct {
	ContainerID string
	Timeout     int64
}

func (m *StopContainerRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	grpcwire.Num(f, 2, &m.Timeout)
}

// ContainerStatusRequest asks for a container's status.
type ContainerStatusRequest struct {
	ContainerID string
	Verbose     bool
}

func (m *ContainerStatusRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	f.Bool(2, &m.Verbose)
}

// ContainerStatusResponse is a container's status; Info is set in verbose answers only.
type ContainerStatusResponse struct {
	Status *ContainerStatus
	Info   map[string]string
}

func (m *ContainerStatusResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Status)
	f.StrMap(2, &m.Info)
}

// UpdateContainerResourcesRequest changes a container's cgroup settings.
type UpdateContainerResourcesRequest struct {
	ContainerID string
	Linux       *LinuxContainerResources
	Annotations map[string]string
}

func (m *UpdateContainerResourcesRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	grpcwire.Opt(f, 2, &m.Linux)
	f.StrMap(4, &m.Annotations)
}

// ExecSyncRequest runs a command in a container; Timeout is in seconds, 0 for none.
type ExecSyncRequest struct {
	ContainerID string
	Cmd         []string
	Timeout     int64
}

func (m *ExecSyncRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	f.Strs(2, &m.Cmd)
	grpcwire.Num(f, 3, &m.Timeout)
}

// ExecSyncResponse is what a command wrote and how it ended.
type ExecSyncResponse struct {
	Stdout, Stderr []byte
	ExitCode       int32
}

func (m *ExecSyncResponse) Walk(f *grpcwire.Fields) {
	f.Bytes(1, &m.Stdout)
	f.Bytes(2, &m.Stderr)
	grpcwire.Num(f, 3, &m.ExitCode)
}

// ExecRequest asks for a streaming session with a command.
type ExecRequest struct {
	ContainerID                string
	Cmd                        []string
	TTY, Stdin, Stdout, Stderr bool
}

func (m *ExecRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	f.Strs(2, &m.Cmd)
	f.Bool(3, &m.TTY)
	f.Bool(4, &m.Stdin)
	f.Bool(5, &m.Stdout)
	f.Bool(6, &m.Stderr)
}

// AttachRequest asks for a streaming session with a container's first process.
type AttachRequest struct {
	ContainerID                string
	Stdin, TTY, Stdout, Stderr bool
}

func (m *AttachRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	f.Bool(2, &m.Stdin)
	f.Bool(3, &m.TTY)
	f.Bool(4, &m.Stdout)
	f.Bool(5, &m.Stderr)
}

// PortForwardRequest asks for a streaming session with ports of a sandbox.
type PortForwardRequest struct {
	PodSandboxID string
	Port         []int32
}

func (m *PortForwardRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.PodSandboxID)
	grpcwire.Nums(f, 2, &m.Port)
}

// The answers to Exec, Attach and PortForward: where the runtime serves the session.
type (
	ExecResponse        struct{ URL string }
	AttachResponse      struct{ URL string }
	PortForwardResponse struct{ URL string }
)

func (m *ExecResponse) Walk(f *grpcwire.Fields)        { f.Str(1, &m.URL) }
func (m *AttachResponse) Walk(f *grpcwire.Fields)      { f.Str(1, &m.URL) }
func (m *PortForwardResponse) Walk(f *grpcwire.Fields) { f.Str(1, &m.URL) }

// ImageStatusRequest asks for an image's status.
type ImageStatusRequest struct {
	Image   *ImageSpec
	Verbose bool
}

func (m *ImageStatusRequest) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Image)
	f.Bool(2, &m.Verbose)
}

// ImageStatusResponse is an image's status; Image is nil if the runtime does not hold it.
type ImageStatusResponse struct {
	Image *Image
	Info  map[string]string
}

func (m *ImageStatusResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Image)
	f.StrMap(2, &m.Info)
}

// PullImageRequest pulls an image; SandboxConfig may be nil.
type PullImageRequest struct {
	Image         *ImageSpec
	Auth          *AuthConfig
	SandboxConfig *PodSandboxConfig
}

func (m *PullImageRequest) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Image)
	grpcwire.Opt(f, 2, &m.Auth)
	grpcwire.Opt(f, 3, &m.SandboxConfig)
}

// ImageFsInfoResponse is the use of the file systems that hold images and containers.
type ImageFsInfoResponse struct {
	ImageFilesystems, ContainerFilesystems []FilesystemUsage
}

func (m *ImageFsInfoResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Rep(f, 1, &m.ImageFilesystems)
	grpcwire.Rep(f, 2, &m.ContainerFilesystems)
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

func (m *ContainerEventResponse) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ContainerID)
	grpcwire.Num(f, 2, &m.ContainerEventType)
	grpcwire.Num(f, 3, &m.CreatedAt)
	grpcwire.Opt(f, 4, &m.PodSandboxStatus)
	grpcwire.Rep(f, 5, &m.ContainersStatuses)
}
