package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/packets"
)

// firstConnect lets agents that hold nothing connect and register their Nodes.
func (r *fleetRun) firstConnect(ctx context.Context) error {
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

// createPods gives every agent a pod, and times until each has committed its own and its configMaps.
func (r *fleetRun) createPods(ctx context.Context) error {
	if !r.f.pods {
		r.note("without pods: no fan-out is timed")
		return nil
	}
	return r.create(ctx, "pods", fleet.Workload{Groups: r.f.groups, Bytes: r.f.bytes, Pods: true})
}

func (r *fleetRun) createDevices(ctx context.Context) error {
	if !r.f.devices {
		return nil
	}
	return r.create(ctx, "devices", fleet.Workload{Devices: true})
}

// create makes w's objects for all agents, beside those that they have.
func (r *fleetRun) create(ctx context.Context, what string, w fleet.Workload) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	r.work.Groups, r.work.Bytes = max(r.work.Groups, w.Groups), max(r.work.Bytes, w.Bytes)
	r.work.Pods, r.work.Devices = r.work.Pods || w.Pods, r.work.Devices || w.Devices
	if err := r.cluster.Share(ctx, w); err != nil {
		return err
	}
	began := time.Now()
	if err := r.cluster.Create(ctx, w, r.names, r.progress); err != nil {
		return err
	}
	created := time.Since(began)
	if err := r.fleet.Wait(ctx, "given their "+what, fleet.Holds(r.work.Objects()), r.progress); err != nil {
		return err
	}
	all := time.Since(began)
	r.add(what+"_created_s", created.Seconds(), "s") // the API server's time for the simulator's requests
	r.add(what+"_all_s", all.Seconds(), "s")         // from the first request to the last agent's commit
	r.add(what+"_lag_s", (all - created).Seconds(), "s")
	if err := r.quiet(ctx); err != nil {
		return err
	}
	r.add(what+"_reported_s", time.Since(began).Seconds(), "s") // until every status is in the API, and 3 s
	return nil
}

// quiet waits until everything that agents have to say is written to the API, and their pods tolerate what they have to: a pod whose
// spec the relay has changed travels to its agent once more.
func (r *fleetRun) quiet(ctx context.Context) error {
	began := time.Now()
	if err := r.fleet.Wait(ctx, "done reporting", fleet.Reported, r.progress); err != nil {
		return err
	}
	for calm := 0; calm < 3; {
		calm++
		for _, relay := range r.relays {
			if relay.PID() == 0 {
				continue
			}
			c, err := relay.Counters(ctx)
			if err != nil {
				return err
			}
			if depth := c["skerry_relay_write_queue_depth"] + c["skerry_relay_autonomy_queue_depth"]; depth > 0 {
				calm = 0
				r.say("%.0f writes are queued at %s", depth, relay.Name())
			}
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	r.say("quiet after %.1f s", time.Since(began).Seconds())
	return nil
}

// measureBaseline reads the memory of a relay whose caches hold everything and that has no agents.
func (r *fleetRun) measureBaseline(ctx context.Context) error {
	r.fleet.Stop()
	if err := r.relay.Stop(); err != nil {
		return err
	}
	took, err := r.relay.Start(ctx)
	if err != nil {
		return err
	}
	r.add("relay_start_s", took.Seconds(), "s")
	if err := sleep(ctx, r.f.rest); err != nil {
		return err
	}
	before, err := r.relay.Memory(ctx, false)
	if err != nil {
		return err
	}
	// The lists of the start leave garbage behind, which would hide what agents cost.
	if r.baseline, err = r.relay.Memory(ctx, true); err != nil {
		return err
	}
	r.add("relay_baseline_rss_mb", float64(r.baseline.RSS)/mb, "MB")
	r.add("relay_baseline_heap_mb", r.baseline.Heap/mb, "MB")
	r.add("relay_baseline_uncollected_rss_mb", float64(before.RSS)/mb, "MB")
	return nil
}

// measured runs fn, and returns what it cost the relay and the API server.
func (r *fleetRun) measured(ctx context.Context, fn func() error) (c cost, err error) {
	before, err := r.read(ctx)
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := fn(); err != nil {
		return c, err
	}
	c.took = time.Since(began)
	after, err := r.read(ctx)
	if err != nil {
		return c, err
	}
	c.relay, c.server = after.relay.Sub(before.relay), after.server.Sub(before.server)
	return c, nil
}

type cost struct {
	took          time.Duration
	relay, server fleet.Counters
}

// requests is how many API requests the relay made.
func (c cost) requests() float64 { return c.relay.Sum("skerry_relay_api_requests_total") }

func (c cost) lists() float64 { return c.relay.Sum("skerry_relay_api_requests_total", `verb="list"`) }

func (c cost) cpu() float64 { return c.relay["process_cpu_seconds_total"] }

func (r *fleetRun) read(ctx context.Context) (c cost, err error) {
	if c.relay, err = r.relay.Counters(ctx); err != nil {
		return c, err
	}
	c.server, err = r.cluster.ServerCounters(ctx)
	return c, err
}

// tell shows the most frequent requests of a phase.
func (r *fleetRun) tell(what string, list []fleet.Requests) {
	line := what + ":"
	for i, q := range list {
		if i == 8 {
			break
		}
		line += fmt.Sprintf(" %s %s %.0f,", q.Verb, q.Resource, q.Count)
	}
	r.note("%s", line[:len(line)-1])
}

// profiled writes a CPU profile of the relay while fn runs, if profiles were asked for.
func (r *fleetRun) profiled(ctx context.Context, name string, seconds int, fn func() error) error {
	if !r.f.profile {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		done <- r.relay.SaveProfile(ctx, fmt.Sprintf("profile?seconds=%d", seconds), r.profile(name))
	}()
	stop, err := r.profileSelf(name)
	return errors.Join(err, fn(), stop(), <-done)
}

// profileSelf writes a CPU profile of the simulator until stop is called.
func (r *fleetRun) profileSelf(name string) (stop func() error, err error) {
	f, err := os.Create(r.profile(name + "-simulator"))
	if err != nil {
		return func() error { return nil }, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return f.Close, err
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

func (r *fleetRun) profile(name string) string {
	return filepath.Join(r.outDir(), "fleet-"+name+".pprof")
}

func (r *fleetRun) connectAll(ctx context.Context) error {
	c, err := r.measured(ctx, func() error {
		return r.profiled(ctx, "connect-cpu", 10, func() error {
			began := time.Now()
			r.fleet.Start()
			if err := r.fleet.Wait(ctx, "in sync", fleet.InSync, r.progress); err != nil {
				return err
			}
			if r.baseline.RSS > 0 { // else nobody was disconnected
				r.add("connect_all_s", time.Since(began).Seconds(), "s")
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	r.add("connect_all_relay_cpu_s", c.cpu(), "s")
	r.tell("the relay's requests while all connected", c.relay.RelayRequests())
	return r.quiet(ctx)
}

func (r *fleetRun) measureMemory(ctx context.Context) error {
	if err := sleep(ctx, r.f.rest); err != nil {
		return err
	}
	before, err := r.relay.Memory(ctx, false)
	if err != nil {
		return err
	}
	after, err := r.relay.Memory(ctx, true)
	if err != nil {
		return err
	}
	n := float64(r.f.agents)
	r.add("relay_rss_mb", float64(after.RSS)/mb, "MB")
	r.add("relay_bytes_per_agent", float64(after.RSS-r.baseline.RSS)/n, "bytes")
	r.add("relay_uncollected_bytes_per_agent", float64(before.RSS-r.baseline.RSS)/n, "bytes")
	r.add("relay_heap_bytes_per_agent", (after.Heap-r.baseline.Heap)/n, "bytes")
	r.add("relay_stack_bytes_per_agent", (after.Stack-r.baseline.Stack)/n, "bytes")
	r.add("relay_goroutines_per_agent", (after.Goroutines-r.baseline.Goroutines)/n, "")
	if r.f.profile {
		return errors.Join(r.relay.SaveProfile(ctx, "heap?gc=1", r.profile("heap")), r.relay.SaveProfile(ctx, "goroutine", r.profile("goroutine")))
	}
	return nil
}

// push changes the configMap of all and returns each agent's time until it has committed it, those of stopped ones excepted.
func (r *fleetRun) push(ctx context.Context, stopped int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r.version++
	w := r.fleet.Watch(fleet.Everyone())
	if err := r.cluster.SetConfigMap(ctx, fleet.Everyone(), r.version, r.f.bytes); err != nil {
		return nil, err
	}
	return w.Wait(ctx, stopped)
}

func milliseconds(d []time.Duration) []float64 {
	out := make([]float64, len(d))
	for i, v := range d {
		out[i] = v.Seconds() * 1e3
	}
	return out
}

func (r *fleetRun) fanOut(ctx context.Context) error {
	if !r.f.pods {
		return nil
	}
	first, err := r.push(ctx, 0)
	if err != nil {
		return err
	}
	r.add("fanout_first_p99_ms", bench.Quantile(milliseconds(first), 0.99), "ms")
	var all []float64
	c, err := r.measured(ctx, func() error {
		return r.profiled(ctx, "fanout-cpu", 10, func() error {
			for range r.f.rounds {
				took, err := r.push(ctx, 0)
				if err != nil {
					return err
				}
				all = append(all, milliseconds(took)...)
				if err := sleep(ctx, 500*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	r.add("fanout_p50_ms", bench.Quantile(all, 0.5), "ms")
	r.add("fanout_p99_ms", bench.Quantile(all, 0.99), "ms")
	r.add("fanout_max_ms", bench.Quantile(all, 1), "ms")
	r.add("fanout_relay_cpu_ms", c.cpu()*1e3/float64(r.f.rounds), "ms") // of one change to all
	r.tell(fmt.Sprintf("the relay's requests in these %.0f seconds", c.took.Seconds()), c.relay.RelayRequests())
	return nil
}

func (r *fleetRun) idle(ctx context.Context) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	counter, err := packets.Count(r.relay.Address())
	if err != nil {
		return err
	}
	traffic := fleet.TrafficOf(r.fleet.Agents())
	c, err := r.measured(ctx, func() error { return sleep(ctx, r.f.window) })
	sockets := fleet.TrafficOf(r.fleet.Agents()).Sub(traffic)
	wire, count := counter.Stop()
	if err != nil {
		return err
	}
	perDay := float64(24*time.Hour) / float64(c.took) / float64(r.f.agents)
	r.add("idle_bytes_per_agent_day", float64(wire)*perDay, "bytes")
	r.add("idle_socket_bytes_per_agent_day", float64(sockets.In+sockets.Out)*perDay, "bytes") // without TCP/IP headers
	r.add("idle_packets_per_agent_day", float64(count)*perDay, "packets")
	r.add("api_requests_per_s_idle", c.requests()/c.took.Seconds(), "1/s")
	r.add("relay_cpu_idle_percent", 100*c.cpu()/c.took.Seconds(), "%")
	r.tell(fmt.Sprintf("the relay's requests in %.0f idle seconds", c.took.Seconds()), c.relay.RelayRequests())
	sum := func(name string) float64 { return c.relay.Sum("skerry_relay_" + name + "_total") }
	r.note("meanwhile its links carried %.0f frames up, %.0f down, with %.0f objects, %.0f commits, %.0f reports, %.0f offered, %.0f asked for",
		sum("frames_received"), sum("frames_sent"), sum("objects_sent"), sum("commits_sent"), sum("reports"), sum("reports_offered"), sum("reports_wanted"))
	r.tell("the API server's requests in the same time, from everybody", c.server.ServerRequests())
	return nil
}
