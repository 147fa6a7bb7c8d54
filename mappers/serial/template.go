package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// template is what is sent: bytes, with places for the device's station and for a value. It is immutable.
type template struct {
	source string
	parts  []part
}

// part is a literal or a place.
type part struct {
	literal []byte
	place   string // "", "station", "value"
	format  string // printf's, without the percent sign: flags, width, precision
	verb    byte   // of printf; 0 for the plain text
	binary  *field // a number's layout instead
}

var (
	placePattern  = regexp.MustCompile(`\{(value|station)(?::([^{}]*))?\}`)
	formatPattern = regexp.MustCompile(`^%([-+0 #]{0,5})([0-9]{0,2})(?:\.([0-9]{1,2}))?([dxXobfeEgGsc])$`)
)

const (
	maxTemplate = 1024
	maxWidth    = 40 // of a formatted number
)

// parseTemplate reads a template: text or "hex:" as in unescape, with {station} and {value}, each with a format after a colon. Braces
// around anything else are themselves, because templates may be JSON.
func parseTemplate(s string) (*template, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("is longer than %d bytes", maxTemplate)
	}
	t := &template{source: s}
	rest, hexed := strings.CutPrefix(s, "hex:")
	literal := func(text string) error {
		if hexed {
			text = "hex:" + text
		}
		b, err := unescape(text)
		if err == nil && len(b) > 0 {
			t.parts = append(t.parts, part{literal: b})
		}
		return err
	}
	for {
		m := placePattern.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		if err := literal(rest[:m[0]]); err != nil {
			return nil, err
		}
		p := part{place: rest[m[2]:m[3]]}
		if m[4] >= 0 {
			if err := p.parseFormat(rest[m[4]:m[5]]); err != nil {
				return nil, err
			}
		}
		t.parts = append(t.parts, p)
		rest = rest[m[1]:]
	}
	if err := literal(rest); err != nil {
		return nil, err
	}
	if len(t.parts) == 0 {
		return nil, errors.New("is empty")
	}
	return t, nil
}

func (p *part) parseFormat(s string) error {
	if f, ok := binaryFormats[strings.ToLower(s)]; ok {
		p.binary = &f
		return nil
	}
	m := formatPattern.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("has a format %q that is neither like %%05.1f nor like u16be", s)
	}
	width, _ := strconv.Atoi(m[2]) // the pattern allows two digits or none
	precision, _ := strconv.Atoi(m[3])
	if width > maxWidth || precision > maxWidth/2 {
		return fmt.Errorf("has a format %q with more than %d digits", s, maxWidth)
	}
	p.format, p.verb = s[1:len(s)-1], s[len(s)-1]
	return nil
}

// uses tells whether a place occurs.
func (t *template) uses(place string) bool {
	for _, p := range t.parts {
		if p.place == place {
			return true
		}
	}
	return false
}

// expand fills in the places. v may be a value without a datum if the template has none for it.
func (t *template) expand(station string, v device.Value) ([]byte, error) {
	var out []byte
	for _, p := range t.parts {
		switch p.place {
		case "":
			out = append(out, p.literal...)
			continue
		case "station":
			sv := device.String(station)
			if n, err := strconv.ParseInt(station, 0, 64); err == nil && (p.verb != 0 || p.binary != nil) {
				sv = device.Int(n)
			}
			b, err := p.render(sv)
			if err != nil {
				return nil, fmt.Errorf("the station %q: %w", station, err)
			}
			out = append(out, b...)
		default:
			b, err := p.render(v)
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
		if len(out) > maxTemplate {
			return nil, fmt.Errorf("what would be sent is longer than %d bytes", maxTemplate)
		}
	}
	return out, nil
}

// render writes a value in the part's format.
func (p *part) render(v device.Value) ([]byte, error) {
	switch {
	case v.Kind() == device.KindNone:
		return nil, errors.New("there is no value")
	case p.binary != nil:
		return p.binary.pack(v)
	case v.Kind() == device.KindBytes && (p.verb == 0 || p.verb == 's'):
		return v.AsBytes(), nil
	case p.verb == 0:
		return cleanText(v.Text())
	case p.verb == 's':
		s, err := cleanText(v.Text())
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%"+p.format+"s", s), nil
	case p.verb == 'c':
		s := v.Text()
		if n, ok := wholeNumber(v); ok && n >= 0 && n < 256 {
			return []byte{byte(n)}, nil
		}
		if len(s) != 1 || s[0] < ' ' {
			return nil, fmt.Errorf("%q is not one character", s)
		}
		return []byte(s), nil
	case strings.IndexByte("fFeEgG", p.verb) >= 0:
		if !numeric(v) {
			return nil, fmt.Errorf("%q is not a number", v.Text())
		}
		return fmt.Appendf(nil, "%"+p.format+string(p.verb), v.AsFloat()), nil
	}
	n, ok := wholeNumber(v)
	if !ok {
		return nil, fmt.Errorf("%q is not a whole number, as the format %%%s%c needs", v.Text(), p.format, p.verb)
	}
	return fmt.Appendf(nil, "%"+strings.Split(p.format, ".")[0]+string(p.verb), n), nil
}

// cleanText refuses control characters: a value must not end its own command and begin another one.
func cleanText(s string) ([]byte, error) {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F }); i >= 0 {
		return nil, fmt.Errorf("the value has a control character at byte %d", i+1)
	}
	return []byte(s), nil
}

func numeric(v device.Value) bool {
	return v.Kind() == device.KindInt || v.Kind() == device.KindUint || v.Kind() == device.KindFloat
}

func wholeNumber(v device.Value) (int64, bool) {
	switch v.Kind() {
	case device.KindInt:
		return v.AsInt(), true
	case device.KindUint:
		return int64(v.AsUint()), v.AsUint() <= math.MaxInt64
	case device.KindBool:
		if v.AsBool() {
			return 1, true
		}
		return 0, true
	case device.KindFloat:
		f := v.AsFloat()
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	case device.KindNone, device.KindString, device.KindBytes:
	}
	return 0, false
}

// binaryFormats are the layouts that a place may have.
var binaryFormats = map[string]field{
	"u8": {kind: unsigned, size: 1}, "i8": {kind: signed, size: 1},
	"u16be": {kind: unsigned, size: 2}, "i16be": {kind: signed, size: 2}, "u16le": {kind: unsigned, size: 2, order: little}, "i16le": {kind: signed, size: 2, order: little},
	"u32be": {kind: unsigned, size: 4}, "i32be": {kind: signed, size: 4}, "u32le": {kind: unsigned, size: 4, order: little}, "i32le": {kind: signed, size: 4, order: little},
	"u64be": {kind: unsigned, size: 8}, "i64be": {kind: signed, size: 8}, "u64le": {kind: unsigned, size: 8, order: little}, "i64le": {kind: signed, size: 8, order: little},
	"f32be": {kind: float, size: 4}, "f32le": {kind: float, size: 4, order: little}, "f64be": {kind: float, size: 8}, "f64le": {kind: float, size: 8, order: little},
}

// pack writes a number in a field's layout.
func (f *field) pack(v device.Value) ([]byte, error) {
	var raw uint64
	if f.kind == float {
		if !numeric(v) {
			return nil, fmt.Errorf("%q is not a number", v.Text())
		}
		x, most := v.AsFloat(), math.MaxFloat64
		raw = math.Float64bits(x)
		if f.size == 4 {
			raw, most = uint64(math.Float32bits(float32(x))), math.MaxFloat32
		}
		if !(math.Abs(x) <= most) { // not a number, too
			return nil, fmt.Errorf("%q does not fit: it is not a number from %g to %g", v.Text(), -most, most)
		}
	} else {
		n, ok := wholeNumber(v)
		low, high := int64(math.MinInt64)>>(64-8*f.size), uint64(math.MaxInt64)>>(64-8*f.size)
		if f.kind == unsigned {
			low, high = 0, math.MaxUint64>>(64-8*f.size)
		}
		large := v.Kind() == device.KindUint && v.AsUint() > math.MaxInt64 && v.AsUint() <= high // no int64 holds it
		if !large && (!ok || n < low || n > 0 && uint64(n) > high) {
			return nil, fmt.Errorf("%q is not a whole number from %d to %d", v.Text(), low, high)
		}
		raw = uint64(n)
	}
	var buf [8]byte
	binary.BigEndian.PutUint64(buf[:], raw)
	out := append([]byte(nil), buf[8-f.size:]...)
	f.order.arrange(out)
	return out, nil
}
