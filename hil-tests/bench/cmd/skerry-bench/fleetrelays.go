package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// killRelay ends the relay with SIGKILL and starts another one at its address.
func (r *fleetRun) killRelay(ctx context.Context) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	server, err := r.cluster.ServerCounters(ctx)
	if err != nil {
		return err
	}
	back := r.fleet.SyncedSince()
	peak := r.peakRequests(ctx)
	began := time.Now()
	if err := r.relay.Kill(); err != nil {
		return errors.Join(err, peak.stop())
	}
	took, err := r.relay.Start(ctx)
	if err == nil {
		err = r.fleet.Wait(ctx, "in sync with the new relay", back, r.progress)
	}
	all := time.Since(began)
	if err := errors.Join(err, peak.stop()); err != nil {
		return err
	}
	r.add("relay_restart_all_s", all.Seconds(), "s")
	r.add("relay_restart_ready_s", took.Seconds(), "s")
	r.add("relay_restart_requests_peak_per_s", peak.relay, "1/s")
	r.add("relay_restart_server_peak_per_s", peak.server, "1/s") // from everybody
	now, err := r.relay.Counters(ctx)
	if err != nil {
		return err
	}
	r.add("relay_restart_objects_resent", now["skerry_relay_objects_sent_total"], "")
	r.add("relay_restart_requests_per_agent", now.Sum("skerry_relay_api_requests_total")/float64(r.f.agents), "")
	after, err := r.cluster.ServerCounters(ctx)
	if err != nil {
		return err
	}
	r.tell("the new relay's requests until all were back", now.RelayRequests())
	r.tell("the API server's in the same time, from everybody", after.Sub(server).ServerRequests())
	return nil
}

// peaks samples once a second how many API requests the relay makes and the server answers.
type peaks struct {
	relay, server float64
	cancel        context.CancelFunc
	done          chan struct{}
}

func (p *peaks) stop() error {
	p.cancel()
	<-p.done
	return nil
}

// peakRequests begins to look for the second with the most API requests; the result is valid after stop.
func (r *fleetRun) peakRequests(ctx context.Context) *peaks {
	ctx, cancel := context.WithCancel(ctx)
	p := &peaks{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		var relay, server float64
		var relayAt, serverAt time.Time
		rate := func(peak *float64, last *float64, at *time.Time, now float64) {
			t := time.Now()
			if !at.IsZero() && now >= *last {
				*peak = max(*peak, (now-*last)/t.Sub(*at).Seconds())
			}
			*last, *at = now, t
		}
		for ; ctx.Err() == nil; _ = sleep(ctx, time.Second) {
			if c, err := r.relay.Counters(ctx); err == nil {
				rate(&p.relay, &relay, &relayAt, c.Sum("skerry_relay_api_requests_total"))
			} else {
				relay, relayAt = 0, time.Now() // it counts from nothing when it comes back
			}
			if c, err := r.cluster.ServerCounters(ctx); err == nil {
				rate(&p.server, &server, &serverAt, c.Sum("apiserver_request_total"))
			}
		}
	}()
	return p
}

// startSecond starts another relay on the same control plane, and moves every second agent to it. All agents know both.
func (r *fleetRun) startSecond(ctx context.Context) (second *fleet.Relay, moved []*fleet.Agent, err error) {
	listen, err := stack.FreeAddress()
	if err != nil {
		return nil, nil, err
	}
	web, err := stack.FreeAddress()
	if err != nil {
		return nil, nil, err
	}
	if second, err = r.newRelay(ctx, "fleet-relay-2", listen, web); err != nil {
		return nil, nil, err
	}
	if _, err := second.Start(ctx); err != nil {
		return nil, nil, err
	}
	first := r.dialled(r.relay)
	for i, a := range r.fleet.Agents() {
		if i%2 == 1 {
			moved = append(moved, a)
		}
	}
	fleet.Dial(r.fleet.Agents(), first, r.dialled(second))
	fleet.Dial(moved, r.dialled(second), first)
	// The others, too, learn of the second relay only when they start again.
	fleet.Stop(r.fleet.Agents())
	r.fleet.Start()
	if err := r.fleet.Wait(ctx, "in sync at one of two relays", fleet.InSync, r.progress); err != nil {
		return nil, nil, err
	}
	if err := r.quiet(ctx); err != nil {
		return nil, nil, err
	}
	// A relay that is asked by thousands at once sends some to the other: what counts is where they are.
	moved = moved[:0]
	at := fleet.At(second.Name())
	for _, a := range r.fleet.Agents() {
		if at(a, a.Status()) {
			moved = append(moved, a)
		}
	}
	if len(moved) == 0 {
		return nil, nil, errors.New("no agent is at the second relay")
	}
	return second, moved, nil
}

// failOver kills one of two relays and times until all its agents are in sync at the other.
func (r *fleetRun) failOver(ctx context.Context) error {
	second, moved, err := r.startSecond(ctx)
	if err != nil {
		return err
	}
	r.add("failover_agents", float64(len(moved)), "")
	before := r.fleet.SyncedSince()
	back := func(a *fleet.Agent, st fleet.Status) bool { return before(a, st) && st.Relay == r.relay.Name() }
	c, err := r.measured(ctx, func() error {
		began := time.Now()
		if err := second.Kill(); err != nil {
			return err
		}
		if err := fleet.Wait(ctx, moved, "in sync at the relay that is left", back, r.progress); err != nil {
			return err
		}
		r.add("failover_s", time.Since(began).Seconds(), "s")
		return nil
	})
	if err != nil {
		return err
	}
	r.add("failover_lists", c.lists(), "")
	r.add("failover_objects_resent", c.relay["skerry_relay_objects_sent_total"], "")
	r.add("failover_requests_per_agent", c.requests()/float64(len(moved)), "")
	r.tell("the requests of the relay that is left", c.relay.RelayRequests())
	return r.quiet(ctx)
}

// hungRelay stops the relay that all agents are connected to with SIGSTOP: its connections stay open and say nothing. The other
// relay must take over, and what the first one still has in hand when it goes on must not overwrite anything.
func (r *fleetRun) hungRelay(ctx context.Context) error {
	if len(r.relays) < 2 {
		return errors.New("the phase fail-over, which starts the second relay, did not run")
	}
	second := r.relays[1]
	if _, err := second.Start(ctx); err != nil {
		return err
	}
	hung := make([]*fleet.Agent, 0, r.f.agents)
	for _, a := range r.fleet.Agents() {
		if a.Status().Relay == r.relay.Name() {
			hung = append(hung, a)
		}
	}
	began := time.Now()
	if err := r.relay.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := fleet.Wait(ctx, hung, "in sync at the other relay", fleet.At(second.Name()), r.progress)
	took := time.Since(began)
	if err := errors.Join(err, r.relay.Signal(syscall.SIGCONT)); err != nil {
		return fmt.Errorf("with %d agents at the hung relay: %w", len(hung), err)
	}
	r.add("failover_hung_agents", float64(len(hung)), "")
	r.add("failover_hung_s", took.Seconds(), "s") // two heartbeats of it are needed to notice
	return r.quiet(ctx)
}
