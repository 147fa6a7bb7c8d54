package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/hil-tests/attack"
	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// attackOptions are the flags of the attack benchmark.
type attackOptions struct {
	agents int
	rounds int
	only   string
}

func (o *attackOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&o.agents, "agents", 40, "honest agents")
	fs.IntVar(&o.rounds, "rounds", 15, "changes of the configMap of all that are timed, without and with each attack")
	fs.StringVar(&o.only, "only", "", "one class of attacks")
}

// attackRun measures how long a change takes to reach honest agents, with and without somebody who attacks their relay.
type attackRun struct {
	options
	a       attackOptions
	report  *bench.Report
	stack   *stack.Stack
	cluster *fleet.Cluster
	relay   *fleet.Relay
	fleet   *fleet.Fleet
	evil    []fleet.Identity
	version int
}

func attackBench(ctx context.Context, r *bench.Report, o options) (err error) {
	run := &attackRun{options: o, a: o.attack, report: r}
	defer func() { err = errors.Join(err, run.close()) }()
	if err := run.setUp(ctx); err != nil {
		return err
	}
	worst := map[string]float64{}
	for i, f := range attack.Floods() {
		if o.attack.only != "" && o.attack.only != f.Name {
			continue
		}
		if err := run.class(ctx, f, run.evil[i], worst); err != nil {
			return fmt.Errorf("%s: %w\n%s", f.Name, err, run.relay.Log(20))
		}
	}
	for _, p := range []string{"p50", "p99"} {
		r.Add("attack_latency_ratio_"+p, worst[p], "")
	}
	return nil
}

func (r *attackRun) setUp(ctx context.Context) (err error) {
	r.stack, err = stack.Start(ctx, stack.Options{Bin: r.bin, Module: r.module, NoPods: true, Say: r.say})
	if err != nil {
		return err
	}
	if r.cluster, err = fleet.Connect(ctx, r.stack.Kube.REST(), 400); err != nil {
		return err
	}
	kubeconfig, err := r.stack.RelayKubeconfig(ctx)
	if err != nil {
		return err
	}
	r.relay, err = fleet.NewRelay(fleet.RelayOptions{
		Binary: filepath.Join(r.bin, "skerry-relay"), Kubeconfig: kubeconfig, Dir: filepath.Join(r.stack.Dir, "fleet"),
		Listen: r.stack.RelayAt, Web: r.stack.RelayWeb, Profile: true,
	})
	if err != nil {
		return err
	}
	if _, err := r.relay.Start(ctx); err != nil {
		return err
	}
	names := fleet.Names("gw", r.a.agents)
	ids, err := fleet.Issue(ctx, r.cluster.CA, names)
	if err != nil {
		return err
	}
	if r.evil, err = fleet.Issue(ctx, r.cluster.CA, fleet.Names("evil", len(attack.Floods()))); err != nil {
		return err
	}
	r.fleet, err = fleet.New(fleet.Options{Addresses: []string{r.relay.Address()}, Roots: r.cluster.CA.Pool(), Identities: ids})
	if err != nil {
		return err
	}
	r.fleet.Start()
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := r.cluster.AwaitNodes(limited, r.a.agents, nil); err != nil {
		return err
	}
	work := fleet.Workload{Groups: 2, Bytes: 2048, Pods: true, Devices: true}
	if err := r.cluster.Create(limited, work, names, nil); err != nil {
		return err
	}
	if err := r.fleet.Wait(limited, "given their objects", fleet.Holds(work.Objects()), nil); err != nil {
		return err
	}
	return r.fleet.Wait(limited, "done reporting", fleet.Reported, nil)
}

func (r *attackRun) close() error {
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

// class measures one class of attacks: undisturbed before, then disturbed.
func (r *attackRun) class(ctx context.Context, f attack.Flood, id fleet.Identity, worst map[string]float64) error {
	calm, err := r.fanOut(ctx)
	if err != nil {
		return err
	}
	before, err := r.relay.Counters(ctx)
	if err != nil {
		return err
	}
	attacking, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		f.Run(attacking, &attack.Attacker{Address: r.relay.Address(), Roots: r.cluster.CA.Pool(), Key: &id.Certificate, From: "127.0.0.66"}, id.Node)
	})
	err = sleep(ctx, time.Second)
	var disturbed []float64
	if err == nil {
		disturbed, err = r.fanOut(ctx)
	}
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	after, err := r.relay.Counters(ctx)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(f.Name, "-", "_")
	for p, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		a, b := bench.Quantile(calm, q), bench.Quantile(disturbed, q)
		r.report.Add("attack_undisturbed_"+p+"_ms_"+name, a, "ms")
		r.report.Add("attack_disturbed_"+p+"_ms_"+name, b, "ms")
		r.report.Add("attack_latency_ratio_"+p+"_"+name, b/a, "")
		worst[p] = max(worst[p], b/a)
	}
	c := after.Sub(before)
	r.report.Add("attack_relay_cpu_s_"+name, c["process_cpu_seconds_total"], "s")
	r.say("%s: %.0f frames and %.1f MB received, refused: %.0f in sessions, %.0f connections, %.0f sessions ended", f.Name,
		c["skerry_relay_frames_received_total"], c["skerry_relay_bytes_received_total"]/mb, c.Sum("skerry_relay_refused_total"),
		c.Sum("skerry_relay_connections_refused_total"), c.Sum("skerry_relay_session_closes_total"))
	return sleep(ctx, 2*time.Second)
}

// fanOut changes the configMap of all, again and again, and returns how long each agent took each time, ms.
func (r *attackRun) fanOut(ctx context.Context) (all []float64, err error) {
	for range r.a.rounds {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		r.version++
		w := r.fleet.Watch(fleet.Everyone())
		err := r.cluster.SetConfigMap(limited, fleet.Everyone(), r.version, 2048)
		var took []time.Duration
		if err == nil {
			took, err = w.Wait(limited, 0)
		}
		cancel()
		if err != nil {
			return nil, err
		}
		for _, d := range took {
			all = append(all, float64(d)/1e6)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return all, nil
}
