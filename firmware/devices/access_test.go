package devices

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

func TestReadAsksTheDevice(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", strings.Replace(tempProp, "100", "3600000", 1), setProp("")))
		w.start()
		defer w.stop()
		w.fake.Set("1", "t", device.Float32(33))
		got, err := w.host.Read(w.t.Context(), "ns", "d", []string{"temp"})
		if err != nil || len(got) != 1 || got[0].Value != "33" || got[0].Quality != device.Good {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := w.host.Read(w.t.Context(), "ns", "d", nil); err != nil || len(got) != 2 {
			t.Errorf("all: %+v, %v", got, err)
		}
		if _, err := w.host.Read(w.t.Context(), "ns", "d", []string{"nope"}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "set, temp") {
			t.Errorf("unknown property: %v", err)
		}
		if _, err := w.host.Read(w.t.Context(), "ns", "x", nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown device: %v", err)
		}
		last := got[0].At
		w.settle(time.Minute)
		w.fake.SetFault(devicetest.Off)
		if got, err := w.host.Read(w.t.Context(), "ns", "d", []string{"temp"}); !errors.Is(err, device.ErrUnreachable) || got[0].Quality != device.Bad || got[0].Value != "33" || !got[0].At.Before(last.Add(time.Second)) {
			t.Errorf("offline: %+v, %v; it was read at %v", got, err, last) // the value is as old as it is, whenever somebody asks
		}
	})
}

func TestEdgeWrite(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("5", tempProp, setProp("10")))
		w.start()
		res, err := w.host.Write(w.t.Context(), "ns", "d", "set", "20")
		if err != nil || !res.Verified || res.Readback.Text() != "20" {
			t.Fatalf("%+v, %v", res, err)
		}
		w.settle(time.Second)
		m := w.twin("set").ObservedDesired
		if m.Value != "20" || m.Metadata.Origin != "edge" || m.Metadata.Generation != "5" || m.Metadata.Outcome != "verified" {
			t.Errorf("observed %+v", m)
		}
		// It stands over a restart, and over a new generation that wants the same as before.
		w.stop()
		w.start()
		w.apply(wire.KindDevice, "d", deviceDoc("6", tempProp, setProp("10"), onProp))
		w.settle(time.Second)
		if got := strings.Join(w.fake.Writes("1"), " "); got != "s=10 s=20" {
			t.Errorf("writes %s", got)
		}
		// The cloud sets another one: it wins, and the next edge write has seen it.
		w.apply(wire.KindDevice, "d", deviceDoc("7", tempProp, setProp("30"), onProp))
		w.settle(time.Second)
		if _, err := w.host.Write(w.t.Context(), "ns", "d", "set", "40"); err != nil {
			t.Error(err)
		}
		w.settle(time.Second)
		if got := strings.Join(w.fake.Writes("1"), " "); got != "s=10 s=20 s=30 s=40" || w.twin("set").ObservedDesired.Metadata.Generation != "7" {
			t.Errorf("writes %s", got)
		}
		for text, want := range map[string]string{"101": "maximum 100", "hot": "not an INT", "": "empty"} {
			if _, err := w.host.Write(w.t.Context(), "ns", "d", "set", text); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if _, err := w.host.Write(w.t.Context(), "ns", "d", "temp", "1"); !errors.Is(err, ErrRefused) {
			t.Errorf("read-only: %v", err)
		}
		w.stop()
	})
}

// TestWritesWhileOffline: writes from both sides while the device is away; when it is back, the one that wins is written, once.
func TestWritesWhileOffline(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("1")))
		w.start()
		w.settle(time.Minute)
		w.fake.SetFault(devicetest.Off)
		w.settle(time.Second)
		for _, text := range []string{"50", "51"} {
			if _, err := w.host.Write(w.t.Context(), "ns", "d", "set", text); !errors.Is(err, device.ErrUnreachable) {
				t.Errorf("%s: %v", text, err)
			}
		}
		w.settle(20 * time.Millisecond)
		if m := w.twin("set").ObservedDesired; m.Value != "51" || m.Metadata.Outcome != "pending" || m.Metadata.Origin != "edge" {
			t.Errorf("observed %+v", m)
		}
		w.apply(wire.KindDevice, "d", deviceDoc("2", tempProp, setProp("60")))
		w.settle(time.Second)
		w.apply(wire.KindDevice, "d", deviceDoc("3", tempProp, setProp("61")))
		w.settle(time.Minute)
		w.stop() // nothing is forgotten by a restart meanwhile
		w.start()
		w.settle(time.Minute)
		w.fake.SetFault(devicetest.None)
		w.settle(time.Minute)
		if got := strings.Join(w.fake.Writes("1"), " "); got != "s=1 s=61" {
			t.Errorf("writes %s", got)
		}
		w.stop()
	})
}

func TestMethods(t *testing.T) {
	tellingWorld(t, func(w *world) {
		doc := strings.Replace(deviceDoc("1", tempProp, setProp(""), `{"name": "on", "visitors": {"configData": {"method": "start"}}}`), `"properties"`,
			`"methods": [{"name": "tune", "propertyNames": ["set"]}, {"name": "go", "propertyNames": ["on"]}], "properties"`, 1)
		w.apply(wire.KindDevice, "d", doc)
		w.start()
		defer w.stop()
		if c := w.condition("Ready"); c.Status != "True" {
			t.Fatalf("a method is read: %+v", c)
		}
		if out, err := w.host.Call(w.t.Context(), "ns", "d", "tune", map[string]string{"set": "12"}); err != nil || out["set"] != "12" {
			t.Errorf("tune: %v, %v", out, err)
		}
		for _, name := range []string{"go", "on"} {
			if out, err := w.host.Call(w.t.Context(), "ns", "d", name, map[string]string{"speed": "3", "mode": "auto"}); err != nil || out["first"] != "auto" || out["1"] != "3" {
				t.Errorf("%s: %v, %v", name, out, err)
			}
		}
		for _, c := range []struct {
			method string
			args   map[string]string
			want   string
		}{
			{"stop", nil, `method "stop" of device ns/d: not found; it has: tune, go, on`},
			{"tune", map[string]string{"temp": "1"}, "its arguments are values of the properties set"},
			{"go", map[string]string{"speed": "fast", "mode": "x"}, `argument "speed": "fast" is not an INT`},
			{"go", map[string]string{"speed": "1"}, `argument "mode" (STRING) is missing`},
			{"go", map[string]string{"speed": "1", "mode": "x", "y": "1"}, `argument "y" is unknown; allowed: speed (INT), mode (STRING)`},
		} {
			if _, err := w.host.Call(w.t.Context(), "ns", "d", c.method, c.args); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v: %v", c.method, c.args, err)
			}
		}
		if got, err := w.host.Browse(w.t.Context(), "ns", "d", "", 2); err != nil || len(got) != 2 {
			t.Errorf("browse: %v, %v", got, err)
		}
	})
}

func TestBrowseWithoutTheAbility(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		defer w.stop()
		if _, err := w.host.Browse(w.t.Context(), "ns", "d", "", 2); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	})
}

// TestAskingAWedgedDriver: who asks gets an answer, whatever the driver does.
func TestAskingAWedgedDriver(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("")))
		w.start()
		w.fake.SetFault(devicetest.Wedge)
		begin := time.Now()
		if _, err := w.host.Read(w.t.Context(), "ns", "d", nil); !errors.Is(err, device.ErrUnreachable) {
			t.Error(err)
		}
		if _, err := w.host.Write(w.t.Context(), "ns", "d", "set", "5"); !errors.Is(err, device.ErrUnreachable) {
			t.Error(err)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("it took %v", took)
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.host.Read(w.t.Context(), "ns", "d", nil)
			done <- err
		}()
		w.settle(10 * time.Millisecond)
		w.stop()
		if err := <-done; err == nil {
			t.Error("a stopped host answered")
		}
		w.fake.SetFault(devicetest.None)
		w.settle(time.Minute)
	})
}

func TestWatchAndDeadband(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1",
			`{"name": "temp", "collectCycle": 100, "visitors": {"configData": {"cell": "t", "deadband": 0.5}}}`,
			`{"name": "set", "collectCycle": 100, "visitors": {"configData": {"cell": "s", "deadband": "2%"}}}`)) // of 0 … 100
		w.start()
		defer w.stop()
		var seen []string
		stop := w.host.Watch(func(_, _, property string, v device.Value) { seen = append(seen, property+"="+v.Text()) })
		step := func(temp float32, set int64) {
			w.fake.Set("1", "t", device.Float32(temp))
			w.fake.Set("1", "s", device.Int(set))
			w.settle(100 * time.Millisecond)
		}
		step(21.9, 3)
		step(22.0, 2)
		step(22.1, 4) // both moved far enough from 21.5 and 1
		step(21.8, 3)
		stop()
		step(50, 50)
		if got := strings.Join(seen, " "); got != "temp=22.1 set=4" {
			t.Errorf("watched %s", got)
		}
		w.apply(wire.KindDevice, "d", deviceDoc("2", `{"name": "temp", "visitors": {"configData": {"cell": "t", "deadband": "much"}}}`, onProp))
		w.settle(2 * time.Second)
		if c := w.condition("Valid"); !strings.Contains(c.Message, `spec.properties[temp].visitors.configData.deadband: "much": is not a deadband; allowed: a number`) {
			t.Errorf("%+v", c)
		}
	})
}

func TestStateSaysSinceAndWhy(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		defer w.stop()
		online := w.last().DeviceStatus.Extensions
		if online == nil || online.Reason != "" || online.Since == "" {
			t.Errorf("online: %+v", online)
		}
		w.settle(time.Minute)
		w.fake.SetFault(devicetest.Off)
		w.settle(time.Second)
		off := w.last().DeviceStatus.Extensions
		if off.Since == online.Since || !strings.Contains(off.Reason, "unreachable") {
			t.Errorf("offline: %+v", off)
		}
		w.settle(time.Hour)
		if st := w.host.Status()[0]; st.Since.UTC().Format(time.RFC3339) != off.Since || st.State != "offline" {
			t.Errorf("since %v, want %s", st.Since, off.Since)
		}
	})
}
