package serial

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// point is a compiled property. It is immutable.
type point struct {
	key     string // equal configurations have equal keys
	request *template
	filter  filter
	parser  parser
	scale   float64
	add     float64

	write     *template
	ack, nak  *regexp.Regexp
	readBack  bool
	trueText  string
	falseText string
	typ       device.Type
}

func (p *point) String() string {
	s := p.parser.String()
	if p.request != nil {
		s += " of the reply to " + visible([]byte(p.request.source))
	}
	if p.scale != 1 || p.add != 0 {
		s += fmt.Sprintf(", × %s + %s", device.Float(p.scale).Text(), device.Float(p.add).Text())
	}
	return s
}

// describeVisitor is the reference of a property's visitor.
func describeVisitor() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "request", Meaning: "what is sent to get this property; properties with the same request share the reply", Default: "the device's request", Allowed: "a template"},
		{Name: "prefix", Meaning: "what frames with this property begin with", Default: "any", Allowed: "a template without {value}"},
		{Name: "match", Meaning: "regular expression that frames with this property match", Default: "any", Allowed: "RE2, up to 512 bytes"},
		{Name: "pattern", Meaning: "regular expression with the value in a group", Default: "none", Allowed: "RE2, up to 512 bytes"},
		{Name: "group", Meaning: "the pattern's group with the value", Default: "the group named value, or the first one", Allowed: "a name or a number"},
		{Name: "offset", Meaning: "first byte of a binary value within the frame; negative ones count from the end", Default: "none", Allowed: "-65535 to 65535"},
		{Name: "type", Aliases: []string{"dataType"}, Meaning: "layout of a binary value", Default: "required beside offset", Allowed: "uint8, int8, uint16, int16, uint24, int24, uint32, int32, uint64, int64, float32, float64, bcd, bit, string, bytes"},
		{Name: "size", Meaning: "bytes of a binary value of type bcd, bit, string or bytes", Default: "1 for bcd and bit, else all that is left", Allowed: "1 to 65535; 8 at most for bcd and bit"},
		{Name: "order", Aliases: []string{"byteOrder", "wordOrder"}, Meaning: "byte order of a binary value", Default: "big", Allowed: "big (ABCD), little (DCBA), CDAB, BADC"},
		{Name: "bit", Meaning: "which bit, for type bit; 0 is the least significant one", Default: "0", Allowed: "0 to 63"},
		{Name: "sentence", Meaning: "NMEA 0183 sentence: GGA of any talker, or GNGGA of that one", Default: "none", Allowed: "3 to 8 letters and digits"},
		{Name: "field", Meaning: "field of the sentence, by number (the one after the address is 1) or by name", Default: "required beside sentence", Allowed: "1 to 80; GGA time, latitude, longitude, quality, satellites, hdop, altitude, geoid; RMC, GLL, VTG, GSA, ZDA, HDT, MWV, DBT likewise"},
		{Name: "checksumOptional", Meaning: "whether a sentence without a checksum is taken; one with a wrong checksum never is", Default: "false", Allowed: "true, false"},
		{Name: "column", Meaning: "column of separated values (CSV), from 1", Default: "none", Allowed: "1 to 1000"},
		{Name: "separator", Meaning: "what separates columns", Default: ",", Allowed: "1 byte, e.g. ; or \\t"},
		{Name: "path", Meaning: "where in a JSON text, e.g. sensors[2].temp", Default: "none", Allowed: "up to 16 keys and indices"},
		{Name: "base", Meaning: "base of whole numbers in text", Default: "10", Allowed: "10, 16"},
		{Name: "decimal", Meaning: "decimal separator of numbers in text", Default: "point", Allowed: "point, comma"},
		{Name: "trueText", Meaning: "text of a BOOLEAN that is true", Default: "true, 1, on, yes", Allowed: "up to 32 bytes"},
		{Name: "falseText", Meaning: "text of a BOOLEAN that is false", Default: "false, 0, off, no", Allowed: "up to 32 bytes"},
		{Name: "scale", Meaning: "what a number is multiplied by; desired values are divided by it", Default: "1", Allowed: "any number but 0"},
		{Name: "add", Meaning: "what is added after that", Default: "0", Allowed: "any number"},
		{Name: "write", Meaning: "what is sent to write a desired value", Default: "none: it cannot be written", Allowed: "a template with {value}"},
		{Name: "ack", Meaning: "regular expression that the reply to a write must match", Default: "no reply is awaited", Allowed: "RE2, up to 512 bytes"},
		{Name: "nak", Meaning: "regular expression of replies that refuse a write", Default: "none", Allowed: "RE2, up to 512 bytes"},
		{Name: "readBack", Meaning: "whether a written value is requested again to verify it", Default: "true if the property has a request", Allowed: "true, false"},
	}
}

// parsePoint judges a visitor without I/O.
func parsePoint(cfg device.PointConfig) (*point, error) {
	f := device.NewFields(cfg.Path, cfg.Visitor)
	p := &point{typ: cfg.Type, key: fmt.Sprintf("%d %v", cfg.Type, cfg.Visitor)}
	p.request = optionalTemplate(f, "request")
	if p.request != nil && p.request.uses("value") {
		f.Fail("request", p.request.source, "has a place for a value, and there is none", "{value} only in write")
	}
	p.filter = parseFilter(f)
	text := p.parseText(f)
	p.parser = parseParser(f, text)
	p.scale, p.add = f.Float(1, "scale"), f.Float(0, "add")
	if p.scale == 0 {
		f.Fail("scale", 0, "would make every value 0", "any number but 0")
	}
	if (f.Has("scale") || f.Has("add")) && !cfg.Type.Numeric() && cfg.Type != device.TypeString {
		f.Fail("scale", p.scale, "means nothing for a property of type "+cfg.Type.String(), "a property of type INT, FLOAT or DOUBLE")
	}
	if cfg.Type == device.TypeStream {
		f.Fail("type", nil, "a serial device has no values of the DeviceModel's type STREAM", "INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES")
	}
	p.parseWrite(f, cfg)
	if err := f.Err(describeVisitor()); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *point) parseText(f *device.Fields) textFormat {
	t := textFormat{typ: p.typ, base: 10}
	t.base = device.Choice(f, 10, map[string]int{"10": 10, "16": 16}, []string{"10", "16"}, "base")
	t.comma = device.Choice(f, false, map[string]bool{"point": false, ".": false, "comma": true, ",": true}, []string{"point", "comma"}, "decimal")
	t.trueText, t.falseText = f.Text("", "trueText"), f.Text("", "falseText")
	for _, w := range [][2]string{{"trueText", t.trueText}, {"falseText", t.falseText}} {
		if len(w[1]) > 32 {
			f.Fail(w[0], w[1], "is too long", "up to 32 bytes")
		}
	}
	p.trueText, p.falseText = t.trueText, t.falseText
	return t
}

// parsers are the fields that choose a parser, of which one at most may be given.
var parsers = []string{"pattern", "offset", "sentence", "column", "path"}

func parseParser(f *device.Fields, t textFormat) parser {
	chosen := ""
	for _, name := range parsers {
		if !f.Has(name) {
			continue
		}
		if chosen != "" {
			f.Fail(name, f.Text("", name), "is given beside "+chosen, "one of "+strings.Join(parsers, ", "))
		}
		chosen = name
	}
	for _, b := range []struct{ name, owner string }{
		{"group", "pattern"}, {"type", "offset"}, {"dataType", "offset"}, {"size", "offset"}, {"order", "offset"}, {"byteOrder", "offset"},
		{"wordOrder", "offset"}, {"bit", "offset"}, {"field", "sentence"}, {"checksumOptional", "sentence"}, {"separator", "column"},
	} {
		if b.owner != chosen && f.Has(b.name) {
			f.Fail(b.name, f.Text("", b.name), "means nothing without "+b.owner, "leave it out, or give "+b.owner)
		}
	}
	switch chosen {
	case "pattern":
		return parsePattern(f, t)
	case "offset":
		return parseField(f)
	case "sentence":
		return parseNMEA(f, t)
	case "column":
		p := &cellParser{column: int(f.Int(1, 1, 1000, "column")), separator: ',', text: t}
		sep, err := unescape(f.Verbatim(",", "separator"))
		if err != nil || len(sep) != 1 || sep[0] == '"' {
			f.Fail("separator", f.Verbatim("", "separator"), "is not one byte", "1 byte, e.g. ; or \\t")
			return p
		}
		p.separator = sep[0]
		return p
	case "path":
		p := &jsonParser{shown: f.Text("", "path"), text: t}
		var err error
		if p.path, err = parsePath(p.shown); err != nil {
			f.Fail("path", p.shown, err.Error(), "keys with dots between them, indices in brackets: sensors[2].temp")
		}
		return p
	}
	return &wholeParser{text: t}
}

func parsePattern(f *device.Fields, t textFormat) parser {
	p := &patternParser{text: t, pattern: optionalPattern(f, "pattern")}
	if p.pattern == nil {
		return p // refused already
	}
	name, ok := f.Text("", "group"), false
	if p.group, ok = pickGroup(p.pattern, name); !ok {
		f.Fail("group", name, "is not a group of the pattern", "a name or a number of one of its groups: "+strings.Join(p.pattern.SubexpNames()[1:], ", "))
	}
	return p
}

var orderWords = map[string]order{"big": big, "abcd": big, "ab": big, "little": little, "dcba": little, "ba": little, "cdab": cdab, "badc": badc}

func parseField(f *device.Fields) parser {
	f.Require(strings.Join(fieldAllowed, ", "), "type", "dataType")
	p := &fieldParser{device.Choice(f, field{kind: unsigned, size: 1}, fieldWords, fieldAllowed, "type", "dataType")}
	p.offset = int(f.Int(0, -65535, 65535, "offset"))
	p.order = device.Choice(f, big, orderWords, []string{"big (ABCD)", "little (DCBA)", "CDAB", "BADC"}, "order", "byteOrder", "wordOrder")
	p.bit = int(f.Int(0, 0, 63, "bit"))
	size := int(f.Int(0, 1, 65535, "size"))
	switch p.kind {
	case bcd, bit:
		if size > 8 || p.kind == bit && p.bit >= 8*max(size, 1) {
			f.Fail("size", size, "does not fit the type", "1 to 8, and large enough for bit")
		}
		p.size = max(size, 1)
	case text, raw:
		p.size = size
	case unsigned, signed, float:
		if size != 0 && size != p.size {
			f.Fail("size", size, fmt.Sprintf("the type has %d", p.size), "leave it out")
		}
	}
	if f.Has("bit") && p.kind != bit {
		f.Fail("bit", p.bit, "means nothing for this type", "type: bit")
	}
	if (p.order == cdab || p.order == badc) && p.size%2 != 0 {
		f.Fail("order", "CDAB", "needs an even number of bytes", "big, little")
	}
	return p
}

func parseNMEA(f *device.Fields, t textFormat) parser {
	f.Require("1 to 80, or a name", "field")
	p := &nmeaParser{sentence: strings.ToUpper(f.Text("", "sentence")), name: f.Text("1", "field"), text: t}
	if n := len(p.sentence); n < 3 || n > 8 || strings.ContainsFunc(p.sentence, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		f.Fail("sentence", p.sentence, "is not the name of a sentence", "3 to 8 letters and digits, without $: GGA, GNRMC")
		return p
	}
	found, ok := findNMEAField(p.sentence, p.name)
	if !ok {
		f.Fail("field", p.name, "is not a field of sentence "+p.sentence, "1 to 80, or a name that the manual lists")
	}
	if found.number == 0 {
		found.number = 1
	}
	p.field, p.coordinate = found.number, found.coordinate
	if p.name[0] >= '0' && p.name[0] <= '9' {
		p.name = "field " + p.name
	}
	p.unsummed = f.Bool(false, "checksumOptional")
	return p
}

func (p *point) parseWrite(f *device.Fields, cfg device.PointConfig) {
	p.write = optionalTemplate(f, "write")
	p.ack, p.nak = optionalPattern(f, "ack"), optionalPattern(f, "nak")
	p.readBack = f.Bool(true, "readBack")
	if cfg.Writable && p.write == nil {
		f.Require("a template with {value}; or accessMode ReadOnly in the DeviceModel", "write")
	}
	if p.write == nil {
		for _, name := range []string{"ack", "nak"} {
			if f.Has(name) {
				f.Fail(name, f.Text("", name), "means nothing without write", "leave it out, or give write")
			}
		}
	}
}

// read takes the point's value out of a message that the filters let pass.
func (p *point) read(m *message) (device.Value, error) {
	v, err := p.parser.parse(m)
	if err != nil || p.scale == 1 && p.add == 0 || !numeric(v) {
		return v, err
	}
	x := decimal(v) * p.scale
	return device.Float(settled(x+p.add, max(math.Abs(x), math.Abs(p.add)))), nil
}

// decimal is the number that v shows: a 32-bit float means its few digits, and not the 64-bit number that is next to them.
func decimal(v device.Value) float64 {
	if f, err := strconv.ParseFloat(v.Text(), 64); err == nil {
		return f
	}
	return v.AsFloat()
}

// settled is tidy for a sum of numbers as large as operand: 273.1 - 273.15 is -0.05, and not the -0.0499999999999545 that is left of the digits.
func settled(sum, operand float64) float64 {
	digits := 15 - int(math.Ceil(math.Log10(operand)))
	if math.Abs(sum) >= operand/2 || digits < 0 || digits > 22 { // nothing was cancelled, or all is tiny; powers of ten up to 22 are exact
		return tidy(sum)
	}
	p := math.Pow10(digits)
	return tidy(math.Round(sum*p) / p)
}

// tidy rounds to 15 significant digits: the product of two decimal fractions is seldom the decimal fraction that was meant.
func tidy(f float64) float64 {
	out, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 15, 64), 64)
	if err != nil {
		return f
	}
	return out
}

// command is what writes a value.
func (p *point) command(station string, v device.Value) ([]byte, error) {
	if p.write == nil {
		return nil, errors.New("the property has no write template")
	}
	switch {
	case numeric(v) && (p.scale != 1 || p.add != 0):
		x := decimal(v)
		v = device.Float(settled((x-p.add)/p.scale, max(math.Abs(x), math.Abs(p.add))/math.Abs(p.scale)))
	case v.Kind() == device.KindBool && v.AsBool() && p.trueText != "":
		v = device.String(p.trueText)
	case v.Kind() == device.KindBool && !v.AsBool() && p.falseText != "":
		v = device.String(p.falseText)
	}
	return p.write.expand(station, v)
}

// CheckValue implements device.ValueChecker. The device's own station does not matter for what a value may be.
func (p *point) CheckValue(v device.Value) error {
	_, err := p.command("0", v)
	return err
}
