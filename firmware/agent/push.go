package agent

import (
	"fmt"
	"io"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/push"
	"github.com/skerry/skerry/firmware/wire"
)

// newPush makes what pushes values of devices to their targets.
func (a *Agent) newPush() {
	cfg := a.cfg.Devices.Push
	if cfg.MaxTargets == 0 {
		return
	}
	a.push = push.New(push.Options{
		Desired: a.desired, Watch: a.desired.Watch(wire.KindDevice), History: a.history, Credentials: cfg.Credentials,
		Targets: cfg.MaxTargets, Values: cfg.BatchValues, Interval: cfg.BatchInterval, Queue: cfg.QueueValues,
		Log: a.log.With("part", "push"),
	})
}

// devicePush is nil, and not a nil pointer in an interface, if nothing is pushed.
func (a *Agent) devicePush() devices.Push {
	if a.push == nil {
		return nil
	}
	return a.push
}

// writePush writes the figures of targets, which come and go.
func writePush(w io.Writer, targets []push.TargetStatus) {
	for _, t := range targets {
		if t.From == "" { // it is not run
			continue
		}
		labels := fmt.Sprintf("target=%q,from=%q", t.Name, t.From)
		fmt.Fprintf(w, "skerry_push_up{%s} %g\n", labels, oneIf(t.Failing.IsZero()))
		fmt.Fprintf(w, "skerry_push_lag_seconds{%s} %g\n", labels, t.LagSeconds)
		fmt.Fprintf(w, "skerry_push_waiting{%s} %d\n", labels, t.Waiting)
		fmt.Fprintf(w, "skerry_push_sent_total{%s} %d\n", labels, t.Sent)
		fmt.Fprintf(w, "skerry_push_refused_total{%s} %d\n", labels, t.Refused)
		fmt.Fprintf(w, "skerry_push_skipped_total{%s} %d\n", labels, t.Skipped)
		fmt.Fprintf(w, "skerry_push_dropped_total{%s} %d\n", labels, t.Dropped)
		fmt.Fprintf(w, "skerry_push_failures_total{%s} %d\n", labels, t.Failures)
	}
}

func printPush(w io.Writer, targets []push.TargetStatus, now time.Time) {
	for _, t := range targets {
		if t.From == "" {
			fmt.Fprintf(w, "push      %s NOT PUSHED TO: %s\n", t.Name, t.LastError)
			continue
		}
		fmt.Fprintf(w, "push      %s (%s, from %s): %d properties, %d sent, %d waiting, %d dropped, time since the last one: %s\n",
			t.Name, t.Address, t.From, t.Properties, t.Sent, t.Waiting, t.Dropped, age(now, t.LastSent))
		if !t.Failing.IsZero() {
			fmt.Fprintf(w, "          FAILS for %s, %.0f s behind: %s\n", age(now, t.Failing), t.LagSeconds, t.LastError)
		}
		if n := t.Refused + t.Skipped; n > 0 {
			fmt.Fprintf(w, "          %d values were not taken and given up; the last: %s\n", n, t.LastLoss)
		}
	}
}
