package device

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"time"
)

// Kind is the kind of datum that a Value holds.
type Kind uint8

// The kinds of datum.
const (
	KindNone Kind = iota // no datum: a bad value
	KindBool
	KindInt
	KindUint
	KindFloat
	KindString
	KindBytes
)

// Quality says how far a value may be trusted.
type Quality uint8

// The qualities. The zero value is bad, so that a forgotten value is never mistaken for a measurement.
const (
	Bad       Quality = iota // there is no value, or it must not be used; Reason says why
	Uncertain                // the value may be used with care: it is old, or the device itself doubts it
	Good
)

func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case Uncertain:
		return "uncertain"
	default:
		return "bad"
	}
}

// ParseQuality is the inverse of Quality.String; anything unknown is bad.
func ParseQuality(s string) Quality {
	switch s {
	case "good":
		return Good
	case "uncertain":
		return Uncertain
	default:
		return Bad
	}
}

// Value is one typed datum with its timestamps and quality. It is immutable by convention: the methods that change
// something return a copy. The zero Value is a bad one without a datum.
type Value struct {
	kind    Kind
	narrow  bool   // the float came from 32 bits: print it with that many digits
	num     uint64 // bool, int64, uint64, or the bits of a float64
	text    string // string, or bytes
	Quality Quality
	// Reason says why the quality is not good.
	Reason string
	// Source is when the device says it measured; zero if the protocol has no timestamps.
	Source time.Time
	// Server is when the agent received the value.
	Server time.Time
}

// Bool returns a good value.
func Bool(v bool) Value {
	n := uint64(0)
	if v {
		n = 1
	}
	return Value{kind: KindBool, num: n, Quality: Good}
}

// Int returns a good value.
func Int(v int64) Value { return Value{kind: KindInt, num: uint64(v), Quality: Good} }

// Uint returns a good value.
func Uint(v uint64) Value { return Value{kind: KindUint, num: v, Quality: Good} }

// Float returns a good value, an uncertain one if v is not a finite number.
func Float(v float64) Value {
	out := Value{kind: KindFloat, num: math.Float64bits(v), Quality: Good}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		out.Quality, out.Reason = Uncertain, "the device sent "+out.Text()+", which is not a finite number"
	}
	return out
}

// Float32 is Float for a value that came from 32 bits: it prints with as many digits as it has.
func Float32(v float32) Value {
	out := Float(float64(v))
	out.narrow = true
	return out
}

// String returns a good value.
func String(v string) Value { return Value{kind: KindString, text: v, Quality: Good} }

// Bytes returns a good value; it copies v.
func Bytes(v []byte) Value { return Value{kind: KindBytes, text: string(v), Quality: Good} }

// BadValue returns a value without a datum.
func BadValue(reason string, at time.Time) Value { return Value{Reason: reason, Server: at} }

// Kind returns the kind of datum.
func (v Value) Kind() Kind { return v.kind }

// At returns a copy that the agent received at t.
func (v Value) At(t time.Time) Value {
	v.Server = t
	return v
}

// Doubt returns a copy with another quality and the reason for it.
func (v Value) Doubt(q Quality, reason string) Value {
	v.Quality, v.Reason = q, reason
	return v
}

// AsBool returns the datum of a KindBool value.
func (v Value) AsBool() bool { return v.num != 0 }

// AsInt returns the datum of a KindInt value.
func (v Value) AsInt() int64 { return int64(v.num) }

// AsUint returns the datum of a KindUint value.
func (v Value) AsUint() uint64 { return v.num }

// AsFloat returns the datum of any numeric value as a float64; integers beyond 2^53 lose digits.
func (v Value) AsFloat() float64 {
	switch v.kind {
	case KindInt:
		return float64(int64(v.num))
	case KindFloat:
		return math.Float64frombits(v.num)
	case KindNone, KindString, KindBytes:
		return 0
	default:
		return float64(v.num)
	}
}

// AsString returns the datum of a KindString value.
func (v Value) AsString() string { return v.text }

// AsBytes returns a copy of the datum of a KindBytes value.
func (v Value) AsBytes() []byte { return []byte(v.text) }

// Same tells whether two values hold the same datum, whatever their timestamps and quality; NaN is the same as NaN.
func (v Value) Same(o Value) bool {
	if v.kind == KindFloat && o.kind == KindFloat {
		a, b := v.AsFloat(), o.AsFloat()
		return a == b || math.IsNaN(a) && math.IsNaN(b)
	}
	return v.kind == o.kind && v.num == o.num && v.text == o.text
}

// Text returns the datum as DeviceStatus shows it: true/false, decimal numbers with the shortest digits that identify
// them, strings as they are, bytes in standard base64 (RFC 4648 section 4), and nothing for a value without a datum.
func (v Value) Text() string {
	switch v.kind {
	case KindBool:
		return strconv.FormatBool(v.num != 0)
	case KindInt:
		return strconv.FormatInt(int64(v.num), 10)
	case KindUint:
		return strconv.FormatUint(v.num, 10)
	case KindFloat:
		return formatFloat(math.Float64frombits(v.num), v.narrow)
	case KindString:
		return v.text
	case KindBytes:
		return base64.StdEncoding.EncodeToString([]byte(v.text))
	default:
		return ""
	}
}

func formatFloat(f float64, narrow bool) string {
	bits, format := 64, byte('f')
	if narrow {
		bits = 32
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e15) {
		format = 'g'
	}
	var buf [32]byte
	return string(bytes.TrimPrefix(strconv.AppendFloat(buf[:0], f, format, -1, bits), []byte("+")))
}
