package dmi

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry/skerry/firmware/grpcwire"
	"github.com/skerry/skerry/mappers/dmi"
)

func sample() dmi.Device {
	return dmi.Device{Namespace: "default", Name: "room", Model: "m", Protocol: "demo", Config: map[string]any{
		"s": "x", "i": int64(-1), "u": uint64(math.MaxUint64), "f": 0.5, "t": true, "n": nil, "b": []byte{1}, "l": []any{int64(1), "", false, []any{}}, "m": map[string]any{"a": map[string]any{"b": nil}},
	}, Properties: []dmi.Property{{Name: "p", Desired: "5", Visitor: map[string]any{"a": int64(1)}, CollectCycle: 100, ReportToCloud: true}}, Methods: []dmi.Method{{Name: "reset", Properties: []string{"p"}}}}
}

func TestRoundTrip(t *testing.T) {
	msg := deviceMessageOf(sample())
	want := mapperRegisterResponse{Devices: []deviceMessage{msg}, Models: []deviceModel{modelMessageOf(dmi.Model{Namespace: "default", Name: "m", Properties: []dmi.ModelProperty{{Name: "p", Type: "INT"}}})}}
	var got mapperRegisterResponse
	if err := grpcwire.Unmarshal(grpcwire.Marshal(&want), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Error(diff)
	}
}

// TestDeepConfig bounds what nested configData becomes.
func TestDeepConfig(t *testing.T) {
	var v any = "bottom"
	for range 100 {
		v = map[string]any{"a": v}
	}
	a := toAny(v)
	if len(a.Value) > 8<<10 {
		t.Errorf("%d bytes", len(a.Value))
	}
}

func TestSocketOf(t *testing.T) {
	for address, want := range map[string]string{"/run/m.sock": "/run/m.sock", "unix:///run/m.sock": "/run/m.sock"} {
		if got, err := socketOf([]byte(address)); err != nil || got != want {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
	for _, address := range []string{"", "m.sock", "/run/../m.sock", "unix://m", "/" + string(bytes.Repeat([]byte("x"), 200)), "/a\x00b", "tcp://1.2.3.4:5"} {
		if _, err := socketOf([]byte(address)); !errors.Is(err, dmi.ErrInvalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// FuzzUnmarshal decodes anything as what mappers send: no panic, and what was decoded encodes to something that decodes to the same.
func FuzzUnmarshal(f *testing.F) {
	d := deviceMessageOf(sample())
	f.Add(grpcwire.Marshal(&deviceRequest{&d}))
	f.Add(grpcwire.Marshal(&mapperRegisterRequest{true, &mapperInfo{Name: "a", Protocol: "b", Address: []byte("/c")}}))
	f.Add(grpcwire.Marshal(&reportStatusRequest{"a", &deviceStatus{[]twinMessage{{"p", &twinProperty{"1", map[string]string{"timestamp": "5"}}}}}, "b"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []grpcwire.Message{new(mapperRegisterRequest), new(reportStatusRequest), new(reportStatesRequest), new(deviceRequest), new(jsonValue)} {
			if grpcwire.Unmarshal(data, m) != nil {
				continue
			}
			if r, ok := m.(*reportStatusRequest); ok && r.Reported != nil {
				twinsOf(r.Reported.Twins)
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(grpcwire.Message)
			encoded := grpcwire.Marshal(m)
			if err := grpcwire.UnmarshalWithin(encoded, again, math.MaxInt); err != nil {
				t.Fatalf("%T: own encoding is refused: %v", m, err)
			}
			if !bytes.Equal(grpcwire.Marshal(again), encoded) {
				t.Fatalf("%T: encoding is not stable", m)
			}
		}
	})
}
