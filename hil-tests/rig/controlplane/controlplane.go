// Package controlplane starts and stops the real Kubernetes control plane of
// hil-tests/kube, for the demo, the benchmarks and the integration tests.
//
//	cp, err := controlplane.Start(ctx, controlplane.Options{Binary: bin + "/skerry-kube", Dir: dir})
//	if err != nil { … }
//	defer cp.Stop()
//	out, err := cp.Kubectl(ctx, "get", "nodes")
//	client, err := kubernetes.NewForConfig(cp.REST())
//
// The folder holds all state. Stopping, or killing, and starting on the same
// folder gives the same objects behind the same address and certificates, so
// that clients of the first run go on with the second.
//
// Concurrency: the methods of a ControlPlane may be called from any goroutine.
//
// Testing: the unit tests run a shell script in the binary's place; with
// -tags integration the real binary is started, restarted and killed, from the
// folder that SKERRY_BIN names or from build/bin.
package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// StartTimeout bounds Start. A warm start takes 3 s on two idle cores.
const StartTimeout = 3 * time.Minute

// Options of Start. Binary and Dir are required.
type Options struct {
	Binary string // path of skerry-kube
	Dir    string // all state; made if it is not there
	Log    string // the components' log; Dir/control-plane.log if empty
	Port   int    // of the API server; 0: the one used before on Dir, else a free one
	// ClusterCIDR are the addresses of pods of which every node gets a part (256 each); empty: nodes get none.
	ClusterCIDR string
	Progress    process.Progress // told about once a second during Start; may be nil
}

// ControlPlane is a running control plane. Its methods may be called
// concurrently. Whoever started it calls Stop or Kill, once or more.
type ControlPlane struct {
	opts   Options
	proc   *process.Process
	config *rest.Config
	url    string
	took   time.Duration
}

// Start returns when the control plane can be used: /readyz answers, the
// namespaces "default" and "kube-system" have the configmap with the authority
// that every pod mounts, and pods in "default" have their service account.
func Start(ctx context.Context, opts Options) (*ControlPlane, error) {
	if opts.Binary == "" || opts.Dir == "" {
		return nil, errors.New("start the control plane: Binary and Dir are required")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	opts.Dir = dir
	if opts.Log == "" {
		opts.Log = filepath.Join(opts.Dir, "control-plane.log")
	}
	if _, err := os.Stat(opts.Binary); err != nil {
		return nil, fmt.Errorf("start the control plane (`make kube` builds it): %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, StartTimeout, fmt.Errorf("not within %v", StartTimeout))
	defer cancel()
	args := []string{"up", "--dir", opts.Dir, "--port", strconv.Itoa(opts.Port)}
	if opts.ClusterCIDR != "" {
		args = append(args, "--cluster-cidr", opts.ClusterCIDR)
	}
	proc, err := process.Start(process.Spec{Name: "skerry-kube", Path: opts.Binary, Log: opts.Log, Args: args})
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{opts: opts, proc: proc}
	if err := c.waitReady(ctx); err != nil {
		return nil, errors.Join(err, proc.Stop())
	}
	return c, nil
}

// mark is what skerry-kube writes to ready.json.
type mark struct {
	PID int    `json:"pid"`
	URL string `json:"url"`
}

func (c *ControlPlane) waitReady(ctx context.Context) error {
	var m mark
	err := process.WaitReady(ctx, c.proc, "the control plane is ready", c.opts.Progress, func(context.Context) error {
		data, err := os.ReadFile(filepath.Join(c.opts.Dir, "ready.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("ready.json: %w", err)
		}
		if m.PID != c.proc.PID() { // left by a run that was killed
			return fmt.Errorf("ready.json is of the process %d, not of %d", m.PID, c.proc.PID())
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.took, c.url = time.Since(c.proc.Started()), m.URL
	c.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read the administrator's kubeconfig: %w", err)
	}
	c.config.QPS = -1 // a test must not measure the client's own throttle
	return nil
}

// Kubeconfig is the path of the administrator's kubeconfig. The file stands
// alone and can be copied.
func (c *ControlPlane) Kubeconfig() string { return filepath.Join(c.opts.Dir, "admin.kubeconfig") }

// URL is the API server's address, https://127.0.0.1:PORT.
func (c *ControlPlane) URL() string { return c.url }

// REST is the administrator's client configuration, without a client-side rate
// limit. Each call returns a copy of its own.
func (c *ControlPlane) REST() *rest.Config { return rest.CopyConfig(c.config) }

// Took is the time from the start of the process until it was ready.
func (c *ControlPlane) Took() time.Duration { return c.took }

// Process is the one process that holds the whole control plane, for its PID,
// memory, log and end. Stop it through the ControlPlane.
func (c *ControlPlane) Process() *process.Process { return c.proc }

// Kubectl runs kubectl as the administrator and returns what it prints. The
// error quotes kubectl's own words. It works, and reports a refused
// connection, while the control plane is stopped too.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args)
}

// Apply runs `kubectl apply` on manifests in YAML or JSON.
func (c *ControlPlane) Apply(ctx context.Context, manifests string, args ...string) (string, error) {
	return c.kubectl(ctx, manifests, append([]string{"apply", "-f", "-"}, args...))
}

func (c *ControlPlane) kubectl(ctx context.Context, stdin string, args []string) (string, error) {
	return process.Output(ctx, process.Spec{
		Name: "kubectl", Path: c.opts.Binary, Stdin: stdin,
		Args: append([]string{"kubectl", "--kubeconfig", c.Kubeconfig()}, args...),
		// The user's preferences and cache are none of the rig's business.
		Env: []string{"KUBERC=off", "KUBECACHEDIR=" + filepath.Join(c.opts.Dir, "kubectl-cache")},
	})
}

// Stop ends the control plane in order; its state stays in the folder.
func (c *ControlPlane) Stop() error { return c.proc.Stop() }

// Kill ends the control plane with SIGKILL, as a crash would.
func (c *ControlPlane) Kill() error { return c.proc.Kill() }
