package device

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Type is a property's type as a DeviceModel declares it.
type Type uint8

// The types of devices.kubeedge.io/v1beta1.
const (
	TypeInt     Type = iota + 1 // INT: 64-bit signed; larger unsigned values are kept as they are
	TypeFloat                   // FLOAT: 32-bit
	TypeDouble                  // DOUBLE: 64-bit
	TypeString                  // STRING
	TypeBoolean                 // BOOLEAN
	TypeBytes                   // BYTES: base64 in manifests and status
	TypeStream                  // STREAM: not a value; no driver here delivers it
)

var typeNames = [...]string{TypeInt: "INT", TypeFloat: "FLOAT", TypeDouble: "DOUBLE", TypeString: "STRING", TypeBoolean: "BOOLEAN", TypeBytes: "BYTES", TypeStream: "STREAM"}

func (t Type) String() string {
	if int(t) < len(typeNames) && t != 0 {
		return typeNames[t]
	}
	return "unknown type"
}

// ParseType reads a model's type; case is ignored.
func ParseType(s string) (Type, bool) {
	for t, name := range typeNames {
		if name != "" && strings.EqualFold(name, s) {
			return Type(t), true
		}
	}
	return 0, false
}

// Numeric tells whether minimum and maximum make sense for the type.
func (t Type) Numeric() bool { return t == TypeInt || t == TypeFloat || t == TypeDouble }

// Parse reads a value of type t as manifests write it: a desired value, a minimum.
func Parse(text string, t Type) (Value, error) {
	text = strings.TrimSpace(text)
	switch t {
	case TypeInt:
		return parseInt(text)
	case TypeFloat, TypeDouble:
		return parseFloat(text, t)
	case TypeBoolean:
		switch strings.ToLower(text) {
		case "true", "1", "on":
			return Bool(true), nil
		case "false", "0", "off":
			return Bool(false), nil
		}
		return Value{}, fmt.Errorf("%q is not a BOOLEAN (true or false)", clip(text))
	case TypeString:
		return String(text), nil
	case TypeBytes:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return Value{}, fmt.Errorf("%q is not BYTES (base64)", clip(text))
		}
		return Bytes(b), nil
	default:
		return Value{}, fmt.Errorf("a %s cannot be given as text", t)
	}
}

func parseInt(text string) (Value, error) {
	for _, base := range []int{10, 0} { // "010" is ten, as a technician means it, and not octal; "0x1F" is hexadecimal
		if n, err := strconv.ParseInt(text, base, 64); err == nil {
			return Int(n), nil
		}
		if n, err := strconv.ParseUint(text, base, 64); err == nil {
			return Uint(n), nil
		}
	}
	// "20.0" is an integer that some tool wrote as a float; "20.5" is a mistake.
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return Int(int64(f)), nil
	}
	return Value{}, fmt.Errorf("%q is not an INT (a whole number within 64 bits)", clip(text))
}

func parseFloat(text string, t Type) (Value, error) {
	bits := 64
	if t == TypeFloat {
		bits = 32
	}
	f, err := strconv.ParseFloat(text, bits)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}, fmt.Errorf("%q is not a %s (a finite number)", clip(text), t)
	}
	if t == TypeFloat {
		return Float32(float32(f)), nil
	}
	return Float(f), nil
}

// Convert returns v as a value of type t, keeping timestamps, quality and reason; a value without a datum stays as it
// is. A fraction is rounded to the nearest whole number for INT. What cannot be converted without changing its
// meaning is an error.
func (v Value) Convert(t Type) (Value, error) {
	if v.kind == KindNone {
		return v, nil
	}
	out, ok := v.convert(t)
	if !ok {
		return Value{}, fmt.Errorf("%q cannot be shown as %s", clip(v.Text()), t)
	}
	out.Source, out.Server = v.Source, v.Server
	if out.Quality == Good || v.Quality != Good {
		out.Quality, out.Reason = v.Quality, v.Reason
	}
	return out, nil
}

func (v Value) convert(t Type) (Value, bool) {
	numeric := v.kind == KindInt || v.kind == KindUint || v.kind == KindFloat
	switch {
	case t == TypeInt && (v.kind == KindInt || v.kind == KindUint):
		return v, true
	case t == TypeInt && v.kind == KindBool:
		return Int(int64(v.num)), true
	case t == TypeInt && v.kind == KindFloat:
		f := math.Round(v.AsFloat())
		if !(math.Abs(f) < 1<<63) {
			return Value{}, false
		}
		return Int(int64(f)), true
	case t == TypeFloat && numeric:
		return Float32(float32(v.AsFloat())), true
	case t == TypeDouble && v.kind == KindFloat:
		return v, true
	case t == TypeDouble && numeric:
		return Float(v.AsFloat()), true
	case t == TypeBoolean && v.kind == KindBool:
		return v, true
	case t == TypeBoolean && numeric:
		return Bool(v.AsFloat() != 0), true
	case t == TypeString:
		return String(v.Text()), true
	case t == TypeBytes && v.kind == KindBytes:
		return v, true
	case t == TypeBytes && v.kind == KindString:
		return Bytes([]byte(v.text)), true
	default:
		return Value{}, false
	}
}

// Compare orders two numeric values, exactly also for integers beyond 2^53.
func Compare(a, b Value) int {
	ints := func(v Value) bool { return v.kind == KindInt || v.kind == KindUint }
	if ints(a) && ints(b) {
		an, bn := a.kind == KindInt && a.AsInt() < 0, b.kind == KindInt && b.AsInt() < 0
		switch {
		case an != bn:
			if an {
				return -1
			}
			return 1
		case a.num < b.num: // two's complement keeps the order within one sign
			return -1
		case a.num > b.num:
			return 1
		}
		return 0
	}
	x, y := a.AsFloat(), b.AsFloat()
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
