package devices

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

const stageModel = `{"metadata": {"name": "m", "namespace": "ns"}, "spec": {"protocol": "fake", "properties": [
	{"name": "temp", "type": "FLOAT", "accessMode": "ReadOnly", "unit": "C"},
	{"name": "fahrenheit", "type": "FLOAT", "accessMode": "ReadOnly"},
	{"name": "hot", "type": "BOOLEAN", "accessMode": "ReadOnly"},
	{"name": "ratio", "type": "DOUBLE", "accessMode": "ReadOnly"},
	{"name": "set", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "100"},
	{"name": "on", "type": "BOOLEAN", "accessMode": "ReadWrite"}]}}`

func calculated(name, expr string) string {
	return `{"name": "` + name + `", "visitors": {"configData": {"expr": "` + expr + `"}}}`
}

func alarmed(alarms string) string {
	return `{"name": "temp", "collectCycle": 100, "visitors": {"configData": {"cell": "t", "alarms": ` + alarms + `}}}`
}

func (w *world) eventsOf(reason string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if strings.Contains(e, " "+reason+": ") {
			out = append(out, e)
		}
	}
	return out
}

func TestCalculatedProperties(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp(""), calculated("hot", "fahrenheit > 71"), calculated("fahrenheit", "temp * 1.8 + 32"), calculated("ratio", "temp / set")))
		w.fake.Set("1", "s", device.Int(0))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		if v := w.twin("fahrenheit").Reported; v.Value != "70.7" || v.Metadata.Quality != "good" || v.Metadata.Timestamp == "" {
			t.Errorf("fahrenheit: %+v", v)
		}
		if v := w.twin("hot").Reported; v.Value != "false" {
			t.Errorf("hot: %+v", v)
		}
		if v := w.twin("ratio").Reported; v.Metadata.Quality != "bad" || !strings.Contains(v.Metadata.Reason, "division by zero") {
			t.Errorf("a division by zero: %+v", v)
		}
		w.fake.Set("1", "t", device.Float32(30))
		w.fake.Set("1", "s", device.Int(200))
		w.settle(time.Second)
		if v := w.twin("hot").Reported; v.Value != "true" {
			t.Errorf("hot after the temperature rose: %+v", v)
		}
		if v := w.twin("set").Reported; v.Metadata.Quality != "uncertain" || !strings.Contains(v.Metadata.Reason, "above the DeviceModel's maximum 100") {
			t.Errorf("a reading above the model's maximum: %+v", v)
		}
		if v := w.twin("ratio").Reported; v.Value != "0.15" || v.Metadata.Quality != "uncertain" || !strings.Contains(v.Metadata.Reason, `input "set"`) {
			t.Errorf("calculated from a doubtful value: %+v", v)
		}
		w.fake.Refuse("1", "t", "sensor broken")
		w.settle(time.Second)
		if v := w.twin("hot").Reported; v.Metadata.Quality != "bad" || !strings.Contains(v.Metadata.Reason, "sensor broken") || v.Value != "true" {
			t.Errorf("hot without its input: %+v", v)
		}
	})
}

// TestDriverFailureReachesCalculatedProperties: nothing stays good because the driver, not the device, has failed.
func TestDriverFailureReachesCalculatedProperties(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", alarmed(`[{"name": "lost", "onBad": "alarm"}]`), calculated("fahrenheit", "temp * 1.8 + 32")))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		w.drivers = append(w.drivers, nil) // the panic is expected
		w.fake.SetFault(1 + 3)             // devicetest.Panic
		w.settle(300 * time.Millisecond)
		if v := w.twin("fahrenheit").Reported; v.Metadata.Quality != "bad" {
			t.Errorf("after the driver failed: %+v", v)
		}
		if got := w.eventsOf("AlarmRaised"); len(got) != 1 || !strings.Contains(got[0], "the quality of property \"temp\" is bad") {
			t.Errorf("events: %q", got)
		}
		w.drivers = nil
	})
}

func TestWrongExpressionsAreNamed(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, calculated("fahrenheit", "tmep * 1.8"), calculated("hot", "ratio > 1"), calculated("ratio", "hot ? 1 : 0"),
			calculated("set", "temp"), `{"name": "on", "visitors": {"configData": {"cell": "o", "expr": "temp > 1"}}}`))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		c := w.condition("Valid")
		for _, want := range []string{
			`spec.properties[fahrenheit].visitors.configData.expr: "tmep * 1.8": at character 1: the device has no property "tmep"; allowed: temp, fahrenheit`,
			"hot → ratio → hot", `spec.properties[set].visitors.configData.expr: "temp": a calculated property cannot be written`, "stands beside fields that say where the device has the value: cell",
		} {
			if c.Status != "False" || c.Reason != "InvalidVisitor" || !strings.Contains(c.Message, want) {
				t.Errorf("Valid is %s %s: %s\nwant %s", c.Status, c.Reason, c.Message, want)
			}
		}
		if v := w.twin("temp").Reported; v.Value != "21.5" {
			t.Errorf("the others are read all the same: %+v", v)
		}
	})
}

func TestAlarmRaisesAndClears(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", alarmed(`[{"name": "hot", "high": 30, "highHigh": "40", "hysteresis": 2, "onDelay": 1000, "severity": "high", "message": "look at the fan"},
			{"name": "pair", "when": "temp > 25 and on"}]`), onProp))
		w.start()
		w.settle(time.Second)
		if c := w.condition("Alarms"); c.Status != "False" || c.Message != "none of 2 alarms is active" {
			t.Errorf("before: %+v", c)
		}
		w.fake.Set("1", "t", device.Float32(31))
		w.settle(500 * time.Millisecond)
		if got := w.eventsOf("AlarmRaised"); len(got) != 0 {
			t.Errorf("raised within the on-delay: %q", got)
		}
		w.settle(time.Second)
		if got := w.eventsOf("AlarmRaised"); len(got) != 1 || got[0] != `Warning ns/d AlarmRaised: alarm "hot" (high), property "temp": 31 C is above high 30; look at the fan` {
			t.Errorf("events: %q", got)
		}
		if !slices.Contains(w.parts, "spec.properties[temp].alarms[hot]") {
			t.Errorf("events are about %q", w.parts)
		}
		if c := w.condition("Alarm.hot"); c.Status != "True" || c.Reason != "High" {
			t.Errorf("condition: %+v", c)
		}
		w.fake.Set("1", "on", device.Bool(true))
		w.fake.Set("1", "o", device.Bool(true))
		w.settle(time.Second)
		if c := w.condition("Alarms"); c.Status != "True" || c.Message != "2 of 2 alarms active: hot (high, High), pair (medium, Active)" {
			t.Errorf("both: %+v", c)
		}
		if st := w.host.Status()[0]; len(st.Alarms) != 2 || st.Alarms[0].Name != "hot" || st.Alarms[0].Level != "High" {
			t.Errorf("status: %+v", st.Alarms)
		}
		// A restart raises nothing again, and forgets nothing.
		w.settle(2 * time.Second)
		w.stop()
		w.start()
		w.settle(3 * time.Second)
		if got := w.eventsOf("AlarmRaised"); len(got) != 2 {
			t.Errorf("events after a restart: %q", got)
		}
		w.fake.Set("1", "t", device.Float32(29)) // inside the hysteresis
		w.settle(time.Second)
		if got := w.eventsOf("AlarmCleared"); len(got) != 0 {
			t.Errorf("cleared inside the hysteresis: %q", got)
		}
		w.fake.Set("1", "t", device.Float32(20))
		w.settle(time.Second)
		if got := w.eventsOf("AlarmCleared"); len(got) != 2 || !strings.Contains(got[0], "it was High for ") {
			t.Errorf("events: %q", got)
		}
		for _, c := range w.last().Conditions {
			if strings.HasPrefix(c.Type, "Alarm.") || c.Type == "Alarms" && c.Status != "False" {
				t.Errorf("condition after all is normal: %+v", c)
			}
		}
		// The manifest changes while it is in alarm: it goes on, and ends when it leaves the manifest.
		w.fake.Set("1", "t", device.Float32(31))
		w.settle(2 * time.Second)
		w.apply(wire.KindDevice, "d", deviceDoc("2", alarmed(`{"name": "hot", "high": 30, "severity": "critical"}`)))
		w.settle(time.Second)
		if got := w.eventsOf("AlarmRaised"); len(got) != 4 {
			t.Errorf("events after a change of the manifest: %q", got)
		}
		w.apply(wire.KindDevice, "d", deviceDoc("3", tempProp))
		w.settle(time.Second)
		if got := w.eventsOf("AlarmCleared"); len(got) != 4 || !strings.Contains(got[3], `alarm "hot" is no longer in the manifest`) {
			t.Errorf("events after the alarm was removed: %q", got)
		}
		w.stop()
	})
}

// TestTimedCondition: a condition over the age of a value holds although no value comes.
func TestTimedCondition(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", strings.Replace(alarmed(`{"name": "stale", "when": "age(temp) > 30"}`), `"collectCycle": 100`, `"collectCycle": 3600000`, 1)))
		w.start()
		defer w.stop()
		w.settle(20 * time.Second)
		if got := w.eventsOf("AlarmRaised"); len(got) != 0 {
			t.Errorf("raised early: %q", got)
		}
		w.settle(15 * time.Second)
		if got := w.eventsOf("AlarmRaised"); len(got) != 1 || !strings.Contains(got[0], "age(temp) > 30 holds") {
			t.Errorf("events: %q", got)
		}
		w.settle(time.Hour)
		if got := w.eventsOf("AlarmCleared"); len(got) == 0 {
			t.Errorf("not cleared by the next reading: %q", got)
		}
	})
}

// TestAlarmsAreKeptAheadOfValues: what is in alarm does not wait in the store's queue behind thousands of values.
func TestAlarmsAreKeptAheadOfValues(t *testing.T) {
	simulate(t, func(w *world) {
		properties := []string{alarmed(`{"name": "hot", "high": 30}`)}
		model := `{"metadata": {"name": "m", "namespace": "ns"}, "spec": {"protocol": "fake", "properties": [{"name": "temp", "type": "FLOAT", "accessMode": "ReadOnly"}`
		for i := range 2000 {
			name := fmt.Sprintf("p%d", i)
			w.fake.Set("1", name, device.Int(int64(i)))
			model += `,{"name": "` + name + `", "type": "INT", "accessMode": "ReadOnly"}`
			properties = append([]string{`{"name": "` + name + `", "collectCycle": 100, "visitors": {"configData": {"cell": "` + name + `"}}}`}, properties...)
		}
		w.fake.Set("1", "t", device.Float32(31))
		w.apply(wire.KindDeviceModel, "m", model+"]}}")
		w.apply(wire.KindDevice, "d", deviceDoc("1", properties...))
		w.start()
		defer w.stop()
		w.settle(1500 * time.Millisecond)
		w.mu.Lock()
		defer w.mu.Unlock()
		var rec twinRecord
		if _, err := rec.UnmarshalMsg(w.records["ns/d/temp"]); err != nil || len(rec.Alarms) != 1 || rec.Alarms[0].Name != "hot" {
			t.Errorf("kept: %+v %v, among %d records", rec, err, len(w.records))
		}
		if len(w.records) > 1000 {
			t.Errorf("%d records are kept already: the test shows nothing", len(w.records))
		}
	})
}

func TestWrongAlarmsAreNamed(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", stageModel)
		w.apply(wire.KindDevice, "d", deviceDoc("1", alarmed(`[{"hihg": 3}, {"name": "a", "when": "temp"}, {"name": "b", "when": "speed > 1"}, {"name": "c", "high": 1}, {"name": "c", "high": 2}]`)))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		c := w.condition("Valid")
		for _, want := range []string{
			"spec.properties[temp].visitors.configData.alarms[0].hihg: unknown field; allowed: name, high, highHigh",
			`alarms.when: "temp": at character 1: the result is a number; allowed: an expression that is true or false`,
			`alarms.when: "speed > 1": at character 1: the device has no property "speed"`,
			`alarms.name: "c": property "temp" has an alarm of this name, too`,
		} {
			if !strings.Contains(c.Message, want) {
				t.Errorf("Valid is %s: %s\nwant %s", c.Reason, c.Message, want)
			}
		}
		if c := w.condition("Alarms"); c.Message != "1 of 1 alarms active: c (medium, High)" {
			t.Errorf("the alarm that is right: %+v", c)
		}
	})
}
