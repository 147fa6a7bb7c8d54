package serial

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/skerry/skerry/mappers/device"
)

// kind is how the bytes of a binary field are to be understood.
type kind uint8

const (
	unsigned kind = iota
	signed
	float
	bcd
	bit
	text
	raw
)

// order is in which order a number's bytes stand.
type order uint8

const (
	big    order = iota
	little       // DCBA
	cdab         // words swapped
	badc         // bytes within words swapped
)

// arrange turns big-endian bytes into the order, and back.
func (o order) arrange(p []byte) {
	switch o {
	case little:
		slices.Reverse(p)
	case cdab, badc:
		if o == cdab {
			slices.Reverse(p)
		}
		for i := 0; i+1 < len(p); i += 2 {
			p[i], p[i+1] = p[i+1], p[i]
		}
	case big:
	}
}

// field is a field of a binary frame.
type field struct {
	offset int // from the end if negative
	kind   kind
	size   int // bytes; 0 for text and raw means all that is left
	order  order
	bit    int // of a bit: 0 is the least significant one
}

var fieldWords = map[string]field{
	"uint8": {kind: unsigned, size: 1}, "int8": {kind: signed, size: 1}, "uint16": {kind: unsigned, size: 2}, "int16": {kind: signed, size: 2},
	"uint24": {kind: unsigned, size: 3}, "int24": {kind: signed, size: 3}, "uint32": {kind: unsigned, size: 4}, "int32": {kind: signed, size: 4},
	"uint64": {kind: unsigned, size: 8}, "int64": {kind: signed, size: 8}, "float32": {kind: float, size: 4}, "float64": {kind: float, size: 8},
	"bcd": {kind: bcd, size: 1}, "bool": {kind: bit, size: 1}, "bit": {kind: bit, size: 1}, "string": {kind: text}, "bytes": {kind: raw},
}

var fieldAllowed = []string{"uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64", "float32", "float64", "bcd", "bit", "string", "bytes"}

// read takes the field out of a frame.
func (f *field) read(frame []byte) (device.Value, error) {
	at := f.offset
	if at < 0 {
		at += len(frame)
	}
	size := f.size
	if size == 0 {
		size = len(frame) - at
	}
	if at < 0 || size < 0 || at+size > len(frame) {
		return device.Value{}, fmt.Errorf("the frame has %d bytes, and the field would be bytes %d to %d", len(frame), at, at+size-1)
	}
	data := frame[at : at+size]
	switch f.kind {
	case text:
		return textValue(data)
	case raw:
		if len(data) > maxText {
			return device.Value{}, fmt.Errorf("the value has %d bytes; %d at most are kept", len(data), maxText)
		}
		return device.Bytes(data), nil
	case bcd, bit, float, signed, unsigned:
	}
	var buf [8]byte
	number := buf[8-size:]
	copy(number, data)
	f.order.arrange(number)
	n := binary.BigEndian.Uint64(buf[:])
	switch f.kind {
	case bcd:
		return readBCD(number)
	case bit:
		return device.Bool(n>>f.bit&1 != 0), nil
	case float:
		if size == 4 {
			return device.Float32(math.Float32frombits(uint32(n))), nil
		}
		return device.Float(math.Float64frombits(n)), nil
	case signed:
		shift := 64 - 8*size
		return device.Int(int64(n<<shift) >> shift), nil
	case unsigned, text, raw:
	}
	if n <= math.MaxInt64 {
		return device.Int(int64(n)), nil
	}
	return device.Uint(n), nil
}

func readBCD(p []byte) (device.Value, error) {
	n := int64(0)
	for _, b := range p {
		if b>>4 > 9 || b&15 > 9 {
			return device.Value{}, fmt.Errorf("% x is not a number in BCD", p)
		}
		n = n*100 + int64(b>>4)*10 + int64(b&15)
	}
	return device.Int(n), nil
}
