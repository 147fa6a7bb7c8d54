package devices

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// Reasons of the Valid condition.
const (
	reasonValid           = "Valid"
	reasonModelNotFound   = "ModelNotFound"
	reasonUnknownProtocol = "UnknownProtocol"
	reasonInvalidConfig   = "InvalidConfig"   // spec.protocol.configData
	reasonUnknownProperty = "UnknownProperty" // the model lacks it
	reasonDuplicate       = "DuplicateProperty"
	reasonInvalidModel    = "InvalidModel"   // the model's property itself is wrong
	reasonInvalidVisitor  = "InvalidVisitor" // visitors.configData
	reasonInvalidCycle    = "InvalidCycle"
	reasonInvalidMethod   = "InvalidMethod"
	reasonInvalidDesired  = "InvalidDesired" // not of the type, out of range, read-only
	reasonNotSupported    = "NotSupported"
	reasonInvalidPush     = "InvalidPushMethod"
	reasonNoHistory       = "NoHistory" // a property asks for one, and the agent keeps none
	reasonUndecodable     = "Undecodable"
)

const (
	defaultCollectCycle = time.Second
	minCollectCycle     = 10 * time.Millisecond
	maxCycle            = 7 * 24 * time.Hour
)

// problem is one thing wrong with a Device. fatal means that nothing of the device can be polled.
type problem struct {
	reason, message string
	fatal           bool
}

// plan is a Device resolved against its model and driver: what a worker works from. It is immutable.
type plan struct {
	namespace, name, uid string
	generation           int64
	driver               device.Driver // nil if the problems are fatal
	config               device.Config
	properties           []property
	methods              []method
	reportState          bool
	problems             []problem
	stage                *stagePlan // nil: nothing is calculated or watched
	asked                int        // properties that say history: true
	asks                 string     // the path of the first one's field
}

// property is one property of a plan. There may be 100,000 of them: what few of them have is behind a pointer.
type property struct {
	name, unit    string
	index         int32 // in the plan
	typ           device.Type
	reportToCloud bool
	method        bool // the point stands for a method of the device
	recorded      bool // values are kept on the gateway
	pushed        bool // values go to targets (package push)
	point         device.Point
	collect       time.Duration
	report        time.Duration // 0: on change
	span          *span         // nil: the model has no range
	access        *access       // nil: read-only
	more          *uncommon     // nil: none of it
}

// uncommon is what few properties have.
type uncommon struct {
	pointErr string         // why there is no point
	host     map[string]any // the visitor's fields that are the host's, by lower-case names; nil: none
	deadband deadband
	stage    *staging // nil: it is neither calculated, nor has it alarms
	desired  string   // as in the manifest; "" is none
}

// has is what the property has of what few have, for reading.
func (prop *property) has() uncommon {
	if prop.more == nil {
		return uncommon{}
	}
	return *prop.more
}

// gets is where a plan in the making puts it.
func (prop *property) gets() *uncommon {
	if prop.more == nil {
		prop.more = new(uncommon)
	}
	return prop.more
}

// readable tells whether the driver can be asked for the property.
func (prop *property) readable() bool { return prop.point != nil && !prop.method }

// access says what may be written to a property.
type access struct {
	low, high        *device.Value
	minimum, maximum string // as the model writes them
}

// method is one of spec.methods.
type method struct {
	name       string
	properties []string
}

// find returns the index of a property, -1 if there is none.
func (p *plan) find(name string) int {
	for i := range p.properties {
		if p.properties[i].name == name {
			return i
		}
	}
	return -1
}

// isMethod tells whether a property stands for a method of the device.
func (p *plan) isMethod(name string) bool {
	i := p.find(name)
	return i >= 0 && p.properties[i].method
}

func (p *plan) fail(reason string, fatal bool, format string, args ...any) {
	p.problems = append(p.problems, problem{reason: reason, message: fmt.Sprintf(format, args...), fatal: fatal})
}

func (p *plan) fatal() bool {
	return slices.ContainsFunc(p.problems, func(x problem) bool { return x.fatal })
}

// table is the drivers that a plan may be made with.
type table struct {
	own    map[string]device.Driver            // by protocol name in lower case
	others func(protocol string) device.Driver // of other names; may be nil
}

// find returns the driver of a protocol, nil if there is none.
func (t table) find(protocol string) device.Driver {
	if d := t.own[strings.ToLower(protocol)]; d != nil || t.others == nil || protocol == "" {
		return d
	}
	return t.others(protocol)
}

// resolve judges a Device against its model (nil if it is not there) and its driver. It does no I/O. A wrong property does
// not stop the others; what makes the whole device impossible is fatal.
func resolve(d *devicev1.Device, model *devicev1.DeviceModel, drivers table, ports []Port) *plan {
	p := &plan{namespace: d.Metadata.Namespace, name: d.Metadata.Name, uid: d.Metadata.UID, generation: d.Metadata.Generation, reportState: true}
	if r := d.Spec.StateReport; r != nil && r.ReportToCloud != nil {
		p.reportState = *r.ReportToCloud
	}
	if d.Spec.DeviceModelRef == nil || d.Spec.DeviceModelRef.Name == "" {
		p.fail(reasonModelNotFound, true, "spec.deviceModelRef.name: is missing: name a DeviceModel of namespace %q", p.namespace)
		return p
	}
	if model == nil {
		p.fail(reasonModelNotFound, true, "spec.deviceModelRef.name: %q: there is no such DeviceModel in namespace %q: create it, or correct the name",
			d.Spec.DeviceModelRef.Name, p.namespace)
		return p
	}
	protocol := d.Spec.Protocol.ProtocolName
	if protocol == "" {
		protocol = model.Spec.Protocol
	}
	driver := drivers.find(protocol)
	if driver == nil {
		p.fail(reasonUnknownProtocol, true, "spec.protocol.protocolName: %q: this agent has no driver for it; allowed: %s, or a mapper of your own (dmi.enabled in skerryd.yaml, docs/dmi.md)",
			protocol, strings.Join(slices.Sorted(maps.Keys(drivers.own)), ", "))
		return p
	}
	p.config = device.Config{Device: p.namespace + "/" + p.name, Protocol: Overlay(model.Spec.ProtocolConfigData, d.Spec.Protocol.ConfigData)}
	if err := guard(func() error { return usePort(p.config.Protocol, driver, ports) }); err != nil {
		p.fail(reasonInvalidConfig, true, "%v", err)
	} else if err := guard(func() error { return driver.Check(p.config) }); err != nil {
		p.fail(reasonInvalidConfig, true, "%v", oneLine(err))
	}
	p.resolveProperties(d, model, driver)
	p.finishStage()
	p.resolveMethods(d)
	if !p.fatal() {
		p.driver = driver
	}
	return p
}

func (p *plan) resolveProperties(d *devicev1.Device, model *devicev1.DeviceModel, driver device.Driver) {
	declared := make(map[string]*devicev1.ModelProperty, len(model.Spec.Properties))
	for i := range model.Spec.Properties {
		declared[model.Spec.Properties[i].Name] = &model.Spec.Properties[i]
	}
	seen := make(map[string]bool, len(d.Spec.Properties))
	p.properties = make([]property, 0, len(d.Spec.Properties))
	for i := range d.Spec.Properties {
		dp := &d.Spec.Properties[i]
		path := fmt.Sprintf("spec.properties[%s]", dp.Name)
		m := declared[dp.Name]
		switch {
		case seen[dp.Name]:
			p.fail(reasonDuplicate, false, "%s: the property is listed twice; the first one counts: remove the other", path)
			continue
		case m == nil:
			p.fail(reasonUnknownProperty, false, "%s: DeviceModel %q has no such property; allowed: %s", path, model.Metadata.Name,
				strings.Join(slices.Sorted(maps.Keys(declared)), ", "))
			continue
		}
		seen[dp.Name] = true
		if prop, ok := p.resolveProperty(path, dp, m, driver); ok {
			prop.index = int32(len(p.properties))
			p.properties = append(p.properties, prop)
		}
	}
}

// resolveMethods takes over spec.methods.
func (p *plan) resolveMethods(d *devicev1.Device) {
	for _, m := range d.Spec.Methods {
		for _, name := range m.PropertyNames {
			if p.find(name) < 0 {
				p.fail(reasonInvalidMethod, false, "spec.methods[%s].propertyNames: %q: the Device has no such property", m.Name, name)
			}
		}
		p.methods = append(p.methods, method{name: m.Name, properties: m.PropertyNames})
	}
}

func (p *plan) resolveProperty(path string, dp *devicev1.DeviceProperty, m *devicev1.ModelProperty, driver device.Driver) (property, bool) {
	prop := property{name: m.Name, unit: m.Unit, reportToCloud: dp.ReportToCloud == nil || *dp.ReportToCloud}
	if dp.Desired.Value != "" {
		prop.gets().desired = dp.Desired.Value
	}
	typ, ok := device.ParseType(m.Type)
	if !ok {
		p.fail(reasonInvalidModel, false, "DeviceModel property %q: type: %q is not known; allowed: INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES", dp.Name, m.Type)
		return prop, false
	}
	if typ == device.TypeStream {
		p.fail(reasonNotSupported, false, "DeviceModel property %q: type: STREAM is not supported yet; allowed: INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES", dp.Name)
		return prop, false
	}
	prop.typ = typ
	writable := strings.EqualFold(m.AccessMode, "ReadWrite")
	prop.pushed = dp.PushMethod != nil
	prop.collect = p.cycle(path+".collectCycle", dp.CollectCycle, minCollectCycle, defaultCollectCycle)
	prop.report = p.cycle(path+".reportCycle", dp.ReportCycle, 0, 0)
	low, high := p.bounds(dp.Name, m, typ)
	if writable {
		prop.access = &access{low: low, high: high, minimum: m.Minimum, maximum: m.Maximum}
	}
	where := p.compile(path, &prop, dp, m, driver)
	prop.recorded = p.recorded(&prop, dp.PushMethod != nil, where)
	prop.span = newSpan(m, typ)
	if value, given := prop.has().host["deadband"]; given {
		var err error
		if prop.gets().deadband, err = parseDeadband(value, typ, low, high); err != nil {
			p.fail(reasonInvalidVisitor, false, "%s.deadband: %v", where, err)
		}
	}
	if prop.has().desired != "" {
		if _, err := prop.check(prop.has().desired); err != nil {
			p.fail(reasonInvalidDesired, false, "%s.desired.value: %v", path, err)
		}
	}
	return prop, true
}

// compile turns the visitor into a point, and returns where in the manifest it stands. A property whose visitor is wrong stays in the
// plan, so that its twin says why.
func (p *plan) compile(path string, prop *property, dp *devicev1.DeviceProperty, m *devicev1.ModelProperty, driver device.Driver) (where string) {
	visitor, where := dp.Visitors, path+".visitors.configData"
	if len(visitor.ConfigData) == 0 && m.Visitors != nil {
		visitor, where = *m.Visitors, fmt.Sprintf("DeviceModel property %q: visitors.configData", dp.Name)
	}
	names := driver.Protocols()
	if n := visitor.ProtocolName; n != "" && !slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, n) }) {
		prop.gets().pointErr = fmt.Sprintf("%s.visitors.protocolName: %q: differs from the device's protocol; allowed: %s", path, n, strings.Join(names, ", "))
		p.fail(reasonInvalidVisitor, false, "%s", prop.has().pointErr)
		return where
	}
	host, own := hostFields(visitor.ConfigData, driver)
	if host != nil {
		prop.gets().host = host
	}
	if p.stageFields(prop, where, own, prop.access != nil) {
		return where
	}
	cfg := device.PointConfig{Property: dp.Name, Path: where, Type: prop.typ, Writable: prop.access != nil, Cycle: prop.collect, Visitor: own}
	err := guard(func() (err error) {
		prop.point, err = driver.Compile(cfg)
		return err
	})
	if err != nil {
		prop.point, prop.gets().pointErr = nil, oneLine(err)
		p.fail(reasonInvalidVisitor, false, "%s", prop.has().pointErr)
	}
	_, prop.method = prop.point.(device.Method)
	return where
}

// cycle reads a cycle in milliseconds; 0 means def. A wrong one is reported and replaced by a usable one.
func (p *plan) cycle(path string, ms int64, low, def time.Duration) time.Duration {
	switch {
	case ms == 0:
		return def
	case ms < low.Milliseconds(), ms > maxCycle.Milliseconds():
		p.fail(reasonInvalidCycle, false, "%s: %d: is out of range, %v is used; allowed: 0 (default), or %d to %d milliseconds",
			path, ms, max(def, low), low.Milliseconds(), maxCycle.Milliseconds())
		return max(def, low)
	}
	return time.Duration(ms) * time.Millisecond
}

// bounds reads the model's range.
func (p *plan) bounds(name string, m *devicev1.ModelProperty, typ device.Type) (low, high *device.Value) {
	bound := func(field, text string) *device.Value {
		if text == "" || !typ.Numeric() {
			return nil
		}
		// Bounds of an INT may be written as "0.5": compare as doubles then.
		v, err := device.Parse(text, typ)
		if err != nil {
			v, err = device.Parse(text, device.TypeDouble)
		}
		if err != nil {
			p.fail(reasonInvalidModel, false, "DeviceModel property %q: %s: %v", name, field, err)
			return nil
		}
		return &v
	}
	low, high = bound("minimum", m.Minimum), bound("maximum", m.Maximum)
	if low != nil && high != nil && device.Compare(*low, *high) > 0 {
		p.fail(reasonInvalidModel, false, "DeviceModel property %q: minimum %s is above maximum %s", name, m.Minimum, m.Maximum)
	}
	return low, high
}

// check judges a desired value by the model (type, access, range) and by the point, if there is one, and brings it into the model's type.
func (prop *property) check(text string) (device.Value, error) {
	if prop.access == nil {
		return device.Value{}, fmt.Errorf("%q: the DeviceModel says that the property is ReadOnly: remove the desired value, or make it ReadWrite", clip(text))
	}
	v, err := device.Parse(text, prop.typ)
	low, high := prop.access.low, prop.access.high
	switch {
	case err != nil:
		return device.Value{}, err
	case prop.method:
		return device.Value{}, fmt.Errorf("%q: the property stands for a method of the device: call it instead, and remove the desired value", clip(text))
	case low != nil && device.Compare(v, *low) < 0:
		return device.Value{}, fmt.Errorf("%q is below the DeviceModel's minimum %s", clip(text), prop.access.minimum)
	case high != nil && device.Compare(v, *high) > 0:
		return device.Value{}, fmt.Errorf("%q is above the DeviceModel's maximum %s", clip(text), prop.access.maximum)
	}
	if vc, ok := prop.point.(device.ValueChecker); ok {
		return v, guard(func() error { return vc.CheckValue(v) })
	}
	return v, nil
}

// writable judges an edge write.
func (prop *property) writable(text string) error {
	switch {
	case prop.has().pointErr != "":
		return errors.New(prop.has().pointErr)
	case prop.point == nil:
		return errors.New("the value is derived from others, and cannot be written")
	case text == "":
		return errors.New("an empty value means that nothing is wanted: it cannot be written")
	}
	_, err := prop.check(text)
	return err
}

// sameSession tells whether a session opened for p can go on for q.
func (p *plan) sameSession(q *plan) bool {
	return p.driver == q.driver && reflect.DeepEqual(p.config, q.config)
}

// Overlay returns base with the fields of over on top, as the API says: the device overrides its model.
func Overlay(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	maps.Copy(out, base)
	for k, v := range over {
		// The driver ignores case, so a field of the model must not survive under another case.
		maps.DeleteFunc(out, func(b string, _ any) bool { return strings.EqualFold(b, k) })
		out[k] = v
	}
	return out
}

// oneLine joins the lines of a joined error.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// clip bounds what is repeated from a manifest.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
