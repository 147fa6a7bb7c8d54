package structure

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

func node(n uint32) *ua.NodeID { return ua.NewNumericNodeID(2, n) }
func std(n uint32) *ua.NodeID  { return ua.NewNumericNodeID(0, n) }

// fakeServer answers questions about types. Encodings are the types' numbers and 1000.
type fakeServer struct {
	defs  map[string]uabin.Extension
	super map[string]*ua.NodeID
	asked int
	down  error
}

func newServer() *fakeServer {
	return &fakeServer{defs: make(map[string]uabin.Extension), super: make(map[string]*ua.NodeID)}
}

func (s *fakeServer) Ask(_ context.Context, req ua.Request) (any, error) {
	s.asked++
	if s.down != nil {
		return nil, s.down
	}
	switch q := req.(type) {
	case *ua.BrowseRequest:
		res := &ua.BrowseResponse{}
		for _, b := range q.NodesToBrowse {
			r := &ua.BrowseResult{}
			var up *ua.NodeID
			if b.ReferenceTypeID.IntID() == id.HasEncoding && b.NodeID.IntID() > 1000 {
				up = node(b.NodeID.IntID() - 1000)
			} else if b.ReferenceTypeID.IntID() == id.HasSubtype {
				up = s.super[b.NodeID.String()]
			}
			if up != nil {
				r.References = []*ua.ReferenceDescription{{NodeID: ua.NewExpandedNodeID(up, "", 0)}}
			}
			res.Results = append(res.Results, r)
		}
		return res, nil
	case *ua.ReadRequest:
		res := &uabin.ReadResponse{}
		for _, r := range q.NodesToRead {
			v := uabin.DataValue{Status: ua.StatusBadAttributeIDInvalid}
			if x, ok := s.defs[r.NodeID.String()]; ok && r.AttributeID == ua.AttributeIDDataTypeDefinition {
				v = uabin.DataValue{Value: uabin.Variant{Type: ua.TypeIDExtensionObject, V: x}}
			}
			res.Results = append(res.Results, v)
		}
		return res, nil
	default:
		return nil, errors.New("unexpected request")
	}
}

func f(name string, t *ua.NodeID, rank int32, optional bool) *ua.StructureField {
	return &ua.StructureField{Name: name, Description: &ua.LocalizedText{}, DataType: t, ValueRank: rank, IsOptional: optional}
}

func (s *fakeServer) structure(n uint32, kind int32, base *ua.NodeID, fields ...*ua.StructureField) {
	body, err := ua.Encode(&ua.StructureDefinition{DefaultEncodingID: node(n + 1000), BaseDataType: base, StructureType: ua.StructureType(kind), Fields: fields})
	if err != nil {
		panic(err)
	}
	s.defs[node(n).String()] = uabin.Extension{Type: ua.NewExpandedNodeID(std(id.StructureDefinition_Encoding_DefaultBinary), "", 0), Encoding: 1, Body: body}
}

func (s *fakeServer) enum(n uint32, names ...string) {
	def := &ua.EnumDefinition{}
	for i, name := range names {
		def.Fields = append(def.Fields, &ua.EnumField{Value: int64(i), DisplayName: &ua.LocalizedText{}, Description: &ua.LocalizedText{}, Name: name})
	}
	body, err := ua.Encode(def)
	if err != nil {
		panic(err)
	}
	s.defs[node(n).String()] = uabin.Extension{Type: ua.NewExpandedNodeID(std(id.EnumDefinition_Encoding_DefaultBinary), "", 0), Encoding: 1, Body: body}
}

func extension(n uint32, build func(b *ua.Buffer)) uabin.Extension {
	b := ua.NewBuffer(nil)
	build(b)
	return uabin.Extension{Type: ua.NewExpandedNodeID(node(n+1000), "", 0), Encoding: ua.ExtensionObjectBinary, Body: b.Bytes()}
}

func variant(x uabin.Extension) uabin.Variant {
	return uabin.Variant{Type: ua.TypeIDExtensionObject, V: x}
}

// plant describes types of each kind.
func plant() *fakeServer {
	s := newServer()
	s.structure(1, 0, std(id.Structure), f("X", std(id.Double), -1, false), f("Y", std(id.Float), -1, false))
	s.enum(2, "Stopped", "Running")
	s.super[node(3).String()] = std(290) // Duration
	s.super[std(290).String()] = std(id.Double)
	s.structure(4, 0, std(id.Structure), f("Name", std(id.String), -1, false), f("State", node(2), -1, false), f("At", node(1), -1, false),
		f("Took", node(3), -1, false), f("Corners", node(1), 1, false), f("Grid", std(id.Int16), 2, false), f("Any", std(id.BaseDataType), -1, false),
		f("Total", std(id.UInt64), -1, false), f("Since", std(id.DateTime), -1, false), f("Raw", std(id.ByteString), -1, false), f("Sub", std(id.Structure), -1, false))
	s.structure(5, 1, std(id.Structure), f("Value", std(id.Double), -1, false), f("Unit", std(id.String), -1, true), f("Limit", std(id.Double), -1, true), f("Good", std(id.Boolean), -1, false))
	s.structure(6, 2, std(id.Union), f("Number", std(id.Double), -1, false), f("Text", std(id.String), -1, false))
	s.structure(7, 0, node(1), f("Z", std(id.Byte), -1, false))                                                                      // its own fields only
	s.structure(8, 0, node(1), f("X", std(id.Double), -1, false), f("Y", std(id.Float), -1, false), f("Z", std(id.Byte), -1, false)) // all fields
	s.structure(9, 0, std(id.Structure), f("Next", node(9), 1, false))                                                               // a tree
	s.structure(10, 3, std(id.Structure), f("One", node(1), -1, true), f("Two", node(1), -1, false))                                 // with subtypes
	s.structure(11, 0, std(id.Structure), f("Gone", node(99), -1, false))                                                            // a field of an unknown type
	s.structure(20, 0, std(id.Structure))                                                                                            // nothing
	for n := uint32(21); n < 60; n++ {
		s.structure(n, 0, std(id.Structure), f("A", node(n-1), -1, false), f("B", node(n-1), -1, false)) // twice as much each
	}
	return s
}

func learn(t testing.TB, s *fakeServer, n ...uint32) *Dictionary {
	t.Helper()
	d := New(s)
	for _, n := range n {
		if err := d.Learn(t.Context(), node(n+1000)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func point(b *ua.Buffer, x float64, y float32) {
	b.WriteFloat64(x)
	b.WriteFloat32(y)
}

func TestStructures(t *testing.T) {
	s := plant()
	inner := extension(1, func(b *ua.Buffer) { point(b, 8, 9) })
	for _, c := range []struct {
		name string
		x    uabin.Extension
		want string
	}{
		{"nested", extension(4, func(b *ua.Buffer) {
			b.WriteString("P1")
			b.WriteInt32(1)
			point(b, 1, 0.1)
			b.WriteFloat64(12.5)
			b.WriteInt32(2)
			point(b, 2, 0)
			point(b, math.NaN(), 0)
			b.WriteInt32(2) // dimensions
			b.WriteInt32(2)
			b.WriteInt32(1)
			b.WriteInt16(-1)
			b.WriteInt16(-2)
			b.WriteByte(byte(ua.TypeIDInt32))
			b.WriteInt32(7)
			b.WriteUint64(math.MaxUint64)
			b.WriteTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
			b.WriteByteString([]byte("abc"))
			b.WriteStruct(inner.Type)
			b.WriteByte(1)
			b.WriteByteString(inner.Body)
		}), `{"Name":"P1","State":"Running_1","At":{"X":1,"Y":0.1},"Took":12.5,"Corners":[{"X":2,"Y":0},{"X":null,"Y":0}],"Grid":[[-1],[-2]],"Any":7,` +
			`"Total":18446744073709551615,"Since":"2026-03-01T12:00:00Z","Raw":"YWJj","Sub":{"X":8,"Y":9}}`},
		{"optional, some", extension(5, func(b *ua.Buffer) {
			b.WriteUint32(2)
			b.WriteFloat64(1)
			b.WriteFloat64(6)
			b.WriteBool(true)
		}), `{"Value":1,"Limit":6,"Good":true}`},
		{"optional, none", extension(5, func(b *ua.Buffer) {
			b.WriteUint32(0)
			b.WriteFloat64(1)
			b.WriteBool(false)
		}), `{"Value":1,"Good":false}`},
		{"union", extension(6, func(b *ua.Buffer) {
			b.WriteUint32(2)
			b.WriteString("auto")
		}), `{"Text":"auto"}`},
		{"union of nothing", extension(6, func(b *ua.Buffer) { b.WriteUint32(0) }), `{}`},
		{"inherits, own fields described", extension(7, func(b *ua.Buffer) {
			point(b, 1, 2)
			b.WriteByte(3)
		}), `{"X":1,"Y":2,"Z":3}`},
		{"inherits, all fields described", extension(8, func(b *ua.Buffer) {
			point(b, 1, 2)
			b.WriteByte(3)
		}), `{"X":1,"Y":2,"Z":3}`},
		{"tree", extension(9, func(b *ua.Buffer) {
			b.WriteInt32(2)
			b.WriteInt32(0)
			b.WriteInt32(1)
			b.WriteInt32(-1)
		}), `{"Next":[{"Next":[]},{"Next":[{"Next":[]}]}]}`},
		{"subtypes", extension(10, func(b *ua.Buffer) {
			b.WriteStruct(inner.Type)
			b.WriteByte(1)
			b.WriteByteString(inner.Body)
			point(b, 1, 2)
		}), `{"One":{"X":8,"Y":9},"Two":{"X":1,"Y":2}}`},
		{"no body", uabin.Extension{Type: ua.NewExpandedNodeID(std(0), "", 0)}, `null`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := learn(t, s, c.x.Type.NodeID.IntID()-1000, 1)
			got, err := d.Append([]byte("="), variant(c.x))
			if err != nil || string(got) != "="+c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
		})
	}
}

// TestNotDecodable: what cannot be decoded keeps its bytes and says why.
func TestNotDecodable(t *testing.T) {
	s := plant()
	short := extension(1, func(b *ua.Buffer) { b.WriteFloat64(1) })
	long := extension(1, func(b *ua.Buffer) { point(b, 1, 2); b.WriteByte(0) })
	xml := uabin.Extension{Type: short.Type, Encoding: ua.ExtensionObjectXML, Body: []byte("<a/>")}
	deep := extension(9, func(b *ua.Buffer) {
		for range 100 {
			b.WriteInt32(1)
		}
		b.WriteInt32(0)
	})
	d := learn(t, s, 1, 4, 6, 9, 11, 98)
	for _, c := range []struct {
		name, reason string
		x            uabin.Extension
	}{
		{"too short", "truncated", short},
		{"too long", "left over", long},
		{"in XML", "XML", xml},
		{"not described", "DataTypeDefinition", extension(98, func(b *ua.Buffer) { b.WriteByte(1) })},
		{"a field that is not described", "DataTypeDefinition", extension(11, func(b *ua.Buffer) { b.WriteByte(1) })},
		{"no such field of a union", "no field 3", extension(6, func(b *ua.Buffer) { b.WriteUint32(3) })},
		{"too deep", "levels", deep},
		{"not learnt", "not been learnt", extension(5, func(b *ua.Buffer) { b.WriteByte(1) })},
		{"an array longer than its bytes", "truncated", extension(9, func(b *ua.Buffer) { b.WriteInt32(math.MaxInt32) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.Append(nil, variant(c.x))
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("reason %v, want %q", err, c.reason)
			}
			var out struct {
				TypeID, Reason string
				Body           []byte
			}
			if jerr := json.Unmarshal(got, &out); jerr != nil || string(out.Body) != string(c.x.Body) || out.TypeID != c.x.Type.NodeID.String() || out.Reason != err.Error() {
				t.Errorf("%s: %v", got, jerr)
			}
		})
	}
	// Within an array the others are still decoded.
	list := uabin.Variant{Type: ua.TypeIDExtensionObject, Array: true, V: []uabin.Extension{short, extension(1, func(b *ua.Buffer) { point(b, 1, 2) })}}
	if got, err := d.Append(nil, list); err == nil || !strings.HasSuffix(string(got), `,{"X":1,"Y":2}]`) {
		t.Errorf("%s %v", got, err)
	}
}

// TestLimits: what takes no bytes on the wire takes no time and memory without end.
func TestLimits(t *testing.T) {
	s := plant()
	d := learn(t, s, 49, 20)
	if got, err := d.Append(nil, variant(extension(49, func(*ua.Buffer) {}))); !errors.Is(err, errTooMuch) && !errors.Is(err, errTooLong) || len(got) != 0 {
		t.Errorf("2^29 empty structures: %d bytes, %v", len(got), err)
	}
	big := uabin.Variant{Type: ua.TypeIDString, V: strings.Repeat("x", maxText+1)}
	if got, err := d.Append(nil, big); !errors.Is(err, errTooLong) || len(got) != 0 {
		t.Errorf("a long text: %d bytes, %v", len(got), err)
	}
	many := newServer()
	fields := make([]*ua.StructureField, 0, 500)
	for n := range uint32(500) {
		fields = append(fields, f("F", node(2000+n), -1, false))
		sub := make([]*ua.StructureField, 0, 100)
		for k := range uint32(100) {
			sub = append(sub, f("F", node(10000+n*100+k), -1, false))
		}
		many.structure(2000+n, 0, std(id.Structure), sub...)
	}
	many.structure(1, 0, std(id.Structure), fields...)
	d = learn(t, many, 1)
	if d.mu.RLock(); len(d.types)+len(d.failed) > 2*maxTypes {
		t.Errorf("%d types and %d failures are kept", len(d.types), len(d.failed))
	}
	d.mu.RUnlock()
	if many.asked > 200 {
		t.Errorf("%d requests", many.asked)
	}
	tooMany := newServer()
	tooMany.structure(1, 0, std(id.Structure), append(fields, fields...)...)
	d = learn(t, tooMany, 1)
	if _, err := d.Append(nil, variant(extension(1, func(*ua.Buffer) {}))); err == nil || !strings.Contains(err.Error(), "fields") {
		t.Errorf("1000 fields: %v", err)
	}
}

func TestLearnOnce(t *testing.T) {
	s := plant()
	d := learn(t, s, 4)
	asked := s.asked
	for range 3 {
		if err := d.Learn(t.Context(), node(1004), node(1004), nil); err != nil {
			t.Fatal(err)
		}
	}
	if s.asked != asked || !d.Knows(node(1004)) || d.Knows(node(1005)) {
		t.Errorf("%d requests more", s.asked-asked)
	}
	s.down = errors.New("no connection")
	if err := d.Learn(t.Context(), node(1005)); !errors.Is(err, s.down) || d.Knows(node(1005)) {
		t.Errorf("without a connection: %v", err)
	}
	s.down = nil
	if err := d.Learn(t.Context(), node(1005)); err != nil || !d.Knows(node(1005)) {
		t.Errorf("with it again: %v", err)
	}
}

// TestMissing: what turns up within a structure can be learnt and tried again.
func TestMissing(t *testing.T) {
	d := learn(t, plant(), 10)
	inner := extension(1, func(b *ua.Buffer) { point(b, 8, 9) })
	x := variant(extension(10, func(b *ua.Buffer) {
		b.WriteStruct(inner.Type)
		b.WriteByte(1)
		b.WriteByteString(inner.Body)
		point(b, 1, 2)
	}))
	_, err := d.Append(nil, x)
	var missing *MissingError
	if !errors.As(err, &missing) || len(missing.Encodings) != 1 || missing.Encodings[0].IntID() != 1001 {
		t.Fatalf("%v", err)
	}
	if err := d.Learn(t.Context(), missing.Encodings...); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Append(nil, x); err != nil || string(got) != `{"One":{"X":8,"Y":9},"Two":{"X":1,"Y":2}}` {
		t.Errorf("%s %v", got, err)
	}
}

func TestBuiltinValues(t *testing.T) {
	d := New(newServer())
	for _, c := range []struct {
		v    uabin.Variant
		want string
	}{
		{uabin.Variant{}, `null`},
		{uabin.Variant{Type: ua.TypeIDInt64, V: int64(math.MinInt64)}, `-9223372036854775808`},
		{uabin.Variant{Type: ua.TypeIDFloat, V: float32(0.1)}, `0.1`},
		{uabin.Variant{Type: ua.TypeIDDouble, V: math.Inf(-1)}, `null`},
		{uabin.Variant{Type: ua.TypeIDDouble, V: 1e300}, `1e+300`},
		{uabin.Variant{Type: ua.TypeIDString, V: "a\"\n<ü"}, `"a\"\n\u003cü"`},
		{uabin.Variant{Type: ua.TypeIDByte, Array: true, V: []uint8{1, 255}}, `[1,255]`},
		{uabin.Variant{Type: ua.TypeIDInt32, Array: true, V: []int32{1, 2, 3, 4, 5, 6}, Dims: []int32{2, 3}}, `[[1,2,3],[4,5,6]]`},
		{uabin.Variant{Type: ua.TypeIDDateTime, V: time.Time{}}, `""`},
		{uabin.Variant{Type: ua.TypeIDLocalizedText, V: &ua.LocalizedText{Text: "Pumpe"}}, `"Pumpe"`},
		{uabin.Variant{Type: ua.TypeIDStatusCode, V: ua.StatusBad}, `2147483648`},
		{uabin.Variant{Type: ua.TypeIDNodeID, V: node(5)}, `"ns=2;i=5"`},
		{uabin.Variant{Type: ua.TypeIDVariant, Array: true, V: []uabin.Variant{{Type: ua.TypeIDBoolean, V: true}, {}}}, `[true,null]`},
	} {
		if got, err := d.Append(nil, c.v); err != nil || string(got) != c.want || !json.Valid(got) {
			t.Errorf("%v: %s %v, want %s", c.v, got, err, c.want)
		}
	}
}

// FuzzStructure has a server that describes a type with bytes of an attacker, and sends a value of it.
func FuzzStructure(f *testing.F) {
	s := plant()
	for n := uint32(1); n < 12; n++ {
		if x, ok := s.defs[node(n).String()]; ok {
			f.Add(x.Body, n == 2, extension(4, func(b *ua.Buffer) { b.WriteString("P1"); b.WriteInt32(1); point(b, 1, 2) }).Body)
		}
	}
	f.Fuzz(func(t *testing.T, def []byte, enum bool, body []byte) {
		s := plant()
		kind := uint32(id.StructureDefinition_Encoding_DefaultBinary)
		if enum {
			kind = id.EnumDefinition_Encoding_DefaultBinary
		}
		s.defs[node(4).String()] = uabin.Extension{Type: ua.NewExpandedNodeID(std(kind), "", 0), Encoding: 1, Body: def}
		d := learn(t, s, 4, 1)
		x := uabin.Extension{Type: ua.NewExpandedNodeID(node(1004), "", 0), Encoding: 1, Body: body}
		got, err := d.Append(nil, variant(x))
		if len(got) > 0 && !json.Valid(got) {
			t.Errorf("not JSON: %q (%v)", got, err)
		}
		if len(got) > 2*maxText+1024 {
			t.Errorf("%d bytes of text", len(got))
		}
	})
}
