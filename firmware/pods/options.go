package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/kernellog"
	"github.com/skerry/skerry/firmware/userids"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// SandboxRuntime makes and removes pod sandboxes. *cri.Client implements it.
type SandboxRuntime interface {
	RunPodSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (id string, err error)
	StopPodSandbox(ctx context.Context, id string) error
	RemovePodSandbox(ctx context.Context, id string) error
	PodSandboxStatus(ctx context.Context, id string, verbose bool) (*cri.PodSandboxStatusResponse, error)
	ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]cri.PodSandbox, error)
}

// ContainerRuntime starts and stops containers in a sandbox. *cri.Client implements it.
type ContainerRuntime interface {
	CreateContainer(ctx context.Context, sandboxID string, config *cri.ContainerConfig, sandbox *cri.PodSandboxConfig) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	ContainerLister
}

// ContainerLister tells about containers and runs commands in them. *cri.Client implements it.
type ContainerLister interface {
	ListContainers(ctx context.Context, filter *cri.ContainerFilter) ([]cri.Container, error)
	ContainerStatus(ctx context.Context, id string, verbose bool) (*cri.ContainerStatusResponse, error)
	ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (*cri.ExecSyncResponse, error)
}

// ImageRuntime fetches and removes images. *cri.Client implements it.
type ImageRuntime interface {
	PullImage(ctx context.Context, image *cri.ImageSpec, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (ref string, err error)
	ImageStatus(ctx context.Context, image *cri.ImageSpec, verbose bool) (*cri.ImageStatusResponse, error) // Image nil: not there
	ListImages(ctx context.Context, filter *cri.ImageFilter) ([]cri.Image, error)
	RemoveImage(ctx context.Context, image *cri.ImageSpec) error
	ImageFsInfo(ctx context.Context) (*cri.ImageFsInfoResponse, error)
}

// RuntimeInfo tells about the runtime itself. *cri.Client implements it.
type RuntimeInfo interface {
	Version(ctx context.Context) (*cri.VersionResponse, error)
	Status(ctx context.Context, verbose bool) (*cri.StatusResponse, error)
	RuntimeConfig(ctx context.Context) (*cri.RuntimeConfigResponse, error) // ErrUnimplemented before CRI 1.28
}

// Runtime is the container runtime. *cri.Client implements it. Calls may block until their context ends.
type Runtime interface {
	SandboxRuntime
	ContainerRuntime
	ImageRuntime
	RuntimeInfo
	LogReopener
	StatsRuntime
	ResourceUpdater
}

// Desired is the view of the objects that this node should hold. *store.Desired implements it. Calls do not block for long.
type Desired interface {
	Get(key wire.Key) (wire.Object, bool)
	List(kind wire.Kind) []wire.Object
}

// Watch tells that desired objects changed. *store.Watch implements it.
type Watch interface {
	C() <-chan struct{} // coalesced
	Take() []wire.Key   // empties the set of keys that changed
	Close()
}

// Reporter takes status documents to the relay. *link.Client implements it. Report never blocks; the newest body wins.
type Reporter interface {
	Report(key wire.Key, body []byte)
	Withdraw(key wire.Key)
}

// Recorder takes events for operators. Event must not block for long.
type Recorder interface {
	Event(ref wire.ObjectRef, eventType, reason, message string)
}

// Options configure a Manager. The required ones are marked.
type Options struct {
	Node    string                         // required: the node's name
	Runtime Runtime                        // required
	Socket  string                         // the runtime's socket, for messages
	Desired Desired                        // required
	Watch   func(kinds ...wire.Kind) Watch // required: func(k ...wire.Kind) pods.Watch { return desired.Watch(k...) }
	Reports Reporter                       // required
	Events  Recorder                       // required
	Dir     string                         // required: absolute; volumes and state of pods, a folder for each UID
	LogDir  string                         // required: absolute; container logs, NAMESPACE_NAME_UID/CONTAINER/N.log
	Log     *slog.Logger                   // default: slog.Default()

	// Tokens keeps the pods' service account tokens. nil: pods that want one wait for ever.
	Tokens Tokens

	// Complete reports whether the desired view is whole. While it returns false (the store was damaged and the relay has not
	// filled it again) pods that the view does not know are left running. nil: always whole.
	Complete func() bool

	CgroupParent string // default "/skerry"; pods live in CgroupParent/podUID
	CgroupRoot   string // default "/sys/fs/cgroup"; where empty pod cgroups are removed
	Version      string // this agent's version, reported as nodeInfo.kubeletVersion if NodeInfo has none

	NodeIP   string                // the node's address; empty: found by the route to RouteTo
	RouteTo  []string              // HOST:PORT of the relays
	NodeInfo corev1.NodeSystemInfo // what the board says of itself
	// Annotations are reported with the node; asked at each look at it, and must not block. May be nil.
	Annotations func() map[string]string
	// Conditions are reported with the node's own; asked at each look at it, and must not block. May be nil.
	Conditions func() []corev1.Condition
	// Alive is called whenever the manager's loop has gone round (every 10 s if nothing happens, within minutes if the runtime hangs) and no pod's worker is stuck. May be
	// nil; must not block.
	Alive   func()
	Labels  map[string]string // additional labels of the node
	Taints  []corev1.Taint    // that the node registers with
	MaxPods int64             // default 110
	// UnsafeSysctls may be set by pods beside the safe ones: names, or prefixes that end in "*".
	UnsafeSysctls []string
	// UserIDs are the user and group ids of the machine that pods with a user namespace of their own get. Zero: as userids.Default finds them.
	UserIDs   userids.Range
	PodPids   int64               // processes and threads that one pod may have; 0: no limit
	Reserved  corev1.ResourceList // cpu, memory and ephemeral-storage kept from pods
	StaticDir string              // folder of static pods; empty: none

	LogSize  int64 // default 5 MiB: bytes after which a container's log is rotated
	LogFiles int   // default 3: files of a container's log, the one that is written to included

	ImageHigh int // default 85: percent of the disk in use from which on unused images are removed
	ImageLow  int // default 80: percent at which that ends
	// PullsHeld returns nil while pulls may begin, else a channel that is closed when they may again. May be nil.
	PullsHeld func() <-chan struct{}
	// ParallelPulls is how many images are pulled at a time. Default 2.
	ParallelPulls int
	// EndTask kills and deletes what containerd keeps of a container that CRI takes for ended. nil: nobody can.
	EndTask      func(ctx context.Context, container string) error
	PullProgress PullProgress  // nil: nobody can tell
	PartOwner    PartOwner     // nil: nobody can tell
	PullStall    time.Duration // default 10 min: after which a pull that gets nothing is ended
	PrePull      []string      // images to fetch ahead of the pods that need them, and to keep
	ImageCheck   string        // default CheckPulled: who may use private images that are on the disk
	ImageRecords Records       // of the credentials of images. nil: they are forgotten with the agent
	// ImagePeriod is how often the disk that holds the images is looked at. Default 5 min.
	ImagePeriod time.Duration
	// DiskUsage measures the file system that holds path, in bytes. Default: statfs.
	DiskUsage func(path string) (total, free int64, err error)
	// FlushDisk writes what is in memory of the file system that holds path. Default: syncfs.
	FlushDisk func(path string) error

	// Network says what keeps pods from having a network, and what to do; "" if nothing is known. It must not block. nil: nothing is known.
	Network func() string

	// KilledForMemory tells whether the kernel killed a process of a container for want of memory. Default: it is asked from the kernel's log.
	KilledForMemory func(container string) bool
	// Kill kills a process of a pod that the runtime has lost sight of. Default: SIGKILL.
	Kill func(pid int) error

	// Uptime says which boot of the machine this is, and for how long it has been up. Default: the kernel's CLOCK_BOOTTIME. An empty boot: nobody knows.
	Uptime func() (boot string, up time.Duration)

	ClusterDomain string   // default "cluster.local": of the cluster's DNS, for the full names of pods with a subdomain
	ClusterDNS    []string // addresses of the cluster's DNS; none: ClusterFirst is the node's own resolver

	// MaxRestartDelay is the longest time that a container which ends again and again waits for its next start. Default 5 min, from 1 s.
	MaxRestartDelay time.Duration

	RelistActive time.Duration // default 1 s: how often the runtime is asked while something is going on
	RelistIdle   time.Duration // default 2 s: … while all is quiet
	RelistEmpty  time.Duration // default 10 s: … while there are no pods
	NodePeriod   time.Duration // default 10 s: how often the node's state is sampled
	NodeRefresh  time.Duration // default 5 min: unchanged node status is reported again after this time

	CSI        CSI     // default: volumes of CSI drivers are refused
	Mount      Mounter // default: tmpfs mounts of the kernel (root only)
	Machine    Machine // default: /proc and statfs
	ResolvConf string  // default: /etc/resolv.conf, or what systemd-resolved keeps where that names it alone
	Proc       string  // default /proc
	Sys        string  // default /sys
	Etc        string  // default /etc; where subuid and subgid are
	Eviction   Eviction
	// FileSystem measures the file system that holds path. Default: statfs.
	FileSystem func(path string) (FileSystem, error)
}

// Mounter mounts the tmpfs of secrets and of emptyDir volumes with medium Memory, and parts of volumes. Tmpfs and Unmount are idempotent.
type Mounter interface {
	Tmpfs(dir string, sizeBytes int64) (mounted bool, err error) // sizeBytes 0: the kernel's default; false: there was one
	Unmount(dir string) error                                    // nil if nothing is mounted there
	// Bind shows a file or folder at another path. private: what is mounted below the source later on does not appear there, nor the other way.
	Bind(source, target string, private bool) error
	// Below lists the mount points below a folder, whoever mounted there, the newest last.
	Below(dir string) ([]string, error)
}

func (o *Options) fill() error {
	var missing []string
	for name, absent := range map[string]bool{
		"Node": o.Node == "", "Runtime": o.Runtime == nil, "Desired": o.Desired == nil, "Watch": o.Watch == nil,
		"Reports": o.Reports == nil, "Events": o.Events == nil, "Dir": o.Dir == "", "LogDir": o.LogDir == "",
	} {
		if absent {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("pods: options %v are not set", missing)
	}
	if !filepath.IsAbs(o.Dir) || !filepath.IsAbs(o.LogDir) {
		return errors.New("pods: Dir and LogDir must be absolute paths, because the container runtime uses them too")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	setDefault(&o.CgroupParent, "/skerry")
	setDefault(&o.CgroupRoot, "/sys/fs/cgroup")
	setDefault(&o.Proc, "/proc")
	setDefault(&o.Sys, "/sys")
	setDefault(&o.Etc, "/etc")
	setDefault(&o.MaxPods, 110)
	setDefault(&o.LogSize, 5<<20)
	setDefault(&o.LogFiles, 3)
	setDefault(&o.ImageHigh, 85)
	setDefault(&o.ImageLow, 80)
	setDefault(&o.ParallelPulls, 2)
	setDefault(&o.PullStall, 10*time.Minute)
	setDefault(&o.ImageCheck, CheckPulled)
	if !slices.Contains([]string{CheckPulled, CheckAll, CheckNone}, o.ImageCheck) {
		return fmt.Errorf("pods: ImageCheck %q is none of %s, %s and %s", o.ImageCheck, CheckPulled, CheckAll, CheckNone)
	}
	setDefault(&o.ImagePeriod, 5*time.Minute)
	if o.DiskUsage == nil {
		o.DiskUsage = diskUsage
	}
	if o.FlushDisk == nil {
		o.FlushDisk = flushDisk
	}
	if o.KilledForMemory == nil {
		o.KilledForMemory = func(container string) bool { return kernellog.KilledForMemory(kernellog.Path, container) }
	}
	if o.Kill == nil {
		o.Kill = killProcess
	}
	if o.Uptime == nil {
		o.Uptime = uptime
	}
	setDefault(&o.ClusterDomain, "cluster.local")
	setDefault(&o.MaxRestartDelay, backoffMax)
	if o.MaxRestartDelay < time.Second || o.MaxRestartDelay > backoffMax {
		return fmt.Errorf("pods: MaxRestartDelay %v is not between 1s and %v", o.MaxRestartDelay, backoffMax)
	}
	setDefault(&o.RelistActive, time.Second)
	setDefault(&o.RelistIdle, 2*time.Second)
	setDefault(&o.RelistEmpty, 10*time.Second)
	setDefault(&o.NodePeriod, 10*time.Second)
	setDefault(&o.NodeRefresh, 5*time.Minute)
	if o.Mount == nil {
		o.Mount = kernelMounter{}
	}
	if o.CSI == nil {
		o.CSI = noCSI{}
	}
	if o.Machine == nil {
		o.Machine = LocalMachine{Dir: o.Dir, Groups: parentGroups(o.CgroupRoot, o.CgroupParent)}
	}
	if o.FileSystem == nil {
		o.FileSystem = fileSystem
	}
	if err := o.Eviction.fill(); err != nil {
		return err
	}
	if o.Complete == nil {
		o.Complete = func() bool { return true }
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
