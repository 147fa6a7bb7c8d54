package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/skerry/skerry/hil-tests/fleet"
)

// churn reports device values, one device at 90 a second, each other once a minute, and follows the first one's value in the API.
// Then it changes desired values and replaces pods.
func (r *fleetRun) churn(ctx context.Context) error {
	if !r.f.devices || !r.f.pods {
		r.note("without pods or devices: no churn")
		return nil
	}
	agents := r.fleet.Agents()
	watch, stop := context.WithCancel(ctx)
	value := r.cluster.WatchValue(watch, agents[0].Name)
	defer func() { stop(); value.Wait() }()
	seen, _, _ := value.Seen()
	c, err := r.measured(ctx, func() error {
		window, stop := context.WithTimeout(ctx, r.f.window/2)
		defer stop()
		var wg sync.WaitGroup
		wg.Go(func() { fleet.Steadily(window, agents[:1], 90, (*fleet.Agent).ReportValue) })
		wg.Go(func() { fleet.Steadily(window, agents[1:], float64(len(agents))/60, (*fleet.Agent).ReportValue) })
		wg.Wait()
		return nil
	})
	if err != nil {
		return err
	}
	r.add("device_reports_per_s", c.relay["skerry_relay_reports_total"]/c.took.Seconds(), "1/s")
	r.add("api_requests_per_s_device_reports", c.requests()/c.took.Seconds(), "1/s")
	newest := value.Await(ctx, agents[0].Values())
	shown, reversals, _ := value.Seen()
	r.add("device_versions_shown", float64(shown-seen), "") // of the one that reports 90 times a second
	r.add("device_updates_reversed", float64(reversals), "")
	if newest != nil {
		return fmt.Errorf("the newest value is not shown: %w", newest)
	}
	return r.replace(ctx)
}

// replace gives some devices another desired value and replaces their nodes' pods, as a rollout does.
func (r *fleetRun) replace(ctx context.Context) error {
	some := r.names[:min(50, len(r.names))]
	began := time.Now()
	if err := r.cluster.SetDesired(ctx, some, 7, r.progress); err != nil {
		return err
	}
	if err := r.cluster.ReplacePods(ctx, r.work, some, 0, r.progress); err != nil {
		return err
	}
	r.add("churn_pods_replaced_s", time.Since(began).Seconds(), "s")
	return r.fleet.Wait(ctx, "given their objects again", fleet.Holds(r.work.Objects()), r.progress)
}

// check holds the fleet to what the link promises, whatever happened to it.
func (r *fleetRun) check(ctx context.Context) error {
	if err := r.fleet.Wait(ctx, "in sync in the end", fleet.InSync, r.progress); err != nil {
		return err
	}
	if err := r.fleet.Wait(ctx, "holding their objects", fleet.Holds(r.work.Objects()), nil); err != nil {
		return err
	}
	tally, breach := r.fleet.Tally()
	r.add("commits", float64(tally.Commits), "")
	r.add("objects_sent_unchanged", float64(tally.Repeated), "")
	r.add("promises_broken", float64(tally.Breaches), "")
	lost, causes := r.nodes.Lost()
	r.add("nodes_lost", float64(lost), "")
	for _, cause := range causes {
		r.note("a Node stopped being Ready: %s", cause)
	}
	if tally.Breaches > 0 {
		return fmt.Errorf("%d commits broke what the link promises, the last: %s", tally.Breaches, breach)
	}
	return nil
}
