package serial

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// wire is a format in which templates write numbers, the field that reads it, and what it holds.
type wire struct {
	format, field, order string
	low, high            float64
	digits               int // of a floating point number; 0: whole numbers
}

func wires() []wire {
	var out []wire
	for _, order := range []struct{ suffix, word string }{{"be", "big"}, {"le", "little"}} {
		for _, bits := range []int{8, 16, 32, 64} {
			suffix := order.suffix
			if bits == 8 {
				suffix = ""
			}
			out = append(out, wire{fmt.Sprintf("u%d%s", bits, suffix), fmt.Sprintf("uint%d", bits), order.word, 0, math.Ldexp(1, bits) - 1, 0},
				wire{fmt.Sprintf("i%d%s", bits, suffix), fmt.Sprintf("int%d", bits), order.word, -math.Ldexp(1, bits-1), math.Ldexp(1, bits-1) - 1, 0})
		}
		out = append(out, wire{"f32" + order.suffix, "float32", order.word, -math.MaxFloat32, math.MaxFloat32, 24}, wire{"f64" + order.suffix, "float64", order.word, -1e300, 1e300, 53})
	}
	return out
}

func writable(t *testing.T, typ device.Type, visitor map[string]any) *point {
	t.Helper()
	p, err := parsePoint(device.PointConfig{Property: "p", Path: "x", Type: typ, Writable: true, Visitor: visitor})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWhatIsWrittenIsRead over all binary formats, both orders, scales: what a template writes is what the field of the same layout reads, within the resolution; what
// does not fit is refused by a message with the range of what is sent.
func TestWhatIsWrittenIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for _, w := range wires() {
		for range 250 {
			scale, add := []float64{1, 0.1, 0.01, 10, -0.5, 2.5}[r.IntN(6)], []float64{0, 0, -40, 273.15}[r.IntN(4)]
			p := writable(t, device.TypeDouble, map[string]any{"offset": 0, "type": w.field, "order": w.order, "write": "{value:" + w.format + "}", "scale": scale, "add": add})
			raw := math.Trunc(w.low + r.Float64()*(w.high-w.low))
			if w.digits > 0 {
				raw = math.Ldexp(2*r.Float64()-1, r.IntN(120))
			}
			if w.digits == 0 && math.Abs(raw) >= 1<<38 { // 15 digits are what a scaled number has
				raw = math.Trunc(math.Ldexp(raw, -26))
			}
			v := device.Float(tidy(raw*scale + add))
			data, err := p.command("0", v)
			if err != nil {
				t.Fatalf("%s × %g + %g: %s: %v", w.format, scale, add, v.Text(), err)
			}
			got, err := p.read(&message{raw: data})
			resolution := (math.Abs(v.AsFloat()) + math.Abs(add)) * 1e-14
			if w.digits == 24 {
				resolution += math.Abs(scale*raw) * 0x1p-23
			}
			if err != nil || math.Abs(got.AsFloat()-v.AsFloat()) > resolution && got.Text() != v.Text() {
				t.Fatalf("%s × %g + %g: wrote %s, which is % x, read %s (%v)", w.format, scale, add, v.Text(), data, got.Text(), err)
			}
			beyond := math.Ldexp(1+r.Float64(), 70+r.IntN(40))
			if w.digits == 24 {
				beyond = math.Ldexp(1+r.Float64(), 129+r.IntN(40))
			}
			if w.digits != 53 {
				refuses(t, p, device.Float(tidy(beyond*scale+add)), w)
				refuses(t, p, device.Float(tidy(-beyond*scale+add)), w)
			}
		}
	}
}

var sentRange = regexp.MustCompile(`number from (\S+) to (\S+)`)

func refuses(t *testing.T, p *point, v device.Value, w wire) {
	t.Helper()
	err := p.CheckValue(v)
	if err == nil {
		t.Fatalf("%s: %s is taken", w.format, v.Text())
	}
	m := sentRange.FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("%s: %s is refused, and the message has no range: %v", w.format, v.Text(), err)
	}
	for i, want := range []float64{w.low, w.high} {
		if got, perr := strconv.ParseFloat(m[i+1], 64); perr != nil || math.Abs(got-want) > math.Abs(want)*1e-7 {
			t.Fatalf("%s: the message says %s, the range is %g to %g", w.format, m[0], w.low, w.high)
		}
	}
}

// TestFieldsAndTheirOrders: every layout of a number that a visitor can describe, and all orders of its bytes: packing is the inverse of reading.
func TestFieldsAndTheirOrders(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	for name, f := range fieldWords {
		if f.kind != unsigned && f.kind != signed && f.kind != float {
			continue
		}
		for o := big; o <= badc; o++ {
			if f.order = o; f.size%2 != 0 && (o == cdab || o == badc) {
				continue // refused
			}
			for range 500 {
				frame := make([]byte, f.size)
				for i := range frame {
					frame[i] = byte(r.Uint32())
				}
				v, err := f.read(frame)
				if err != nil {
					t.Fatal(err)
				}
				if x := v.AsFloat(); f.kind == float && (math.IsNaN(x) || math.IsInf(x, 0)) {
					if _, err := f.pack(v); err == nil {
						t.Fatalf("%s: %s is written", name, v.Text())
					}
					continue
				}
				if back, err := f.pack(v); err != nil || string(back) != string(frame) {
					t.Fatalf("%s, order %d: % x is %s is % x (%v)", name, o, frame, v.Text(), back, err)
				}
			}
		}
	}
}

// TestWrittenTextIsRead: the same for numbers as text in printf's formats, with either decimal sign and base, and for texts.
func TestWrittenTextIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	for range 1000 {
		decimals := r.IntN(6)
		f := math.Ldexp(2*r.Float64()-1, r.IntN(30))
		n := int64(r.Uint64()>>1>>r.IntN(62)) * int64(1-2*r.IntN(2))
		for _, c := range []struct {
			typ     device.Type
			visitor map[string]any
			v       device.Value
			within  float64
		}{
			{device.TypeDouble, map[string]any{"write": fmt.Sprintf("{value:%%.%df}", decimals)}, device.Float(f), 0.5000001 * math.Pow10(-decimals)},
			{device.TypeDouble, map[string]any{"write": "{value}"}, device.Float(f), 0},
			{device.TypeDouble, map[string]any{"write": "{value:%015.6e}"}, device.Float(f), math.Abs(f) * 1e-6},
			{device.TypeInt, map[string]any{"write": "{value:%+08d}"}, device.Int(n), 0},
			{device.TypeInt, map[string]any{"write": "{value}"}, device.Int(n), 0},
			{device.TypeInt, map[string]any{"write": "{value:%X}", "base": 16}, device.Int(max(n, -n)), 0},
		} {
			p := writable(t, c.typ, c.visitor)
			data, err := p.command("0", c.v)
			if err != nil {
				t.Fatalf("%v: %s: %v", c.visitor, c.v.Text(), err)
			}
			got, err := p.read(&message{raw: data})
			if err == nil {
				got, err = got.Convert(c.typ)
			}
			if err != nil || c.within == 0 && got.Text() != c.v.Text() || math.Abs(got.AsFloat()-c.v.AsFloat()) > c.within {
				t.Fatalf("%v: wrote %s as %q, read %s (%v)", c.visitor, c.v.Text(), data, got.Text(), err)
			}
		}
	}
	kelvin := writable(t, device.TypeDouble, map[string]any{"write": "{value:%d}", "scale": 0.1, "add": -273.15})
	if v, err := kelvin.read(&message{raw: []byte("2731")}); err != nil || v.Text() != "-0.05" {
		t.Errorf("2731 tenths of a kelvin are %s, %v", v.Text(), err)
	} else if b, err := kelvin.command("0", v); err != nil || string(b) != "2731" {
		t.Errorf("-0.05 is sent as %q, %v", b, err)
	}
	p := writable(t, device.TypeInt, map[string]any{"write": "{value:%d}"})
	if err := p.CheckValue(device.Float(0.5)); err == nil || !strings.Contains(err.Error(), "whole number") {
		t.Errorf("0.5: %v", err)
	}
}
