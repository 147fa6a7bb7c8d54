package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// fleetOptions are the flags of the fleet benchmark.
type fleetOptions struct {
	agents   int
	groups   int
	bytes    int
	pods     bool
	devices  bool
	qps      float64
	relayQPS float64
	writers  int
	lease    time.Duration
	rounds   int
	rest     time.Duration
	window   time.Duration
	limit    time.Duration
	only     string
	short    bool
	enforce  bool
	profile  bool
	env      string
	kubeGOGC int
	onDisk   bool
}

func (o *fleetOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&o.agents, "agents", 1000, "simulated agents")
	fs.IntVar(&o.groups, "groups", 8, "configMaps that a part of the agents share, beside the one of all")
	fs.IntVar(&o.bytes, "bytes", 2048, "size of each shared configMap")
	fs.BoolVar(&o.pods, "pods", true, "one pod for each agent; without them there is no fan-out")
	fs.BoolVar(&o.devices, "devices", true, "one device for each agent")
	fs.Float64Var(&o.qps, "qps", 300, "requests a second that the simulator sends to make objects, at most")
	fs.Float64Var(&o.relayQPS, "relay-qps", 0, "the relay's api.qps (0: its default up to 1,500 agents, a tenth of the agents above)")
	fs.IntVar(&o.writers, "relay-writers", 16, "the relay's api.writers")
	fs.DurationVar(&o.lease, "lease", 0, "the relay's lease.interval (0: its default up to 1,500 agents, 20s above)")
	fs.IntVar(&o.rounds, "rounds", 10, "changes of the configMap of all that are timed")
	fs.DurationVar(&o.rest, "rest", 10*time.Second, "how long the relay is left alone before its memory is read")
	fs.DurationVar(&o.window, "window", time.Minute, "how long idle traffic and requests are counted")
	fs.DurationVar(&o.limit, "limit", 17*time.Minute, "phases that have not begun by then are left out, except the last check")
	fs.StringVar(&o.only, "only", "", "run only these phases beside those that prepare, separated by commas")
	fs.BoolVar(&o.short, "short", false, "few rounds, short windows, and only the phases of the figures that every report needs")
	fs.BoolVar(&o.enforce, "enforce", false, "fail when a figure exceeds its bound")
	fs.StringVar(&o.env, "relay-env", "", "KEY=VALUE for the relay's environment, such as GOGC=50")
	fs.IntVar(&o.kubeGOGC, "kube-gogc", 300, "GOGC of the control plane, which shares the machine; 100 is Go's default")
	fs.BoolVar(&o.onDisk, "etcd-on-disk", false, "keep the control plane's state on the disk; else it is in memory, because etcd's syncs cost processor time that the relay lacks")
	fs.BoolVar(&o.profile, "profile", false, "write profiles of relay and simulator to build/bench/fleet-*.pprof")
}

// relayConfig is the relay's configuration for the fleet's size. Its defaults are for a thousand gateways.
func (o *fleetOptions) relayConfig() map[string]any {
	if o.agents > 1500 {
		if o.relayQPS == 0 {
			o.relayQPS = max(200, float64(o.agents)/10)
		}
		if o.lease == 0 {
			o.lease = 20 * time.Second
		}
	}
	api := map[string]any{"writers": o.writers}
	if o.relayQPS > 0 {
		api["qps"], api["burst"] = o.relayQPS, int(2*o.relayQPS)
	}
	doc := map[string]any{"api": api}
	if o.lease > 0 {
		doc["lease"] = map[string]any{"interval": o.lease.String(), "duration": (2*o.lease + 10*time.Second).Truncate(time.Second).String()}
	}
	return doc
}

// fleetRun is one run of the benchmark: the parts, and what the phases hand on.
type fleetRun struct {
	options
	f        fleetOptions
	report   *bench.Report
	stack    *stack.Stack
	cluster  *fleet.Cluster
	relay    *fleet.Relay   // the one that most phases look at
	relays   []*fleet.Relay // all
	fleet    *fleet.Fleet
	nodes    *fleet.NodeWatch
	unwatch  context.CancelFunc
	names    []string
	work     fleet.Workload
	version  int // of the configMap of all
	notes    []string
	baseline fleet.Memory
	figures  map[string]float64
	phases   []*phaseRecord
}

// phase is one step of a run.
type phase struct {
	name  string
	run   func(context.Context) error
	limit time.Duration
	kind  phaseKind
}

type phaseKind int

const (
	prepares phaseKind = iota // every later phase needs it
	figures                   // of the figures that every report needs
	extra
	last
)

// plan is the order of a run: what every report needs comes first, so that a run that is stopped has it.
func (r *fleetRun) plan() []phase {
	const long, short = 8 * time.Minute, 3 * time.Minute
	all := []phase{
		{"set up", r.setUp, short, prepares},
		{"first connection", r.firstConnect, long, prepares},
		{"pods", r.createPods, long, prepares},
		{"devices", r.createDevices, long, prepares},
		{"baseline", r.measureBaseline, short, figures},
		{"connect all", r.connectAll, long, prepares},
		{"memory", r.measureMemory, short, figures},
		{"fan-out", r.fanOut, short, figures},
		{"idle", r.idle, short + r.f.window, figures},
		{"all dropped", r.dropAll, long, figures},
		{"half-open", r.halfOpen, long, figures},
		{"relay killed", r.killRelay, long, figures},
		{"fail-over", r.failOver, long, figures},
		{"churn", r.churn, long, extra},
		{"stopped readers", r.stoppedReaders, short, extra},
		{"flapping", r.flapping, short, extra},
		{"rolling", r.rolling, short, extra},
		{"hung relay", r.hungRelay, long, extra},
		{"check", r.check, short, last},
	}
	return slices.DeleteFunc(all, func(p phase) bool {
		switch {
		case p.kind == prepares || p.kind == last:
			return false
		case r.f.only != "":
			only := strings.Split(r.f.only, ",")
			needs := p.name == "baseline" && (slices.Contains(only, "connect all") || slices.Contains(only, "memory"))
			return !needs && !slices.Contains(only, p.name)
		default:
			return r.f.short && p.kind == extra
		}
	})
}

// required are the figures that every report has, or lists as missing.
func required() []string {
	return []string{
		"agents", "relay_bytes_per_agent", "connect_all_s", "fanout_p50_ms", "fanout_p99_ms", "reconnect_all_s", "resync_bytes_per_agent",
		"api_lists_on_reconnect", "api_requests_per_s_idle", "half_open_detect_s", "idle_bytes_per_agent_day", "failover_s",
	}
}

// fleetBench runs all phases. One that fails costs its own figures: the fleet is brought back in sync and the next one runs. The
// result is an error if any failed.
func fleetBench(ctx context.Context, r *bench.Report, o options) (err error) {
	if o.fleet.short {
		o.fleet.rounds, o.fleet.window, o.fleet.rest = min(o.fleet.rounds, 5), min(o.fleet.window, 30*time.Second), min(o.fleet.rest, 5*time.Second)
	}
	// The simulator's garbage must not take the relay's processor time: memory is cheaper here.
	debug.SetGCPercent(800)
	debug.SetMemoryLimit(6 << 30)
	run := &fleetRun{options: o, f: o.fleet, report: r, figures: map[string]float64{}}
	began := time.Now()
	var errs []error
	stopped := ""
	for _, p := range run.plan() {
		switch {
		case ctx.Err() != nil:
			stopped = "the run was stopped"
		case stopped == "" && p.kind != last && time.Since(began) > run.f.limit:
			run.leaveOut(p, fmt.Sprintf("no time: the run's limit is %v", run.f.limit))
			continue
		}
		if stopped != "" {
			run.leaveOut(p, stopped)
			continue
		}
		if err := run.phase(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			if p.kind == prepares && p.name == "set up" {
				stopped = p.name + " failed"
			} else if err := run.recover(ctx); err != nil {
				stopped = fmt.Sprintf("the fleet did not get over the failure of %q: %v", p.name, err)
			}
		}
	}
	run.add("run_s", time.Since(began).Seconds(), "s")
	exceeded := run.table()
	if n := len(exceeded); n > 0 && run.f.enforce {
		errs = append(errs, fmt.Errorf("%d figures exceed their bounds: %s", n, strings.Join(exceeded, ", ")))
	}
	return errors.Join(append(errs, run.save(), run.close())...)
}

func (r *fleetRun) leaveOut(p phase, why string) {
	r.say("%s is left out: %s", p.name, why)
	r.phases = append(r.phases, &phaseRecord{Name: p.name, NotRun: why})
}

func (r *fleetRun) close() error {
	var errs []error
	if r.unwatch != nil {
		r.unwatch()
		r.nodes.Wait()
	}
	if r.fleet != nil {
		r.fleet.Stop()
	}
	for _, relay := range r.relays {
		errs = append(errs, relay.Stop())
	}
	if r.stack != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, r.stack.Stop(ctx))
	}
	return errors.Join(errs...)
}

// add records a figure for the report and the table.
func (r *fleetRun) add(name string, value float64, unit string) {
	r.figures[name] = value
	r.report.Add(name, value, unit)
}

func (r *fleetRun) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	r.say("%s", text)
}

func (r *fleetRun) progress(what string, ready, all int) {
	r.say("%d of %d agents: %s", ready, all, what)
}

func (r *fleetRun) setUp(ctx context.Context) (err error) {
	r.add("agents", float64(r.f.agents), "")
	r.describeMachine()
	if err := r.startCluster(ctx); err != nil {
		return err
	}
	config := r.f.relayConfig()
	if r.relay, err = r.newRelay(ctx, "fleet-relay", r.stack.RelayAt, r.stack.RelayWeb); err != nil {
		return err
	}
	r.note("relay configured with %v%s", config, map[bool]string{true: ", started with " + r.f.env}[r.f.env != ""])
	r.report.Attach("configuration", map[string]any{
		"relay": config, "relayEnvironment": r.f.env, "controlPlane": map[string]any{"GOGC": r.f.kubeGOGC}, "flags": fmt.Sprintf("%+v", r.f),
	})
	r.names = fleet.Names("gw", r.f.agents)
	began := time.Now()
	ids, err := fleet.Issue(ctx, r.cluster.CA, r.names)
	if err != nil {
		return err
	}
	r.say("%d certificates signed in %.1f s", len(ids), time.Since(began).Seconds())
	r.fleet, err = fleet.New(fleet.Options{Addresses: []string{r.dialled(r.relay)}, Roots: r.cluster.CA.Pool(), Identities: ids})
	if err != nil {
		return err
	}
	_, err = r.relay.Start(ctx)
	return err
}

// startCluster starts the control plane. It inherits this process's environment.
func (r *fleetRun) startCluster(ctx context.Context) (err error) {
	was, had := os.LookupEnv("GOGC")
	if err := os.Setenv("GOGC", fmt.Sprint(r.f.kubeGOGC)); err != nil {
		return err
	}
	r.stack, err = stack.Start(ctx, stack.Options{Bin: r.bin, Module: r.module, Dir: r.stateDir(), NoPods: true, Say: r.say})
	if had {
		err = errors.Join(err, os.Setenv("GOGC", was))
	} else {
		err = errors.Join(err, os.Unsetenv("GOGC"))
	}
	if err != nil {
		return err
	}
	if r.cluster, err = fleet.Connect(ctx, r.stack.Kube.REST(), r.f.qps); err != nil {
		return err
	}
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.unwatch, r.nodes = cancel, r.cluster.WatchNodes(watch)
	return nil
}

// memoryDisk is the file system in memory that Linux has, and memoryWanted what must be free there.
const (
	memoryDisk   = "/dev/shm"
	memoryWanted = 3 << 30
)

// stateDir makes the folder of the control plane's state in memory; "" leaves it on the disk, where temporary files are.
func (r *fleetRun) stateDir() string {
	if r.f.onDisk {
		r.note("etcd syncs to the disk")
		return ""
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(memoryDisk, &fs); err != nil || int64(fs.Bavail)*fs.Bsize < memoryWanted {
		r.note("etcd syncs to the disk: %s is not there or has less than 3 GiB", memoryDisk)
		return ""
	}
	dir, err := os.MkdirTemp(memoryDisk, "skerry-fleet-")
	if err != nil {
		r.note("etcd syncs to the disk: %v", err)
		return ""
	}
	r.note("the control plane's state, etcd's too, is in memory (%s)", memoryDisk)
	return dir
}

func (r *fleetRun) newRelay(ctx context.Context, name, listen, web string) (*fleet.Relay, error) {
	kubeconfig, err := r.stack.RelayKubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	if r.f.agents > 20_000 {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return nil, err
		}
		listen = net.JoinHostPort("0.0.0.0", port)
	}
	var env []string
	if r.f.env != "" {
		env = append(env, r.f.env)
	}
	relay, err := fleet.NewRelay(fleet.RelayOptions{
		Name: name, Binary: filepath.Join(r.bin, "skerry-relay"), Kubeconfig: kubeconfig,
		Dir: filepath.Join(r.stack.Dir, "fleet"), Listen: listen, Web: web, Config: maps.Clone(r.f.relayConfig()), Env: env, Profile: true,
	})
	if err == nil {
		r.relays = append(r.relays, relay)
	}
	return relay, err
}

// dialled is a relay's address as agents know it.
func (r *fleetRun) dialled(relay *fleet.Relay) string {
	_, port, err := net.SplitHostPort(relay.Address())
	if err != nil {
		return relay.Address()
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// outDir is where figures and profiles go.
func (r *fleetRun) outDir() string { return filepath.Join(r.module, "build", "bench") }
