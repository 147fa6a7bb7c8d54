package containerd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

const (
	readyLimit = 60 * time.Second // a cold start on a busy machine with 2 cores
	stopGrace  = 15 * time.Second
	maxSocket  = 107 // sun_path without its final NUL
)

// Options configure Start.
type Options struct {
	// Dir holds images, configuration and log, and nothing else: Cleanup removes it. Its file system must be one that
	// overlayfs can use.
	Dir string
	// StateDir holds sockets and mounts; its path must be short. Default /run/skerry-rig-XXXXXXXX, derived from Dir.
	StateDir string
	// SandboxImage is the pause image's full reference.
	SandboxImage string
	// Binary is the containerd to run. Default "containerd".
	Binary string
	// NoNetwork leaves out the CNI configuration: whoever wants one writes it into CNIDir.
	NoNetwork bool
	// Version2 says that Binary is containerd 2, with its shim and its runc beside it.
	Version2 bool
	// CRIO is the path of a CRI-O to run instead of containerd, with its pinns beside it. It needs conmon.
	CRIO string
}

// Runtime is one containerd. Its owner calls Cleanup.
type Runtime struct {
	binary   string
	dir      string
	stateDir string
	id       string // 8 hexadecimal digits, derived from Dir
	layout   layout
	noNet    bool
	env      []string // of containerd, beside our own
	client   *cri.Client

	process *process.Process // nil before the first start
}

// Start writes the configuration, starts containerd and waits until it is ready for pods. What an earlier process with
// the same Dir left behind is taken over: pods keep running.
func Start(ctx context.Context, o Options) (*Runtime, error) {
	r, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.Cleanup(context.WithoutCancel(ctx)))
	}
	return r, nil
}

func prepare(o Options) (*Runtime, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("containerd's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make containerd's folder: %w", err)
	}
	o.Dir = dir
	r := &Runtime{dir: dir, id: fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:8]}
	r.noNet = o.NoNetwork
	r.stateDir = cmp.Or(o.StateDir, "/run/skerry-rig-"+r.id)
	r.layout = newLayout(o, r.stateDir)
	if o.Version2 { // or the shim and the runc that are found first on the PATH are those of the installed containerd
		r.env = []string{"PATH=" + filepath.Dir(o.Binary) + ":" + os.Getenv("PATH")}
	}
	if o.CRIO != "" {
		r.env = []string{"HOME=" + r.layout.Home}
	}
	if len(r.layout.Socket)+len(".ttrpc") > maxSocket {
		return nil, fmt.Errorf("containerd's socket path %s is too long for a unix socket: give a shorter StateDir", r.layout.Socket)
	}
	if r.binary, err = exec.LookPath(cmp.Or(o.CRIO, o.Binary, "containerd")); err != nil {
		return nil, fmt.Errorf("containerd is not installed (%w): install it with `apt-get install containerd runc`", err)
	}
	if r.layout.CNIBin, err = findCNI(); err != nil {
		return nil, err
	}
	if !r.noNet {
		if err := r.layout.claimBridge(); err != nil {
			return nil, err
		}
	}
	if err := r.layout.write(); err != nil {
		return nil, err
	}
	if registry, _, ok := strings.Cut(o.SandboxImage, "/"); ok {
		if err := r.AllowHTTP(registry); err != nil {
			return nil, err
		}
	}
	r.client = cri.New(cri.Options{Socket: r.layout.Socket})
	return r, nil
}

// Client returns a client of this containerd; it stays good over restarts.
func (r *Runtime) Client() *cri.Client { return r.client }

// Socket returns the path of the CRI socket.
func (r *Runtime) Socket() string { return r.layout.Socket }

// CertsDir is the folder in which the runtime looks for what it has to know of a registry, in HOST:PORT/hosts.toml, at each pull. Of a
// registry on loopback it needs nothing: it speaks HTTP to it.
func (r *Runtime) CertsDir() string { return r.layout.CertsDir }

// ConfigFile returns the path of the runtime's configuration.
func (r *Runtime) ConfigFile() string { return r.layout.ConfigFile }

// CgroupParent returns a parent for pods' cgroups that only this Runtime uses: LinuxPodSandboxConfig.CgroupParent.
func (r *Runtime) CgroupParent() string { return "/skerry-rig-" + r.id }

// CNIDir returns the folder of the CNI configuration.
func (r *Runtime) CNIDir() string { return r.layout.CNIConf }

// LogFile returns the path of containerd's own log.
func (r *Runtime) LogFile() string { return r.layout.LogFile }

// PID returns containerd's process id, 0 while it is not running.
func (r *Runtime) PID() int {
	if !r.running() {
		return 0
	}
	return r.process.PID()
}

// Stop ends containerd with SIGTERM. Pods keep running.
func (r *Runtime) Stop() error {
	if r.process == nil {
		return nil
	}
	return r.process.Stop()
}

// Kill ends containerd with SIGKILL. Pods keep running.
func (r *Runtime) Kill() error {
	if r.process == nil {
		return nil
	}
	return r.process.Kill()
}

// Pause stops containerd's process with SIGSTOP, so that it accepts connections but answers nothing; Resume continues it.
func (r *Runtime) Pause() error { return r.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (r *Runtime) Resume() error { return r.signal(syscall.SIGCONT) }

// Restart starts containerd, after stopping it if it runs, and waits until it is ready.
func (r *Runtime) Restart(ctx context.Context) error {
	if err := r.Stop(); err != nil {
		return err
	}
	return r.start(ctx)
}

func (r *Runtime) running() bool {
	if r.process == nil {
		return false
	}
	select {
	case <-r.process.Done():
		return false
	default:
		return true
	}
}

func (r *Runtime) signal(s syscall.Signal) error {
	if !r.running() {
		return errors.New("containerd is not running")
	}
	return r.process.Signal(s)
}

func (r *Runtime) start(ctx context.Context) error {
	if err := r.killOld(); err != nil {
		return err
	}
	p, err := process.Start(process.Spec{
		Name: "containerd", Path: r.binary, Args: r.layout.args, Env: r.env, Log: r.layout.LogFile, Grace: stopGrace,
	})
	if err != nil {
		return err
	}
	r.process = p
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return process.WaitReady(ctx, p, "containerd is ready for pods", nil, r.ready)
}

func (r *Runtime) ready(ctx context.Context) error {
	status, err := r.client.Status(ctx, false)
	if err != nil {
		return err
	}
	for _, t := range []string{cri.RuntimeReady, cri.NetworkReady} {
		if c := status.Status.Condition(t); !c.Status && !(r.noNet && t == cri.NetworkReady) {
			return fmt.Errorf("condition %s is false: %s: %s", t, c.Reason, c.Message)
		}
	}
	return nil
}

// Version is what the runtime answers when it is asked for its version, "" if it does not answer.
func (r *Runtime) Version(ctx context.Context) string {
	v, err := r.client.Version(ctx)
	if err != nil {
		return ""
	}
	return v.RuntimeVersion
}

// Shims returns the process ids of the shims that were started for this runtime's containers.
func (r *Runtime) Shims() []int { return r.shims() }

// Addresses returns the addresses that CNI's host-local plugin has given away.
func (r *Runtime) Addresses() []string {
	files, _ := filepath.Glob(filepath.Join(r.layout.IPAM, "*", "*.*.*.*")) //nolint:errcheck // a constant pattern
	return files
}

// Mounts returns what is mounted below the runtime's folders: root file systems, shared memory and network namespaces of pods.
func (r *Runtime) Mounts() ([]string, error) { return r.mounts() }
