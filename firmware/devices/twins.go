package devices

import (
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// propertyTwin is the twin of one property with what the device last said. There may be 100,000 of them: what few have is behind a pointer.
type propertyTwin struct {
	want     *twin.Property  // nil: nobody ever wanted a value
	value    device.Compact  // the last datum with its timestamps; quality and reason of the last reading
	alarms   *[]alarm.Record // those that are not normal; nil: none
	base     float64         // what the deadband is measured from
	readBack *readBack       // nil: the value was never read back
	lastSent int64           // when the value was last part of a report, ns since 1970
	watched  bool            // the device tells of it by itself: no polling
	dirty    bool            // the record in the store is older, and the property is in the worker's list
}

// readBack is when a write was verified: what is older than that comes too late.
type readBack struct {
	call uint64    // the last call that was begun before
	at   time.Time // what was read; zero: nothing
}

func (t *propertyTwin) wanted() bool { return t.want != nil && t.want.Wanted() }

// doubted is what a subscription brought; one without a datum casts doubt on the last known one.
func (t *propertyTwin) doubted(v device.Value) device.Value {
	switch {
	case v.Kind() != device.KindNone || v.Quality != device.Uncertain:
		return v
	case t.value.Kind() == device.KindNone || t.value.Quality() == device.Bad:
		return v.Doubt(device.Bad, v.Reason)
	default:
		return t.value.Value().Doubt(v.Quality, v.Reason).At(v.Server)
	}
}

// twinOf returns the twin of a property, nil if there is none.
func (w *worker) twinOf(name string) *propertyTwin {
	if w.plan == nil {
		return nil
	}
	if i := w.plan.find(name); i >= 0 {
		return &w.twins[i]
	}
	return nil
}

// storedTwin is a twin without a property: from the store, or of a plan that knows nothing of its properties.
type storedTwin struct {
	propertyTwin
	uid string // of the Device that it belongs to
}

// adoptTwins brings the twins in line with a plan that takes the place of w.plan.
func (w *worker) adoptTwins(p *plan, now time.Time) {
	old := w.stored
	if old == nil {
		old = make(map[string]storedTwin, len(w.twins))
	}
	if w.plan != nil {
		for i := range w.plan.properties {
			old[w.plan.properties[i].name] = storedTwin{w.twins[i], w.uid}
		}
	}
	renewed := w.forget(p, old)
	w.stored, w.dirty = nil, nil
	next := make([]propertyTwin, len(p.properties))
	for i := range p.properties {
		prop, t := &p.properties[i], &next[i]
		if before, known := old[prop.name]; known {
			*t = before.propertyTwin
			delete(old, prop.name)
		}
		t.watched = t.watched && prop.readable()
		w.want(prop, t, p)
		if t.dirty || renewed[prop.name] {
			t.dirty = true
			w.dirty = append(w.dirty, int32(i))
		}
	}
	w.twins = next
	if len(w.dirty) > 0 {
		w.armFlush(now)
	}
	// A property that left the spec takes its twin along; with fatal problems nothing is known of the properties.
	if p.fatal() {
		w.stored = old
		return
	}
	for name := range old {
		w.durable = append(w.durable, TwinRecord{Key: w.recordKey(name)})
	}
}

// want takes over what a plan wants of a property.
func (w *worker) want(prop *property, t *propertyTwin, p *plan) {
	if t.want == nil {
		if prop.has().desired == "" {
			return
		}
		t.want = new(twin.Property)
	}
	changed := t.want.Rewind(p.generation)
	if changed {
		w.log.Warn("the Device's generation went back, as after a restore of the cluster; its values count from now on",
			"property", prop.name, "generation", p.generation)
	}
	if t.want.SetCloud(prop.has().desired, p.generation) || changed {
		w.durable = append(w.durable, w.record(prop.name, t))
	}
}

// forget drops twins that belong to another Device of the same name, from the store too: one that stayed there would be taken
// for the device's own after the next restart. It returns those whose record has to be written anew.
func (w *worker) forget(p *plan, old map[string]storedTwin) (renewed map[string]bool) {
	renewed = make(map[string]bool)
	for name, t := range old {
		if t.uid == "" || p.uid == "" || t.uid == p.uid {
			continue
		}
		delete(old, name)
		if p.find(name) >= 0 {
			renewed[name] = true
		} else {
			w.durable = append(w.durable, TwinRecord{Key: w.recordKey(name)})
		}
		w.lastOnline = time.Time{}
	}
	if w.uid != "" && w.uid != p.uid {
		w.log.Info("the Device was made anew; its stored twins are dropped")
	}
	w.uid = p.uid
	return renewed
}
