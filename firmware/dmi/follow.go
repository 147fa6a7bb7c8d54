package dmi

import (
	"context"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// rereadAfter is when objects that the store could not read are read again.
const rereadAfter = 10 * time.Second

// view is what is known of the Devices: those whose model was there. It belongs to the goroutine of follow.
type view struct {
	s       *Service
	devices map[wire.Key]wire.Key // the model that each refers to
	unread  map[wire.Key]bool     // known, and the store could not read it: what was known stands
}

// follow tells the registry which Devices there are until ctx ends.
func (s *Service) follow(ctx context.Context) {
	s.opt.Watch.Take() // what changed until now is in the view
	v := &view{s: s, devices: make(map[wire.Key]wire.Key), unread: make(map[wire.Key]bool)}
	for _, obj := range s.opt.Desired.List(wire.KindDevice) {
		v.take(obj.Key, obj, true)
	}
	if len(v.unread) == 0 {
		s.Registry.Synced()
	}
	for {
		var again <-chan time.Time
		if len(v.unread) > 0 {
			again = time.After(rereadAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
			keys := make([]wire.Key, 0, len(v.unread))
			for key := range v.unread {
				keys = append(keys, key)
			}
			v.changed(keys)
			if len(v.unread) == 0 {
				s.Registry.Synced()
			}
		case <-s.opt.Watch.C():
			v.changed(s.opt.Watch.Take())
		}
	}
}

func (v *view) changed(keys []wire.Key) {
	look := make(map[wire.Key]bool)
	for _, key := range keys {
		switch key.Kind() {
		case wire.KindDevice:
			look[key] = true
		case wire.KindDeviceModel:
			for device, model := range v.devices {
				if model == key {
					look[device] = true
				}
			}
		}
	}
	for key := range look {
		obj, ok := v.s.opt.Desired.Get(key)
		v.take(key, obj, ok)
	}
}

// take takes over one Device. One that cannot be decoded stays as it was: the host says so in its condition.
func (v *view) take(key wire.Key, obj wire.Object, there bool) {
	delete(v.unread, key)
	switch {
	case !there || obj.Absent:
		delete(v.devices, key)
		v.s.Registry.Drop(key.Namespace(), key.Name())
		return
	case len(obj.Body) == 0:
		v.unread[key] = true
		return
	}
	d, err := devicev1.DecodeDevice(obj.Body)
	if err != nil || d.Spec.DeviceModelRef == nil {
		return
	}
	ref := wire.NewKey(wire.KindDeviceModel, d.Metadata.Namespace, d.Spec.DeviceModelRef.Name, "")
	v.devices[key] = ref // so that its model finds it
	m, ok := v.s.opt.Desired.Get(ref)
	switch {
	case !ok || m.Absent:
		return // what the mapper has of it goes on
	case len(m.Body) == 0:
		v.unread[key] = true
		return
	}
	model, err := devicev1.DecodeModel(m.Body)
	if err != nil {
		return
	}
	if model.Metadata.Namespace == "" {
		model.Metadata.Namespace = d.Metadata.Namespace
	}
	v.s.Registry.Keep(deviceOf(d, model), modelOf(model))
}
