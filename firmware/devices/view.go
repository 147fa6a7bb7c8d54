package devices

import (
	"context"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// rereadAfter is when objects that the store could not read are read again.
const rereadAfter = 10 * time.Second

// view compares the desired view with what runs. It belongs to the goroutine of Host.Run.
type view struct {
	host    *Host
	unread  bool // some object is known, and the store could not read it: what runs goes on
	models  map[wire.Key]cached[*devicev1.DeviceModel]
	devices map[wire.Key]cached[*devicev1.Device]
	used    map[wire.Key]wire.Version // the model version that a device's plan was made with
}

// cached is a decoded object with the version it came from.
type cached[T any] struct {
	version wire.Version
	object  T
	ok      bool // false: the body could not be decoded
	unread  bool // … nor even read
}

func newView(h *Host) *view {
	return &view{
		host: h, models: make(map[wire.Key]cached[*devicev1.DeviceModel]),
		devices: make(map[wire.Key]cached[*devicev1.Device]), used: make(map[wire.Key]wire.Version),
	}
}

// reconcile starts, updates and stops workers. Only what changed since the last time is decoded and resolved. It returns false if
// something could not be read.
func (v *view) reconcile(ctx context.Context) (whole bool) {
	v.unread = false
	v.refreshModels()
	present := make(map[wire.Key]bool)
	for _, obj := range v.host.opt.Desired.List(wire.KindDevice) {
		if obj.Absent {
			continue
		}
		present[obj.Key] = true
		v.update(ctx, obj)
	}
	for key := range v.devices {
		if !present[key] {
			v.remove(ctx, key)
		}
	}
	return !v.unread
}

func (v *view) refreshModels() {
	next := make(map[wire.Key]cached[*devicev1.DeviceModel], len(v.models))
	for _, obj := range v.host.opt.Desired.List(wire.KindDeviceModel) {
		if obj.Absent {
			continue
		}
		c, known := v.models[obj.Key]
		switch {
		case len(obj.Body) == 0:
			v.unread = true
			if !known {
				c = cached[*devicev1.DeviceModel]{unread: true}
			}
		case !known || c.version != obj.Version:
			m, err := devicev1.DecodeModel(obj.Body)
			if err != nil {
				v.host.log.Error("a DeviceModel from the relay cannot be decoded; its devices count it as missing", "model", obj.Key, "err", err)
			}
			c = cached[*devicev1.DeviceModel]{version: obj.Version, object: m, ok: err == nil}
		}
		next[obj.Key] = c
	}
	v.models = next
}

func (v *view) update(ctx context.Context, obj wire.Object) {
	c, known := v.devices[obj.Key]
	if len(obj.Body) == 0 {
		v.unread = true
		return
	}
	changed := !known || c.version != obj.Version
	if changed {
		d, err := devicev1.DecodeDevice(obj.Body)
		if err != nil {
			v.undecodable(obj, err)
			d = c.object // what ran goes on
		}
		c = cached[*devicev1.Device]{version: obj.Version, object: d, ok: d != nil}
		v.devices[obj.Key] = c
	}
	if !c.ok {
		return
	}
	m := v.modelOf(c.object)
	if m.unread {
		delete(v.used, obj.Key) // whatever comes is news
		return
	}
	if used, ok := v.used[obj.Key]; ok && !changed && used == m.version {
		return
	}
	v.used[obj.Key] = m.version
	v.host.mu.Lock()
	w := v.host.workers[obj.Key]
	v.host.mu.Unlock()
	if w == nil {
		w = v.host.startWorker(ctx, obj.Key)
	}
	w.assign(resolve(c.object, m.object, v.host.drivers))
}

// modelOf returns the model that a device refers to. Its object is nil if it is not there.
func (v *view) modelOf(d *devicev1.Device) cached[*devicev1.DeviceModel] {
	if d.Spec.DeviceModelRef == nil {
		return cached[*devicev1.DeviceModel]{}
	}
	c := v.models[wire.NewKey(wire.KindDeviceModel, d.Metadata.Namespace, d.Spec.DeviceModelRef.Name, "")]
	if !c.ok && !c.unread {
		return cached[*devicev1.DeviceModel]{}
	}
	return c
}

func (v *view) undecodable(obj wire.Object, err error) {
	v.host.log.Error("a Device from the relay cannot be decoded; what ran before goes on", "device", obj.Key, "err", err)
	ref := wire.ObjectRef{APIVersion: "devices.kubeedge.io/v1beta1", Kind: "Device", Namespace: obj.Key.Namespace(), Name: obj.Key.Name(), UID: obj.Version.UID}
	v.host.opt.Events.Event(ref, eventWarning, reasonUndecodable, limit([]string{"the agent cannot decode this Device: " + err.Error()}))
}

// remove stops a device that is not wanted any more and drops what is kept for it.
func (v *view) remove(ctx context.Context, key wire.Key) {
	delete(v.devices, key)
	delete(v.used, key)
	v.host.mu.Lock()
	w := v.host.workers[key]
	v.host.mu.Unlock()
	if w == nil {
		return
	}
	v.host.stopWorker(key)
	v.host.opt.Reports.Withdraw(key)
	if err := w.deleteTwins(ctx); err != nil {
		v.host.log.Warn("the twins of a removed device stay in the store", "device", key, "err", err)
	}
}
