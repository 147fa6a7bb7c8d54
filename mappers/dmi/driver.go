package dmi

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Driver is the device.Driver of one protocol. There is one whether or not a mapper has registered.
type Driver struct {
	registry *Registry
	name     string // in lower case

	mu      sync.Mutex
	entries map[string]*entry // by NAMESPACE/NAME: devices that are kept, or have a session
	models  map[string]*model // that kept devices refer to
	link    *link             // the mapper; nil: none has registered
}

// entry is what the driver knows of one device. The driver's lock guards it.
type entry struct {
	kept     bool   // there is such a Device
	manifest Device // of Keep
	followed bool   // the host has said what is wanted
	wanted   map[string]string
	message  Device // manifest with what is wanted
	sum      sum
	version  uint64 // of message

	session  *session // nil: none is open
	readings map[string]reading
	state    string // as the mapper reports it; "": it has not

	delivered  uint64    // version that the mapper has
	refused    string    // why the mapper does not take version refusedFor
	refusedFor uint64    //
	retryAt    time.Time // of a version that was refused
	beyond     bool      // the mapper has as many devices as it may
	changed    chan struct{}
}

// model is a device model with the version that the mapper shall have.
type model struct {
	model Model
	sum   sum
	uses  int // kept devices that refer to it
}

// reading is the newest value that the mapper has reported of a property.
type reading struct {
	text           string
	source, server time.Time
	doubt          string // why it may be old; "": it is not
}

// Protocols returns the one protocol.
func (d *Driver) Protocols() []string { return []string{d.name} }

// Describe returns nothing: the fields are the mapper's.
func (d *Driver) Describe() device.Description { return device.Description{} }

// Check accepts everything: only the mapper knows what is right.
func (d *Driver) Check(device.Config) error { return nil }

// point is one property of a mapper's device.
type point struct {
	property string
	typ      device.Type
}

func (p point) String() string { return fmt.Sprintf("property %q of a mapper (%s)", p.property, p.typ) }

// Compile accepts everything, as Check.
func (d *Driver) Compile(cfg device.PointConfig) (device.Point, error) {
	return point{cfg.Property, cfg.Type}, nil
}

// Open begins a session. Nothing is sent for it: the mapper learns of the device when the host has said what is wanted.
func (d *Driver) Open(_ context.Context, cfg device.Config) (device.Session, error) {
	s := &session{driver: d, key: cfg.Device, closed: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entry(cfg.Device).session = s
	return s, nil
}

// entry returns the entry of a device, and makes it. The lock is held.
func (d *Driver) entry(key string) *entry {
	e := d.entries[key]
	if e == nil {
		e = &entry{readings: make(map[string]reading), changed: make(chan struct{})}
		d.entries[key] = e
	}
	return e
}

// tidy forgets an entry that nobody has. The lock is held.
func (d *Driver) tidy(key string) {
	if e := d.entries[key]; e != nil && !e.kept && e.session == nil {
		delete(d.entries, key)
	}
}

// tell wakes whoever waits for something of the device. The lock is held.
func (e *entry) tell() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (d *Driver) keep(key string, dev Device, m Model) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entry(key)
	if e.kept {
		d.release(e.manifest)
	}
	e.kept, e.manifest = true, dev
	ref := keyOf(m.Namespace, m.Name)
	known := d.models[ref]
	if known == nil {
		known = new(model)
		d.models[ref] = known
	}
	known.model, known.sum = m, sumOf(m)
	known.uses++
	for property := range e.readings { // of properties that are gone
		if !slices.ContainsFunc(dev.Properties, func(p Property) bool { return p.Name == property }) {
			delete(e.readings, property)
		}
	}
	d.compose(e)
}

// release gives back a device's model. The lock is held.
func (d *Driver) release(dev Device) {
	ref := keyOf(dev.Namespace, dev.Model)
	if m := d.models[ref]; m != nil {
		if m.uses--; m.uses == 0 {
			delete(d.models, ref)
		}
	}
}

func (d *Driver) drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[key]
	if e == nil || !e.kept {
		return
	}
	d.release(e.manifest)
	e.kept, e.manifest, e.message, e.sum, e.state = false, Device{}, Device{}, sum{}, ""
	clear(e.readings)
	if e.session == nil {
		e.followed, e.wanted = false, nil
	}
	e.tell()
	d.tidy(key)
	d.wake()
}

// compose makes the message anew, and sees to it that the mapper gets it if it is another. The lock is held.
func (d *Driver) compose(e *entry) {
	msg := e.manifest
	msg.Properties = slices.Clone(msg.Properties)
	for i := range msg.Properties {
		msg.Properties[i].Desired = e.wanted[msg.Properties[i].Name]
	}
	if s := sumOf(msg); s != e.sum || e.version == 0 {
		e.message, e.sum = msg, s
		e.version++
	}
	d.wake()
}

func (d *Driver) wake() {
	if d.link != nil {
		d.link.poke()
	}
}

func (d *Driver) wakeLink() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wake()
}

// unreachable says why nothing can be had of a device, nil if it can. The lock is held.
func (d *Driver) unreachable(e *entry) error {
	l := d.link
	switch {
	case l == nil:
		return device.Unreachable("no mapper for protocol %q has registered: start the mapper on this gateway and have it register on the agent's DMI socket (docs/dmi.md), or correct spec.protocol.protocolName", d.name)
	case l.trouble != "":
		return device.Unreachable("%s", l.trouble)
	case e.beyond:
		return device.Unreachable("mapper %q has %d devices, which is as many as it may: raise dmi.maxDevices in skerryd.yaml", l.reg.Name, d.registry.opt.MaxDevices)
	case e.refused != "" && e.delivered == 0:
		return device.Unreachable("mapper %q refuses the device: %s", l.reg.Name, e.refused)
	case e.state == stateOffline, e.state == stateUnknown:
		return device.Unreachable("mapper %q reports the device as %s", l.reg.Name, e.state)
	}
	return nil
}
