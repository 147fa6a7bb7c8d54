package grpcwire

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"
)

// mapEntrySize is what one entry of a small map[string]string takes beside its bytes: two string headers
// and its share of the table.
const mapEntrySize = 64

// Str visits a string field. Strings that are not UTF-8, which proto3 forbids, are made so when decoding.
func (f *Fields) Str(num int, p *string) {
	if !f.decoding {
		if *p != "" {
			f.tag(num, wireBytes)
			f.putString(*p)
		}
	} else if f.take(num, wireBytes) {
		*p = text(f.data)
	}
}

// Strs visits a repeated string field.
func (f *Fields) Strs(num int, p *[]string) {
	if !f.decoding {
		for _, s := range *p {
			f.tag(num, wireBytes)
			f.putString(s)
		}
	} else if f.take(num, wireBytes) && f.charge(32) {
		*p = append(*p, text(f.data))
	}
}

// Bytes visits a bytes field.
func (f *Fields) Bytes(num int, p *[]byte) {
	if !f.decoding {
		if len(*p) > 0 {
			f.tag(num, wireBytes)
			f.putUvarint(uint64(len(*p)))
			f.buf = append(f.buf, *p...)
		}
	} else if f.take(num, wireBytes) {
		*p = slices.Clone(f.data)
	}
}

// Bool visits a bool field.
func (f *Fields) Bool(num int, p *bool) {
	if !f.decoding {
		if *p {
			f.tag(num, wireVarint)
			f.buf = append(f.buf, 1)
		}
	} else if f.take(num, wireVarint) {
		*p = f.value != 0
	}
}

// Double visits a double field.
func (f *Fields) Double(num int, p *float64) {
	if !f.decoding {
		if bits := math.Float64bits(*p); bits != 0 {
			f.tag(num, wireFixed64)
			for i := range 8 {
				f.buf = append(f.buf, byte(bits>>(8*i)))
			}
		}
	} else if f.take(num, wireFixed64) {
		*p = math.Float64frombits(f.value)
	}
}

// Integer is a type of an int32, int64, uint32, uint64 or enum field. All are varints; the signed ones are
// sign-extended to 64 bits, which is what Go's conversion to uint64 does.
type Integer interface {
	~int32 | ~int64 | ~uint32 | ~uint64
}

// Num visits an integer or enum field.
func Num[T Integer](f *Fields, n int, p *T) {
	if !f.decoding {
		if *p != 0 {
			f.tag(n, wireVarint)
			f.putUvarint(uint64(*p))
		}
	} else if f.take(n, wireVarint) {
		*p = T(f.value)
	}
}

// Nums visits a repeated integer field: packed when encoding, packed or not when decoding.
func Nums[T Integer](f *Fields, n int, p *[]T) {
	if !f.decoding {
		if len(*p) > 0 {
			start := f.begin(n)
			for _, v := range *p {
				f.putUvarint(uint64(v))
			}
			f.end(start)
		}
		return
	}
	if f.take(n, wireVarint) {
		if f.charge(16) {
			*p = append(*p, T(f.value))
		}
		return
	}
	if !f.take(n, wireBytes) {
		return
	}
	for b := f.data; len(b) > 0; {
		var v uint64
		if v, b = f.uvarint(b); f.err != nil || !f.charge(16) {
			return
		}
		*p = append(*p, T(v))
	}
}

// Wrapped visits a sub-message whose only field is number 1, an integer: Int64Value and its like. It tells
// an absent value (nil) from zero.
func Wrapped[T Integer](f *Fields, n int, p **T) {
	if !f.decoding {
		if *p != nil {
			start := f.begin(n)
			Num(f, 1, *p)
			f.end(start)
		}
		return
	}
	if !f.take(n, wireBytes) {
		return
	}
	if *p == nil {
		if !f.charge(16) {
			return
		}
		*p = new(T)
	}
	for b := f.data; len(b) > 0 && f.err == nil; {
		if b = f.next(b); f.err == nil {
			Num(f, 1, *p)
		}
	}
	f.num = 0
}

// StrMap visits a map<string, string> field. Keys are written in order, so that equal messages have equal
// encodings.
func (f *Fields) StrMap(num int, p *map[string]string) {
	if !f.decoding {
		if len(*p) == 0 {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(*p)) {
			start := f.begin(num)
			v := (*p)[k]
			f.Str(1, &k)
			f.Str(2, &v)
			f.end(start)
		}
		return
	}
	if !f.take(num, wireBytes) || !f.charge(2*mapEntrySize) {
		return
	}
	var k, v string
	for b := f.data; len(b) > 0 && f.err == nil; {
		if b = f.next(b); f.err == nil {
			f.Str(1, &k)
			f.Str(2, &v)
		}
	}
	f.num = 0
	if f.err != nil {
		return
	}
	if *p == nil {
		*p = make(map[string]string)
	}
	(*p)[k] = v
}

func (f *Fields) putString(s string) {
	f.putUvarint(uint64(len(s)))
	f.buf = append(f.buf, s...)
}

func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// OneofZero visits a field of a oneof whose only value is zero, as google.protobuf.NullValue has it. It is written if set, and skipped when decoding.
func (f *Fields) OneofZero(num int, set bool) {
	if !f.decoding && set {
		f.tag(num, wireVarint)
		f.buf = append(f.buf, 0)
	}
}

// OneofStr visits a string field of a oneof: nil is another field of it, and the empty string is written.
func (f *Fields) OneofStr(num int, p **string) {
	if !f.decoding {
		if *p != nil {
			f.tag(num, wireBytes)
			f.putString(**p)
		}
	} else if f.take(num, wireBytes) && f.charge(16) {
		s := text(f.data)
		*p = &s
	}
}

// OneofBool visits a bool field of a oneof.
func (f *Fields) OneofBool(num int, p **bool) {
	if !f.decoding {
		if *p != nil {
			f.tag(num, wireVarint)
			b := byte(0)
			if **p {
				b = 1
			}
			f.buf = append(f.buf, b)
		}
	} else if f.take(num, wireVarint) && f.charge(16) {
		v := f.value != 0
		*p = &v
	}
}

// OneofDouble visits a double field of a oneof.
func (f *Fields) OneofDouble(num int, p **float64) {
	if !f.decoding {
		if *p != nil {
			f.tag(num, wireFixed64)
			f.buf = binary.LittleEndian.AppendUint64(f.buf, math.Float64bits(**p))
		}
	} else if f.take(num, wireFixed64) && f.charge(16) {
		v := math.Float64frombits(f.value)
		*p = &v
	}
}
