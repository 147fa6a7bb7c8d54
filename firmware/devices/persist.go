package devices

import (
	"context"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false -unexported -file persist.go -o persist_gen.go

// flushEvery is how long a changed reported value may wait for the store. Flash is a wear part: a value that changes at
// each of ten readings a second is stored once a second.
const flushEvery = time.Second

// Reported values that reach the store: of the whole host in a second, and of one device at a time.
const (
	flushPerSecond = 200
	flushTurn      = 50
)

// restartDoubt marks values that come from the store until the device has been read.
const restartDoubt = "last value before the agent restarted; the device has not been read since"

// twinRecord is what the store keeps of one property. What is empty is left out: most properties are only read, and each byte of their records is
// written to the flash at each change. Agents that left nothing out read such records, too (after a switch back to the other slot).
type twinRecord struct {
	UID     string         `msg:"u,omitempty"` // of the Device: one that was made anew starts with new twins
	Twin    *twin.Property `msg:"t,omitempty"` // nil: nobody ever wanted a value
	Kind    uint8          `msg:"k,omitempty"` // device.Type of Text; 0 if there is no datum
	Text    string         `msg:"v,omitempty"`
	Quality uint8          `msg:"q,omitempty"`
	Reason  string         `msg:"r,omitempty"`
	At      time.Time      `msg:"a,omitempty"`
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
	v := t.value.Value()
	rec := twinRecord{
		UID: w.uid, Kind: uint8(typeOf(v)), Text: v.Text(),
		Quality: uint8(v.Quality), Reason: v.Reason, At: v.Server, Twin: t.want,
	}
	if t.alarms != nil {
		rec.Alarms = *t.alarms
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
	prefix := w.recordPrefix()
	w.stored = make(map[string]storedTwin)
	err := w.host.opt.Twins.Scan(prefix, func(key string, body []byte) error {
		var rec twinRecord
		if _, err := rec.UnmarshalMsg(body); err != nil {
			w.log.Warn("a stored twin cannot be decoded; the property starts anew", "key", key, "err", err)
			return nil
		}
		t := storedTwin{uid: rec.UID}
		if rec.Twin != nil && !rec.Twin.Empty() { // earlier agents wrote empty ones, too
			t.want = rec.Twin
		}
		if len(rec.Alarms) > 0 {
			t.alarms = &rec.Alarms
		}
		if rec.Kind != 0 {
			if v, err := device.Parse(rec.Text, device.Type(rec.Kind)); err == nil {
				t.value = t.value.Next(v.At(rec.At).Doubt(device.Uncertain, restartDoubt))
				t.base = v.AsFloat()
			}
		}
		// The newest that is known until the device answers. A record without a datum tells when the device was asked, and no more.
		if rec.Kind != 0 && rec.At.After(w.lastOnline) {
			w.lastOnline = rec.At
		}
		w.stored[strings.TrimPrefix(key, prefix)] = t
		return nil
	})
	if err != nil {
		w.log.Error("reading the stored twins failed; desired values may be written again", "err", err)
	}
}

// soil notes that the record of a property in the store is older.
func (w *worker) soil(prop *property, t *propertyTwin, now time.Time) {
	if !t.dirty {
		t.dirty = true
		w.dirty = append(w.dirty, prop.index)
		w.armFlush(now)
	}
}

// armFlush makes sure that changed values reach the store soon.
func (w *worker) armFlush(now time.Time) {
	if !w.flushing {
		w.flushing = true
		w.host.sched.set(w, taskFlush, now.Add(flushEvery), 0)
	}
}

// flush hands at most limit changed reported values to the store, as far as the host's budget allows, and all changes of alarms; they are durable within the
// store's window. A zero now means that there is no later: the budget does not count.
func (w *worker) flush(limit int, now time.Time) {
	limit = min(limit, len(w.dirty))
	if !now.IsZero() {
		limit = w.host.budget.take(limit, now)
	}
	alarms := w.staged.soiled
	w.staged.soiled = nil
	records := w.alarmTwins(alarms)
	limit += len(records)
	taken := 0
	for ; taken < len(w.dirty) && len(records) < limit; taken++ {
		if prop, t := &w.plan.properties[w.dirty[taken]], &w.twins[w.dirty[taken]]; t.dirty { // it may have been stored meanwhile
			records = append(records, w.record(prop.name, t))
		}
	}
	changed := w.dirty[:taken]
	w.dirty = w.dirty[taken:]
	if len(records) > 0 {
		if err := w.host.opt.Twins.CommitLazy(records); err != nil {
			for _, i := range changed {
				w.twins[i].dirty = true
			}
			w.dirty = append(w.dirty, changed...)
			for _, i := range alarms {
				w.twins[i].dirty = true
			}
			w.staged.soiled = alarms
			w.commitFailed(err)
		} else {
			w.failures = false
		}
	}
	if len(w.dirty)+len(w.staged.soiled) > 0 && !now.IsZero() {
		w.flushing = true
		w.host.sched.set(w, taskFlush, now.Add(flushEvery/4), 0)
	}
}

// commit makes outcomes durable and then answers who waits. It is called without the lock: it waits for the disk.
func (w *worker) commit() {
	w.mu.Lock()
	records, replies := w.durable, w.replies
	w.durable, w.replies = nil, nil
	w.mu.Unlock()
	defer func() {
		for _, reply := range replies {
			reply()
		}
	}()
	if len(records) == 0 {
		return
	}
	err := w.host.opt.Twins.Commit(context.WithoutCancel(w.ctx), records)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.failures = false
		return
	}
	now, prefix := time.Now(), w.recordPrefix()
	for _, r := range records {
		if i := w.plan.find(strings.TrimPrefix(r.Key, prefix)); i >= 0 {
			w.soil(&w.plan.properties[i], &w.twins[i], now)
		}
	}
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

// leftTwins appends the deletion of the device's records to out.
func (h *Host) leftTwins(key wire.Key, out []TwinRecord) ([]TwinRecord, error) {
	err := h.opt.Twins.Scan(key.Namespace()+"/"+key.Name()+"/", func(record string, _ []byte) error {
		out = append(out, TwinRecord{Key: record})
		return nil
	})
	return out, err
}
