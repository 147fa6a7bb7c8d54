package opcua

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// sample makes a random value for a node: as the model of type typ has it, and as an element of a JSON list ("": lists of this type have none).
type sample struct {
	node ua.TypeID
	typ  device.Type
	make func(r *rand.Rand) (v device.Value, element string)
}

// whole returns random integers of all magnitudes between low and high.
func whole(low int64, high uint64) func(r *rand.Rand) (device.Value, string) {
	return func(r *rand.Rand) (device.Value, string) {
		u := r.Uint64() >> r.IntN(64)
		v := device.Uint(u)
		if low < 0 && r.IntN(2) == 0 {
			v = device.Int(-int64(u >> 1))
		}
		switch r.IntN(10) {
		case 0:
			v = device.Int(low)
		case 1:
			v = device.Uint(high)
		}
		if device.Compare(v, device.Int(low)) < 0 || device.Compare(v, device.Uint(high)) > 0 {
			v = device.Uint(u & high)
		}
		return v, v.Text()
	}
}

func letters(r *rand.Rand) string {
	signs := []rune("abcXYZ 09\"\\{}[],°€漢\n")
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteRune(signs[r.IntN(len(signs))])
	}
	return strings.TrimSpace(b.String())
}

func words(r *rand.Rand) (device.Value, string) {
	s := letters(r)
	return device.String(s), quoted(s)
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a text always encodes
	return string(b)
}

func made(of func(r *rand.Rand) string) func(r *rand.Rand) (device.Value, string) {
	return func(r *rand.Rand) (device.Value, string) {
		s := of(r)
		return device.String(s), quoted(s)
	}
}

// moment is a time in steps of 100 ns, which is what the standard's DateTime counts.
func moment(r *rand.Rand) string {
	return time.Unix(r.Int64N(4e9), 100*r.Int64N(1e7)).UTC().Format(time.RFC3339Nano)
}

func guid(r *rand.Rand) string {
	return fmt.Sprintf("%08X-%04X-%04X-%04X-%012X", r.Uint32(), r.Uint32()>>16, r.Uint32()>>16, r.Uint32()>>16, r.Uint64()>>16)
}

// writables are all built-in types that can be written, under each type of the model that suits them.
func writables() []sample {
	out := []sample{
		{ua.TypeIDBoolean, device.TypeBoolean, func(r *rand.Rand) (device.Value, string) {
			v := device.Bool(r.IntN(2) == 0)
			return v, v.Text()
		}},
		{ua.TypeIDFloat, device.TypeFloat, func(r *rand.Rand) (device.Value, string) {
			v := device.Float32(float32(math.Ldexp(2*r.Float64()-1, r.IntN(250)-125)))
			return v, v.Text()
		}},
		{ua.TypeIDDouble, device.TypeDouble, func(r *rand.Rand) (device.Value, string) {
			v := device.Float(math.Ldexp(2*r.Float64()-1, r.IntN(2000)-1000))
			return v, v.Text()
		}},
		{ua.TypeIDString, device.TypeString, words}, {ua.TypeIDXMLElement, device.TypeString, words}, {ua.TypeIDLocalizedText, device.TypeString, words},
		{ua.TypeIDDateTime, device.TypeString, made(moment)}, {ua.TypeIDGUID, device.TypeString, made(guid)},
		{ua.TypeIDDateTime, device.TypeInt, func(r *rand.Rand) (device.Value, string) { return device.Int(r.Int64N(4e12)), "" }},
		{ua.TypeIDQualifiedName, device.TypeString, made(func(r *rand.Rand) string { return fmt.Sprintf("%d:q%d", 1+r.IntN(9), r.IntN(1e6)) })},
		{ua.TypeIDNodeID, device.TypeString, made(func(r *rand.Rand) string {
			return oneOfTexts(r, fmt.Sprintf("ns=1;i=%d", r.Uint32()), fmt.Sprintf("ns=1;s=a.b%d", r.IntN(99)), "ns=1;g="+guid(r))
		})},
		{ua.TypeIDByteString, device.TypeBytes, func(r *rand.Rand) (device.Value, string) {
			b := make([]byte, r.IntN(20))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return device.Bytes(b), ""
		}},
	}
	for _, t := range []ua.TypeID{ua.TypeIDSByte, ua.TypeIDByte, ua.TypeIDInt16, ua.TypeIDUint16, ua.TypeIDInt32, ua.TypeIDUint32, ua.TypeIDInt64, ua.TypeIDUint64} {
		low, high := bounds(t)
		out = append(out, sample{t, device.TypeInt, whole(low, high)}, sample{t, device.TypeDouble, func(r *rand.Rand) (device.Value, string) {
			v, _ := whole(max(low, -1<<53), min(high, 1<<53))(r)
			return device.Float(v.AsFloat()), ""
		}})
	}
	return out
}

func oneOfTexts(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// overTheWire is what a server that takes every write shows afterwards.
func overTheWire(t *testing.T, c *client, p *point, info *nodeInfo, v device.Value) device.Value {
	t.Helper()
	sent, err := c.variant(v, info, p)
	if err != nil {
		t.Fatalf("%s as %s: %v", v.Text(), typeName(info.typ), err)
	}
	b, err := ua.Encode(&sent)
	if err != nil {
		t.Fatalf("%s as %s: %v", v.Text(), typeName(info.typ), err)
	}
	r := uabin.NewReader(b)
	got := r.Variant()
	if r.Err() != nil || r.Len() != 0 {
		t.Fatalf("%s as %s: % x: %v, %d bytes left", v.Text(), typeName(info.typ), b, r.Err(), r.Len())
	}
	return c.value(t.Context(), p, uabin.DataValue{Value: got}, time.Now())
}

// TestWhatIsWrittenIsRead over all types that can be written, alone, as elements, as lists and as matrices: what is written comes back as it was.
func TestWhatIsWrittenIsRead(t *testing.T) {
	c, r := &client{namespaces: []string{"http://opcfoundation.org/UA/", "urn:a"}}, rand.New(rand.NewPCG(21, 22))
	for _, s := range writables() {
		for range 120 {
			v, _ := s.make(r)
			for what, p := range map[string]*point{"alone": {typ: s.typ}, "an element": {typ: s.typ, shape: unique.Make(shape{start: true, index: "3", single: true})}} {
				got := overTheWire(t, c, p, &nodeInfo{typ: s.node, array: p.extra().single}, v)
				if got.Quality != device.Good || got.Text() != v.Text() {
					t.Fatalf("%s, %s of type %s: wrote %q, read %q (%s %s)", what, typeName(s.node), s.typ, v.Text(), got.Text(), got.Quality, got.Reason)
				}
			}
			if s.typ == device.TypeBytes || s.typ == device.TypeDouble && s.node != ua.TypeIDDouble {
				continue
			}
			list(t, c, r, s)
		}
	}
}

// list writes a list or a matrix of a type.
func list(t *testing.T, c *client, r *rand.Rand, s sample) {
	t.Helper()
	rows, columns := 1+r.IntN(3), 1+r.IntN(4)
	var lines []string
	for range rows {
		var cells []string
		for range columns {
			_, e := s.make(r)
			if e == "" {
				return
			}
			cells = append(cells, e)
		}
		lines = append(lines, "["+strings.Join(cells, ",")+"]")
	}
	text := lines[0]
	if rows > 1 {
		text = "[" + strings.Join(lines, ",") + "]"
	}
	got := overTheWire(t, c, &point{typ: device.TypeString}, &nodeInfo{typ: s.node, array: true}, device.String(text))
	if got.Quality != device.Good || !sameJSON(t, got.Text(), text) {
		t.Fatalf("list of %s: wrote %s, read %s (%s %s)", typeName(s.node), text, got.Text(), got.Quality, got.Reason)
	}
}

// sameJSON compares numbers by value, and all else as it is.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	return same(decoded(t, a), decoded(t, b))
}

func decoded(t *testing.T, text string) (out any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func same(a, b any) bool {
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !same(x[i], y[i]) {
				return false
			}
		}
		return true
	case json.Number:
		y, ok := b.(json.Number)
		m, _, err1 := big.ParseFloat(x.String(), 10, 200, big.ToNearestEven)
		n, _, err2 := big.ParseFloat(y.String(), 10, 200, big.ToNearestEven)
		return ok && err1 == nil && err2 == nil && m.Cmp(n) == 0
	default:
		return a == b
	}
}

// TestWhatDoesNotFitIsRefused: a number beyond an integer type, or Float, is refused by a message with the number, the type and its range, whichever type the model has.
func TestWhatDoesNotFitIsRefused(t *testing.T) {
	c, r := &client{}, rand.New(rand.NewPCG(23, 24))
	refused := func(v device.Value, node ua.TypeID, parts ...string) {
		t.Helper()
		for _, info := range []*nodeInfo{{typ: node}, {typ: node, array: true}} {
			w := v
			if info.array {
				w = device.String("[" + v.Text() + "]")
			}
			_, err := c.variant(w, info, &point{})
			for _, part := range append(parts, typeName(node)) {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Fatalf("%s as %s: %v, want %q in it", w.Text(), typeName(node), err, part)
				}
			}
		}
	}
	for _, node := range []ua.TypeID{ua.TypeIDSByte, ua.TypeIDByte, ua.TypeIDInt16, ua.TypeIDUint16, ua.TypeIDInt32, ua.TypeIDUint32, ua.TypeIDInt64, ua.TypeIDUint64} {
		low, high := bounds(node)
		allowed := fmt.Sprintf("%d to %d", low, high)
		for range 300 {
			if n := r.Uint64() >> r.IntN(64); n > high {
				refused(device.Uint(n), node, strconv.FormatUint(n, 10), "out of range", allowed)
			}
			if n := -int64(r.Uint64() >> 1 >> r.IntN(63)); n < low {
				refused(device.Int(n), node, strconv.FormatInt(n, 10), "out of range", allowed)
			}
			if f := math.Ldexp(1+r.Float64(), 64+r.IntN(900)); node != ua.TypeIDUint64 || f >= 1<<64 {
				_, err := c.variant(device.Float(f), &nodeInfo{typ: node}, &point{})
				if err == nil || !strings.Contains(err.Error(), device.Float(f).Text()+" is out of range") || !strings.Contains(err.Error(), allowed) {
					t.Fatalf("%g as %s: %v", f, typeName(node), err)
				}
			}
		}
		refused(device.Float(0.5), node, "0.5")
	}
	for range 100 {
		f := device.Float(oneSign(r) * math.Ldexp(1+r.Float64(), 128+r.IntN(800)))
		refused(f, ua.TypeIDFloat, f.Text(), "out of range", "to 3.4028234663852886e+38")
	}
	if _, err := c.variant(device.Float(1<<63), &nodeInfo{typ: ua.TypeIDUint64}, &point{}); err != nil {
		t.Errorf("2^63 fits UInt64: %v", err)
	}
}

func oneSign(r *rand.Rand) float64 { return float64(1 - 2*r.IntN(2)) }
