package modbus

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/skerry/skerry/mappers/device"
)

// format is how a datum is laid out in bits or registers.
type format uint8

const (
	formatBool format = iota + 1
	formatInt16
	formatUint16
	formatInt32
	formatUint32
	formatInt64
	formatUint64
	formatFloat32
	formatFloat64
)

var formatNames = [...]string{formatBool: "bool", formatInt16: "int16", formatUint16: "uint16", formatInt32: "int32", formatUint32: "uint32",
	formatInt64: "int64", formatUint64: "uint64", formatFloat32: "float32", formatFloat64: "float64"}

func (f format) String() string { return formatNames[f] }

// registers is how many registers a datum takes.
func (f format) registers() uint16 {
	switch f {
	case formatInt32, formatUint32, formatFloat32:
		return 2
	case formatInt64, formatUint64, formatFloat64:
		return 4
	default:
		return 1
	}
}

// order is how registers make a datum. The zero order is big-endian throughout (ABCD), as the specification recommends.
type order struct {
	swapWords bool // least significant register first (CDAB): KubeEdge's isRegisterSwap
	swapBytes bool // bytes of each register exchanged (BADC): KubeEdge's isSwap
}

// arrange brings registers into big-endian order, or back: it is its own inverse. b is changed in place.
func (o order) arrange(b []byte) {
	if o.swapWords {
		for i, j := 0, len(b)-2; i < j; i, j = i+2, j-2 {
			b[i], b[i+1], b[j], b[j+1] = b[j], b[j+1], b[i], b[i+1]
		}
	}
	if o.swapBytes {
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
}

// scale multiplies raw values. The zero scale is 1: a missing scale must not make every value 0.
type scale struct {
	factor  float64
	divisor float64 // if the factor is 1/divisor exactly rounded, dividing gives 21.5 for 215 and 0.1, not 21.500000000000004
}

func newScale(f float64) scale {
	s := scale{factor: f}
	if inv := math.Round(1 / f); inv != 0 && math.Abs(inv) < 1e15 && 1/inv == f {
		s.divisor = inv
	}
	return s
}

func (s scale) one() bool { return s.factor == 0 || s.factor == 1 }

func (s scale) apply(raw float64) float64 {
	if s.divisor != 0 {
		return raw / s.divisor
	}
	return raw * s.factor
}

func (s scale) remove(v float64) float64 {
	if s.divisor != 0 {
		return v * s.divisor
	}
	return v / s.factor
}

// decodeBit picks a bit out of packed bits.
func decodeBit(packed []byte, i int) device.Value { return device.Bool(packed[i/8]>>(i%8)&1 == 1) }

// decode makes a value of registers in the device's order; len(regs) is 2*f.registers(). regs is not changed.
func decode(f format, o order, s scale, regs []byte) device.Value {
	var buf [8]byte
	b := buf[:copy(buf[:], regs)]
	o.arrange(b)
	var v device.Value
	switch f {
	case formatBool:
		return device.Bool(binary.BigEndian.Uint16(b) != 0)
	case formatInt16:
		v = device.Int(int64(int16(binary.BigEndian.Uint16(b))))
	case formatUint16:
		v = device.Int(int64(binary.BigEndian.Uint16(b)))
	case formatInt32:
		v = device.Int(int64(int32(binary.BigEndian.Uint32(b))))
	case formatUint32:
		v = device.Int(int64(binary.BigEndian.Uint32(b)))
	case formatInt64:
		v = device.Int(int64(binary.BigEndian.Uint64(b)))
	case formatUint64:
		v = device.Uint(binary.BigEndian.Uint64(b))
	case formatFloat32:
		v = device.Float32(math.Float32frombits(binary.BigEndian.Uint32(b)))
	case formatFloat64:
		v = device.Float(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	if s.one() {
		return v
	}
	return device.Float(s.apply(v.AsFloat()))
}

// encode is the inverse of decode. Its error says in words why the value does not fit.
func encode(f format, o order, s scale, v device.Value) ([]byte, error) {
	b, err := encodeBig(f, s, v)
	if err != nil {
		return nil, err
	}
	o.arrange(b)
	return b, nil
}

func encodeBig(f format, s scale, v device.Value) ([]byte, error) {
	switch v.Kind() {
	case device.KindBool:
		n := int64(0)
		if v.AsBool() {
			n = 1
		}
		if f == formatBool {
			return binary.BigEndian.AppendUint16(nil, uint16(n)), nil
		}
		v = device.Int(n)
	case device.KindInt, device.KindUint, device.KindFloat:
	default:
		return nil, fmt.Errorf("%q is not a number and cannot be written as %s", v.Text(), f)
	}
	switch f {
	case formatBool:
		return nil, fmt.Errorf("%s is not true or false", v.Text())
	case formatFloat32, formatFloat64:
		return encodeFloat(f, s, v)
	default:
		return encodeInt(f, s, v)
	}
}

func encodeFloat(f format, s scale, v device.Value) ([]byte, error) {
	x := v.AsFloat()
	if !s.one() {
		x = s.remove(x)
	}
	switch {
	case f == formatFloat64 && !math.IsInf(x, 0):
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(x)), nil
	case f == formatFloat32 && !math.IsInf(float64(float32(x)), 0):
		return binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(x))), nil
	}
	return nil, fmt.Errorf("%s does not fit %s", v.Text(), f)
}

// ranges of the integer formats.
var ranges = map[format][2]device.Value{
	formatInt16:  {device.Int(math.MinInt16), device.Int(math.MaxInt16)},
	formatUint16: {device.Int(0), device.Int(math.MaxUint16)},
	formatInt32:  {device.Int(math.MinInt32), device.Int(math.MaxInt32)},
	formatUint32: {device.Int(0), device.Int(math.MaxUint32)},
	formatInt64:  {device.Int(math.MinInt64), device.Int(math.MaxInt64)},
	formatUint64: {device.Int(0), device.Uint(math.MaxUint64)},
}

func encodeInt(f format, s scale, v device.Value) ([]byte, error) {
	raw := v
	if !s.one() || v.Kind() == device.KindFloat {
		x := v.AsFloat()
		if !s.one() {
			x = s.remove(x)
		}
		if x = math.Round(x); !(math.Abs(x) < 1<<63) {
			return nil, outOfRange(f, s, v)
		}
		raw = device.Int(int64(x))
	}
	r := ranges[f]
	if device.Compare(raw, r[0]) < 0 || device.Compare(raw, r[1]) > 0 {
		return nil, outOfRange(f, s, v)
	}
	bits := raw.AsUint() // two's complement
	switch f.registers() {
	case 1:
		return binary.BigEndian.AppendUint16(nil, uint16(bits)), nil
	case 2:
		return binary.BigEndian.AppendUint32(nil, uint32(bits)), nil
	default:
		return binary.BigEndian.AppendUint64(nil, bits), nil
	}
}

func outOfRange(f format, s scale, v device.Value) error {
	r := ranges[f]
	if s.one() {
		return fmt.Errorf("%s does not fit %s (%s to %s)", v.Text(), f, r[0].Text(), r[1].Text())
	}
	return fmt.Errorf("%s does not fit %s at scale %s (%s to %s)", v.Text(), f, device.Float(s.factor).Text(),
		device.Float(s.apply(r[0].AsFloat())).Text(), device.Float(s.apply(r[1].AsFloat())).Text())
}
