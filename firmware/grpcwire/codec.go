package grpcwire

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Message is a protobuf message.
type Message interface {
	// Walk visits every field of the message, in the order of the .proto file, with the field's number.
	Walk(f *Fields)
}

// Protobuf's wire types (https://protobuf.dev/programming-guides/encoding/#structure).
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// DecodedBase and DecodedFactor limit the memory that decoding may take: base + factor × encoded size.
// An empty element of a repeated message takes two bytes on the wire but a whole struct in memory.
const (
	DecodedBase   = 64 << 10
	DecodedFactor = 16
)

// What can be wrong with an encoded message.
var (
	ErrTruncated = errors.New("truncated message")
	ErrVarint    = errors.New("varint longer than 64 bits")
	ErrTag       = errors.New("invalid field number or wire type")
	ErrExpansion = errors.New("message would take too much memory when decoded")
)

// Marshal returns m in protobuf's encoding.
func Marshal(m Message) []byte { return Append(nil, m) }

// Unmarshal decodes data into m, merging with what m holds. Unknown fields are skipped. It never panics
// and takes memory in proportion to len(data) only.
func Unmarshal(data []byte, m Message) error {
	return UnmarshalWithin(data, m, DecodedBase+DecodedFactor*len(data))
}

// UnmarshalWithin is Unmarshal with another limit to the memory that the message takes.
func UnmarshalWithin(data []byte, m Message, budget int) error {
	f := Fields{decoding: true, budget: budget}
	f.decode(data, m)
	if f.err != nil {
		return fmt.Errorf("decode %T: %w", m, f.err)
	}
	return nil
}

// Append appends m in protobuf's encoding to b.
func Append(b []byte, m Message) []byte {
	f := Fields{buf: b}
	m.Walk(&f)
	return f.buf
}

// Fields carries one walk over a message. While encoding, each visited field is appended to buf. While
// decoding, one field was read from the wire (num, typ, value or data) and the walk stores it where it
// belongs: a walk per field read, which for small messages is cheaper than any table.
type Fields struct {
	decoding bool
	buf      []byte // encoding: the output

	num    int    // decoding: number of the field that was read; 0 once it is stored
	typ    int    // its wire type
	value  uint64 // its value, for varint and fixed types
	data   []byte // its value, for wireBytes; aliases the input
	budget int    // bytes that may still be allocated
	err    error
}

// decode reads all fields of m from b.
func (f *Fields) decode(b []byte, m Message) {
	for len(b) > 0 && f.err == nil {
		b = f.next(b)
		if f.err == nil {
			m.Walk(f)
		}
	}
	f.num = 0
}

// next reads one field from b into f and returns the rest.
func (f *Fields) next(b []byte) []byte {
	tag, b := f.uvarint(b)
	num, typ := tag>>3, int(tag&7)
	if f.err == nil && (num == 0 || num > 1<<29-1) {
		f.err = ErrTag
	}
	if f.err != nil {
		return nil
	}
	f.num, f.typ, f.value, f.data = int(num), typ, 0, nil
	switch typ {
	case wireVarint:
		f.value, b = f.uvarint(b)
	case wireFixed64:
		f.value, b = f.fixed(b, 8)
	case wireFixed32:
		f.value, b = f.fixed(b, 4)
	case wireBytes:
		var n uint64
		if n, b = f.uvarint(b); f.err != nil {
			return nil
		}
		if n > uint64(len(b)) {
			f.err = ErrTruncated
			return nil
		}
		f.data, b = b[:n:n], b[n:]
	default: // groups: not in proto3
		f.err = ErrTag
	}
	return b
}

func (f *Fields) uvarint(b []byte) (uint64, []byte) {
	var v uint64
	for i, c := range b {
		if i == 9 && c > 1 || i > 9 {
			f.err = ErrVarint
			return 0, nil
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, b[i+1:]
		}
	}
	f.err = ErrTruncated
	return 0, nil
}

func (f *Fields) fixed(b []byte, n int) (uint64, []byte) {
	if len(b) < n {
		f.err = ErrTruncated
		return 0, nil
	}
	var v uint64
	for i := range n {
		v |= uint64(b[i]) << (8 * i)
	}
	return v, b[n:]
}

// take reports whether the field that was read is num in wire type typ, and marks it as stored. A field
// in another wire type is skipped like an unknown one, as Google's implementations do.
func (f *Fields) take(num, typ int) bool {
	if f.num != num || f.typ != typ || f.err != nil {
		return false
	}
	f.num = 0
	return true
}

// charge takes n bytes from the budget and reports whether they may be allocated.
func (f *Fields) charge(n int) bool {
	if f.budget -= n; f.budget < 0 {
		f.err = ErrExpansion
	}
	return f.err == nil
}

func (f *Fields) tag(num, typ int) { f.putUvarint(uint64(num)<<3 | uint64(typ)) }

func (f *Fields) putUvarint(v uint64) {
	for v >= 0x80 {
		f.buf = append(f.buf, byte(v)|0x80)
		v >>= 7
	}
	f.buf = append(f.buf, byte(v))
}

// begin and end frame a length-delimited value that is written between them. The length is usually one
// byte; the value is moved when it needs more.
func (f *Fields) begin(num int) int {
	f.tag(num, wireBytes)
	f.buf = append(f.buf, 0)
	return len(f.buf)
}

func (f *Fields) end(start int) {
	n := len(f.buf) - start
	if n < 0x80 {
		f.buf[start-1] = byte(n)
		return
	}
	extra := 0
	for v := n >> 7; v > 0; v >>= 7 {
		extra++
	}
	f.buf = slices.Grow(f.buf, extra)[:len(f.buf)+extra]
	copy(f.buf[start+extra:], f.buf[start:start+n])
	for i := start - 1; ; i++ {
		if n < 0x80 {
			f.buf[i] = byte(n)
			return
		}
		f.buf[i] = byte(n) | 0x80
		n >>= 7
	}
}

// MessagePtr is a *T that is a Message.
type MessagePtr[T any] interface {
	*T
	Message
}

// Opt visits an optional sub-message.
func Opt[T any, P MessagePtr[T]](f *Fields, num int, p **T) {
	if !f.decoding {
		if *p != nil {
			start := f.begin(num)
			P(*p).Walk(f)
			f.end(start)
		}
		return
	}
	if !f.take(num, wireBytes) {
		return
	}
	if *p == nil {
		var zero T
		if !f.charge(int(unsafe.Sizeof(zero))) {
			return
		}
		*p = new(T)
	}
	f.decode(f.data, P(*p))
}

// Rep visits a repeated sub-message.
func Rep[T any, P MessagePtr[T]](f *Fields, num int, p *[]T) {
	if !f.decoding {
		for i := range *p {
			start := f.begin(num)
			P(&(*p)[i]).Walk(f)
			f.end(start)
		}
		return
	}
	if !f.take(num, wireBytes) {
		return
	}
	var zero T
	if !f.charge(2 * int(unsafe.Sizeof(zero))) { // append doubles
		return
	}
	*p = append(*p, zero)
	f.decode(f.data, P(&(*p)[len(*p)-1]))
}
