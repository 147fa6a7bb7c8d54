package modbus

import (
	"bytes"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// grid is what numbers a type's registers can hold, by the type's name and not by the code that is tested: from low to high in steps, or as floating point
// numbers with so many binary digits.
type grid struct {
	low, high, step float64
	digits          int // of a floating point number; 0: it is not one
	least           float64
	registers       int
}

var grids = map[string]grid{
	"int16": {-32768, 32767, 1, 0, 0, 1}, "uint16": {0, 65535, 1, 0, 0, 1}, "int8-high": {-128, 127, 1, 0, 0, 1}, "int8-low": {-128, 127, 1, 0, 0, 1},
	"uint8-high": {0, 255, 1, 0, 0, 1}, "uint8-low": {0, 255, 1, 0, 0, 1}, "int32": {-1 << 31, 1<<31 - 1, 1, 0, 0, 2}, "uint32": {0, 1<<32 - 1, 1, 0, 0, 2},
	"int64": {-1 << 63, 1 << 63, 1, 0, 0, 4}, "uint64": {0, 1 << 64, 1, 0, 0, 4}, "bcd16": {0, 9999, 1, 0, 0, 1}, "bcd32": {0, 99999999, 1, 0, 0, 2},
	"bcd64": {0, 1e16 - 1, 1, 0, 0, 4}, "fixed16": {-128, 128 - 1.0/256, 1.0 / 256, 0, 0, 1}, "ufixed32": {0, 65536 - 1.0/65536, 1.0 / 65536, 0, 0, 2},
	"float16": {-65504, 65504, 0, 11, 0x1p-24, 1}, "float32": {-math.MaxFloat32, math.MaxFloat32, 0, 24, 0x1p-149, 2}, "float64": {-1e300, 1e300, 0, 53, 0, 4},
}

var wordOrders = map[int][]string{
	1: {"AB", "BA"}, 2: {"ABCD", "BADC", "CDAB", "DCBA"},
	4: {"ABCDEFGH", "BADCFEHG", "CDABGHEF", "DCBAHGFE", "EFGHABCD", "FEHGBADC", "GHEFCDAB", "HGFEDCBA"},
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// scaled is a number as the model sees it.
func scaled(raw, scale, add float64) float64 { return raw*scale + add }

// resolution is how far what is read may be from what was written: half a step of the registers, and what a float64 loses on both ways.
func (g grid) resolution(v, scale, add float64) float64 {
	raw := (v - add) / scale
	noise := (math.Abs(raw*scale) + math.Abs(add) + math.Abs(v)) * 0x1p-50
	if g.digits == 0 {
		return math.Abs(scale)*g.step/2 + noise
	}
	return math.Abs(scale)*max(math.Abs(raw)*math.Ldexp(1, -g.digits), g.least) + noise
}

// any returns a number that the registers can hold.
func (g grid) any(r *rand.Rand) float64 {
	if g.digits == 0 {
		return min(g.low+math.Floor(r.Float64()*((g.high-g.low)/g.step+1))*g.step, g.high)
	}
	return math.Ldexp(2*r.Float64()-1, r.IntN(int(math.Log2(g.high))))
}

// TestWhatIsWrittenIsRead over all numeric types, orders, scales, offsets and guards, as visitors give them: a value within the range comes back within the type's
// resolution, and one outside is refused by a message that has the value and the range.
func TestWhatIsWrittenIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	tried := 0
	for range 300 {
		for name, g := range grids {
			order := oneOf(r, wordOrders[g.registers]...)
			scale, add := oneOf(r, 1, 0.1, 0.01, 0.001, 10, 2.5, -1, -0.5, 1.0/3), oneOf(r, 0, 0, -40, 273.15, 1e4)
			visitor := []any{"type", name, "wordOrder", order, "scale", scale, "valueOffset", add}
			low, high := scaled(g.low, scale, add), scaled(g.high, scale, add)
			if low > high {
				low, high = high, low
			}
			guarded := r.IntN(2) == 0
			if guarded {
				a, b := scaled(g.any(r), scale, add), scaled(g.any(r), scale, add)
				low, high = min(a, b), max(a, b)
				visitor = append(visitor, "min", low, "max", high)
			}
			p := compiled(t, device.TypeDouble, visitor...)
			v := scaled(g.any(r), scale, add)
			if g.digits == 0 {
				v += (r.Float64() - 0.5) * math.Abs(scale) * g.step * 0.98
			}
			margin := 2*g.resolution(v, scale, add) + (math.Abs(low)+math.Abs(high))*0x1p-50
			switch {
			case v > low+margin && v < high-margin:
				tried++
				roundTrip(t, p, v, g.resolution(v, scale, add), g.digits != 53 && (g.digits > 0 || math.Abs((v-add)/scale)/g.step < 1<<49))
			case v < low-margin || v > high+margin:
				refused(t, p, v, low, high)
			}
			if beyond := high + math.Abs(high) + 3*math.Abs(scale)*max(g.step, 1); g.digits != 53 && !math.IsInf(beyond, 0) {
				refused(t, p, beyond, low, high)
			}
		}
	}
	if tried < 2000 {
		t.Errorf("only %d values were within their range", tried)
	}
}

// roundTrip writes and reads a value. exact says that a float64 tells neighbouring numbers of the registers apart: what was read is then written as the same registers.
func roundTrip(t *testing.T, p *point, v, resolution float64, exact bool) {
	t.Helper()
	value := device.Float(v)
	if err := p.CheckValue(value); err != nil {
		t.Fatalf("%s: %s is refused: %v", p, value.Text(), err)
	}
	regs, err := p.encode(value)
	if err != nil {
		t.Fatalf("%s: %s: %v", p, value.Text(), err)
	}
	got := p.layout.decode(regs)
	if got.Quality != device.Good || math.Abs(got.AsFloat()-v) > resolution {
		t.Fatalf("%s: wrote %s, registers % x, read %s (%s %s); allowed is a difference of %g", p, value.Text(), regs, got.Text(), got.Quality, got.Reason, resolution)
	}
	again, err := p.encode(got)
	if err != nil || exact && !bytes.Equal(again, regs) {
		t.Fatalf("%s: wrote % x, read %s, which is % x (%v)", p, regs, got.Text(), again, err)
	}
}

var rangePattern = regexp.MustCompile(`\((\S+) to (\S+)\)`)

func refused(t *testing.T, p *point, v, low, high float64) {
	t.Helper()
	value := device.Float(v)
	err := p.CheckValue(value)
	if err == nil {
		t.Fatalf("%s: %s is taken, allowed are %g to %g", p, value.Text(), low, high)
	}
	m := rangePattern.FindStringSubmatch(err.Error())
	if m == nil || !strings.Contains(err.Error(), value.Text()) {
		t.Fatalf("%s: the message has not the value %s and the range: %v", p, value.Text(), err)
	}
	for i, want := range []float64{low, high} {
		got, perr := strconv.ParseFloat(m[i+1], 64)
		if perr != nil || math.Abs(got-want) > (math.Abs(low)+math.Abs(high))*1e-7+1e-9 {
			t.Fatalf("%s: the message says %s, the range is %g to %g: %v", p, m[0], low, high, err)
		}
	}
}
