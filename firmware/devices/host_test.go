package devices

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

func TestPollsAndReportsOnChange(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("3", tempProp, setProp("")))
		w.start()
		defer w.stop()
		r := w.last()
		if r.ObservedGeneration != 3 || r.DeviceStatus.State != "online" || w.condition("Ready").Status != "True" || w.condition("Valid").Status != "True" {
			t.Errorf("first report %+v", r)
		}
		tw := w.twin("temp")
		if tw.Reported.Value != "21.5" || tw.Reported.Metadata.Type != "FLOAT" || tw.Reported.Metadata.Quality != "good" || tw.Reported.Metadata.Unit != "C" ||
			tw.Reported.Metadata.Timestamp == "" || tw.ObservedDesired != nil {
			t.Errorf("twin %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		n := w.count()
		w.settle(10 * time.Second)
		if w.count() != n {
			t.Errorf("%d reports without a change", w.count()-n)
		}
		w.fake.Set("1", "t", device.Float32(22))
		w.settle(100 * time.Millisecond)
		if w.count() != n+1 || w.twin("temp").Reported.Value != "22" {
			t.Errorf("a change made %d reports: %+v", w.count()-n, w.twin("temp").Reported)
		}
		w.settle(refreshCycle)
		if got := w.count() - n - 1; got != 1 {
			t.Errorf("%d refreshes in a refresh cycle, want 1", got)
		}
		if w.fake.Opens("1") != 1 {
			t.Errorf("%d sessions opened", w.fake.Opens("1"))
		}
	})
}

func TestReportCycleConflates(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", `{"name": "temp", "collectCycle": 100, "reportCycle": 1000, "visitors": {"configData": {"cell": "t"}}}`))
		w.start()
		defer w.stop()
		n := w.count()
		for i := range 100 {
			w.fake.Set("1", "t", device.Float32(float32(i)))
			w.settle(100 * time.Millisecond)
		}
		if got := w.count() - n; got < 9 || got > 11 {
			t.Errorf("%d reports in 10 s with a reportCycle of 1 s", got)
		}
	})
}

func TestReportToCloudFalse(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", onProp, `{"name": "temp", "collectCycle": 100, "reportToCloud": false, "visitors": {"configData": {"cell": "t"}}}`))
		w.start()
		defer w.stop()
		n := w.count()
		w.fake.Set("1", "t", device.Float32(99))
		w.settle(time.Second)
		if len(w.last().DeviceStatus.Twins) != 1 || w.count() != n {
			t.Errorf("a property with reportToCloud false is reported: %+v", w.last().DeviceStatus.Twins)
		}
		if st := w.host.Status(); st[0].Properties[1].Value != "99" {
			t.Errorf("it is not in the local status either: %+v", st)
		}
	})
}

func TestDesiredIsWrittenVerifiedAndNotRepeated(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("42")))
		w.start()
		tw := w.twin("set")
		if tw.ObservedDesired == nil || tw.ObservedDesired.Value != "42" || tw.ObservedDesired.Metadata.Outcome != "verified" ||
			tw.ObservedDesired.Metadata.Generation != "1" || tw.Reported.Value != "42" {
			t.Errorf("twin %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		// A change of something else neither opens the session again nor writes again.
		w.apply(wire.KindDevice, "d", deviceDoc("2", `{"name": "temp", "collectCycle": 500, "visitors": {"configData": {"cell": "t"}}}`, setProp("42"), onProp))
		w.settle(time.Second)
		if w.fake.Opens("1") != 1 || len(w.fake.Writes("1")) != 1 || w.last().ObservedGeneration != 2 {
			t.Errorf("opens %d, writes %v, generation %d", w.fake.Opens("1"), w.fake.Writes("1"), w.last().ObservedGeneration)
		}
		w.apply(wire.KindDevice, "d", deviceDoc("3", tempProp, setProp("43"), onProp))
		w.settle(time.Millisecond)
		if got := w.fake.Writes("1"); len(got) != 2 || got[1] != "s=43" {
			t.Errorf("writes %v", got)
		}
		w.stop()

		// After a restart nothing is written again, and the last values are there before the device answers.
		w.fake.SetFault(devicetest.Off)
		w.start()
		tw = w.twin("set")
		if got := w.fake.Writes("1"); len(got) != 2 {
			t.Errorf("writes after a restart %v", got)
		}
		if w.last().DeviceStatus.LastOnlineTime == "" {
			t.Error("when it was last online is forgotten")
		}
		if tw.Reported.Value != "43" || tw.Reported.Metadata.Quality != "bad" || tw.ObservedDesired.Metadata.Outcome != "verified" || w.last().DeviceStatus.State != "offline" {
			t.Errorf("after a restart with the device off: %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		w.fake.SetFault(devicetest.None)
		w.settle(time.Second)
		if w.twin("set").Reported.Metadata.Quality != "good" || len(w.fake.Writes("1")) != 2 {
			t.Errorf("after the device came back: %+v, writes %v", w.twin("set").Reported, w.fake.Writes("1"))
		}
		w.stop()
	})
}

func TestDesiredThatFails(t *testing.T) {
	simulate(t, func(w *world) {
		w.fake.Stick("1", "s", true)
		w.apply(wire.KindDevice, "d", deviceDoc("1", setProp("42")))
		w.start()
		defer w.stop()
		m := w.twin("set").ObservedDesired.Metadata
		if m.Outcome != "failed" || !strings.Contains(m.Reason, "wrote 42, the device shows 1") {
			t.Errorf("outcome %+v", m)
		}
		w.settle(5 * time.Minute)
		tries := len(w.fake.Writes("1"))
		if tries < 5 || tries > 20 {
			t.Errorf("%d attempts in five minutes", tries)
		}
		w.mu.Lock()
		failed := 0
		for _, e := range w.events {
			if strings.Contains(e, "DesiredValueFailed") {
				failed++
			}
		}
		w.mu.Unlock()
		if failed != 1 {
			t.Errorf("%d events for one lasting failure", failed)
		}
		w.fake.Stick("1", "s", false)
		w.settle(31 * time.Second)
		if w.twin("set").ObservedDesired.Metadata.Outcome != "verified" {
			t.Errorf("outcome %+v", w.twin("set").ObservedDesired)
		}
	})
}

func TestDesiredWhileOfflineIsWrittenWhenItIsBack(t *testing.T) {
	simulate(t, func(w *world) {
		w.fake.SetFault(devicetest.Off)
		w.apply(wire.KindDevice, "d", deviceDoc("1", setProp("42")))
		w.start()
		defer w.stop()
		w.settle(10 * time.Minute)
		if m := w.twin("set").ObservedDesired.Metadata; m.Outcome != "pending" || m.Reason == "" {
			t.Errorf("outcome while off %+v", m)
		}
		w.fake.SetFault(devicetest.None)
		w.settle(250 * time.Millisecond)
		if got := w.fake.Writes("1"); len(got) != 1 || w.twin("set").ObservedDesired.Metadata.Outcome != "verified" {
			t.Errorf("writes %v, outcome %+v", got, w.twin("set").ObservedDesired)
		}
	})
}

func TestRemovedDevice(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", setProp("42")))
		w.start()
		defer w.stop()
		w.apply(wire.KindDevice, "d", "")
		w.settle(time.Second)
		if w.fake.Live() != 0 || len(w.gone) != 1 || len(w.records) != 0 || len(w.host.Status()) != 0 {
			t.Errorf("live %d, withdrawn %v, records %d", w.fake.Live(), w.gone, len(w.records))
		}
		// Made anew under the same name: generation 1 again, and the value is written again.
		w.apply(wire.KindDevice, "d", strings.Replace(deviceDoc("1", setProp("42")), `"u1"`, `"u2"`, 1))
		w.settle(time.Second)
		if len(w.fake.Writes("1")) != 2 {
			t.Errorf("writes %v", w.fake.Writes("1"))
		}
	})
}

func TestRestoredCluster(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("40", setProp("42")))
		w.start()
		defer w.stop()
		w.apply(wire.KindDevice, "d", deviceDoc("7", setProp("41")))
		w.settle(time.Second)
		if got := w.fake.Writes("1"); len(got) != 2 || got[1] != "s=41" {
			t.Errorf("writes %v: the restored cluster's older generation is ignored", got)
		}
	})
}

func TestFullDisk(t *testing.T) {
	simulate(t, func(w *world) {
		w.full = true
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("42")))
		w.start()
		defer w.stop()
		w.settle(10 * time.Second)
		w.fake.Set("1", "t", device.Float32(5))
		w.settle(5 * time.Second)
		if w.twin("set").ObservedDesired.Metadata.Outcome != "verified" || w.twin("temp").Reported.Value != "5" {
			t.Error("polling stopped with a full disk")
		}
		w.mu.Lock()
		n := 0
		for _, e := range w.events {
			if strings.Contains(e, "TwinNotPersisted") {
				n++
			}
		}
		w.full = false
		w.mu.Unlock()
		if n != 1 {
			t.Errorf("%d events", n)
		}
		w.fake.Set("1", "t", device.Float32(6))
		w.settle(5 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.records) != 2 {
			t.Errorf("records after the disk has space again: %d, want 2", len(w.records))
		}
	})
}
