package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
)

// part returns a share of the agents, evenly spread, at most limit.
func (r *fleetRun) part(share float64, limit int) []*fleet.Agent {
	all := r.fleet.Agents()
	n := min(limit, max(1, int(float64(len(all))*share)))
	out := make([]*fleet.Agent, 0, n)
	for i := range n {
		out = append(out, all[i*len(all)/n])
	}
	return out
}

// dropAll resets every connection at once.
func (r *fleetRun) dropAll(ctx context.Context) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	before, tally := fleet.TrafficOf(r.fleet.Agents()), r.tally()
	c, err := r.measured(ctx, func() error {
		back := r.fleet.SyncedSince()
		began := time.Now()
		r.fleet.Cut()
		if err := r.fleet.Wait(ctx, "in sync again", back, r.progress); err != nil {
			return err
		}
		r.add("reconnect_all_s", time.Since(began).Seconds(), "s")
		return r.fleet.Wait(ctx, "done reporting", fleet.Reported, nil)
	})
	if err != nil {
		return err
	}
	n := float64(r.f.agents)
	t := fleet.TrafficOf(r.fleet.Agents()).Sub(before)
	r.add("resync_bytes_per_agent", float64(t.Beyond())/n, "bytes")
	documents := 0
	for _, a := range r.fleet.Agents() {
		documents += a.Documents()
	}
	r.add("status_documents_bytes_per_agent", float64(documents)/n, "bytes") // which the relay knows by their sum, and need not be sent
	r.add("resync_in_bytes_per_agent", float64(t.In)/n, "bytes")
	r.add("resync_out_bytes_per_agent", float64(t.Out)/n, "bytes")
	r.add("resync_handshake_bytes_per_agent", float64(t.Handshake)/n, "bytes")
	r.add("resync_reports_per_agent", c.relay["skerry_relay_reports_total"]/n, "")
	r.add("resync_dials_per_agent", float64(t.Dials)/n, "")
	r.add("api_lists_on_reconnect", c.lists(), "")
	r.add("api_watches_on_reconnect", c.relay.Sum("skerry_relay_api_requests_total", `verb="watch"`), "")
	r.add("api_requests_per_reconnect", c.requests()/n, "")
	r.add("reconnect_relay_cpu_s", c.cpu(), "s")
	now := r.tally()
	r.add("objects_resent", c.relay["skerry_relay_objects_sent_total"], "")
	r.add("objects_resent_unchanged", float64(now.Repeated-tally.Repeated), "")
	r.tell("the relay's requests while all came back", c.relay.RelayRequests())
	return nil
}

func (r *fleetRun) tally() fleet.Tally {
	t, _ := r.fleet.Tally()
	return t
}

// rolling drops half of the agents one after the other.
func (r *fleetRun) rolling(ctx context.Context) error {
	agents := r.part(0.5, r.f.agents)
	back := r.fleet.SyncedSince()
	if err := fleet.Rolling(ctx, agents, max(20, len(agents)/20)); err != nil {
		return err
	}
	began := time.Now()
	if err := fleet.Wait(ctx, agents, "in sync again", back, r.progress); err != nil {
		return err
	}
	r.add("rolling_resync_s", time.Since(began).Seconds(), "s") // after the last was dropped
	return nil
}

// flapping drops a tenth of the agents every two seconds, and times a change that goes to all meanwhile.
func (r *fleetRun) flapping(ctx context.Context) error {
	agents := r.part(0.1, 500)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	flap, stop := context.WithTimeout(ctx, 16*time.Second)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { fleet.Flapping(flap, agents, 2*time.Second) })
	defer wg.Wait()
	var all []float64
	for flap.Err() == nil && r.f.pods {
		took, err := r.push(ctx, len(agents))
		if err != nil {
			return err
		}
		all = append(all, milliseconds(took)...)
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	wg.Wait()
	if r.f.pods {
		r.add("fanout_while_flapping_p99_ms", bench.Quantile(all, 0.99), "ms")
	}
	return r.fleet.Wait(ctx, "in sync after flapping", fleet.InSync, r.progress)
}

// halfOpen lets the network of some agents swallow everything, and times until either side has noticed.
func (r *fleetRun) halfOpen(ctx context.Context) error {
	agents := r.part(0.1, 200)
	const closes = `skerry_relay_session_closes_total`
	before, err := r.relay.Counters(ctx)
	if err != nil {
		return err
	}
	back := r.fleet.SyncedSince()
	began := time.Now()
	for _, a := range agents {
		a.Network(fleet.Silent)
	}
	var agent, relay time.Duration
	for agent == 0 || relay == 0 {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("noticed after: agents %v, relay %v: %w", agent, relay, err)
		}
		gone := 0
		for _, a := range agents {
			if !a.Status().Connected {
				gone++
			}
		}
		if agent == 0 && gone == len(agents) {
			agent = time.Since(began)
		}
		now, err := r.relay.Counters(ctx)
		if err != nil {
			return err
		}
		if relay == 0 && now.Sub(before).Sum(closes, `reason="heartbeat"`) >= float64(len(agents)) {
			relay = time.Since(began)
		}
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("after 5 minutes %d of %d agents have noticed, and the relay closed %v", gone, len(agents), now.Sub(before).Sum(closes, `reason="heartbeat"`))
		}
	}
	for _, a := range agents {
		a.Network(fleet.Normal)
	}
	r.add("half_open_detect_s", max(agent, relay).Seconds(), "s")
	r.add("half_open_detect_agent_s", agent.Seconds(), "s")
	r.add("half_open_detect_relay_s", relay.Seconds(), "s")
	return fleet.Wait(ctx, agents, "in sync after the silence", back, r.progress)
}

// stoppedReaders lets some agents read nothing while a configMap changes again and again.
func (r *fleetRun) stoppedReaders(ctx context.Context) error {
	if !r.f.pods {
		return nil
	}
	agents := r.part(0.1, 100)
	before, err := r.relay.Memory(ctx, true)
	if err != nil {
		return err
	}
	for _, a := range agents {
		a.Network(fleet.Stalled)
	}
	var all []float64
	for began := time.Now(); time.Since(began) < 15*time.Second; { // less than the two heartbeats after which an agent gives up
		took, err := r.push(ctx, len(agents))
		if err != nil {
			return err
		}
		all = append(all, milliseconds(took)...)
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	after, err := r.relay.Memory(ctx, true)
	if err != nil {
		return err
	}
	for _, a := range agents {
		a.Network(fleet.Normal)
	}
	r.add("fanout_beside_stopped_p99_ms", bench.Quantile(all, 0.99), "ms")
	r.add("stopped_reader_changes", float64(len(all))/float64(r.f.agents-len(agents)), "")
	r.add("stopped_reader_heap_bytes", (after.Heap-before.Heap)/float64(len(agents)), "bytes")
	_, err = r.push(ctx, 0)
	return err
}
