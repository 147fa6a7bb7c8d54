package devices

import (
	"context"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// rereadAfter is when objects that the store could not read are read again.
const rereadAfter = 10 * time.Second

// startSpread is the time between the first contacts of devices that appear together.
const startSpread = time.Millisecond

// view compares the desired view with what runs. It belongs to the goroutine of Host.Run. It keeps no object of a device: there may be
// thousands, and the store has them.
type view struct {
	host    *Host
	unread  map[wire.Key]bool // known, and the store could not read it: what runs goes on
	models  map[wire.Key]knownModel
	devices map[wire.Key]knownDevice
	removed []wire.Key
	started int // devices that appeared together
}

// knownModel is a decoded model with the version it came from.
type knownModel struct {
	version wire.Version
	object  *devicev1.DeviceModel // nil: it could not be decoded
}

// knownDevice is what a device's plan was made from.
type knownDevice struct {
	version, modelVersion wire.Version
	model                 wire.Key
	running               bool
}

func newView(h *Host) *view {
	return &view{host: h, unread: make(map[wire.Key]bool), models: make(map[wire.Key]knownModel), devices: make(map[wire.Key]knownDevice)}
}

// begin takes over the whole view.
func (v *view) begin(ctx context.Context) {
	for _, obj := range v.host.opt.Desired.List(wire.KindDeviceModel) {
		v.takeModel(obj.Key, obj, true)
	}
	for _, obj := range v.host.opt.Desired.List(wire.KindDevice) {
		v.takeDevice(ctx, obj.Key, obj, true)
	}
	v.finish(ctx)
	v.retain()
}

// retain tells the history which devices there are.
func (v *view) retain() {
	if v.host.opt.History != nil {
		v.host.opt.History.Retain(func(namespace, name string) bool {
			_, there := v.devices[wire.NewKey(wire.KindDevice, namespace, name, "")]
			return there
		})
	}
}

// changed takes over what changed: models first, so that a device that comes with its model meets it.
func (v *view) changed(ctx context.Context, keys []wire.Key) {
	var devices []wire.Key
	models := make(map[wire.Key]bool)
	for _, key := range keys {
		switch key.Kind() {
		case wire.KindDeviceModel:
			obj, ok := v.host.opt.Desired.Get(key)
			models[key] = v.takeModel(key, obj, ok)
		case wire.KindDevice:
			devices = append(devices, key)
		}
	}
	for key, d := range v.devices { // that follow a model
		if models[d.model] && !slices.Contains(devices, key) {
			devices = append(devices, key)
		}
	}
	for _, key := range devices {
		obj, ok := v.host.opt.Desired.Get(key)
		v.takeDevice(ctx, key, obj, ok)
	}
	v.finish(ctx)
}

// reread tries again what could not be read.
func (v *view) reread(ctx context.Context) {
	keys := make([]wire.Key, 0, len(v.unread))
	for key := range v.unread {
		keys = append(keys, key)
	}
	v.changed(ctx, keys)
}

// takeModel takes over a model and tells whether its devices have to be looked at.
func (v *view) takeModel(key wire.Key, obj wire.Object, there bool) bool {
	delete(v.unread, key)
	known, had := v.models[key]
	switch {
	case !there || obj.Absent:
		delete(v.models, key)
		return true
	case len(obj.Body) == 0:
		v.unread[key] = true
		return false
	case had && known.version == obj.Version:
		return true // a device may have waited for it
	}
	m, err := devicev1.DecodeModel(obj.Body)
	if err != nil {
		v.host.log.Error("a DeviceModel from the relay cannot be decoded; its devices count it as missing", "model", key, "err", err)
	}
	v.models[key] = knownModel{version: obj.Version, object: m}
	return true
}

// takeDevice takes over a device: starts, updates or stops its worker.
func (v *view) takeDevice(ctx context.Context, key wire.Key, obj wire.Object, there bool) {
	delete(v.unread, key)
	known, had := v.devices[key]
	switch {
	case !there || obj.Absent:
		if had {
			v.removed = append(v.removed, key)
			delete(v.devices, key)
		}
		return
	case len(obj.Body) == 0:
		v.unread[key] = true
		if !had { // so that its model finds it
			v.devices[key] = knownDevice{}
		}
		return
	}
	if had && known.running && known.version == obj.Version && known.modelVersion == v.models[known.model].version {
		return
	}
	d, err := devicev1.DecodeDevice(obj.Body)
	if err != nil {
		if known.version != obj.Version {
			v.undecodable(obj, err) // what ran goes on
		}
		known.version = obj.Version
		v.devices[key] = known
		return
	}
	next := knownDevice{version: obj.Version}
	if ref := d.Spec.DeviceModelRef; ref != nil {
		next.model = wire.NewKey(wire.KindDeviceModel, d.Metadata.Namespace, ref.Name, "")
	}
	m := v.models[next.model]
	if m.object == nil && v.unread[next.model] {
		next.running = known.running
		next.version = wire.Version{} // whatever comes is news
		v.devices[key] = next
		return
	}
	next.modelVersion, next.running = m.version, true
	v.devices[key] = next
	v.host.mu.Lock()
	w := v.host.workers[key]
	v.host.mu.Unlock()
	if w == nil {
		w = v.host.startWorker(ctx, key, time.Duration(v.started)*startSpread)
		v.started++
	}
	p := resolve(d, m.object, table{v.host.drivers, v.host.opt.Others}, v.host.opt.Ports)
	if v.host.opt.History == nil {
		p.missHistory(v.host.opt.NoHistory)
	}
	p.checkPush(d, v.host.opt.Push)
	w.assign(p)
}

func (v *view) undecodable(obj wire.Object, err error) {
	v.host.log.Error("a Device from the relay cannot be decoded; what ran before goes on", "device", obj.Key, "err", err)
	ref := wire.ObjectRef{APIVersion: "devices.kubeedge.io/v1beta1", Kind: "Device", Namespace: obj.Key.Namespace(), Name: obj.Key.Name(), UID: obj.Version.UID}
	v.host.opt.Events.Event(ref, eventWarning, reasonUndecodable, cut("the agent cannot decode this Device: "+err.Error(), maxEvent))
}

// finish stops the devices that are not wanted any more and drops what is kept for them.
func (v *view) finish(ctx context.Context) {
	v.started = 0
	if len(v.removed) == 0 {
		return
	}
	v.host.endWorkers(v.removed)
	var left []TwinRecord
	var err error
	for _, key := range v.removed {
		v.host.opt.Reports.Withdraw(key)
		if left, err = v.host.leftTwins(key, left); err != nil {
			v.host.log.Warn("the twins of a removed device stay in the store", "device", key, "err", err)
		}
	}
	v.removed = nil
	v.retain()
	for part := range slices.Chunk(left, 1000) {
		if err := v.host.opt.Twins.Commit(ctx, part); err != nil {
			v.host.log.Warn("the twins of removed devices stay in the store", "records", len(part), "err", err)
		}
	}
}
