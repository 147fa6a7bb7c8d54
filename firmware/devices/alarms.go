package devices

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/devices/derived"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

const (
	conditionAlarms = "Alarms"
	conditionAlarm  = "Alarm." // … and the alarm's name

	// maxAlarmConditions bounds the conditions of single alarms: a Device's status has room for some, and Alarms counts them all.
	maxAlarmConditions = 16
)

// AlarmState is one alarm of a device that is not normal.
type AlarmState struct {
	Name, Property  string
	Severity, Level string
	Since           time.Time
	Message         string
}

// plannedAlarm is an alarm of a plan.
type plannedAlarm struct {
	cfg  *alarm.Config
	slot int           // the property that it belongs to
	when *derived.Expr // nil for one with setpoints
}

// liveAlarm is an alarm with its state.
type liveAlarm struct {
	plannedAlarm
	alarm *alarm.Alarm
	memo  derived.Memo
	last  device.Value // what it looked at last
}

// path is where the alarm stands in the Device: its events are of it, so that alarms do not hide each other.
func (a *liveAlarm) path() string {
	return fmt.Sprintf("spec.properties[%s].alarms[%s]", a.cfg.Property, a.cfg.Name)
}

func fieldNames(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

// alarmFields reads the `alarms` of a property.
func (p *plan) alarmFields(prop *property, where string) {
	raw, ok := prop.has().host["alarms"]
	if !ok || raw == nil {
		return
	}
	prop.staged(where)
	cfgs, err := alarm.Parse(where+".alarms", prop.name, prop.typ, raw)
	if err != nil {
		p.fail(reasonInvalidVisitor, false, "%s", oneLine(err))
	}
	prop.has().stage.alarms = cfgs
}

// planAlarms compiles the conditions of alarms and holds them to the limits of a device.
func (p *plan) planAlarms(properties []derived.Property) {
	names := make(map[string]string)
	for i := range p.properties {
		prop := &p.properties[i]
		if prop.has().stage == nil {
			continue
		}
		for _, cfg := range prop.has().stage.alarms {
			field := prop.has().stage.where + ".alarms"
			if other, taken := names[cfg.Name]; taken {
				p.fail(reasonInvalidVisitor, false, "%s", &device.FieldError{Field: field + ".name", Value: cfg.Name,
					Problem: fmt.Sprintf("property %q has an alarm of this name, too", other), Allowed: "a name for each alarm of a device"})
				continue
			}
			if len(p.stage.alarms) == alarm.MaxPerDevice {
				p.fail(reasonInvalidVisitor, false, "%s", &device.FieldError{Field: field, Problem: "the device has too many alarms", Allowed: fmt.Sprintf("up to %d", alarm.MaxPerDevice)})
				return
			}
			a := plannedAlarm{cfg: cfg, slot: i}
			if cfg.When != "" {
				e, err := derived.Parse(cfg.When, properties)
				if err == nil && e.Type() != derived.Bool {
					err = &derived.Error{Pos: 1, Problem: "the result is " + e.Type().String(), Allowed: "an expression that is true or false, e.g. x > 0"}
				}
				if err != nil {
					p.fail(reasonInvalidVisitor, false, "%s", expressionError(field+".when", cfg.When, err))
					continue
				}
				a.when = e
			}
			names[cfg.Name] = prop.name
			p.stage.alarms = append(p.stage.alarms, a)
		}
	}
}

// adoptAlarms takes over the alarms of a plan. One that did not change goes on, delays included; one that changed, or that comes from the
// store, goes on from its level: neither a new manifest nor a restart of the agent raises it again.
func (w *worker) adoptAlarms(was staged, now time.Time) {
	old := make(map[string]*liveAlarm, len(was.alarms))
	for _, a := range was.alarms {
		old[a.cfg.Name] = a
	}
	s := &w.staged
	if s.plan != nil {
		s.bySlot = make([][]*liveAlarm, len(w.plan.properties))
		for _, planned := range s.plan.alarms {
			a := &liveAlarm{plannedAlarm: planned}
			before := old[planned.cfg.Name]
			switch {
			case before != nil && before.cfg.Property == planned.cfg.Property && reflect.DeepEqual(before.cfg, planned.cfg):
				a.alarm, a.last = before.alarm, before.last
			case before != nil && before.cfg.Property == planned.cfg.Property:
				a.alarm = alarm.New(planned.cfg, before.alarm.Record())
			default:
				a.alarm = alarm.New(planned.cfg, w.twins[planned.slot].alarmRecord(planned.cfg.Name))
			}
			delete(old, planned.cfg.Name)
			s.alarms = append(s.alarms, a)
			s.bySlot[planned.slot] = append(s.bySlot[planned.slot], a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if level, _ := old[name].alarm.Level(); level != alarm.Normal {
			w.eventOf(old[name].path(), eventNormal, "AlarmCleared", fmt.Sprintf("alarm %q is no longer in the manifest", name))
		}
	}
	for i := range w.plan.properties {
		w.keepAlarms(i, now)
	}
	w.armAlarms(now)
}

func (t *propertyTwin) alarmRecord(name string) alarm.Record {
	for _, r := range t.alarmRecords() {
		if r.Name == name {
			return r
		}
	}
	return alarm.Record{}
}

func (t *propertyTwin) alarmRecords() []alarm.Record {
	if t.alarms == nil {
		return nil
	}
	return *t.alarms
}

// keepAlarms hands the alarms of a property to its twin, which the store keeps.
func (w *worker) keepAlarms(slot int, now time.Time) {
	t := &w.twins[slot]
	var records []alarm.Record
	if w.staged.bySlot != nil {
		for _, a := range w.staged.bySlot[slot] {
			if level, _ := a.alarm.Level(); level != alarm.Normal {
				records = append(records, a.alarm.Record())
			}
		}
	}
	if slices.Equal(records, t.alarmRecords()) {
		return
	}
	if t.alarms = nil; len(records) > 0 {
		t.alarms = &records
	}
	w.soil(&w.plan.properties[slot], t, now)
	w.staged.soiled = append(w.staged.soiled, int32(slot))
}

// alarmTwins encodes the twins of properties whose alarms have changed. They do not wait for a turn among the values: an alarm that was not
// kept is raised again after a restart.
func (w *worker) alarmTwins(soiled []int32) (out []TwinRecord) {
	for _, i := range soiled {
		if prop, t := &w.plan.properties[i], &w.twins[i]; t.dirty {
			out = append(out, w.record(prop.name, t))
		}
	}
	return out
}

// watchAlarms shows fresh values to the alarms.
func (w *worker) watchAlarms(fresh []reading, now time.Time) {
	s := &w.staged
	if len(s.alarms) == 0 {
		return
	}
	for _, r := range fresh {
		for _, a := range s.bySlot[r.prop.index] {
			if a.when == nil {
				a.last = r.value
				w.watchAlarm(a, now)
			}
		}
	}
	for _, a := range s.alarms {
		if a.when == nil {
			continue
		}
		if v, ok := s.state.Eval(a.when, &a.memo, now); ok {
			a.last = v
			w.watchAlarm(a, now)
		}
	}
	w.armAlarms(now)
}

// tickAlarms looks at the alarms whose delay is over.
func (w *worker) tickAlarms(now time.Time) {
	for _, a := range w.staged.alarms {
		if a.timed() {
			if v, ok := w.staged.state.Eval(a.when, &a.memo, now); ok {
				a.last = v
			}
			w.watchAlarm(a, now)
		} else if at := a.alarm.Due(); !at.IsZero() && !at.After(now) {
			w.watchAlarm(a, now)
		}
	}
	w.armAlarms(now)
}

// timed tells whether the condition depends on the time of day: it can begin to hold while no value comes.
func (a *liveAlarm) timed() bool { return a.when != nil && a.when.Timed() }

// armAlarms wakes the worker when the next delay ends: a device that tells of changes only says nothing then.
func (w *worker) armAlarms(now time.Time) {
	var next time.Time
	for _, a := range w.staged.alarms {
		at := a.alarm.Due()
		if second := now.Add(time.Second); a.timed() && (at.IsZero() || at.After(second)) {
			at = second
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	switch {
	case next.Equal(w.alarmAt):
	case next.IsZero():
		w.host.sched.clear(w, taskAlarm)
	default:
		w.host.sched.set(w, taskAlarm, maxTime(next, now), 0)
	}
	w.alarmAt = next
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *worker) watchAlarm(a *liveAlarm, now time.Time) {
	t, changed := a.alarm.Update(a.last, now)
	if !changed {
		return
	}
	w.status.changed = true
	w.keepAlarms(a.slot, now)
	why := a.cfg.Describe(t.To, t.Text, w.plan.properties[a.slot].unit)
	if a.cfg.Message != "" {
		why += "; " + a.cfg.Message
	}
	message := fmt.Sprintf("alarm %q (%s), property %q: %s", a.cfg.Name, a.cfg.Severity, a.cfg.Property, why)
	typ, reason := eventNormal, "AlarmChanged"
	switch {
	case t.To == alarm.Normal:
		reason = "AlarmCleared"
		message += fmt.Sprintf("; it was %s for %s", t.From, now.Sub(t.Since).Round(time.Second/10))
	case t.Graver():
		reason = "AlarmRaised"
		if a.cfg.Severity > alarm.Info {
			typ = eventWarning
		}
	}
	w.log.Info("alarm", "name", a.cfg.Name, "property", a.cfg.Property, "from", t.From.String(), "to", t.To.String(), "value", clip(t.Text))
	w.eventOf(a.path(), typ, reason, message)
}

// activeAlarms lists the alarms that are not normal, the gravest and oldest first.
func (w *worker) activeAlarms() []AlarmState {
	var active []*liveAlarm
	for _, a := range w.staged.alarms {
		if level, _ := a.alarm.Level(); level != alarm.Normal {
			active = append(active, a)
		}
	}
	slices.SortStableFunc(active, func(x, y *liveAlarm) int {
		return cmp.Or(cmp.Compare(y.cfg.Severity, x.cfg.Severity), x.alarm.Record().Since.Compare(y.alarm.Record().Since))
	})
	out := make([]AlarmState, 0, len(active))
	for _, a := range active {
		level, since := a.alarm.Level()
		message := a.cfg.Describe(level, a.alarm.Record().Text, w.plan.properties[a.slot].unit)
		if a.cfg.Message != "" {
			message += "; " + a.cfg.Message
		}
		out = append(out, AlarmState{Name: a.cfg.Name, Property: a.cfg.Property, Severity: a.cfg.Severity.String(), Level: level.String(), Since: since, Message: message})
	}
	return out
}

// alarmConditions returns the condition that says whether the device is in alarm, and one for each active alarm. A device without alarms
// has none.
func (w *worker) alarmConditions(now time.Time) []devicev1.Condition {
	if len(w.staged.alarms) == 0 {
		w.status.alarms = devicev1.Condition{}
		return nil
	}
	active := w.activeAlarms()
	sum := devicev1.Condition{Type: conditionAlarms, Status: "False", Reason: "NoAlarm", Message: fmt.Sprintf("none of %d alarms is active", len(w.staged.alarms))}
	if len(active) > 0 {
		sum.Status, sum.Reason = "True", "InAlarm"
		words := make([]string, 0, len(active))
		for _, a := range active {
			words = append(words, fmt.Sprintf("%s (%s, %s)", a.Name, a.Severity, a.Level))
		}
		sum.Message = limit(fmt.Sprintf("%d of %d alarms active: %s", len(active), len(w.staged.alarms), several(words, ", ")))
	}
	sum.ObservedGeneration = w.plan.generation
	old := w.status.alarms
	if sum.LastTransitionTime = old.LastTransitionTime; old.Status != sum.Status {
		sum.LastTransitionTime = now.UTC().Format(time.RFC3339)
	}
	w.status.alarms = sum
	out := []devicev1.Condition{sum}
	for _, a := range active[:min(len(active), maxAlarmConditions)] {
		out = append(out, devicev1.Condition{
			Type: conditionAlarm + a.Name, Status: "True", Reason: a.Level, ObservedGeneration: w.plan.generation,
			LastTransitionTime: a.Since.UTC().Format(time.RFC3339), Message: limit(a.Severity + ": property " + a.Property + ": " + a.Message),
		})
	}
	return out
}
