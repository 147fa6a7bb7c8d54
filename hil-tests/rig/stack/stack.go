// Package stack starts the whole of Skerry on one machine, from real parts on loopback: the Kubernetes control plane,
// containerd with a registry, skerry-relay, and skerryd joined with a token. The demo, the end-to-end tests and the
// benchmarks all drive this one package, so that what they show is the same system.
//
//	s, err := stack.Start(ctx, stack.Options{Bin: "build/bin", Module: "."})
//	defer s.Stop(context.Background())
//	err = s.StartRelay(ctx); err = s.Join(ctx); err = s.StartAgent(ctx)
//
// Relay and agent are processes of their own that the caller may stop, kill and start again; their addresses stay the
// same. Replica makes further relays. Relays have the rights of the ServiceAccount that `skerryctl init` makes, not an
// administrator's. Stop ends everything, removes pods, and removes the folder unless Options.Keep is set. The methods of a Stack
// are for one goroutine at a time, but for Status and the control plane's clients.
package stack

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/hil-tests/rig/containerd"
	"github.com/skerry/skerry/hil-tests/rig/controlplane"
	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

// Options configure Start.
type Options struct {
	Bin      string // folder of skerry-kube, skerry-relay, skerryctl, skerryd
	Module   string // root of the checkout, for compiling the sample images
	Dir      string // everything is kept below it; default: a new folder in the temporary folder
	Node     string // default gw-1
	Keep     bool   // leave Dir in place
	NoPods   bool   // no containerd and no registry; the agent runs devices only
	Runtime2 string // path of a containerd 2 to run instead of Debian's containerd
	CRIO     string // path of a CRI-O to run instead of it
	// ClusterCIDR are the addresses of pods of which the cluster gives every node a part; empty: it gives none.
	ClusterCIDR string
	ClusterDNS  string                           // the cluster's DNS server as the agent is told of it; empty: not, and each pod that asks for it has a warning
	NoNetwork   bool                             // containerd has no CNI configuration until somebody writes one into CNIDir
	Kubelet     bool                             // the relay that StartRelay starts serves the kubelet API, at KubeletAt
	Advertise   []string                         // further names and addresses that the relay's certificate is for
	Say         func(format string, args ...any) // progress; may be nil
}

// Stack is a running system.
type Stack struct {
	Options
	Kube      *controlplane.ControlPlane
	Images    *images.Registry    // nil with NoPods
	Runtime   *containerd.Runtime // nil with NoPods
	Relay     *process.Process    // nil while it is stopped
	Agent     *process.Process    // nil while it is stopped
	Skerry    AgentProgram        // what StartAgent starts, if it is not Bin's skerryd
	RelayAt   string              // host:port of the link
	RelayWeb  string              // host:port of the relay's metrics
	KubeletAt string              // host:port of the relay's kubelet API, with Kubelet
	AgentWeb  string              // host:port of the agent's metrics

	replicas []*Replica
	first    []func() error // what Stop does before all else
}

// AgentProgram is another build of skerryd, and what is added to its environment.
type AgentProgram struct {
	Path string
	Env  []string
}

// Start brings up control plane, containerd and registry, and prepares the cluster with `skerryctl init`.
func Start(ctx context.Context, o Options) (s *Stack, err error) {
	if o.Node == "" {
		o.Node = "gw-1"
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "skerry-"); err != nil {
			return nil, fmt.Errorf("make a folder for the system: %w", err)
		}
	} else if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the system's folder: %w", err)
	}
	s = &Stack{Options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
			s = nil
		}
	}()
	for _, at := range []*string{&s.RelayAt, &s.RelayWeb, &s.KubeletAt, &s.AgentWeb} {
		if *at, err = FreeAddress(); err != nil {
			return s, err
		}
	}
	o.Say("starting etcd, kube-apiserver, controller-manager and scheduler")
	if s.Kube, err = controlplane.Start(ctx, controlplane.Options{Binary: s.bin("skerry-kube"), Dir: s.path("kube"), ClusterCIDR: o.ClusterCIDR}); err != nil {
		return s, fmt.Errorf("start the control plane: %w", err)
	}
	if !o.NoPods {
		if err = s.startContainerd(ctx); err != nil {
			return s, err
		}
	}
	o.Say("preparing the cluster: skerryctl init")
	if _, err = s.Ctl(ctx, "init"); err != nil {
		return s, err
	}
	return s, nil
}

func (s *Stack) startContainerd(ctx context.Context) (err error) {
	s.Say("building the sample images")
	s.Images, err = images.Start(ctx, images.Options{ModuleDir: s.Module, BuildDir: filepath.Join(s.Module, "build", "images")})
	if err != nil {
		return fmt.Errorf("start the image registry: %w", err)
	}
	s.Say("starting containerd")
	s.Runtime, err = containerd.Start(ctx, containerd.Options{
		Dir: s.path("containerd"), SandboxImage: s.Images.PauseImage(), Binary: s.Runtime2, Version2: s.Runtime2 != "",
		NoNetwork: s.NoNetwork, CRIO: s.CRIO,
	})
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	return nil
}

func (s *Stack) bin(name string) string { return filepath.Join(s.Bin, name) }
func (s *Stack) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}
func (s *Stack) log(name string) string { return s.path("logs", name+".log") }
func (s *Stack) AgentConfig() string    { return s.path("agent", "skerryd.yaml") }
func (s *Stack) AgentSocket() string    { return s.path("agent", "skerryd.sock") }
func (s *Stack) AgentData() string      { return s.path("agent", "data") }
func (s *Stack) Logs() string           { return s.path("logs") }
func (s *Stack) AgentLog() string       { return s.log("skerryd") }
func (s *Stack) PodLogs() string        { return s.path("agent", "log", "pods") }

// FreeAddress returns a loopback address on which nothing listens now.
func FreeAddress() (string, error) { return FreeAddressAt("127.0.0.1") }

// Ports of the system's own. They are below those that the kernel gives to outgoing connections (32768 and more): one of that range may be taken between
// the look and its use, by anybody's connection.
const (
	firstPort = 10000
	ports     = 8000
)

// FreeAddressAt returns HOST:PORT with a port of host's at which nothing listens now. Ports are chosen at random, so that stacks which start together
// rarely choose the same.
func FreeAddressAt(host string) (string, error) {
	var err error
	for range 100 {
		address := net.JoinHostPort(host, strconv.Itoa(firstPort+mathrand.IntN(ports)))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// Ctl runs skerryctl against the control plane and returns what it printed.
func (s *Stack) Ctl(ctx context.Context, args ...string) (string, error) {
	return process.Output(ctx, process.Spec{Name: "skerryctl " + args[0], Path: s.bin("skerryctl"), Args: args, Env: []string{"KUBECONFIG=" + s.Kube.Kubeconfig()}})
}

// StartRelay starts skerry-relay with the rights of its ServiceAccount and waits until it is ready.
func (s *Stack) StartRelay(ctx context.Context) error {
	kubeconfig, err := s.RelayKubeconfig(ctx)
	if err != nil {
		return err
	}
	args := []string{"--kubeconfig", kubeconfig, "--listen", s.RelayAt, "--metrics-address", s.RelayWeb}
	for _, name := range append([]string{"127.0.0.1"}, s.Advertise...) {
		args = append(args, "--advertise", name)
	}
	if s.Kubelet {
		config, err := s.kubeletConfig()
		if err != nil {
			return err
		}
		args = append(args, "--config", config)
	}
	p, err := process.Start(process.Spec{Name: "skerry-relay", Path: s.bin("skerry-relay"), Args: args, Log: s.log("relay")})
	if err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	s.Relay = p
	return process.WaitReady(ctx, p, "the relay is ready", s.progress, httpOK("http://"+s.RelayWeb+"/readyz"))
}

// kubeletConfig writes the configuration of a relay with a kubelet port, and returns its path.
func (s *Stack) kubeletConfig() (string, error) {
	host, port, err := net.SplitHostPort(s.KubeletAt)
	if err != nil {
		return "", fmt.Errorf("kubelet port: %w", err)
	}
	path := s.path("relay.yaml")
	text := fmt.Sprintf("kubelet: {listen: %q, address: %q, port: %s, peerAddress: %q}\n", s.KubeletAt, host, port, s.KubeletAt)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("configuration of the relay: %w", err)
	}
	return path, nil
}

// StopRelay ends the relay with SIGTERM.
func (s *Stack) StopRelay() error {
	p := s.Relay
	s.Relay = nil
	if p == nil {
		return nil
	}
	return p.Stop()
}

// Join writes the agent's configuration and enrols it with a fresh token.
func (s *Stack) Join(ctx context.Context) error {
	if err := s.WriteAgentConfig(); err != nil {
		return err
	}
	token, err := s.Ctl(ctx, "token", "create", "--node", s.Node)
	if err != nil {
		return err
	}
	file := s.path("agent", "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	if _, err := s.Skerryd(ctx, "join", "-config", s.AgentConfig(), "-token-file", file); err != nil {
		return err
	}
	return nil
}

// Skerryd runs one of skerryd's verbs that end by themselves.
func (s *Stack) Skerryd(ctx context.Context, args ...string) (string, error) {
	return process.Output(ctx, process.Spec{Name: "skerryd " + args[0], Path: s.bin("skerryd"), Args: args})
}

// StaticPods is the folder of the agent's static pods. It does not exist at first.
func (s *Stack) StaticPods() string { return s.path("static") }

// WriteAgentConfig writes skerryd.yaml; edit may change the text of the document's keys (JSON is YAML).
func (s *Stack) WriteAgentConfig(edit ...func(map[string]any)) error {
	doc := map[string]any{
		"node":    map[string]any{"name": s.Node, "eviction": map[string]any{"pressureTransitionPeriod": "10s"}},
		"relay":   map[string]any{"addresses": []string{s.RelayAt}},
		"dataDir": s.AgentData(),
		"pods":    map[string]any{"enabled": !s.NoPods, "logDir": s.PodLogs(), "staticDir": s.StaticPods()},
		"metrics": map[string]any{"address": s.AgentWeb},
		"socket":  s.AgentSocket(),
	}
	if s.ClusterDNS != "" {
		doc["pods"].(map[string]any)["clusterDNS"] = []string{s.ClusterDNS}
	}
	if s.Runtime != nil {
		doc["runtime"] = map[string]any{"endpoint": "unix://" + s.Runtime.Socket(), "cgroupParent": s.Runtime.CgroupParent()}
	}
	for _, e := range edit {
		e(doc)
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the agent's configuration: %w", err)
	}
	if err := os.MkdirAll(s.path("agent"), 0o755); err != nil {
		return fmt.Errorf("make the agent's folder: %w", err)
	}
	if err := os.WriteFile(s.AgentConfig(), text, 0o644); err != nil {
		return fmt.Errorf("write the agent's configuration: %w", err)
	}
	return nil
}

// StartAgent starts skerryd and waits until it answers on its socket. It does not wait for the relay.
func (s *Stack) StartAgent(ctx context.Context) error {
	p, err := process.Start(process.Spec{
		Name: "skerryd", Path: cmp.Or(s.Skerry.Path, s.bin("skerryd")), Env: s.Skerry.Env, Args: []string{"run", "-config", s.AgentConfig()}, Log: s.log("skerryd"),
	})
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	s.Agent = p
	return process.WaitReady(ctx, p, "the agent answers", s.progress, func(ctx context.Context) error {
		_, err := health.Fetch(ctx, s.AgentSocket())
		return err
	})
}

// StopAgent ends skerryd with SIGTERM; pods go on.
func (s *Stack) StopAgent() error {
	p := s.Agent
	s.Agent = nil
	if p == nil {
		return nil
	}
	return p.Stop()
}

// KillAgent ends skerryd with SIGKILL; pods go on.
func (s *Stack) KillAgent() error {
	p := s.Agent
	s.Agent = nil
	if p == nil {
		return nil
	}
	return p.Kill()
}

// Status asks the agent for its state.
func (s *Stack) Status(ctx context.Context) (agent.Status, error) {
	var st agent.Status
	body, err := health.Fetch(ctx, s.AgentSocket())
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("decode the agent's status: %w", err)
	}
	return st, nil
}

func (s *Stack) progress(what string, waited time.Duration, last error) {
	if waited > 2*time.Second {
		s.Say("waiting until %s (%.0f s): %v", what, waited.Seconds(), last)
	}
}

// OnStop has Stop call end before it ends anything itself: for what a caller runs beside the stack. What was named last ends first.
func (s *Stack) OnStop(end func() error) { s.first = append(s.first, end) }

// Stop ends everything that Start and the other methods started. It may be called again, and on what is half started.
func (s *Stack) Stop(ctx context.Context) error {
	var errs []error
	for _, end := range slices.Backward(s.first) {
		errs = append(errs, end())
	}
	s.first = nil
	// The agent goes first, or it would start again what is being removed.
	errs = append(errs, s.StopAgent(), s.StopRelay(), s.killReplicas())
	if s.Runtime != nil {
		errs = append(errs, s.Runtime.Cleanup(ctx))
		s.Runtime = nil
	}
	if s.Images != nil {
		errs = append(errs, s.Images.Close())
		s.Images = nil
	}
	if s.Kube != nil {
		errs = append(errs, s.Kube.Stop())
		s.Kube = nil
	}
	err := errors.Join(errs...)
	if err == nil && !s.Keep {
		err = removeAll(s.Dir)
	}
	return err
}

// removeAll removes a folder that may hold tmpfs mounts of pods' volumes.
func removeAll(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, line := range slices.Backward(strings.Split(string(b), "\n")) { // what is mounted last lies in what was mounted before
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := unmount(f[4]); err != nil {
				return fmt.Errorf("unmount %s: %w", f[4], err)
			}
		}
	}
	return os.RemoveAll(dir)
}

// Unique returns a short random name, for objects of tests that share a control plane.
func Unique(prefix string) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return prefix + "-" + hex.EncodeToString(b[:])
}
