package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"time"

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
	profile  bool
	env      string
}

func (o *fleetOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&o.agents, "agents", 1000, "simulated agents")
	fs.IntVar(&o.groups, "groups", 8, "configMaps that a part of the agents share, beside the one of all")
	fs.IntVar(&o.bytes, "bytes", 2048, "size of each shared configMap")
	fs.BoolVar(&o.pods, "pods", true, "one pod for each agent; without them there is no fan-out")
	fs.BoolVar(&o.devices, "devices", true, "one device for each agent")
	fs.Float64Var(&o.qps, "qps", 400, "requests a second that the simulator sends to make objects")
	fs.Float64Var(&o.relayQPS, "relay-qps", 0, "the relay's api.qps (0: its default up to 1,500 agents, a tenth of the agents above)")
	fs.IntVar(&o.writers, "relay-writers", 16, "the relay's api.writers")
	fs.DurationVar(&o.lease, "lease", 0, "the relay's lease.interval (0: its default up to 1,500 agents, 20s above)")
	fs.IntVar(&o.rounds, "rounds", 10, "changes of the configMap of all that are timed")
	fs.DurationVar(&o.rest, "rest", 15*time.Second, "how long the relay is left alone before its memory is read")
	fs.DurationVar(&o.window, "window", time.Minute, "how long idle traffic and requests are counted")
	fs.StringVar(&o.env, "relay-env", "", "KEY=VALUE for the relay's environment, such as GOGC=50")
	fs.BoolVar(&o.profile, "profile", false, "write profiles of the relay to build/bench/fleet-*.pprof")
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
	relay    *fleet.Relay
	fleet    *fleet.Fleet
	names    []string
	work     fleet.Workload
	version  int // of the configMap of all
	notes    []string
	baseline fleet.Memory
	figures  map[string]float64
}

// phaseLimit bounds each phase. The slowest makes 10,000 agents' objects.
const phaseLimit = 15 * time.Minute

func fleetBench(ctx context.Context, r *bench.Report, o options) (err error) {
	debug.SetGCPercent(400) // the simulator's garbage must not take the relay's processor time
	run := &fleetRun{options: o, f: o.fleet, report: r, figures: map[string]float64{}}
	defer func() { err = errors.Join(err, run.close()) }()
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"set up", run.setUp}, {"first connection", run.firstConnect}, {"objects", run.createObjects},
		{"baseline", run.measureBaseline}, {"connect all", run.connectAll}, {"memory", run.measureMemory},
		{"fan-out", run.fanOut}, {"idle", run.idle},
		{"all dropped", run.dropAll}, {"rolling", run.rolling}, {"flapping", run.flapping},
		{"half-open", run.halfOpen}, {"stopped readers", run.stoppedReaders}, {"churn", run.churn},
		{"relay killed", run.killRelay}, {"check", run.check},
	} {
		began := time.Now()
		run.say("%s", phase.name)
		limited, cancel := context.WithTimeout(ctx, phaseLimit)
		err := phase.run(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", phase.name, err, run.relayLog())
		}
		run.say("%s: done after %.1f s", phase.name, time.Since(began).Seconds())
	}
	run.table()
	return nil
}

func (r *fleetRun) relayLog() string {
	if r.relay == nil {
		return ""
	}
	return r.relay.Log(20)
}

func (r *fleetRun) close() error {
	var errs []error
	if r.fleet != nil {
		r.fleet.Stop()
	}
	if r.relay != nil {
		errs = append(errs, r.relay.Stop())
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
	r.stack, err = stack.Start(ctx, stack.Options{Bin: r.bin, Module: r.module, NoPods: true, Say: r.say})
	if err != nil {
		return err
	}
	if r.cluster, err = fleet.Connect(ctx, r.stack.Kube.REST(), r.f.qps); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(r.stack.RelayAt)
	if err != nil {
		return err
	}
	listen := r.stack.RelayAt
	if r.f.agents > 20_000 {
		listen = net.JoinHostPort("0.0.0.0", port)
	}
	config := r.f.relayConfig()
	var env []string
	if r.f.env != "" {
		env = append(env, r.f.env)
		r.note("relay started with %s", r.f.env)
	}
	r.relay, err = fleet.NewRelay(fleet.RelayOptions{
		Binary: filepath.Join(r.bin, "skerry-relay"), Kubeconfig: r.stack.Kube.Kubeconfig(),
		Dir: filepath.Join(r.stack.Dir, "fleet"), Listen: listen, Web: r.stack.RelayWeb, Config: config, Env: env, Profile: true,
	})
	if err != nil {
		return err
	}
	r.note("relay configured with %v", config)
	r.names = fleet.Names("gw", r.f.agents)
	began := time.Now()
	ids, err := fleet.Issue(ctx, r.cluster.CA, r.names)
	if err != nil {
		return err
	}
	r.say("%d certificates signed in %.1f s", len(ids), time.Since(began).Seconds())
	r.fleet, err = fleet.New(fleet.Options{
		Addresses: []string{net.JoinHostPort("127.0.0.1", port)}, Roots: r.cluster.CA.Pool(), Identities: ids,
	})
	if err != nil {
		return err
	}
	_, err = r.relay.Start(ctx)
	return err
}

// firstConnect lets agents that hold nothing connect and register their Nodes.
func (r *fleetRun) firstConnect(ctx context.Context) error {
	r.add("agents", float64(r.f.agents), "")
	began := time.Now()
	r.fleet.Start()
	if err := r.fleet.Wait(ctx, "in sync", fleet.InSync, r.progress); err != nil {
		return err
	}
	r.add("first_connect_all_s", time.Since(began).Seconds(), "s")
	if err := r.cluster.AwaitNodes(ctx, r.f.agents, r.progress); err != nil {
		return err
	}
	r.add("nodes_registered_s", time.Since(began).Seconds(), "s")
	return nil
}

func (r *fleetRun) createObjects(ctx context.Context) error {
	r.work = fleet.Workload{Groups: r.f.groups, Bytes: r.f.bytes, Pods: r.f.pods, Devices: r.f.devices}
	if !r.f.pods {
		r.note("without pods: no fan-out is timed")
	}
	began := time.Now()
	if err := r.cluster.Create(ctx, r.work, r.names, r.progress); err != nil {
		return err
	}
	created := time.Since(began)
	if err := r.fleet.Wait(ctx, "given their objects", fleet.Holds(r.work.Objects()), r.progress); err != nil {
		return err
	}
	r.add("objects_created_s", created.Seconds(), "s")
	r.add("objects_lag_s", (time.Since(began) - created).Seconds(), "s")
	return r.quiet(ctx)
}

// quiet waits until everything that agents have to say is written to the API.
func (r *fleetRun) quiet(ctx context.Context) error {
	began := time.Now()
	if err := r.fleet.Wait(ctx, "done reporting", fleet.Reported, r.progress); err != nil {
		return err
	}
	for calm := 0; calm < 3; {
		c, err := r.relay.Counters(ctx)
		if err != nil {
			return err
		}
		calm++
		if depth := c["skerry_relay_write_queue_depth"]; depth > 0 {
			calm = 0
			r.say("%.0f writes are queued at the relay", depth)
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	r.say("quiet after %.1f s", time.Since(began).Seconds())
	return nil
}
