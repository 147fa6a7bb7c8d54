package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// Back-off of a desired value that the device refused or that could not be delivered.
const (
	writeBase  = time.Second
	writeLimit = 30 * time.Second
)

// item ties a write to the property that it is for.
type item struct {
	plan    *plan
	index   int // in plan
	desired twin.Desired
}

// judgeAll settles what can be said without asking the device, and lists the properties with a desired value.
func (w *worker) judgeAll(now time.Time) {
	w.wants = w.wants[:0]
	for i := range w.plan.properties {
		prop, t := &w.plan.properties[i], &w.twins[i]
		if t.wanted() {
			w.wants = append(w.wants, int32(i))
			w.judge(prop, t, now)
		}
		if prop.point == nil && prop.has().pointErr != "" {
			w.observe(prop, t, device.BadValue(prop.has().pointErr, now), now)
		}
	}
}

// judge settles what can be said of the value that counts without asking the device.
func (w *worker) judge(prop *property, t *propertyTwin, now time.Time) {
	if !t.wanted() {
		return
	}
	d := t.want.Desired()
	why := ""
	if _, err := prop.check(d.Value); err != nil {
		why = err.Error()
	}
	o, reason := t.want.Outcome()
	switch {
	case why != "" && (o != twin.Refused || reason != why):
		t.want.Record(d, twin.Refused, why, now)
	case why == "" && o == twin.Refused: // the model changed: it can be written now
		t.want.Record(twin.Desired{}, twin.Pending, "", now)
	default:
		return
	}
	w.status.changed = true
	w.durable = append(w.durable, w.record(prop.name, t))
}

// startWrite writes all desired values that are due, ahead of reads.
func (w *worker) startWrite(now time.Time) {
	w.mayWrite = false
	var items []item
	var writes []device.Write
	for _, i := range w.wants {
		prop, t := &w.plan.properties[i], &w.twins[i]
		if !prop.readable() || !t.want.Due(now, writeBase, writeLimit) {
			continue
		}
		d := t.want.Desired()
		v, err := prop.check(d.Value)
		if err != nil { // an edge write that the model does not allow any more
			w.judge(prop, t, now)
			continue
		}
		items = append(items, item{plan: w.plan, index: int(i), desired: d})
		writes = append(writes, device.Write{Point: prop.point, Value: v})
	}
	if len(writes) == 0 {
		return
	}
	c, ctx := w.begin(callWrite, callTimeout, now)
	c.items, w.writing = items, c
	session := w.session
	w.start(c, func() result { return result{writes: session.Write(ctx, writes)} })
}

func (w *worker) finishWrite(r result, now time.Time) {
	retry := false
	for n, it := range r.call.items {
		index := w.current(it.plan, it.index)
		if index < 0 {
			continue
		}
		prop, t := &w.plan.properties[index], &w.twins[index]
		res := device.WriteResult{Err: errors.New("the driver returned no result for this write")}
		if n < len(r.writes) {
			res = r.writes[n]
		}
		w.settle(prop, t, it.desired, res, now)
		retry = retry || t.want.Unsettled()
	}
	w.mayWrite = true // something newer may have come meanwhile
	if retry {
		w.armRetry(now)
	}
}

// settle records the outcome of one write.
func (w *worker) settle(prop *property, t *propertyTwin, d twin.Desired, res device.WriteResult, now time.Time) {
	outcome, reason := twin.Verified, ""
	switch {
	case errors.Is(res.Err, device.ErrUnreachable), errors.Is(res.Err, context.Canceled), errors.Is(res.Err, context.DeadlineExceeded):
		outcome, reason = twin.Pending, oneLine(res.Err)
	case res.Err != nil:
		outcome, reason = twin.Failed, oneLine(res.Err)
	case !res.Verified:
		outcome, reason = twin.Applied, "the device accepted the value; it cannot be read back"
	}
	before, beforeReason := t.want.Outcome()
	t.want.Record(d, outcome, reason, now)
	w.status.changed = true
	if res.Readback.Kind() != device.KindNone {
		t.readBack = &readBack{w.begun, res.Readback.Server}
		w.take([]reading{{prop, t, res.Readback}}, now)
	}
	w.durable = append(w.durable, w.record(prop.name, t))
	w.settleWaits(prop.name, d, res)
	if before == outcome && beforeReason == reason {
		return
	}
	switch outcome {
	case twin.Failed:
		w.log.Warn("desired value was not applied", "property", prop.name, "value", d.Value, "by", d.Origin.String(), "why", reason)
		w.event(eventWarning, "DesiredValueFailed", fmt.Sprintf("property %q: desired value %q: %s", prop.name, clip(d.Value), reason))
	case twin.Verified, twin.Applied:
		w.log.Info("desired value applied", "property", prop.name, "value", d.Value, "by", d.Origin.String(), "outcome", outcome.String())
		w.event(eventNormal, "DesiredValueApplied", fmt.Sprintf("property %q: desired value %q: %s", prop.name, clip(d.Value), outcome))
	case twin.Pending, twin.Refused:
	}
}

// retryWrites makes all unsettled writes due.
func (w *worker) retryWrites() {
	for _, i := range w.wants {
		if t := &w.twins[i]; t.want.Unsettled() {
			t.want.Last.Tries = 0
			w.mayWrite = true
		}
	}
}

// armRetry wakes the worker when the next failed write is due.
func (w *worker) armRetry(now time.Time) {
	next := time.Time{}
	for _, i := range w.wants {
		t := w.twins[i].want
		if !t.Unsettled() {
			continue
		}
		// What is due already waits for something else: a usable visitor, or the write that is under way.
		at := t.Last.At.Add(twin.Backoff(t.Last.Tries, writeBase, writeLimit))
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		w.host.sched.set(w, taskRetry, next, 0)
	}
}
