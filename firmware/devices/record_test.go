package devices

import (
	"encoding/hex"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/devices/alarm"
	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// kept is one record of a property: what it says, how agents wrote it that left nothing out, and the most that it may take now.
type kept struct {
	record twinRecord
	before string
	most   int
}

const keptUID = "0b6f7f1e-6f0c-4d52-9a39-7d4d9a3c2b11"

func keptRecords() map[string]kept {
	at := time.Unix(1795449600, 123456789).UTC()
	cloud := twin.Desired{Origin: twin.Cloud, Generation: 7, Value: "42"}
	edge := twin.Desired{Origin: twin.Edge, Generation: 7, Seq: 3, Value: "43.5"}
	return map[string]kept{
		"reported only": {
			twinRecord{UID: keptUID, Kind: 3, Text: "20.37", Quality: 2, At: at},
			"87a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a17483a16384a16f00a16700a17300a176a0a16584a16f00a16700a17300a176a0" +
				"a16c85a16484a16f00a16700a17300a176a0a16f00a172a0a174c70c05fffffff1886e090000000000a16e00a16b03a176a532302e3337a17102a172a0a161c70c05000000006b046300075bcd15",
			72,
		},
		"bad": {
			twinRecord{UID: keptUID, Kind: 3, Text: "20.37", Reason: "the slave does not answer", At: at},
			"87a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a17483a16384a16f00a16700a17300a176a0a16584a16f00a16700a17300a176a0" +
				"a16c85a16484a16f00a16700a17300a176a0a16f00a172a0a174c70c05fffffff1886e090000000000a16e00a16b03a176a532302e3337a17100a172b974686520736c61766520646f6573206e6f7420616e73776572a161c70c05000000006b046300075bcd15",
			97,
		},
		"wanted, never read": {
			twinRecord{UID: keptUID, Twin: &twin.Property{CloudDesired: cloud}},
			"87a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a17483a16384a16f01a16707a17300a176a23432a16584a16f00a16700a17300a176a0" +
				"a16c85a16484a16f00a16700a17300a176a0a16f00a172a0a174c70c05fffffff1886e090000000000a16e00a16b00a176a0a17100a172a0a161c70c05fffffff1886e090000000000",
			67,
		},
		"written": {
			twinRecord{
				UID: keptUID, Kind: 3, Text: "20.37", Quality: 2, At: at,
				Twin: &twin.Property{CloudDesired: cloud, EdgeDesired: edge, Last: twin.Attempt{Desired: edge, Outcome: twin.Failed, Reason: "refused", At: at, Tries: 2}},
			},
			"87a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a17483a16384a16f01a16707a17300a176a23432a16584a16f02a16707a17303a176a434332e35" +
				"a16c85a16484a16f02a16707a17303a176a434332e35a16f03a172a772656675736564a174c70c05000000006b046300075bcd15a16e02a16b03a176a532302e3337a17102a172a0a161c70c05000000006b046300075bcd15",
			163,
		},
		"alarms": {
			twinRecord{UID: keptUID, Kind: 1, Text: "true", Quality: 2, At: at, Alarms: []alarm.Record{{}}},
			"88a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a17483a16384a16f00a16700a17300a176a0a16584a16f00a16700a17300a176a0" +
				"a16c85a16484a16f00a16700a17300a176a0a16f00a172a0a174c70c05fffffff1886e090000000000a16e00a16b01a176a474727565a17102a172a0a161c70c05000000006b046300075bcd15a16c9184a16ea0a16c00a173c70c05fffffff1886e090000000000a174a0",
			101,
		},
	}
}

// normal brings times to one form, and an empty twin to none.
func (r twinRecord) normal() twinRecord {
	r.At = r.At.UTC()
	if r.Twin != nil {
		c := *r.Twin
		c.Last.At = c.Last.At.UTC()
		r.Twin = &c
		if c.Empty() {
			r.Twin = nil
		}
	}
	r.Alarms = slices.Clone(r.Alarms)
	for i := range r.Alarms {
		r.Alarms[i].Since = r.Alarms[i].Since.UTC()
	}
	return r
}

// TestRecords: records of earlier agents are read as what they were; new ones are read by earlier agents, because they have no field that those do not know, and
// none of another type; and they take few bytes, since each change of a value writes one to the flash.
func TestRecords(t *testing.T) {
	for name, k := range keptRecords() {
		t.Run(name, func(t *testing.T) {
			before, err := hex.DecodeString(k.before)
			if err != nil {
				t.Fatal(err)
			}
			now, err := k.record.MarshalMsg(nil)
			if err != nil {
				t.Fatal(err)
			}
			for what, body := range map[string][]byte{"of an earlier agent": before, "of this one": now} {
				var got twinRecord
				if left, err := got.UnmarshalMsg(body); err != nil || len(left) > 0 {
					t.Fatalf("the record %s: %v, %d bytes left", what, err, len(left))
				}
				if !reflect.DeepEqual(got.normal(), k.record.normal()) {
					t.Errorf("the record %s: %+v, want %+v", what, got, k.record)
				}
			}
			if len(now) > k.most {
				t.Errorf("the record takes %d bytes, at most %d are allowed", len(now), k.most)
			}
			within(t, "record", fields(t, now), fields(t, before))
		})
	}
}

func fields(t *testing.T, body []byte) map[string]any {
	t.Helper()
	out, _, err := msgp.ReadMapStrIntfBytes(body, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// within wants of each field that it was there before, and of the same type.
func within(t *testing.T, path string, now, before map[string]any) {
	t.Helper()
	for name, v := range now {
		old, known := before[name]
		if !known {
			t.Errorf("%s.%s: earlier agents know %v", path, name, slices.Sorted(maps.Keys(before)))
			continue
		}
		if reflect.TypeOf(v) != reflect.TypeOf(old) {
			t.Errorf("%s.%s is a %T, earlier agents wrote a %T", path, name, v, old)
		}
		if m, ok := v.(map[string]any); ok {
			within(t, path+"."+name, m, old.(map[string]any))
		}
	}
}

// TestStoreOfAnEarlierAgent starts the host on the records of an earlier agent: the values come back, what was written is not written again, and the record of a
// property of which nobody wants a value is small from the next change on.
func TestStoreOfAnEarlierAgent(t *testing.T) {
	simulate(t, func(w *world) {
		const (
			uid     = "87a175d92430623666376631652d366630632d346435322d396133392d376434643961336332623131a174"
			nothing = "84a16f00a16700a17300a176a0"
			wanted  = "84a16f01a16707a17300a176a23432"
			at      = "c70c05000000006b046300075bcd15"
		)
		for name, body := range map[string]string{
			"temp": uid + "83a163" + nothing + "a165" + nothing + "a16c85a164" + nothing + "a16f00a172a0a174c70c05fffffff1886e090000000000a16e00a16b02a176a532302e3337a17102a172a0a161" + at,
			"set":  uid + "83a163" + wanted + "a165" + nothing + "a16c85a164" + wanted + "a16f01a172a0a174" + at + "a16e00a16b01a176a23432a17102a172a0a161" + at,
		} {
			var err error
			if w.records["ns/d/"+name], err = hex.DecodeString(body); err != nil {
				t.Fatal(err)
			}
		}
		w.apply(wire.KindDevice, "d", strings.Replace(deviceDoc("7", tempProp, setProp("42")), `"u1"`, `"`+keptUID+`"`, 1))
		w.fake.SetFault(devicetest.Off)
		w.start()
		if got := w.twin("temp").Reported.Value; got != "20.37" {
			t.Errorf("temp is %q before the device answers", got)
		}
		if tw := w.twin("set"); tw.Reported.Value != "42" || tw.ObservedDesired.Metadata.Outcome != "verified" {
			t.Errorf("set: %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		w.fake.SetFault(devicetest.None)
		w.fake.Set("1", "s", device.Int(42))
		w.settle(time.Minute)
		if got := w.fake.Writes("1"); len(got) != 0 {
			t.Errorf("written again: %v", got)
		}
		w.stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.records["ns/d/temp"]); n > 72 {
			t.Errorf("the record of temp takes %d bytes, at most 72 are allowed: %x", n, w.records["ns/d/temp"])
		}
	})
}
