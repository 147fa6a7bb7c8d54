package alarm

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func parse(t *testing.T, data map[string]any) *Config {
	t.Helper()
	out, err := Parse("alarms", "temp", device.TypeDouble, []any{data})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// play shows an alarm a value for each second ("x" is a bad one), and returns the level after each, by its first letters.
func play(a *Alarm, values ...any) string {
	var out []string
	for i, x := range values {
		v := device.BadValue("no answer", epoch)
		switch x := x.(type) {
		case float64:
			v = device.Float(x)
		case bool:
			v = device.Bool(x)
		}
		a.Update(v, epoch.Add(time.Duration(i)*time.Second))
		level, _ := a.Level()
		out = append(out, map[Level]string{Normal: "-", BadQuality: "B", Active: "A", BelowLow: "L", AboveHigh: "H", BelowLowLow: "LL", AboveHighHigh: "HH"}[level])
	}
	return strings.Join(out, " ")
}

func TestLevels(t *testing.T) {
	all := map[string]any{"low": 10, "lowLow": 0, "high": "80", "highHigh": 90.0, "hysteresis": 2}
	for name, c := range map[string]struct {
		data   map[string]any
		values []any
		want   string
	}{
		"a limit is not above itself":         {map[string]any{"high": 80}, []any{80.0, 80.1, 80.0}, "- H -"},
		"hysteresis":                          {all, []any{50.0, 81.0, 79.0, 78.1, 78.0, 50.0}, "- H H H - -"},
		"through all levels":                  {all, []any{50.0, 85.0, 95.0, 89.0, 88.0, 79.0, 70.0, 9.0, -1.0, 1.0, 2.0, 11.0, 12.0}, "- H HH HH H H - L LL LL L L -"},
		"from one end to the other":           {all, []any{95.0, -5.0, 95.0}, "HH LL HH"},
		"on-delay":                            {map[string]any{"high": 80, "onDelay": 2000}, []any{90.0, 90.0, 70.0, 90.0, 90.0, 90.0}, "- - - - - H"},
		"off-delay":                           {map[string]any{"high": 80, "offDelay": 2000}, []any{90.0, 70.0, 90.0, 70.0, 70.0, 70.0}, "H H H H H -"},
		"high is in time though highHigh too": {map[string]any{"high": 80, "highHigh": 90, "onDelay": 3000}, []any{85.0, 85.0, 95.0, 95.0, 95.0, 95.0}, "- - - H H HH"},
		"bad holds, and stops delays":         {map[string]any{"high": 80, "onDelay": 2000}, []any{90.0, "x", 90.0, 90.0, 90.0, "x", "x"}, "- - - - H H H"},
		"bad clears":                          {map[string]any{"high": 80, "onBad": "clear"}, []any{90.0, "x", 90.0}, "H - H"},
		"bad is an alarm":                     {map[string]any{"high": 80, "onBad": "alarm"}, []any{70.0, "x", 70.0, 90.0, "x"}, "- B - H H"},
		"only the quality":                    {map[string]any{"onBad": "alarm", "onDelay": 1000}, []any{1.0, "x", "x", 1.0}, "- - B -"},
		"a condition":                         {map[string]any{"when": "temp > 3", "onDelay": 1000}, []any{true, true, false, true}, "- A - -"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := play(New(parse(t, c.data), Record{}), c.values...); got != c.want {
				t.Errorf("%v\n got %s\nwant %s", c.values, got, c.want)
			}
		})
	}
}

func TestRecordGoesOn(t *testing.T) {
	cfg := parse(t, map[string]any{"high": 80, "highHigh": 90, "hysteresis": 5})
	a := New(cfg, Record{})
	a.Update(device.Float(95), epoch)
	kept := a.Record()
	body, err := kept.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if _, err := r.UnmarshalMsg(body); err != nil {
		t.Fatal(err)
	}
	b := New(cfg, r)
	if tr, changed := b.Update(device.Float(95), epoch.Add(time.Hour)); changed {
		t.Errorf("raised again after a restart: %+v", tr)
	}
	if level, since := b.Level(); level != AboveHighHigh || !since.Equal(epoch) {
		t.Errorf("level %v since %v", level, since)
	}
	tr, changed := b.Update(device.Float(83), epoch.Add(time.Hour))
	if !changed || tr.To != AboveHigh || tr.Graver() || !tr.Since.Equal(epoch) {
		t.Errorf("%+v", tr)
	}
	for _, r := range []Record{{Level: 200}, {Level: uint8(Active)}, {Level: uint8(BadQuality)}, {Level: uint8(BelowLow)}} {
		if level, since := New(cfg, r).Level(); level != Normal || !since.IsZero() {
			t.Errorf("record %+v starts at %v", r, level)
		}
	}
}

func TestDue(t *testing.T) {
	a := New(parse(t, map[string]any{"high": 80, "onDelay": 1500, "offDelay": 4000}), Record{})
	if !a.Due().IsZero() {
		t.Error("a delay runs before the first value")
	}
	a.Update(device.Float(90), epoch)
	if at := a.Due(); !at.Equal(epoch.Add(1500 * time.Millisecond)) {
		t.Errorf("due at %v", at)
	}
	if _, changed := a.Update(device.Float(90), a.Due()); !changed || !a.Due().IsZero() {
		t.Errorf("the delay's end: changed %v, due %v", changed, a.Due())
	}
	a.Update(device.Float(0), epoch.Add(10*time.Second))
	if at := a.Due(); !at.Equal(epoch.Add(14 * time.Second)) {
		t.Errorf("due at %v", at)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	many := make([]any, MaxPerProperty+1)
	for want, raw := range map[string]any{
		"a[0].high: an alarm needs a limit or a condition": map[string]any{}, "a[0].hysteresis: -1: is negative": map[string]any{"high": 1, "hysteresis": -1},
		`a[0].severity: "urgent": is not known; allowed: critical, high`: map[string]any{"high": 1, "severity": "urgent"}, "a[0]: 3: is not a map": []any{3},
		"a[0].highHigh: 70: is below high": map[string]any{"high": 80, "highHigh": 70}, "a[0].lowLow: 9: is above low": map[string]any{"low": 8, "lowLow": 9},
		"leaves no value between the limits": map[string]any{"high": 10, "low": 8, "hysteresis": 2}, "a[0].when: \"x\": stands beside high": map[string]any{"high": 1, "when": "x"},
		"a[0].onDelay: -5: is out of range": map[string]any{"high": 1, "onDelay": -5}, "a[0].name: \"a b\": is not a name": map[string]any{"high": 1, "name": "a b"},
		`a: "9 entries": is too long`: many, "a[0].message": map[string]any{"high": 1, "message": strings.Repeat("x", 300)},
		"hysteresis: 1: is for limits": map[string]any{"when": "x", "hysteresis": 1},
	} {
		if _, err := Parse("a", "temp", device.TypeDouble, raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", raw, err, want)
		}
	}
	if _, err := Parse("a", "door", device.TypeBoolean, map[string]any{"high": 1}); err == nil || !strings.Contains(err.Error(), "is a limit for numbers, and the property is BOOLEAN") {
		t.Errorf("a limit of a BOOLEAN: %v", err)
	}
	if _, err := Parse("a", "flow rate", device.TypeDouble, map[string]any{"high": 1}); err == nil || !strings.Contains(err.Error(), "a[0].name") {
		t.Errorf("no name for a property whose own does not fit: %v", err)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	a := New(parse(t, map[string]any{"high": 80, "low": 1, "onDelay": 1000}), Record{})
	at := epoch
	if n := testing.AllocsPerRun(100, func() { at = at.Add(time.Second); a.Update(device.Float(50), at); a.Due() }); n != 0 {
		t.Errorf("%v allocations for each value", n)
	}
}
