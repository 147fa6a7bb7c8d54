package opcua

import (
	"reflect"
	"strings"
	"testing"
	"unique"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

func TestTypedWrites(t *testing.T) {
	c := &client{}
	for _, tc := range []struct {
		v    device.Value
		info nodeInfo
		p    point
		want any
		err  string // part of it
	}{
		{v: device.Int(127), info: nodeInfo{typ: ua.TypeIDSByte}, want: int8(127)},
		{v: device.Int(128), info: nodeInfo{typ: ua.TypeIDSByte}, err: "128 is out of range: the node is of type SByte, -128 to 127"},
		{v: device.Int(-1), info: nodeInfo{typ: ua.TypeIDUint64}, err: "-1 is out of range"},
		{v: device.Uint(1<<64 - 1), info: nodeInfo{typ: ua.TypeIDUint64}, want: uint64(1<<64 - 1)},
		{v: device.Uint(1<<64 - 1), info: nodeInfo{typ: ua.TypeIDInt64}, err: "out of range"},
		{v: device.Float(21), info: nodeInfo{typ: ua.TypeIDInt16}, want: int16(21)},
		{v: device.Float(21.5), info: nodeInfo{typ: ua.TypeIDInt16}, err: "21.5 is not a whole number"},
		{v: device.String("0x1F"), info: nodeInfo{typ: ua.TypeIDByte}, want: uint8(31)},
		{v: device.Float(1e300), info: nodeInfo{typ: ua.TypeIDFloat}, err: "out of range"},
		{v: device.Int(3), info: nodeInfo{typ: ua.TypeIDDouble}, want: 3.0},
		{v: device.Bool(true), info: nodeInfo{typ: ua.TypeIDInt32}, want: int32(1)},
		{v: device.Int(1), info: nodeInfo{typ: ua.TypeIDBoolean}, want: true},
		{v: device.String("perhaps"), info: nodeInfo{typ: ua.TypeIDBoolean}, err: "perhaps"},
		{v: device.String("yesterday"), info: nodeInfo{typ: ua.TypeIDDateTime}, err: "yesterday"},
		{v: device.String("x"), info: nodeInfo{typ: ua.TypeIDGUID}, err: "not a GUID"},
		{v: device.String("x"), info: nodeInfo{typ: ua.TypeIDExtensionObject}, err: "structure cannot be written"},
		{v: device.String("[1, 2, 3]"), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, want: []int16{1, 2, 3}},
		{v: device.String("[[1, 2], [3, 4]]"), info: nodeInfo{typ: ua.TypeIDDouble, array: true}, want: []float64{1, 2, 3, 4}},
		{v: device.String("[]"), info: nodeInfo{typ: ua.TypeIDUint16, array: true}, want: []uint16{}},
		{v: device.String("[1, 70000]"), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, err: "70000 is out of range"},
		{v: device.String("[[1], [2, 3]]"), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, err: "not equally long"},
		{v: device.String("[1, [2]]"), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, err: "side by side"},
		{v: device.Int(5), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, err: "not a list"},
		{v: device.Int(5), info: nodeInfo{typ: ua.TypeIDInt16, array: true}, p: point{shape: unique.Make(shape{start: true, index: "2", single: true})}, want: []int16{5}},
		{v: device.Bytes([]byte{1, 2}), info: nodeInfo{typ: ua.TypeIDByte, array: true}, want: []byte{1, 2}},
		{v: device.String(`["a", ""]`), info: nodeInfo{typ: ua.TypeIDString, array: true}, want: []string{"a", ""}},
	} {
		got, err := c.variant(tc.v, &tc.info, &tc.p)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s as %s: error %v, want %q", tc.v.Text(), typeName(tc.info.typ), err, tc.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got.V, tc.want) {
			t.Errorf("%s as %s: %#v, %v", tc.v.Text(), typeName(tc.info.typ), got.V, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	spaces := []string{"http://opcfoundation.org/UA/", "urn:a", "urn:b;c%"}
	for text, want := range map[string]string{
		"i=85": "i=85", "ns=2;s=A;B=C": "ns=2;s=A;B=C", "nsu=urn:a;i=7": "ns=1;i=7", "nsu=urn:b%3Bc%25;s=x": "ns=2;s=x",
		"ns=3;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63": "ns=3;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63", "ns=1;b=AQID": "ns=1;b=AQID",
	} {
		a, err := parseAddress(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if id, err := a.resolve(spaces); err != nil || id.String() != want {
			t.Errorf("%s: %v, %v", text, id, err)
		}
	}
	a, err := parseAddress("nsu=urn:other;i=1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.resolve(spaces); err == nil || !strings.Contains(err.Error(), "urn:other") {
		t.Errorf("an unknown namespace: %v", err)
	}
}

func TestPaths(t *testing.T) {
	const text = "/Objects/2:Boiler.{urn:a/b.c}Drum&/1/Level&:x"
	steps, err := parsePath(text)
	want := []pathStep{{reference: hierarchical, name: "Objects"}, {reference: hierarchical, ns: 2, name: "Boiler"}, {reference: aggregates, uri: "urn:a/b.c", name: "Drum/1"}, {reference: hierarchical, name: "Level:x"}}
	if err != nil || !reflect.DeepEqual(steps, want) || !startsAtRoot(text) {
		t.Errorf("%+v, %v", steps, err)
	}
}

// TestSamplingOverDefaults: what a visitor says stands over what the device says, field by field.
func TestSamplingOverDefaults(t *testing.T) {
	cfg, err := parseConfig(device.Config{Protocol: map[string]any{"url": "opc.tcp://h", "queueSize": 5, "deadband": "2%", "publishingInterval": 200}})
	if err != nil {
		t.Fatal(err)
	}
	s := session{config: cfg}
	p, err := compile(device.PointConfig{Type: device.TypeInt, Visitor: map[string]any{"nodeID": "i=1", "deadband": 3, "samplingInterval": 50, "trigger": "Status"}})
	if err != nil {
		t.Fatal(err)
	}
	if h := s.sampling(p); h.queue != 5 || h.deadband != 3 || h.percent || h.publishing.Milliseconds() != 200 || h.sampling.Milliseconds() != 50 || h.trigger != ua.DataChangeTriggerStatus || !h.oldest {
		t.Errorf("%+v", h)
	}
	if p, err = compile(device.PointConfig{Type: device.TypeInt, Visitor: map[string]any{"nodeID": "i=1"}}); err != nil {
		t.Fatal(err)
	}
	if h := s.sampling(p); h.queue != 5 || h.deadband != 2 || !h.percent || h.sampling != h.publishing {
		t.Errorf("%+v", h)
	}
}

func TestStatusNames(t *testing.T) {
	if got := statusText(ua.StatusBadNodeIDUnknown); !strings.HasPrefix(got, "BadNodeIdUnknown: ") {
		t.Error(got)
	}
	if got := statusText(0x80ff0000); got != "status 0x80FF0000" {
		t.Error(got)
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("nsu=urn:b%3Bc;s=x", "/2:A.{u}B", "1:2,3")
	f.Fuzz(func(_ *testing.T, a, p, r string) {
		if addr, err := parseAddress(a); err == nil {
			_, _ = addr.resolve([]string{"", "urn:b;c"})
		}
		_, _ = relative(p, []string{"u"})
		_, _ = parseRange(r)
	})
}
