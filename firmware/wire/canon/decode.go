package canon

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Hash returns the first 16 bytes of the SHA-256 of a canonical body: the Hash of wire.Version.
func Hash(body []byte) [16]byte {
	sum := sha256.Sum256(body)
	return [16]byte(sum[:16])
}

// Check reports whether body is one canonical document. It takes no memory that depends on body.
func Check(body []byte) error {
	r, err := newReader(body)
	if err == nil {
		err = r.skip(0)
	}
	return r.finish(err)
}

// ToJSON decodes a canonical document to compact JSON text.
func ToJSON(body []byte) ([]byte, error) {
	r, err := newReader(body)
	var out []byte
	if err == nil {
		out, err = r.appendJSON(make([]byte, 0, len(body)+len(body)/4+16), 0)
	}
	if err = r.finish(err); err != nil {
		return nil, err
	}
	return out, nil
}

// ToValue decodes a canonical document to map[string]any, []any, string, bool, nil, int64, uint64 (only what int64 cannot
// hold) and float64.
func ToValue(body []byte) (any, error) {
	r, err := newReader(body)
	var v any
	if err == nil {
		v, err = r.value(0)
	}
	if err = r.finish(err); err != nil {
		return nil, err
	}
	return v, nil
}

// reader reads one token at a time. at is the offset of the next byte.
type reader struct {
	b  []byte
	at int
}

type shape uint8

const (
	shapeNil shape = iota
	shapeBool
	shapeInt  // signed, negative
	shapeUint // unsigned
	shapeFloat
	shapeString
	shapeArray
	shapeMap
)

// token is a scalar, or the header of an array (n elements) or a map (n pairs). Strings alias the input.
type token struct {
	shape shape
	bits  uint64 // bool, integer or float 64
	str   []byte
	n     int
}

var (
	errShort   = errors.New("ends in the middle of a value")
	errLonger  = errors.New("a number or length is written longer than needed")
	errTooMany = errors.New("a declared length is larger than what follows")
	errForeign = errors.New("holds a type that JSON lacks")
	errUTF8    = errors.New("a string is not UTF-8")
	errOrder   = errors.New("keys are not in ascending order, each once")
)

func newReader(body []byte) (*reader, error) {
	r := &reader{b: body}
	if len(body) > MaxSize {
		return r, ErrTooBig
	}
	return r, nil
}

func (r *reader) finish(err error) error {
	if err == nil && r.at != len(r.b) {
		err = fmt.Errorf("%d bytes follow the document", len(r.b)-r.at)
	}
	if err != nil {
		return fmt.Errorf("not a canonical document (byte %d of %d): %w", r.at, len(r.b), err)
	}
	return nil
}

func (r *reader) uint(size int, least uint64) (uint64, error) {
	if len(r.b)-r.at < size {
		return 0, errShort
	}
	var buf [8]byte
	copy(buf[8-size:], r.b[r.at:r.at+size])
	r.at += size
	u := binary.BigEndian.Uint64(buf[:])
	if u < least {
		return 0, errLonger
	}
	return u, nil
}

// next reads one token and checks that its form is the shortest one.
func (r *reader) next() (token, error) {
	if r.at >= len(r.b) {
		return token{}, errShort
	}
	c := r.b[r.at]
	r.at++
	switch {
	case c <= 0x7f:
		return token{shape: shapeUint, bits: uint64(c)}, nil
	case c <= 0x8f:
		return r.container(shapeMap, uint64(c&0x0f))
	case c <= 0x9f:
		return r.container(shapeArray, uint64(c&0x0f))
	case c <= 0xbf:
		return r.str(uint64(c & 0x1f))
	case c >= 0xe0:
		return token{shape: shapeInt, bits: uint64(int64(int8(c)))}, nil
	}
	return r.long(c)
}

func (r *reader) long(c byte) (token, error) {
	var u uint64
	var err error
	switch c {
	case 0xc0:
		return token{shape: shapeNil}, nil
	case 0xc2, 0xc3:
		return token{shape: shapeBool, bits: uint64(c - 0xc2)}, nil
	case 0xcb:
		u, err = r.uint(8, 0)
		if f := math.Float64frombits(u); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			err = errForeign
		}
		return token{shape: shapeFloat, bits: u}, err
	case 0xcc:
		u, err = r.uint(1, 1<<7)
	case 0xcd:
		u, err = r.uint(2, 1<<8)
	case 0xce:
		u, err = r.uint(4, 1<<16)
	case 0xcf:
		u, err = r.uint(8, 1<<32)
	case 0xd0, 0xd1, 0xd2, 0xd3:
		return r.negative(1 << (c - 0xd0))
	case 0xd9, 0xda, 0xdb:
		if u, err = r.uint(1<<(c-0xd9), [...]uint64{1 << 5, 1 << 8, 1 << 16}[c-0xd9]); err != nil {
			return token{}, err
		}
		return r.str(u)
	case 0xdc, 0xdd, 0xde, 0xdf:
		size, least, s := 2, uint64(1<<4), shapeArray
		if c&1 == 1 {
			size, least = 4, 1<<16
		}
		if c >= 0xde {
			s = shapeMap
		}
		if u, err = r.uint(size, least); err != nil {
			return token{}, err
		}
		return r.container(s, u)
	default:
		return token{}, errForeign
	}
	return token{shape: shapeUint, bits: u}, err
}

// negative reads a signed integer of 1, 2, 4 or 8 bytes, which must be negative and need that many.
func (r *reader) negative(size int) (token, error) {
	u, err := r.uint(size, 0)
	if err != nil {
		return token{}, err
	}
	shift := uint(64 - 8*size)
	i := int64(u<<shift) >> shift
	least := int64(-32)
	if size > 1 {
		least = -1 << (4*size - 1) // of half the size
	}
	if i >= least {
		return token{}, errLonger
	}
	return token{shape: shapeInt, bits: uint64(i)}, nil
}

func (r *reader) str(n uint64) (token, error) {
	if n > uint64(len(r.b)-r.at) {
		return token{}, errTooMany
	}
	s := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	if !utf8.Valid(s) {
		return token{}, errUTF8
	}
	return token{shape: shapeString, str: s}, nil
}

func (r *reader) container(s shape, n uint64) (token, error) {
	least := n // bytes that n elements take at least
	if s == shapeMap {
		least *= 2
	}
	if least > uint64(len(r.b)-r.at) {
		return token{}, errTooMany
	}
	return token{shape: s, n: int(n)}, nil
}

// key reads a map key and checks that it comes after prev (nil for the first).
func (r *reader) key(prev []byte, first bool) ([]byte, error) {
	t, err := r.next()
	if err != nil {
		return nil, err
	}
	if t.shape != shapeString {
		return nil, errors.New("a key is not a string")
	}
	if !first && string(t.str) <= string(prev) {
		return nil, errOrder
	}
	return t.str, nil
}

// each calls element for every element of a container; key is nil for arrays.
func (r *reader) each(t token, depth int, element func(i int, key []byte) error) error {
	if depth >= MaxDepth {
		return ErrTooDeep
	}
	var prev []byte
	for i := range t.n {
		if t.shape == shapeMap {
			k, err := r.key(prev, i == 0)
			if err != nil {
				return err
			}
			prev = k
		}
		if err := element(i, prev); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) skip(depth int) error {
	t, err := r.next()
	if err != nil || (t.shape != shapeArray && t.shape != shapeMap) {
		return err
	}
	return r.each(t, depth, func(int, []byte) error { return r.skip(depth + 1) })
}

func (r *reader) value(depth int) (any, error) {
	t, err := r.next()
	if err != nil {
		return nil, err
	}
	switch t.shape {
	case shapeArray:
		a := make([]any, 0, min(t.n, 1024)) // grows with what is really there
		err = r.each(t, depth, func(int, []byte) error {
			v, err := r.value(depth + 1)
			a = append(a, v)
			return err
		})
		return a, err
	case shapeMap:
		m := make(map[string]any, min(t.n, 1024))
		err = r.each(t, depth, func(_ int, k []byte) error {
			v, err := r.value(depth + 1)
			m[string(k)] = v
			return err
		})
		return m, err
	}
	return t.scalar(), nil
}

func (t token) scalar() any {
	switch t.shape {
	case shapeBool:
		return t.bits == 1
	case shapeInt:
		return int64(t.bits)
	case shapeUint:
		if t.bits > math.MaxInt64 {
			return t.bits
		}
		return int64(t.bits)
	case shapeFloat:
		return math.Float64frombits(t.bits)
	case shapeString:
		return string(t.str)
	}
	return nil
}

func (r *reader) appendJSON(out []byte, depth int) ([]byte, error) {
	t, err := r.next()
	if err != nil {
		return nil, err
	}
	if t.shape != shapeArray && t.shape != shapeMap {
		return t.appendJSON(out)
	}
	open, closing := byte('['), byte(']')
	if t.shape == shapeMap {
		open, closing = '{', '}'
	}
	out = append(out, open)
	err = r.each(t, depth, func(i int, k []byte) error {
		if i > 0 {
			out = append(out, ',')
		}
		if t.shape == shapeMap {
			var kerr error
			if out, kerr = appendJSONString(out, k); kerr != nil {
				return kerr
			}
			out = append(out, ':')
		}
		var eerr error
		out, eerr = r.appendJSON(out, depth+1)
		return eerr
	})
	return append(out, closing), err
}

func (t token) appendJSON(out []byte) ([]byte, error) {
	switch t.shape {
	case shapeBool:
		return strconv.AppendBool(out, t.bits == 1), nil
	case shapeInt:
		return strconv.AppendInt(out, int64(t.bits), 10), nil
	case shapeUint:
		return strconv.AppendUint(out, t.bits, 10), nil
	case shapeFloat:
		return appendJSONFloat(out, math.Float64frombits(t.bits)), nil
	case shapeString:
		return appendJSONString(out, t.str)
	}
	return append(out, "null"...), nil
}

// appendJSONFloat writes the shortest text that reads back as f, and marks integral values as floats.
func appendJSONFloat(out []byte, f float64) []byte {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return append(out, s...)
}

func appendJSONString(out, s []byte) ([]byte, error) {
	plain := true
	for _, c := range s {
		if c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		out = append(out, '"')
		out = append(out, s...)
		return append(out, '"'), nil
	}
	text, err := json.Marshal(string(s))
	return append(out, text...), err
}
