package modbus

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skerry/skerry/mappers/device"
)

// decodeBit picks a bit out of packed bits.
func decodeBit(packed []byte, i int) device.Value { return device.Bool(packed[i/8]>>(i%8)&1 == 1) }

// number returns up to 8 big-endian bytes as a number.
func number(b []byte) uint64 {
	switch len(b) {
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	default:
		return binary.BigEndian.Uint64(b)
	}
}

// putNumber is the inverse of number.
func putNumber(b []byte, u uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(u)
		u >>= 8
	}
}

// decode makes a value of registers in the device's order; len(regs) is 2*l.width. regs is not changed. Numbers cost no
// allocation.
func (l *layout) decode(regs []byte) device.Value {
	if l.format.text() {
		return l.decodeText(regs)
	}
	var buf [8]byte
	b := buf[:copy(buf[:], regs)]
	l.order.arrange(b)
	mask, shift := l.field()
	return l.refine(l.raw((number(b) & mask) >> shift))
}

// raw makes a value of the bits that are left after masking.
func (l *layout) raw(u uint64) device.Value {
	bits := shapes[l.format].bits
	switch {
	case l.format == formatBool:
		return device.Bool(u != 0)
	case l.format == formatFloat16:
		return device.Float32(float32FromHalf(uint16(u)))
	case l.format == formatFloat32:
		return device.Float32(math.Float32frombits(uint32(u)))
	case l.format == formatFloat64:
		return device.Float(math.Float64frombits(u))
	case l.format.bcd():
		n, ok := fromBCD(u)
		if !ok {
			return device.BadValue(fmt.Sprintf("%#x is not BCD: a digit is greater than 9; check type and byteOrder", u), time.Time{})
		}
		return device.Int(int64(n))
	case shapes[l.format].signed:
		return device.Int(int64(u<<(64-bits)) >> (64 - bits))
	case bits == 64:
		return device.Uint(u)
	default:
		return device.Int(int64(u))
	}
}

// refine applies fixed point, scale and offset, and the guard.
func (l *layout) refine(v device.Value) device.Value {
	if v.Kind() == device.KindNone || l.format == formatBool {
		return v
	}
	if l.linear() {
		v = device.Float(l.fromRaw(v.AsFloat()))
	}
	if x := v.AsFloat(); l.guard && !(x >= l.min && x <= l.max) {
		return device.BadValue(fmt.Sprintf("the device shows %s, which is outside of min and max (%s to %s)", v.Text(), device.Float(l.min).Text(), device.Float(l.max).Text()), time.Time{})
	}
	return v
}

func (l *layout) fromRaw(raw float64) float64 {
	x := l.scale.apply(math.Ldexp(raw, -int(l.frac)))
	return settled(x+l.add, max(math.Abs(x), math.Abs(l.add)))
}

// settled rounds a sum of numbers as large as operand to the digits that they have: 273.1 - 273.15 is -0.05, and not -0.0499999999999545.
func settled(sum, operand float64) float64 {
	if math.Abs(sum) >= operand/2 { // nothing was cancelled
		return sum
	}
	digits := 15 - int(math.Ceil(math.Log10(operand)))
	if digits < 0 || digits > 22 { // powers of ten up to 22 are exact
		return sum
	}
	p := math.Pow10(digits)
	return math.Round(sum*p) / p
}

func (l *layout) toRaw(v float64) float64 { return math.Ldexp(l.scale.remove(v-l.add), int(l.frac)) }

// encode is the inverse of decode: it returns the registers of a value, in which all bits that are not the value's are 0.
// Its error says in words why the value does not fit.
func (l *layout) encode(v device.Value) ([]byte, error) {
	if l.format.text() {
		return l.encodeText(v)
	}
	u, err := l.bits(v)
	if err != nil {
		return nil, err
	}
	mask, shift := l.field()
	if l.bit < 0 && l.format != formatBool && (u<<shift)>>shift != u || (u<<shift)&^mask != 0 {
		most := device.Uint(mask >> shift)
		if l.linear() {
			most = device.Float(l.fromRaw(most.AsFloat()))
		}
		return nil, fmt.Errorf("%s does not fit into the bits of mask %#x (%s to %s)", v.Text(), mask, device.Float(l.fromRaw(0)).Text(), most.Text())
	}
	b := make([]byte, 2*l.width)
	putNumber(b, u<<shift)
	l.order.arrange(b)
	return b, nil
}

// maskBytes returns which bits of the registers are the value's, in the device's order.
func (l *layout) maskBytes() []byte {
	mask, _ := l.field()
	b := make([]byte, 2*l.width)
	putNumber(b, mask)
	l.order.arrange(b)
	return b
}

// bits returns the raw bits of a value.
func (l *layout) bits(v device.Value) (uint64, error) {
	switch v.Kind() {
	case device.KindBool, device.KindInt, device.KindUint, device.KindFloat:
	case device.KindNone, device.KindString, device.KindBytes:
		return 0, fmt.Errorf("%q is not a number and cannot be written as %s", v.Text(), l.format)
	}
	if l.format == formatBool {
		if x := numeric(v).AsFloat(); x == 0 || x == 1 {
			return l.boolBits(x == 1), nil
		}
		return 0, fmt.Errorf("%s is not true or false", v.Text())
	}
	v = numeric(v)
	if x := v.AsFloat(); l.guard && !(x >= l.min && x <= l.max) {
		return 0, fmt.Errorf("%s is outside of min and max (%s to %s)", v.Text(), device.Float(l.min).Text(), device.Float(l.max).Text())
	}
	if l.format.float() {
		return l.floatBits(v)
	}
	return l.intBits(v)
}

// boolBits is what a bool puts into its bits: all of a mask, or 1.
func (l *layout) boolBits(on bool) uint64 {
	switch {
	case !on:
		return 0
	case l.mask != 0:
		return l.mask >> l.shift
	}
	return 1
}

// numeric turns true and false into 1 and 0.
func numeric(v device.Value) device.Value {
	if v.Kind() != device.KindBool {
		return v
	}
	if v.AsBool() {
		return device.Int(1)
	}
	return device.Int(0)
}

func (l *layout) floatBits(v device.Value) (uint64, error) {
	x := v.AsFloat()
	if l.linear() {
		x = l.toRaw(x)
	}
	switch {
	case l.format == formatFloat64 && !math.IsInf(x, 0):
		return math.Float64bits(x), nil
	case l.format == formatFloat32 && !math.IsInf(float64(float32(x)), 0):
		return uint64(math.Float32bits(float32(x))), nil
	case l.format == formatFloat16:
		if h, ok := halfFromFloat(x); ok {
			return uint64(h), nil
		}
	}
	return 0, l.outOfRange(v)
}

// limits of the raw number.
func (l *layout) limits() (low, high device.Value) {
	s := shapes[l.format]
	switch {
	case l.format == formatFloat16:
		return device.Float(-65504), device.Float(65504)
	case l.format == formatFloat32:
		return device.Float32(-math.MaxFloat32), device.Float32(math.MaxFloat32)
	case l.format == formatFloat64:
		return device.Float(-math.MaxFloat64), device.Float(math.MaxFloat64)
	case l.format.bcd():
		return device.Int(0), device.Int(int64(math.Pow10(int(s.bits)/4)) - 1)
	case s.signed:
		return device.Int(math.MinInt64 >> (64 - s.bits)), device.Int(math.MaxInt64 >> (64 - s.bits))
	case s.bits == 64:
		return device.Int(0), device.Uint(math.MaxUint64)
	default:
		return device.Int(0), device.Int(1<<s.bits - 1)
	}
}

func (l *layout) intBits(v device.Value) (uint64, error) {
	raw := v
	if l.linear() || v.Kind() == device.KindFloat {
		x := v.AsFloat()
		if l.linear() {
			x = l.toRaw(x)
		}
		switch x = math.Round(x); {
		case math.Abs(x) < 1<<63:
			raw = device.Int(int64(x))
		case x >= 1<<63 && x < 1<<64:
			raw = device.Uint(uint64(x))
		default:
			return 0, l.outOfRange(v)
		}
	}
	low, high := l.limits()
	if device.Compare(raw, low) < 0 || device.Compare(raw, high) > 0 {
		return 0, l.outOfRange(v)
	}
	if l.format.bcd() {
		return toBCD(raw.AsUint()), nil
	}
	return raw.AsUint() & (math.MaxUint64 >> (64 - shapes[l.format].bits)), nil // two's complement
}

func (l *layout) outOfRange(v device.Value) error {
	low, high := l.limits()
	if !l.linear() {
		return fmt.Errorf("%s does not fit %s (%s to %s)", v.Text(), l.format, low.Text(), high.Text())
	}
	a, b := l.fromRaw(low.AsFloat()), l.fromRaw(high.AsFloat())
	how := ""
	if !l.scale.one() {
		how = " at scale " + device.Float(l.scale.factor).Text()
	}
	return fmt.Errorf("%s does not fit %s%s (%s to %s)", v.Text(), l.format, how, device.Float(min(a, b)).Text(), device.Float(max(a, b)).Text())
}

func fromBCD(u uint64) (n uint64, ok bool) {
	for i := 60; i >= 0; i -= 4 {
		d := u >> i & 0xF
		if d > 9 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, true
}

func toBCD(n uint64) (u uint64) {
	for i := 0; n != 0; i, n = i+4, n/10 {
		u |= n % 10 << i
	}
	return u
}

// decodeText makes a string or bytes. A string ends at the first zero byte; what pads it is cut off.
func (l *layout) decodeText(regs []byte) device.Value {
	b := append([]byte(nil), regs...)
	l.order.arrange(b)
	if l.format == formatBytes {
		return device.Bytes(b)
	}
	text := string(b)
	if i := strings.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	text = strings.TrimRight(text, " "+string(rune(l.pad)))
	switch {
	case l.latin:
		r := make([]rune, len(text))
		for i := range len(text) {
			r[i] = rune(text[i])
		}
		return device.String(string(r))
	case !utf8.ValidString(text):
		return device.String(strings.ToValidUTF8(text, "\uFFFD")).Doubt(device.Uncertain, "the device's text is not UTF-8; check byteOrder, or set charset to latin1")
	}
	return device.String(text)
}

// encodeText is the inverse of decodeText.
func (l *layout) encodeText(v device.Value) ([]byte, error) {
	out := make([]byte, 2*l.width)
	var b []byte
	switch {
	case l.format == formatBytes && v.Kind() == device.KindBytes:
		b = v.AsBytes()
		if len(b) != len(out) {
			return nil, fmt.Errorf("%d bytes do not fill %d registers, which hold %d", len(b), l.width, len(out))
		}
	case l.format == formatBytes:
		return nil, fmt.Errorf("%q is not BYTES", v.Text())
	case l.latin:
		for _, r := range v.Text() {
			if r > 0xFF {
				return nil, fmt.Errorf("%q is not in ISO 8859-1", r)
			}
			b = append(b, byte(r))
		}
	default:
		b = []byte(v.Text())
	}
	if len(b) > len(out) {
		return nil, fmt.Errorf("%q has %d bytes, and %d registers hold %d", v.Text(), len(b), l.width, len(out))
	}
	for i := copy(out, b); i < len(out); i++ {
		out[i] = l.pad
	}
	l.order.arrange(out)
	return out, nil
}
