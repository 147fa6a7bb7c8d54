package devices

import (
	"hash/fnv"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// refreshCycle is how often an unchanged value is reported again when the property has no reportCycle, so that its age
// in Kubernetes tells that it is still being read.
const refreshCycle = 5 * time.Minute

// group is the points of one collectCycle.
type group struct {
	id      task
	period  time.Duration
	pending bool   // it is time to read
	batch   *batch // kept from cycle to cycle; nil if it has to be made
}

// batch is what one read asks for. Its slices are used again by the next read, unless the call was given up.
type batch struct {
	plan   *plan
	items  []int32 // indexes of properties
	points []device.Point
	values []device.Value
	pooled *[]device.Value // what values is of, while a read is under way; nil: it is the batch's own
}

// regroup arms one schedule for each collectCycle in use, and leaves those that were running alone.
func (w *worker) regroup(now time.Time) {
	used := make(map[time.Duration]bool)
	if w.plan.driver != nil {
		for i := range w.plan.properties {
			if w.plan.properties[i].readable() {
				used[w.plan.properties[i].collect] = true
			}
		}
	}
	kept := w.groups[:0:0]
	for _, g := range w.groups {
		if !used[g.period] {
			w.host.sched.clear(w, g.id)
			continue
		}
		g.pending, g.batch = true, nil // something about the device changed: look now
		kept = append(kept, g)
		delete(used, g.period)
	}
	for i := range w.plan.properties { // in the manifest's order
		period := w.plan.properties[i].collect
		if !used[period] {
			continue
		}
		delete(used, period)
		g := &group{id: w.nextID, period: period, pending: true}
		w.nextID++
		kept = append(kept, g)
		w.host.sched.set(w, g.id, now.Add(w.delay+w.phase(period)), period)
	}
	w.groups = kept
}

// phase spreads the devices of a node over a cycle: the same device always has the same phase.
func (w *worker) phase(period time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(w.recordPrefix())) // cannot fail
	share := float64(h.Sum64()>>11) / (1 << 53)
	return period/8 + time.Duration(share*float64(period-period/8)) // not at once after the first reading
}

// startRead reads all points whose groups are due, in one batch, but for those that the device tells of by itself.
func (w *worker) startRead(now time.Time) {
	var due []*group
	for _, g := range w.groups {
		if g.pending {
			due = append(due, g)
		}
	}
	if len(due) == 0 {
		return
	}
	b := due[0].batch
	if b == nil || len(due) > 1 {
		b = w.newBatch(due)
		if len(due) == 1 {
			due[0].batch = b
		}
	}
	for _, g := range due {
		g.pending = false
	}
	if len(b.points) == 0 {
		return
	}
	c, ctx := w.begin(callRead, callTimeout, now)
	c.batch, w.reading = b, c
	b.pooled = w.host.buffers.takeValues(len(b.points))
	b.values = *b.pooled
	session, values := w.session, b.values
	w.start(c, func() result { return result{err: session.Read(ctx, b.points, values)} })
}

func (w *worker) newBatch(due []*group) *batch {
	b := &batch{plan: w.plan}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if !prop.readable() || w.twins[i].watched {
			continue
		}
		for _, g := range due {
			if g.period == prop.collect {
				b.items = append(b.items, int32(i))
				b.points = append(b.points, prop.point)
			}
		}
	}
	return b
}

// finishRead takes over what was read.
func (w *worker) finishRead(r result, now time.Time) {
	w.readings(r, now, func(*reading) {})
	w.crashed = ""
	if r.err != nil {
		w.reach, w.reachWhy = reachOffline, oneLine(r.err)
		return
	}
	w.online(now)
}

// readings brings the values of a read into the twins, and calls each with what was read.
func (w *worker) readings(r result, now time.Time, each func(*reading)) {
	b := r.call.batch
	room := w.host.buffers.takeFresh(len(b.items))
	fresh := (*room)[:0]
	for n, i := range b.items {
		index := w.current(b.plan, int(i))
		if index < 0 {
			continue
		}
		prop, twin := &w.plan.properties[index], &w.twins[index]
		if twin.readBack != nil && r.call.number <= twin.readBack.call { // it was asked for before a write, whose read-back is newer
			continue
		}
		fresh = append(fresh, reading{prop, twin, converted(prop, b.values[n], r.err, now)})
		each(&fresh[len(fresh)-1])
	}
	w.take(fresh, now)
	w.host.buffers.giveFresh(room, fresh)
	if b.pooled != nil {
		w.host.buffers.giveValues(b.pooled)
		b.values, b.pooled = nil, nil
	}
}

// converted brings what a driver delivered into the model's type.
func converted(prop *property, v device.Value, failed error, now time.Time) device.Value {
	out, err := v.Convert(prop.typ)
	if err != nil {
		return device.BadValue(err.Error(), now)
	}
	if out.Kind() == device.KindNone && out.Reason == "" {
		out.Reason = "the driver gave no value"
		if failed != nil {
			out.Reason = oneLine(failed)
		}
	}
	return out
}

// online notes that the device answered.
func (w *worker) online(now time.Time) {
	if now.Sub(w.openedAt) > steadyAfter {
		w.restarts = 0
	}
	if w.reach != reachOnline {
		w.retryWrites() // it is back: what could not be delivered need not wait any longer
	}
	w.crashed = ""
	w.reach, w.reachWhy, w.lastOnline = reachOnline, "", now
}

// current returns where a property of an older plan stands now, -1 if it is gone or lives elsewhere.
func (w *worker) current(of *plan, i int) int {
	if of == w.plan {
		return i
	}
	old := &of.properties[i]
	if i < len(w.plan.properties) && w.plan.properties[i].name == old.name && samePoint(w.plan.properties[i].point, old.point) {
		return i
	}
	if j := w.plan.find(old.name); j >= 0 && samePoint(w.plan.properties[j].point, old.point) {
		return j
	}
	return -1
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
	old := t.value.Value()
	if v.Kind() == device.KindNone {
		if old.Kind() == device.KindNone {
			old.Server = v.Server
		}
		v = old.Doubt(v.Quality, v.Reason)
	}
	quality := v.Quality != old.Quality || v.Reason != old.Reason
	datum := v.Kind() != old.Kind() || !v.Same(old)
	if band := prop.has().deadband; band.given() {
		datum = band.passes(t.base, v, datum, v.Kind() != old.Kind())
	}
	t.value = t.value.Next(v)
	w.status.judge = w.status.judge || quality
	if datum || quality {
		t.base = v.AsFloat()
		w.soil(prop, t, now)
		w.keep(prop, v)
		w.host.tell(w.key, prop.name, v)
	}
	if prop.reportToCloud && (quality || datum && prop.report == 0 || prop.elapsed(t, now)) {
		w.status.changed = true
	}
}

// elapsed tells whether the value is to be reported even if it did not change.
func (prop *property) elapsed(t *propertyTwin, now time.Time) bool {
	cycle := prop.report
	if cycle == 0 {
		cycle = refreshCycle
	}
	// Half a collectCycle of slack: a reportCycle that is a multiple of collectCycle must not miss its instant by a hair.
	since := now.UnixNano() - t.lastSent
	return since+int64(prop.collect/2) >= int64(cycle) || since < 0
}

// refresh sees to the report cycles of values that the device tells of by itself, and which no reading brings.
func (w *worker) refresh(g *group, now time.Time) {
	if !w.sub.active() {
		return
	}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if w.twins[i].watched && prop.collect == g.period && prop.reportToCloud && prop.elapsed(&w.twins[i], now) {
			w.status.changed = true
		}
	}
}

// doubtAll marks every value after the driver failed.
func (w *worker) doubtAll(why string, now time.Time) {
	if w.plan == nil {
		return
	}
	for i := range w.plan.properties {
		if w.plan.properties[i].readable() {
			t := &w.twins[i]
			t.value = t.value.Next(t.value.Value().Doubt(device.Bad, why))
		}
	}
	w.doubtStage(why, now)
	w.status.changed, w.status.judge = true, true
}
