package modbus

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/skerry/skerry/mappers/device"
)

// format is how a datum is laid out in bits or registers.
type format uint8

const (
	formatBool format = iota + 1
	formatInt8
	formatUint8
	formatInt16
	formatUint16
	formatInt32
	formatUint32
	formatInt64
	formatUint64
	formatFloat16
	formatFloat32
	formatFloat64
	formatBCD16
	formatBCD32
	formatBCD64
	formatString
	formatBytes
)

// shape is what is fixed about a format.
type shape struct {
	name      string
	registers uint16 // 0: as many as the visitor says
	bits      uint8  // of the number
	signed    bool
}

var shapes = [...]shape{
	formatBool: {"bool", 1, 16, false}, formatInt8: {"int8", 1, 8, true}, formatUint8: {"uint8", 1, 8, false},
	formatInt16: {"int16", 1, 16, true}, formatUint16: {"uint16", 1, 16, false}, formatInt32: {"int32", 2, 32, true}, formatUint32: {"uint32", 2, 32, false},
	formatInt64: {"int64", 4, 64, true}, formatUint64: {"uint64", 4, 64, false},
	formatFloat16: {"float16", 1, 16, true}, formatFloat32: {"float32", 2, 32, true}, formatFloat64: {"float64", 4, 64, true},
	formatBCD16: {"bcd16", 1, 16, false}, formatBCD32: {"bcd32", 2, 32, false}, formatBCD64: {"bcd64", 4, 64, false},
	formatString: {"string", 0, 0, false}, formatBytes: {"bytes", 0, 0, false},
}

func (f format) String() string { return shapes[f].name }

func (f format) integer() bool { return f >= formatInt8 && f <= formatUint64 }

func (f format) float() bool { return f >= formatFloat16 && f <= formatFloat64 }

func (f format) bcd() bool { return f >= formatBCD16 && f <= formatBCD64 }

// text tells a format whose datum is not a number.
func (f format) text() bool { return f == formatString || f == formatBytes }

// order is how registers make a datum. The zero order is big-endian throughout (ABCDEFGH), as the specification recommends.
type order struct {
	swapBytes bool // bytes of each register exchanged (BADC): KubeEdge's isSwap
	swapWords bool // registers of each 32 bits exchanged (CDAB)
	swapLongs bool // halves of 64 bits exchanged (EFGHABCD)
}

// arrange brings registers into big-endian order, or back: it is its own inverse. b is changed in place.
func (o order) arrange(b []byte) {
	if o.swapBytes {
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
	if o.swapWords {
		for i := 0; i+3 < len(b); i += 4 {
			b[i], b[i+1], b[i+2], b[i+3] = b[i+2], b[i+3], b[i], b[i+1]
		}
	}
	if o.swapLongs && len(b) == 8 {
		for i := range 4 {
			b[i], b[i+4] = b[i+4], b[i]
		}
	}
}

// name spells the order for a value of so many registers.
func (o order) name(registers uint16) string {
	letters := []byte("ABCDEFGH")
	switch registers {
	case 2:
		letters = letters[:4]
	case 4:
	default:
		letters = letters[:2]
	}
	o.arrange(letters)
	return string(letters)
}

var (
	orderWords = map[string]order{
		"ab": {}, "abcd": {}, "abcdefgh": {}, "big": {}, "ba": {swapBytes: true}, "badc": {swapBytes: true}, "badcfehg": {swapBytes: true},
		"cdab": {swapWords: true, swapLongs: true}, "ghefcdab": {swapWords: true, swapLongs: true},
		"dcba": {true, true, true}, "hgfedcba": {true, true, true}, "little": {true, true, true},
		"cdabghef": {swapWords: true}, "efghabcd": {swapLongs: true}, "dcbahgfe": {swapBytes: true, swapWords: true}, "fehgbadc": {swapBytes: true, swapLongs: true},
	}
	orderAllowed = []string{"ABCD (big-endian)", "CDAB (registers swapped)", "BADC (bytes swapped)", "DCBA (little-endian)", "AB or BA for one register or a string",
		"ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA", "CDABGHEF", "EFGHABCD", "DCBAHGFE", "FEHGBADC for 64 bits"}
)

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
	switch {
	case s.factor == 0:
		return raw
	case s.divisor != 0:
		return raw / s.divisor
	}
	return raw * s.factor
}

func (s scale) remove(v float64) float64 {
	switch {
	case s.factor == 0:
		return v
	case s.divisor != 0:
		return v * s.divisor
	}
	return v / s.factor
}

// layout says how registers hold a value, in full. It is immutable.
type layout struct {
	format format
	width  uint16 // registers
	order  order
	bit    int8   // of a bool within its register: 0 is the least significant; -1: the register as a whole
	low    bool   // of an 8-bit format: the less significant byte
	mask   uint64 // what of the register's bits counts; 0: all
	shift  uint8  // how far the masked bits are moved right
	frac   uint8  // binary digits behind the point of a fixed-point number
	scale  scale
	add    float64 // is added after scaling
	min    float64 // guard: outside of [min, max] is no value
	max    float64
	guard  bool
	pad    byte // what fills a string up
	latin  bool // a string is in ISO 8859-1 and not in UTF-8
}

// layouts keeps one of each layout: the points of a gateway, a hundred thousand perhaps, have a handful between them. It is safe for
// concurrent use.
type layouts struct {
	mu    sync.Mutex
	known map[layout]*layout
}

// maxLayouts bounds what is kept. Points beyond have a layout of their own.
const maxLayouts = 1024

// share returns the one that is equal to l.
func (s *layouts) share(l *layout) *layout {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[*l]; k != nil {
		return k
	}
	if s.known == nil {
		s.known = make(map[layout]*layout)
	}
	if len(s.known) < maxLayouts {
		s.known[*l] = l
	}
	return l
}

// linear tells that a value is not the raw number itself.
func (l *layout) linear() bool { return !l.scale.one() || l.add != 0 || l.frac != 0 }

// partial tells that the value shares its registers with something else, so that a write must leave the other bits alone.
func (l *layout) partial() bool {
	return l.bit >= 0 || l.mask != 0 || l.format == formatInt8 || l.format == formatUint8
}

// field returns which bits of the big-endian number the value occupies, and how far they are moved right.
func (l *layout) field() (mask uint64, shift uint8) {
	switch {
	case l.bit >= 0:
		return 1 << l.bit, uint8(l.bit)
	case l.mask != 0:
		return l.mask, l.shift
	case l.format == formatInt8 || l.format == formatUint8:
		if l.low {
			return 0xFF, 0
		}
		return 0xFF00, 8
	}
	return math.MaxUint64 >> (64 - 16*l.width), 0
}

func (l *layout) String() string {
	var b strings.Builder
	b.WriteString(l.format.String())
	switch {
	case l.format == formatInt8 || l.format == formatUint8:
		b.WriteString(map[bool]string{true: "-low", false: "-high"}[l.low])
	case l.bit >= 0:
		fmt.Fprintf(&b, ", bit %d", l.bit)
	case l.format.text():
		fmt.Fprintf(&b, " of %d registers", l.width)
	}
	if l.order != (order{}) {
		b.WriteString(" " + l.order.name(l.width))
	}
	if l.mask != 0 {
		fmt.Fprintf(&b, " & %#x", l.mask)
		if l.shift != 0 {
			fmt.Fprintf(&b, " >> %d", l.shift)
		}
	}
	if l.frac != 0 {
		fmt.Fprintf(&b, " / 2^%d", l.frac)
	}
	if !l.scale.one() {
		b.WriteString(" × " + device.Float(l.scale.factor).Text())
	}
	if l.add != 0 {
		b.WriteString(" + " + device.Float(l.add).Text())
	}
	return b.String()
}

// typeWord is what a word for a type says beside its format.
type typeWord struct {
	format format
	low    bool
	frac   uint8
}

var typeWords = map[string]typeWord{
	"bool": {format: formatBool}, "boolean": {format: formatBool}, "bit": {format: formatBool},
	"int8high": {format: formatInt8}, "int8low": {format: formatInt8, low: true}, "uint8high": {format: formatUint8}, "uint8low": {format: formatUint8, low: true},
	"int16": {format: formatInt16}, "short": {format: formatInt16}, "uint16": {format: formatUint16}, "word": {format: formatUint16}, "ushort": {format: formatUint16},
	"int32": {format: formatInt32}, "uint32": {format: formatUint32}, "dword": {format: formatUint32}, "int64": {format: formatInt64}, "uint64": {format: formatUint64},
	"float16": {format: formatFloat16}, "half": {format: formatFloat16}, "float32": {format: formatFloat32}, "float": {format: formatFloat32},
	"float64": {format: formatFloat64}, "double": {format: formatFloat64},
	"bcd16": {format: formatBCD16}, "bcd": {format: formatBCD16}, "bcd32": {format: formatBCD32}, "lbcd": {format: formatBCD32}, "bcd64": {format: formatBCD64},
	"fixed16": {format: formatInt16, frac: 8}, "ufixed16": {format: formatUint16, frac: 8}, "fixed32": {format: formatInt32, frac: 16}, "ufixed32": {format: formatUint32, frac: 16},
	"string": {format: formatString}, "bytes": {format: formatBytes},
}

var typeAllowed = []string{"bool", "int8-high", "int8-low", "uint8-high", "uint8-low", "int16", "uint16", "int32", "uint32", "int64", "uint64",
	"float16", "float32", "float64", "bcd16", "bcd32", "bcd64", "fixed16", "ufixed16", "fixed32", "ufixed32", "string", "bytes"}

// ofWidth lists the orders that fit a value of so many registers.
func ordersOf(registers uint16) string {
	var out []string
	for w := range orderWords {
		if len(w) == int(2*registers) && strings.Trim(w, "abcdefgh") == "" {
			out = append(out, strings.ToUpper(w))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
