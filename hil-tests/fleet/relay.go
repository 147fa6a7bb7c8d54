package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// RelayOptions configures a relay process. Binary, Kubeconfig, Dir, Listen and Web are required.
type RelayOptions struct {
	Binary, Kubeconfig string
	Dir                string         // for its configuration and log
	Name               string         // default fleet-relay
	Listen, Web        string         // HOST:PORT of the link and of the metrics
	Config             map[string]any // further keys of its configuration file
	Env                []string       // KEY=VALUE, added to this process's environment
	Profile            bool           // serve pprof, and collect garbage when asked to
}

// Relay is a relay process under measurement. Its methods are for one goroutine at a time, but for Counters.
type Relay struct {
	opts RelayOptions
	proc *process.Process
	web  *http.Client
}

// NewRelay writes the configuration of a relay that Start runs.
func NewRelay(o RelayOptions) (*Relay, error) {
	if o.Name == "" {
		o.Name = "fleet-relay"
	}
	doc := map[string]any{
		"name": o.Name, "kubeconfig": o.Kubeconfig, "listen": o.Listen, "metricsAddress": o.Web,
		"advertise": []string{"127.0.0.1"}, "log": map[string]any{"level": "warn"},
	}
	for k, v := range o.Config {
		doc[k] = v
	}
	text, err := json.MarshalIndent(doc, "", "  ") // JSON is YAML
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", o.Name, err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder of %s: %w", o.Name, err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, o.Name+".yaml"), text, 0o600); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", o.Name, err)
	}
	return &Relay{opts: o, web: &http.Client{Timeout: 30 * time.Second}}, nil
}

// Start runs the relay and waits until it is ready. took is the time that this needed.
func (r *Relay) Start(ctx context.Context) (took time.Duration, err error) {
	args := []string{"--config", filepath.Join(r.opts.Dir, r.opts.Name+".yaml")}
	if r.opts.Profile {
		args = append(args, "--pprof")
	}
	began := time.Now()
	r.proc, err = process.Start(process.Spec{Name: r.opts.Name, Path: r.opts.Binary, Args: args, Env: r.opts.Env, Log: filepath.Join(r.opts.Dir, r.opts.Name+".log")})
	if err != nil {
		return 0, err
	}
	err = process.WaitReady(ctx, r.proc, "the relay is ready", nil, func(ctx context.Context) error {
		_, err := r.get(ctx, "/readyz")
		return err
	})
	return time.Since(began), err
}

// Stop ends the relay with SIGTERM. It does nothing while it does not run.
func (r *Relay) Stop() error {
	if r.proc == nil {
		return nil
	}
	p := r.proc
	r.proc = nil
	return p.Stop()
}

// Kill ends the relay with SIGKILL.
func (r *Relay) Kill() error {
	p := r.proc
	r.proc = nil
	return p.Kill()
}

// Log returns the end of the relay's log.
func (r *Relay) Log(lines int) string {
	if r.proc == nil {
		return ""
	}
	return r.proc.LogTail(lines)
}

// Signal sends the relay a signal: SIGSTOP makes it hang with its connections open, SIGCONT lets it go on.
func (r *Relay) Signal(sig os.Signal) error {
	if r.proc == nil {
		return fmt.Errorf("signal %v to %s: it does not run", sig, r.opts.Name)
	}
	return r.proc.Signal(sig)
}

// PID is the relay's process, 0 while it does not run.
func (r *Relay) PID() int {
	if r.proc == nil {
		return 0
	}
	return r.proc.PID()
}

// Name is what the relay calls itself in Leases, and what its agents know it by.
func (r *Relay) Name() string { return r.opts.Name }

// Address is where agents connect.
func (r *Relay) Address() string { return r.opts.Listen }

func (r *Relay) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.opts.Web+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", path, resp.Status, b)
	}
	return b, nil
}

// Counters reads the relay's metrics.
func (r *Relay) Counters(ctx context.Context) (Counters, error) {
	b, err := r.get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", r.opts.Name, err)
	}
	return ParseCounters(b), nil
}

// Memory is a relay's memory at one moment, bytes.
type Memory struct {
	RSS        int64   // resident
	Heap       float64 // objects that are reachable or not collected yet
	Stack      float64
	Goroutines float64
}

// Memory reads the relay's memory; collect runs a garbage collection before (Profile must be set).
func (r *Relay) Memory(ctx context.Context, collect bool) (Memory, error) {
	if collect {
		if _, err := r.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return Memory{}, fmt.Errorf("collect the garbage of %s: %w", r.opts.Name, err)
		}
	}
	c, err := r.Counters(ctx)
	if err != nil {
		return Memory{}, err
	}
	m, err := r.proc.Memory()
	if err != nil {
		return Memory{}, err
	}
	return Memory{RSS: m.RSS, Heap: c["go_memstats_heap_alloc_bytes"], Stack: c["go_memstats_stack_inuse_bytes"], Goroutines: c["go_goroutines"]}, nil
}

// SaveProfile writes one of pprof's pages, such as "heap?gc=1" or "profile?seconds=5", to a file.
func (r *Relay) SaveProfile(ctx context.Context, page, file string) error {
	b, err := r.get(ctx, "/debug/pprof/"+page)
	if err != nil {
		return fmt.Errorf("profile of %s: %w", r.opts.Name, err)
	}
	return os.WriteFile(file, b, 0o644)
}
