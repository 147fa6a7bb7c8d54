//go:build integration

package opcua

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// written is a value to write, and what node-opcua must hold then, as JSON.
type written struct {
	node  string
	value device.Value
	held  string
}

// testWrites: what is written is what node-opcua holds, for every type that can be written.
func testWrites(t *testing.T, p *opcuapeer.Peer, d *opcua.Driver, s device.Session) {
	cases := []written{
		{"Boolean", device.Bool(false), `false`},
		{"Float", device.Float32(-0.1), `-0.10000000149011612`},
		{"Double", device.Float(1e300), `1e+300`},
		{"String", device.String("Grüße\n"), `"Grüße\n"`},
		{"String", device.String(""), `""`},
		{"DateTime", device.String("2026-11-23T11:00:00.125Z"), `1795431600125`},
		{"Guid", device.String("00112233-4455-6677-8899-AABBCCDDEEFF"), `"00112233-4455-6677-8899-AABBCCDDEEFF"`},
		{"ByteString", device.Bytes([]byte{0, 255, 1}), `"AP8B"`},
		{"Any", device.Float(2.5), `2.5`},
	}
	for node, limits := range map[string][2]device.Value{
		"SByte": {device.Int(-128), device.Int(127)}, "Byte": {device.Int(0), device.Int(255)},
		"Int16": {device.Int(-1 << 15), device.Int(1<<15 - 1)}, "UInt16": {device.Int(0), device.Int(1<<16 - 1)},
		"Int32": {device.Int(-1 << 31), device.Int(1<<31 - 1)}, "UInt32": {device.Int(0), device.Int(1<<32 - 1)},
		"Int64": {device.Int(-1 << 63), device.Int(1<<63 - 1)}, "UInt64": {device.Int(0), device.Uint(1<<64 - 1)},
	} {
		for _, v := range limits {
			held := v.Text()
			if strings.HasSuffix(node, "64") {
				held = `"` + held + `"`
			}
			cases = append(cases, written{node, v, held})
		}
	}
	types := map[device.Kind]device.Type{device.KindBool: device.TypeBoolean, device.KindInt: device.TypeInt, device.KindUint: device.TypeInt, device.KindFloat: device.TypeDouble,
		device.KindString: device.TypeString, device.KindBytes: device.TypeBytes}
	for _, c := range cases {
		typ := types[c.value.Kind()]
		if c.node == "Float" {
			typ = device.TypeFloat
		}
		pt := devicetest.Compile(t, d, point(c.node, typ))
		res := s.Write(t.Context(), []device.Write{{Point: pt[0], Value: c.value}})[0]
		held, err := p.Get(t.Context(), c.node)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		dec := json.NewDecoder(strings.NewReader(c.held))
		dec.UseNumber()
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if res.Err != nil || !res.Verified || fmt.Sprint(held.Value) != fmt.Sprint(want) {
			t.Errorf("%s: wrote %s: %v, verified %v; it holds %v, want %v", c.node, c.value.Text(), res.Err, res.Verified, held.Value, want)
		}
	}
	for _, c := range []written{
		{node: "Byte", value: device.Int(256)}, {node: "UInt32", value: device.Int(-1)}, {node: "SByte", value: device.Int(128)},
		{node: "ReadOnly", value: device.Int(1)}, {node: "Forbidden", value: device.Int(1)}, {node: "Nowhere", value: device.Int(1)},
	} {
		pt := devicetest.Compile(t, d, point(c.node, device.TypeInt))
		if res := s.Write(t.Context(), []device.Write{{Point: pt[0], Value: c.value}})[0]; res.Err == nil {
			t.Errorf("%s: %s was accepted", c.node, c.value.Text())
		}
	}
}

// testReads reads every type, array, matrix, range and structure.
func testReads(t *testing.T, d *opcua.Driver, s device.Session) {
	nsu := "nsu=" + opcuapeer.Namespace
	for _, c := range []struct {
		p    device.PointConfig
		want string
	}{
		{point("ExpandedNodeId", device.TypeString), "i=85"},
		{point("LocalizedText", device.TypeString), "Pumpe"},
		{point("QualifiedName", device.TypeString), "1:q"},
		{point("XmlElement", device.TypeString), "<a>b</a>"},
		{point("NodeId", device.TypeString), "ns=1;s=target"},
		{point("StatusCode", device.TypeInt), "2156724224"},
		{point("Int32Array", device.TypeString), "[-320000,-320000,-320000]"},
		{point("Int64Array", device.TypeString), "[-9007199254740993,-9007199254740993,-9007199254740993]"},
		{point("UInt64Array", device.TypeString), "[18446744073709551615,18446744073709551615,18446744073709551615]"},
		{point("StringArray", device.TypeString), `["pump","pump","pump"]`},
		{point("BooleanArray", device.TypeString), `[true,true,true]`},
		{point("ByteStringArray", device.TypeString), `["AQL+","AQL+","AQL+"]`},
		{point("LocalizedTextArray", device.TypeString), `["Pumpe","Pumpe","Pumpe"]`},
		{point("DoubleMatrix", device.TypeString), `[[1,2,3],[4,5,6]]`},
		{point("Ten", device.TypeInt, "indexRange", "4"), "4"},
		{point("Ten", device.TypeString, "indexRange", "2:4"), "[2,3,4]"},
		{point("Number", device.TypeInt), "1"},
		{point("N2000", device.TypeDouble), "2000"},
		{point("Point", device.TypeString), `{"X":1,"Y":1.5,"Z":-1}`},
		{point("Points", device.TypeString), `[{"X":1,"Y":1.5,"Z":-1},{"X":2,"Y":2.5,"Z":-2}]`},
		{point("Pump", device.TypeString), `{"Name":"P1","State":"Running_1","Position":{"X":3,"Y":3.5,"Z":-3},"Speeds":[1.5,2.5],"Corners":[{"X":4,"Y":4.5,"Z":-4},{"X":5,"Y":5.5,"Z":-5}],` +
			`"Since":"2026-03-01T12:00:00Z","Serial":"YWJj","Starts":9007199254740993}`},
		{point("ReadingFull", device.TypeString), `{"Value":2.5,"Unit":"bar","Limit":6,"Good":true}`},
		{point("ReadingBare", device.TypeString), `{"Value":2.5,"Good":false}`},
		{point("SettingNumber", device.TypeString), `{"Number":4.5}`},
		{point("SettingText", device.TypeString), `{"Text":"auto"}`},
		{point("State", device.TypeInt), "2"},
		{point("N7", device.TypeDouble, "nodeID", "i=85", "browsePath", "/{"+opcuapeer.Namespace+"}Test/{"+opcuapeer.Namespace+"}Many/{"+opcuapeer.Namespace+"}N7"), "7"},
		{point("BuildInfo", device.TypeString, "nodeID", "i=2261"), "NodeOPCUA-Server"},
		{point("same as URI", device.TypeDouble, "nodeID", nsu+";s=N8"), "8"},
	} {
		values := read(t, s, devicetest.Compile(t, d, c.p))
		if v := values[0]; v.Quality != device.Good || v.Text() != c.want {
			t.Errorf("%s %v: %s %q (%s), want %q", c.p.Property, c.p.Visitor, v.Quality, v.Text(), v.Reason, c.want)
		} else if v.Server.IsZero() || v.Source.IsZero() {
			t.Errorf("%s: timestamps %v %v", c.p.Property, v.Server, v.Source)
		}
	}
	for node, reason := range map[string]string{"Nowhere": "NodeIdUnknown", "Forbidden": "AccessDenied"} {
		v := read(t, s, devicetest.Compile(t, d, point(node, device.TypeInt)))[0]
		if v.Quality != device.Bad || !strings.Contains(strings.ReplaceAll(v.Reason, " ", ""), reason) && v.Reason == "" {
			t.Errorf("%s: %s %q", node, v.Quality, v.Reason)
		}
	}
}

// testLimits reads 2,001 nodes and writes 120 from a server that takes 300 and 50 in a request.
func testLimits(t *testing.T, p *opcuapeer.Peer, d *opcua.Driver, s device.Session) {
	cfgs := make([]device.PointConfig, 2001)
	for i := range cfgs {
		cfgs[i] = point(fmt.Sprintf("N%d", i), device.TypeDouble)
	}
	points := devicetest.Compile(t, d, cfgs...)
	before, err := p.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range read(t, s, points) {
		if v.Quality != device.Good || v.Text() != fmt.Sprint(i) {
			t.Fatalf("N%d: %s %q (%s)", i, v.Quality, v.Text(), v.Reason)
		}
	}
	after, err := p.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Requests - before.Requests; n > 12 {
		t.Errorf("2,001 nodes took %d requests; 7 are enough", n)
	}
	writes := make([]device.Write, 120)
	for i := range writes {
		writes[i] = device.Write{Point: points[i], Value: device.Float(float64(-i))}
	}
	for i, r := range s.Write(t.Context(), writes) {
		if r.Err != nil || !r.Verified {
			t.Fatalf("write N%d: %+v", i, r)
		}
	}
	if h, err := p.Get(t.Context(), "N119"); err != nil || h.Value != json.Number("-119") {
		t.Errorf("N119 holds %v (%v)", h.Value, err)
	}
}

// testBrowse lists the server as skerryctl does, and reads what it found.
func testBrowse(t *testing.T, d *opcua.Driver, s device.Session) {
	b, ok := s.(device.Browser)
	if !ok {
		t.Fatal("sessions do not browse")
	}
	test := "nsu=" + opcuapeer.Namespace + ";s=Test"
	find := func(node, name string) device.BrowseEntry {
		entries, err := b.Browse(t.Context(), node, 5000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name == name {
				return e
			}
		}
		t.Fatalf("%s has no %s among %d", node, name, len(entries))
		return device.BrowseEntry{}
	}
	if e := find("", "Test"); e.Node != test || e.Visitor != nil {
		t.Errorf("%+v", e)
	}
	types := find(test, "Types").Node
	for name, want := range map[string]device.Type{"Int32": device.TypeInt, "Float": device.TypeFloat, "Double": device.TypeDouble, "Boolean": device.TypeBoolean, "ByteString": device.TypeBytes,
		"Int32Array": device.TypeString, "DateTime": device.TypeString, "ReadOnly": device.TypeInt} {
		if e := find(types, name); e.Type != want || e.Writable != (name != "ReadOnly") {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	if e := find(find(test, "Structures").Node, "State"); e.Type != device.TypeInt {
		t.Errorf("an enumeration: %+v", e)
	}
	if e := find(find(test, "Machine").Node, "Multiply"); e.Visitor["methodID"] != "nsu="+opcuapeer.Namespace+";s=Multiply" {
		t.Errorf("a method: %+v", e)
	}
	many, err := b.Browse(t.Context(), find(test, "Many").Node, 5000)
	if err != nil || len(many) != 2001 {
		t.Fatalf("%d of 2,001 nodes (%v)", len(many), err)
	}
	if few, err := b.Browse(t.Context(), find(test, "Many").Node, 10); err != nil || len(few) != 10 {
		t.Errorf("%d of 10 nodes (%v)", len(few), err)
	}
	testWhole(t, d, s, b)
}

// testWhole reads every variable of the address space for conformance tests by what browsing says of it.
func testWhole(t *testing.T, d *opcua.Driver, s device.Session, b device.Browser) {
	seen := make(map[string]bool)
	var cfgs []device.PointConfig
	var walk func(node string, depth int)
	walk = func(node string, depth int) {
		if seen[node] || depth > 8 {
			return
		}
		seen[node] = true
		entries, err := b.Browse(t.Context(), node, 2000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch {
			case e.Visitor == nil:
				walk(e.Node, depth+1)
			case e.Visitor["methodID"] == nil && !seen[e.Node]:
				seen[e.Node] = true
				cfgs = append(cfgs, device.PointConfig{Property: e.Name, Path: "v", Type: e.Type, Visitor: e.Visitor})
			}
		}
	}
	walk("nsu=urn://node-opcua-simulator;s=SimulationFolder", 0)
	points := devicetest.Compile(t, d, cfgs...)
	bad := make(map[string]int)
	for i, pt := range points {
		if strings.HasSuffix(cfgs[i].Property, "ArrayAnalogDataItem") {
			continue // arrays that the package declares to be scalars
		}
		v := read(t, s, []device.Point{pt})[0]
		if v.Quality != device.Good {
			bad[v.Reason]++
		}
		for _, mine := range []string{"cannot be shown", "not decoded", "truncated", "cannot be read"} {
			if strings.Contains(v.Reason, mine) {
				t.Errorf("%s: %s", cfgs[i].Property, v.Reason)
			}
		}
	}
	t.Logf("the address space for conformance tests: %d variables; not good: %v", len(points), bad)
	if len(points) < 200 {
		t.Errorf("only %d variables were found", len(points))
	}
}
