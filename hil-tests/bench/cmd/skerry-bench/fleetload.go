package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
)

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
	return errors.Join(fn(), <-done)
}

func (r *fleetRun) profile(name string) string {
	return filepath.Join(r.module, "build", "bench", "fleet-"+name+".pprof")
}

func (r *fleetRun) connectAll(ctx context.Context) error {
	c, err := r.measured(ctx, func() error {
		return r.profiled(ctx, "connect-cpu", 10, func() error {
			began := time.Now()
			r.fleet.Start()
			if err := r.fleet.Wait(ctx, "in sync", fleet.InSync, r.progress); err != nil {
				return err
			}
			r.add("connect_all_s", time.Since(began).Seconds(), "s")
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
	return nil
}

func (r *fleetRun) idle(ctx context.Context) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	packets, err := countPackets(r.relay.Address())
	if err != nil {
		return err
	}
	traffic := fleet.TrafficOf(r.fleet.Agents())
	c, err := r.measured(ctx, func() error { return sleep(ctx, r.f.window) })
	sockets := fleet.TrafficOf(r.fleet.Agents()).Sub(traffic)
	wire, count := packets.stop()
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
	r.tell("the API server's requests in the same time, from everybody", c.server.ServerRequests())
	return nil
}
