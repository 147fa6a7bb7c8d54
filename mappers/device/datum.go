package device

import (
	"encoding/binary"
	"errors"
	"math"
)

// Codes of a datum in a history. They are part of a file format: a number, once given, keeps its meaning. There are at most eight.
const (
	codeNone = iota
	codeBool
	codeInt
	codeUint
	codeFloat64
	codeFloat32
	codeString
	codeBytes
)

// ErrDatum is returned for bytes that are not a datum.
var ErrDatum = errors.New("the bytes are not a device value's datum")

// DatumCode returns a number below 8 that says how AppendDatum encodes v.
func (v Value) DatumCode() uint8 {
	switch v.kind {
	case KindBool:
		return codeBool
	case KindInt:
		return codeInt
	case KindUint:
		return codeUint
	case KindFloat:
		if v.narrow {
			return codeFloat32
		}
		return codeFloat64
	case KindString:
		return codeString
	case KindBytes:
		return codeBytes
	default:
		return codeNone
	}
}

// DatumSize is at least the number of bytes that AppendDatum appends.
func (v Value) DatumSize() int { return binary.MaxVarintLen64 + len(v.text) }

// AppendDatum appends v's datum in few bytes, without its code, timestamps and quality.
func (v Value) AppendDatum(b []byte) []byte {
	switch v.DatumCode() {
	case codeBool:
		return append(b, byte(v.num&1))
	case codeInt:
		return binary.AppendVarint(b, int64(v.num))
	case codeUint:
		return binary.AppendUvarint(b, v.num)
	case codeFloat64:
		return binary.LittleEndian.AppendUint64(b, v.num)
	case codeFloat32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(math.Float64frombits(v.num))))
	case codeString, codeBytes:
		b = binary.AppendUvarint(b, uint64(len(v.text)))
		return append(b, v.text...)
	default:
		return b
	}
}

// ReadDatum is the inverse of AppendDatum: it returns the value, whose quality is good unless it has no datum, and what follows it in b.
// The value does not refer to b.
func ReadDatum(code uint8, b []byte) (v Value, rest []byte, err error) {
	switch code {
	case codeNone:
		return Value{}, b, nil
	case codeBool:
		if len(b) < 1 || b[0] > 1 {
			return Value{}, nil, ErrDatum
		}
		return Bool(b[0] == 1), b[1:], nil
	case codeInt:
		n, size := binary.Varint(b)
		if size <= 0 {
			return Value{}, nil, ErrDatum
		}
		return Int(n), b[size:], nil
	case codeUint:
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return Value{}, nil, ErrDatum
		}
		return Uint(n), b[size:], nil
	case codeFloat64:
		if len(b) < 8 {
			return Value{}, nil, ErrDatum
		}
		return Value{kind: KindFloat, num: binary.LittleEndian.Uint64(b), Quality: Good}, b[8:], nil
	case codeFloat32:
		if len(b) < 4 {
			return Value{}, nil, ErrDatum
		}
		f := float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
		return Value{kind: KindFloat, narrow: true, num: math.Float64bits(f), Quality: Good}, b[4:], nil
	case codeString, codeBytes:
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return Value{}, nil, ErrDatum
		}
		text, rest := string(b[size:size+int(n)]), b[size+int(n):]
		if code == codeBytes {
			return Value{kind: KindBytes, text: text, Quality: Good}, rest, nil
		}
		return String(text), rest, nil
	default:
		return Value{}, nil, ErrDatum
	}
}
