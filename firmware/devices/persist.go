package devices

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false -unexported -file persist.go -o persist_gen.go

// flushEvery is how long a changed reported value may wait for the store. Flash is a wear part: a value that changes at
// each of ten readings a second is stored once a second.
const flushEvery = time.Second

// restartDoubt marks values that come from the store until the device has been read.
const restartDoubt = "last value before the agent restarted; the device has not been read since"

// twinRecord is what the store keeps of one property.
type twinRecord struct {
	UID     string         `msg:"u"` // of the Device: one that was made anew starts with new twins
	Twin    twin.Property  `msg:"t"`
	Kind    uint8          `msg:"k"` // device.Type of Text; 0 if there is no datum
	Text    string         `msg:"v"`
	Quality uint8          `msg:"q"`
	Reason  string         `msg:"r"`
	At      time.Time      `msg:"a"`
	Alarms  []alarm.Record `msg:"l,omitempty"` // those that are not normal
}

func (w *worker) recordPrefix() string { return w.key.Namespace() + "/" + w.key.Name() + "/" }

func (w *worker) recordKey(property string) string { return w.recordPrefix() + property }

// typeOf returns the model type in which a datum is stored.
func typeOf(v device.Value) device.Type {
	switch v.Kind() {
	case device.KindBool:
		return device.TypeBoolean
	case device.KindInt, device.KindUint:
		return device.TypeInt
	case device.KindFloat:
		return device.TypeDouble
	case device.KindString:
		return device.TypeString
	case device.KindBytes:
		return device.TypeBytes
	default:
		return 0
	}
}

// record encodes a property's twin, which counts as persisted from now on.
func (w *worker) record(name string, t *propertyTwin) TwinRecord {
	uid := ""
	if w.plan != nil {
		uid = w.plan.uid
	}
	rec := twinRecord{
		UID: uid, Twin: t.Property, Kind: uint8(typeOf(t.value)), Text: t.text,
		Quality: uint8(t.value.Quality), Reason: t.value.Reason, At: t.value.Server, Alarms: t.alarms,
	}
	body, err := rec.MarshalMsg(nil)
	if err != nil { // plain strings and numbers always encode
		w.log.Error("encoding a twin failed; it is not persisted", "property", name, "err", err)
	}
	t.dirty = false
	return TwinRecord{Key: w.recordKey(name), Record: body}
}

// load reads the twins of the device from the store. A damaged record costs that record.
func (w *worker) load() {
	w.mu.Lock()
	defer w.mu.Unlock()
	prefix := w.recordPrefix()
	err := w.host.opt.Twins.Scan(prefix, func(key string, body []byte) error {
		var rec twinRecord
		if _, err := rec.UnmarshalMsg(body); err != nil {
			w.log.Warn("a stored twin cannot be decoded; the property starts anew", "key", key, "err", err)
			return nil
		}
		t := &propertyTwin{Property: rec.Twin, text: rec.Text, uid: rec.UID, alarms: rec.Alarms}
		if rec.Kind != 0 {
			if v, err := device.Parse(rec.Text, device.Type(rec.Kind)); err == nil {
				t.value = v.At(rec.At).Doubt(device.Uncertain, restartDoubt)
			}
		}
		if rec.At.After(w.lastOnline) {
			w.lastOnline = rec.At // the newest that is known until the device answers
		}
		w.twins[strings.TrimPrefix(key, prefix)] = t
		return nil
	})
	if err != nil {
		w.log.Error("reading the stored twins failed; desired values may be written again", "err", err)
	}
}

// forget drops twins that belong to another Device of the same name, from the store too: one that stayed there would be taken
// for the device's own after the next restart.
func (w *worker) forget(p *plan) {
	dropped := 0
	for name, t := range w.twins {
		if t.uid != "" && p.uid != "" && t.uid != p.uid {
			delete(w.twins, name)
			dropped++
			// A property that the new Device has, too, gets a record of its own.
			if !slices.ContainsFunc(p.properties, func(prop property) bool { return prop.name == name }) {
				w.durable = append(w.durable, TwinRecord{Key: w.recordKey(name)})
			}
		}
	}
	if dropped > 0 {
		w.log.Info("the Device was made anew; its stored twins are dropped", "properties", dropped)
		w.lastOnline = time.Time{}
	}
}

// armFlush makes sure that changed values reach the store soon.
func (w *worker) armFlush(now time.Time) {
	if !w.flushing {
		w.flushing = true
		w.host.sched.set(w, taskFlush, now.Add(flushEvery), 0)
	}
}

// flush hands changed reported values to the store; they are durable within its window.
func (w *worker) flush() {
	var records []TwinRecord
	var changed []*propertyTwin
	for name, t := range w.twins {
		if t.dirty {
			changed = append(changed, t)
			records = append(records, w.record(name, t))
		}
	}
	if len(records) == 0 {
		return
	}
	if err := w.host.opt.Twins.CommitLazy(records); err != nil {
		for _, t := range changed {
			t.dirty = true
		}
		w.armFlush(time.Now())
		w.commitFailed(err)
		return
	}
	w.failures = false
}

// commit makes outcomes durable. It is called without the lock: it waits for the disk.
func (w *worker) commit(ctx context.Context) {
	w.mu.Lock()
	records := w.durable
	w.durable = nil
	w.mu.Unlock()
	if len(records) == 0 {
		return
	}
	err := w.host.opt.Twins.Commit(context.WithoutCancel(ctx), records)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.failures = false
		return
	}
	for name, t := range w.twins {
		for _, r := range records {
			t.dirty = t.dirty || r.Key == w.recordKey(name)
		}
	}
	w.armFlush(time.Now())
	w.commitFailed(err)
}

// commitFailed says so once: until the disk is writable again a restart may write desired values anew.
func (w *worker) commitFailed(err error) {
	if w.failures {
		return
	}
	w.failures = true
	w.log.Error("twins could not be persisted; polling goes on, and after a restart desired values may be written again", "err", err)
	w.event(eventWarning, "TwinNotPersisted", "the agent's store refused to take the device's twin: "+err.Error())
}

// deleteTwins removes the device's records from the store. The actor has ended.
func (w *worker) deleteTwins(ctx context.Context) error {
	var records []TwinRecord
	err := w.host.opt.Twins.Scan(w.recordPrefix(), func(key string, _ []byte) error {
		records = append(records, TwinRecord{Key: key})
		return nil
	})
	if err != nil || len(records) == 0 {
		return err
	}
	return w.host.opt.Twins.Commit(ctx, records)
}
