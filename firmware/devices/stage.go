package devices

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/devices/derived"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// reading is one fresh value on its way into the twin, converted to the model's type.
type reading struct {
	prop  *property
	twin  *propertyTwin
	value device.Value
}

// staging is what the stage knows of a property that is calculated or has alarms.
type staging struct {
	expr   string // calculates the property; "" if it is read from the device
	where  string // the visitor's configData in the manifest
	alarms []*alarm.Config
}

// staged makes the property one that the stage knows.
func (prop *property) staged(where string) *staging {
	if prop.has().stage == nil {
		prop.gets().stage = &staging{where: where}
	}
	return prop.has().stage
}

// expr returns the expression that calculates the property, "" if it comes from the device.
func (prop *property) expr() string {
	if prop.has().stage == nil {
		return ""
	}
	return prop.has().stage.expr
}

// stagePlan is what the stage does for a device. It is immutable.
type stagePlan struct {
	set    *derived.Set
	alarms []plannedAlarm
}

// staged is what the worker remembers for the stage.
type staged struct {
	plan   *stagePlan
	state  *derived.State
	alarms []*liveAlarm // in the order of the plan
	bySlot [][]*liveAlarm
	buffer []reading
	soiled []int32 // properties with an alarm whose record in the store is older
}

// stageFields judges the host-level fields of a visitor (the host's) that belong to the stage; own are the driver's. It tells whether the
// property is calculated: such a property has no point, and its value comes from stage.
func (p *plan) stageFields(prop *property, where string, own map[string]any, writable bool) (calculated bool) {
	p.alarmFields(prop, where)
	raw, ok := prop.has().host["expr"]
	if !ok || raw == nil || raw == "" {
		return false
	}
	prop.staged(where).expr = fmt.Sprint(raw)
	refuse := func(e *device.FieldError) bool {
		prop.gets().pointErr = e.Error()
		p.fail(reasonInvalidVisitor, false, "%s", prop.has().pointErr)
		return true
	}
	text, isText := raw.(string)
	switch {
	case !isText:
		return refuse(&device.FieldError{Field: where + ".expr", Value: raw, Problem: "is not a text", Allowed: `an expression, e.g. "flow * 3.6"`})
	case len(own) > 0:
		return refuse(&device.FieldError{Field: where + ".expr", Value: text, Problem: "stands beside fields that say where the device has the value: " + fieldNames(own),
			Allowed: "a property that is read, or one that is calculated; the expression can name another property that is read"})
	case writable:
		return refuse(&device.FieldError{Field: where + ".expr", Value: text, Problem: "a calculated property cannot be written, and the DeviceModel says ReadWrite", Allowed: "accessMode: ReadOnly"})
	}
	return true
}

// finishStage compiles what is about several properties: expressions and the conditions of alarms.
func (p *plan) finishStage() {
	properties := make([]derived.Property, len(p.properties))
	used := false
	for i := range p.properties {
		prop := &p.properties[i]
		properties[i] = derived.Property{Name: prop.name, Type: prop.typ}
		if prop.has().pointErr == "" {
			properties[i].Expr = prop.expr()
		}
		used = used || prop.has().stage != nil
	}
	if !used {
		return
	}
	set, errs := derived.Compile(properties)
	for i := range p.properties {
		if err := errs[i]; err != nil {
			prop := &p.properties[i]
			prop.gets().pointErr = expressionError(prop.has().stage.where+".expr", prop.has().stage.expr, err).Error()
			p.fail(reasonInvalidVisitor, false, "%s", prop.has().pointErr)
		}
	}
	p.stage = &stagePlan{set: set}
	p.planAlarms(properties)
}

func expressionError(field, text string, err error) error {
	return &device.FieldError{Field: field, Value: text, Problem: err.Error()}
}

// adoptStage brings the stage in line with a new plan. What it knows of points that are still the same goes on.
func (w *worker) adoptStage(old *plan, now time.Time) {
	was := w.staged
	w.staged = staged{plan: w.plan.stage}
	if sp := w.plan.stage; sp != nil {
		w.staged.state = sp.set.State()
		w.adoptReadings(old, was)
	}
	w.adoptAlarms(was, now)
	if sp := w.plan.stage; sp != nil {
		w.take(w.invalid(now), now)
	}
}

func (w *worker) adoptReadings(old *plan, was staged) {
	if old == nil || was.state == nil {
		return
	}
	index := make(map[string]int, len(old.properties))
	for k := range old.properties {
		index[old.properties[k].name] = k
	}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		k, known := index[prop.name]
		if !known {
			continue
		}
		o := &old.properties[k]
		if o.typ == prop.typ && o.expr() == prop.expr() && (prop.expr() != "" || samePoint(o.point, prop.point)) {
			w.staged.state.Adopt(i, was.state, k)
		}
	}
}

// invalid lists the properties that can never be read, for those that are calculated from them.
func (w *worker) invalid(now time.Time) []reading {
	var out []reading
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if prop.point == nil && prop.has().pointErr != "" {
			out = append(out, reading{prop, &w.twins[i], device.BadValue(prop.has().pointErr, now)})
		}
	}
	return out
}

// stage stands between reading and twin. It gets each batch of fresh values in the order of the plan, and returns what the twins
// shall take over: the same with what was calculated from them. It is called with the worker's lock held, and does no I/O. The result is valid
// until the next call.
func (w *worker) stage(fresh []reading, now time.Time) []reading {
	for i := range fresh {
		if s := fresh[i].prop.span; s != nil {
			fresh[i].value = s.judge(fresh[i].value)
		}
	}
	s := &w.staged
	if s.plan == nil {
		return fresh
	}
	s.buffer = append(s.buffer[:0], fresh...)
	for _, r := range fresh {
		s.state.Put(int(r.prop.index), r.value)
	}
	for _, r := range s.state.Run(now) {
		prop := &w.plan.properties[r.Index]
		if prop.span != nil {
			r.Value = prop.span.judge(r.Value)
		}
		s.buffer = append(s.buffer, reading{prop, &w.twins[r.Index], r.Value})
	}
	w.watchAlarms(s.buffer, now)
	return s.buffer
}

// doubtStage tells the stage that nothing of the device can be trusted: the driver has failed.
func (w *worker) doubtStage(why string, now time.Time) {
	s := &w.staged
	if s.plan == nil {
		return
	}
	bad := device.BadValue(why, now)
	for i := range w.plan.properties {
		if w.plan.properties[i].point != nil {
			s.state.Put(i, bad)
		}
	}
	for _, r := range s.state.Run(now) {
		prop := &w.plan.properties[r.Index]
		w.observe(prop, &w.twins[r.Index], r.Value, now)
	}
	for _, a := range s.alarms {
		a.last = bad
		w.watchAlarm(a, now)
	}
	w.armAlarms(now)
}

// keep hands a value that changed, in datum or quality, to the history if the property asks for it, and else to its targets. Those read the history themselves.
func (w *worker) keep(prop *property, v device.Value) {
	switch {
	case prop.recorded && w.host.opt.History != nil:
		w.host.opt.History.Record(w.key.Namespace(), w.key.Name(), prop.name, v)
	case prop.pushed && w.host.opt.Push != nil:
		w.host.opt.Push.Offer(w.key.Namespace(), w.key.Name(), prop.name, v)
	}
}

// span is the model's minimum and maximum as a guard over what is read: a value outside is doubtful. A driver that has limits of its own in
// the visitor has judged before.
type span struct {
	low, high *device.Value
	below     string // the reason, made beforehand
	above     string
}

func newSpan(m *devicev1.ModelProperty, typ device.Type) *span {
	bound := func(text string) *device.Value {
		if text == "" || !typ.Numeric() {
			return nil
		}
		v, err := device.Parse(text, device.TypeDouble)
		if whole, wholeErr := device.Parse(text, typ); wholeErr == nil {
			v, err = whole, nil
		}
		if err != nil {
			return nil // the plan says so where it judges desired values
		}
		return &v
	}
	s := &span{low: bound(m.Minimum), high: bound(m.Maximum)}
	if s.low == nil && s.high == nil {
		return nil
	}
	if s.low != nil && s.high != nil && device.Compare(*s.low, *s.high) > 0 {
		return nil
	}
	s.below = "the value is below the DeviceModel's minimum " + clip(m.Minimum)
	s.above = "the value is above the DeviceModel's maximum " + clip(m.Maximum)
	return s
}

func (s *span) judge(v device.Value) device.Value {
	k := v.Kind()
	if v.Quality != device.Good || k != device.KindInt && k != device.KindUint && k != device.KindFloat {
		return v
	}
	switch {
	case s.low != nil && device.Compare(v, *s.low) < 0:
		return v.Doubt(device.Uncertain, s.below)
	case s.high != nil && device.Compare(v, *s.high) > 0:
		return v.Doubt(device.Uncertain, s.above)
	}
	return v
}
