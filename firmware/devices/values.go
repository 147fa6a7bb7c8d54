package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// Back-off of a desired value that the device refused or that could not be delivered.
const (
	writeBase  = time.Second
	writeLimit = 30 * time.Second
)

// refreshCycle is how often an unchanged value is reported again when the property has no reportCycle, so that its age
// in Kubernetes tells that it is still being read.
const refreshCycle = 5 * time.Minute

// item ties a driver call to the property that it is for.
type item struct {
	name    string
	index   int // in the plan that the call was started with
	point   device.Point
	desired twin.Desired
}

// propertyTwin is the twin of one property with what the device last said.
type propertyTwin struct {
	twin.Property
	uid      string       // of the Device that it belongs to
	value    device.Value // the last datum with its timestamps; quality and reason of the last reading
	text     string       // value.Text(), kept because most readings do not change it
	readBack uint64       // the last call that was begun before value was read back; what those before it read is older
	lastSent time.Time    // when the value was last part of a report
	alarms   []alarm.Record
	dirty    bool // the record in the store is older
}

// adoptTwins brings the twins in line with a plan.
func (w *worker) adoptTwins(p *plan, now time.Time) {
	keep := make(map[string]bool, len(p.properties))
	for i := range p.properties {
		prop := &p.properties[i]
		keep[prop.name] = true
		t := w.twins[prop.name]
		if t == nil {
			t = &propertyTwin{dirty: true}
			w.twins[prop.name] = t
			w.armFlush(now)
		}
		t.uid = p.uid
		if t.Rewind(p.generation) {
			t.dirty = true
			w.log.Warn("the Device's generation went back, as after a restore of the cluster; its values count from now on",
				"property", prop.name, "generation", p.generation)
		}
		if t.SetCloud(prop.desired, p.generation) {
			t.dirty = true
		}
		w.judge(prop, t, now)
		if prop.point == nil && prop.pointErr != "" {
			w.observe(prop, t, device.BadValue(prop.pointErr, now), now)
		}
	}
	// A property that left the spec takes its twin along; with fatal problems nothing is known of the properties.
	if !p.fatal() {
		for name := range w.twins {
			if !keep[name] {
				delete(w.twins, name)
				w.durable = append(w.durable, TwinRecord{Key: w.recordKey(name)})
			}
		}
	}
}

// judge settles what can be said of the value that counts without asking the device.
func (w *worker) judge(prop *property, t *propertyTwin, now time.Time) {
	if !t.Wanted() {
		return
	}
	d := t.Desired()
	why := ""
	if _, err := prop.check(d.Value); err != nil {
		why = err.Error()
	}
	o, reason := t.Outcome()
	switch {
	case why != "" && (o != twin.Refused || reason != why):
		t.Record(d, twin.Refused, why, now)
	case why == "" && o == twin.Refused: // the model changed: it can be written now
		t.Record(twin.Desired{}, twin.Pending, "", now)
	default:
		return
	}
	t.dirty, w.status.changed = true, true
	w.durable = append(w.durable, w.record(prop.name, t))
}

// startWrite writes all desired values that are due, ahead of reads.
func (w *worker) startWrite(ctx context.Context, now time.Time) {
	var items []item
	var writes []device.Write
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		t := w.twins[prop.name]
		if prop.point == nil || !t.Due(now, writeBase, writeLimit) {
			continue
		}
		d := t.Desired()
		v, err := prop.check(d.Value)
		if err != nil { // an edge write that the model does not allow
			w.judge(prop, t, now)
			continue
		}
		items = append(items, item{name: prop.name, index: i, point: prop.point, desired: d})
		writes = append(writes, device.Write{Point: prop.point, Value: v})
	}
	if len(writes) == 0 {
		return
	}
	c, callCtx := w.begin(ctx, callWrite, now)
	c.items, c.writes = items, writes
	w.writing = c
	session := w.session
	w.start(c, func() result { return result{writes: session.Write(callCtx, writes)} })
}

func (w *worker) finishWrite(r result, now time.Time) {
	retry := false
	for i, it := range r.call.items {
		prop, t := w.find(it)
		if prop == nil {
			continue
		}
		res := device.WriteResult{Err: errors.New("the driver returned no result for this write")}
		if i < len(r.writes) {
			res = r.writes[i]
		}
		w.settle(prop, t, it.desired, res, now)
		retry = retry || t.Unsettled()
	}
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
	before, beforeReason := t.Outcome()
	t.Record(d, outcome, reason, now)
	w.status.changed = true
	w.durable = append(w.durable, w.record(prop.name, t))
	if res.Readback.Kind() != device.KindNone {
		t.readBack = w.begun
		w.take([]reading{{prop, t, res.Readback}}, now)
	}
	if before == outcome && beforeReason == reason {
		return
	}
	switch outcome {
	case twin.Failed:
		w.log.Warn("desired value was not applied", "property", prop.name, "value", d.Value, "why", reason)
		w.event(eventWarning, "DesiredValueFailed", fmt.Sprintf("property %q: desired value %q: %s", prop.name, clip(d.Value), reason))
	case twin.Verified, twin.Applied:
		w.log.Info("desired value applied", "property", prop.name, "value", d.Value, "outcome", outcome.String())
		w.event(eventNormal, "DesiredValueApplied", fmt.Sprintf("property %q: desired value %q: %s", prop.name, clip(d.Value), outcome))
	case twin.Pending, twin.Refused:
	}
}

// armRetry wakes the worker when the next failed write is due.
func (w *worker) armRetry(now time.Time) {
	next := time.Time{}
	for _, t := range w.twins {
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

// startRead reads all points whose groups are due, in one batch.
func (w *worker) startRead(ctx context.Context, now time.Time) {
	var items []item
	var points []device.Point
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if prop.point == nil || !w.pending[w.groups[prop.collect]] {
			continue
		}
		items = append(items, item{name: prop.name, index: i, point: prop.point})
		points = append(points, prop.point)
	}
	clear(w.pending)
	if len(points) == 0 {
		return
	}
	c, callCtx := w.begin(ctx, callRead, now)
	c.items, c.points, c.values = items, points, make([]device.Value, len(points))
	w.reading = c
	session := w.session
	w.start(c, func() result { return result{err: session.Read(callCtx, c.points, c.values)} })
}

func (w *worker) finishRead(r result, now time.Time) {
	fresh := make([]reading, 0, len(r.call.items))
	for i, it := range r.call.items {
		prop, t := w.find(it)
		if prop == nil || r.call.number <= t.readBack { // it was asked for before a write, whose read-back is newer
			continue
		}
		v, err := r.call.values[i].Convert(prop.typ)
		if err != nil {
			v = device.BadValue(err.Error(), now)
		}
		if v.Kind() == device.KindNone && v.Reason == "" {
			v.Reason = "the driver gave no value"
			if r.err != nil {
				v.Reason = oneLine(r.err)
			}
		}
		fresh = append(fresh, reading{prop, t, v})
	}
	w.take(fresh, now)
	w.crashed = ""
	if r.err != nil {
		w.reach, w.reachWhy = reachOffline, oneLine(r.err)
		return
	}
	if now.Sub(w.openedAt) > steadyAfter {
		w.restarts = 0
	}
	if w.reach != reachOnline {
		w.retryWrites() // it is back: what could not be delivered need not wait any longer
	}
	w.reach, w.reachWhy, w.lastOnline = reachOnline, "", now
}

// retryWrites makes all unsettled writes due.
func (w *worker) retryWrites() {
	for _, t := range w.twins {
		if t.Unsettled() {
			t.Last.Tries = 0
			w.due(taskRetry)
		}
	}
}

// find returns the property that an item is for, unless it changed since the call was started.
func (w *worker) find(it item) (*property, *propertyTwin) {
	if it.index < len(w.plan.properties) { // as a rule the plan is still the same
		if prop := &w.plan.properties[it.index]; prop.name == it.name && samePoint(prop.point, it.point) {
			return prop, w.twins[it.name]
		}
	}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if prop.name == it.name && samePoint(prop.point, it.point) {
			return prop, w.twins[it.name]
		}
	}
	return nil, nil
}

// samePoint compares points as the driver describes them: a plan that changed something else compiled them anew.
func samePoint(a, b device.Point) bool {
	return a != nil && b != nil && (a == b || a.String() == b.String())
}

// take brings fresh values through the stage into the twins.
func (w *worker) take(fresh []reading, now time.Time) {
	for _, x := range w.stage(fresh, now) {
		w.observe(x.prop, x.twin, x.value, now)
	}
}

// observe takes over a reading. A reading without a datum keeps the last known one: "it was 21.5 at noon, and the device is
// unreachable since" helps more than an empty field.
func (w *worker) observe(prop *property, t *propertyTwin, v device.Value, now time.Time) {
	if v.Kind() == device.KindNone {
		old := t.value
		if old.Kind() == device.KindNone {
			old.Server = v.Server
		}
		v = old.Doubt(v.Quality, v.Reason)
	}
	quality := v.Quality != t.value.Quality || v.Reason != t.value.Reason
	datum := v.Kind() != t.value.Kind() || !v.Same(t.value)
	if datum {
		t.text = v.Text()
	}
	t.value = v
	if datum || quality {
		t.dirty = true
		w.armFlush(now)
		w.keep(prop, v)
	}
	cycle := prop.report
	if cycle == 0 {
		cycle = refreshCycle
	}
	// Half a collectCycle of slack: a reportCycle that is a multiple of collectCycle must not miss its instant by a hair.
	elapsed := now.Sub(t.lastSent)+prop.collect/2 >= cycle || now.Before(t.lastSent)
	if prop.reportToCloud && (quality || datum && prop.report == 0 || elapsed) {
		w.status.changed = true
	}
}

// doubtAll marks every value after the driver failed.
func (w *worker) doubtAll(why string) {
	if w.plan == nil {
		return
	}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if prop.point == nil {
			continue
		}
		t := w.twins[prop.name]
		t.value = t.value.Doubt(device.Bad, why)
	}
	w.doubtStage(why, time.Now())
	w.status.changed = true
}
