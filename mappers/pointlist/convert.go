package pointlist

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// cellSet is what a list says of one point, by column.
type cellSet struct {
	line int
	get  func(column string) string
}

// converter makes points of cells.
type converter struct {
	options    Options
	list       *List
	comma      bool // a comma is a decimal one
	seen       map[string]int
	addressing string // of plain numbers: zero, one, modicon
}

// decideAddressing finds out how the list counts, from all of its plain numbers together: one alone says too little.
func (c *converter) decideAddressing(cells []cellSet) {
	if c.addressing = c.options.Addressing; c.addressing != "auto" {
		return
	}
	plain, fits, tables := 0, 0, c.options.Table != ""
	for _, s := range cells {
		if isNeuron(s.get("address")) { // whose addresses say it all
			c.addressing = "modicon"
			return
		}
		p, err := addressOf(s.get("address"))
		if err != nil || p.digits == 0 {
			continue
		}
		plain++
		table, _, ok := p.modicon()
		t, given := tableOf(s.get("table"))
		if ok && (!given || t == table) {
			fits++
		}
		tables = tables || given
	}
	c.addressing = "zero"
	switch {
	case plain == 0:
	case fits == plain, 4*fits >= 3*plain && !tables: // nothing else says a table: the few that do not fit are the ones that are wrong
		c.addressing = "modicon"
		c.list.note("addresses are taken as 40001 or 400001: the first digit is the table, and the rest counts from 1 (--addressing zero: they are what goes over the wire)")
	default:
		c.list.note("addresses are taken as what goes over the wire, from 0 (--addressing one: the list counts from 1; --addressing modicon: 40001)")
	}
}

// point converts one point, or refuses it.
func (c *converter) point(s cellSet) {
	name := PropertyName(s.get("name"))
	p, err := c.convert(s)
	if err != nil {
		c.list.refuse(s.line, s.get("name"), "%v", err)
		return
	}
	key := fmt.Sprint(p.Station, " ", name)
	if name == "" {
		c.list.refuse(s.line, s.get("name"), "the point has no name")
		return
	}
	if first, taken := c.seen[key]; taken {
		c.list.refuse(s.line, s.get("name"), "line %d has a point of the same name (%s)", first, name)
		return
	}
	c.seen[key] = s.line
	p.Line, p.Name = s.line, name
	if d := s.get("description"); d != s.get("name") {
		p.Description = d
	}
	c.list.Points = append(c.list.Points, p)
}

func (c *converter) convert(s cellSet) (Point, error) {
	p := Point{Station: -1, Unit: s.get("unit"), Visitor: map[string]any{}}
	if isNeuron(s.get("address")) {
		var err error
		if s, err = neuronCells(s); err != nil {
			return p, err
		}
	}
	at, table, offset, err := c.locate(s)
	if err != nil {
		return p, err
	}
	t, err := c.typeFor(s, at, table)
	if err != nil {
		return p, err
	}
	p.Visitor["register"], p.Visitor["offset"], p.Type = table, offset, t.model
	bits := table == "coil" || table == "discrete"
	if !bits {
		p.Visitor["type"] = t.visitor
	}
	for _, step := range []func(cellSet, *Point, place, valueType, bool) error{c.length, c.bit, c.order, c.scaling, c.access, c.limits, c.rest} {
		if err := step(s, &p, at, t, bits); err != nil {
			return p, err
		}
	}
	if offset+int64(max(t.width, 1)) > 65536 {
		return p, fmt.Errorf("address %s is beyond the last one", s.get("address"))
	}
	return p, nil
}

// locate finds table and address on the wire.
func (c *converter) locate(s cellSet) (at place, table string, offset int64, err error) {
	text := s.get("address")
	if text == "" {
		return at, "", 0, fmt.Errorf("the point has no address")
	}
	if at, err = addressOf(text); err != nil {
		return at, "", 0, err
	}
	given := s.get("table")
	if given != "" {
		var ok bool
		if table, ok = tableOf(given); !ok {
			return at, "", 0, fmt.Errorf("register type %q is not understood: holding, input, coil, discrete, or a function code 1 to 6, 15, 16", clip(given))
		}
	}
	if m, o, ok := at.modicon(); ok && c.addressing == "modicon" {
		if table != "" && table != m {
			return at, "", 0, fmt.Errorf("address %s is a %s, and the register type says %s", text, m, table)
		}
		return at, m, o, nil
	}
	if c.addressing == "modicon" && at.digits > 0 && (c.options.Addressing == "modicon" || table == "" && c.options.Table == "") {
		return at, "", 0, fmt.Errorf("address %s is none of 5 or 6 digits whose first is 0, 1, 3 or 4", text)
	}
	offset = at.number
	switch {
	case at.table != "" && table != "" && at.table != table:
		return at, "", 0, fmt.Errorf("address %s is a %s, and the register type says %s", text, at.table, table)
	case at.table != "":
		if table = at.table; len(text) > 1 && (text[1] == 'x' || text[1] == 'X' || text[1] == ':') {
			offset-- // 4x0001 is the first register
		}
	case table == "":
		if table = c.options.Table; table == "" {
			return at, "", 0, fmt.Errorf("address %s does not say in which table it is: the list needs a column with the register type or the function code, or give --table holding", text)
		}
	}
	if c.addressing == "one" && at.table == "" {
		offset--
	}
	if offset < 0 || offset > 65535 {
		return at, "", 0, fmt.Errorf("address %s is not within 0 to 65535", text)
	}
	return at, table, offset, nil
}

// typeFor finds the layout of a value.
func (c *converter) typeFor(s cellSet, at place, table string) (valueType, error) {
	if table == "coil" || table == "discrete" || at.bit >= 0 || s.get("bit") != "" && s.get("bit") != "-" {
		return valueTypes["bool"], nil
	}
	text := s.get("type")
	if text == "" {
		text = c.options.Type
	}
	if text == "" {
		return valueType{}, fmt.Errorf("the point has no type: give --type uint16, or a column with types")
	}
	t, ok := typeOf(text)
	if !ok {
		return t, fmt.Errorf("type %q is not understood: %s, and their usual names", clip(text), typeNames)
	}
	return c.widen(t, s, at)
}

// widen takes a type that says nothing of its size as what the number of registers says: "unsigned" in two registers is 32 bits.
func (c *converter) widen(t valueType, s cellSet, at place) (valueType, error) {
	n := registersOf(s, at)
	if n == 0 || t.width == 0 || n == t.width {
		return t, nil
	}
	word := squeeze(s.get("type"))
	sized := strings.ContainsAny(word, "0123456789")
	wider := map[string]map[int]string{
		"int16": {2: "int32", 4: "int64"}, "uint16": {2: "uint32", 4: "uint64"}, "float32": {4: "float64"}, "bcd16": {2: "bcd32"},
	}
	if w, ok := wider[t.visitor][n]; ok && !sized {
		return valueTypes[w], nil
	}
	return t, fmt.Errorf("type %q takes %d registers, and the list says %d", clip(s.get("type")), t.width, n)
}

// registersOf is how many registers the list says; 0 if it does not.
func registersOf(s cellSet, at place) int {
	if at.last >= 0 {
		return int(at.last-at.number) + 1
	}
	n, err := strconv.Atoi(s.get("length"))
	if err != nil {
		return 0
	}
	return n
}

func (c *converter) length(s cellSet, p *Point, at place, t valueType, bits bool) error {
	if bits || t.width != 0 {
		return nil
	}
	n := registersOf(s, at)
	if n == 0 {
		if i := strings.IndexAny(s.get("type"), "(["); i >= 0 { // STRING(20): characters
			if chars, err := strconv.Atoi(strings.Trim(s.get("type")[i:], "()[] ")); err == nil {
				n = (chars + 1) / 2
			}
		}
	}
	if n < 1 || n > 123 {
		return fmt.Errorf("a %s needs its length in registers, 1 to 123: a column with it, an address like 40001-40010, or a type like STRING(20)", t.visitor)
	}
	p.Visitor["limit"] = n
	return nil
}

func (c *converter) bit(s cellSet, p *Point, at place, _ valueType, bits bool) error {
	text := s.get("bit")
	bit := at.bit
	if text != "" && text != "-" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 15 {
			return fmt.Errorf("bit %q is not within 0 to 15", clip(text))
		}
		bit = n
	}
	if bit < 0 {
		return nil
	}
	if bits {
		return fmt.Errorf("a %v is a single bit, and the list gives bit %d of it", p.Visitor["register"], bit)
	}
	p.Visitor["bit"] = bit
	return nil
}

func (c *converter) order(s cellSet, p *Point, _ place, t valueType, bits bool) error {
	order := c.options.Order
	if text := s.get("order"); text != "" && text != "-" {
		o, ok := orderWords[squeeze(text)]
		if !ok {
			return fmt.Errorf("byte order %q is not understood: ABCD, CDAB, BADC, DCBA, big, little, swapped", clip(text))
		}
		order = o
	}
	if order == "" || order == "ABCD" || order == "AB" || bits || t.width < 2 && order != "BA" {
		return nil
	}
	p.Visitor["wordOrder"] = order
	return nil
}

func (c *converter) scaling(s cellSet, p *Point, _ place, t valueType, _ bool) error {
	scale, add := 1.0, 0.0
	if text := s.get("scale"); text != "" && text != "-" {
		var ok bool
		if scale, ok = factor(text, c.comma); !ok {
			return fmt.Errorf("scale %q is not understood: 0.1, x0.1, /10, 1/10 and 10^-1 are; a number like 1,234 could be two", clip(text))
		}
	}
	if text := s.get("add"); text != "" && text != "-" {
		var ok bool
		if add, ok = number(text, c.comma); !ok {
			return fmt.Errorf("value offset %q is not a number", clip(text))
		}
	}
	if scale == 1 && add == 0 {
		return nil
	}
	if t.model == "BOOLEAN" || t.model == "STRING" || t.model == "BYTES" {
		return fmt.Errorf("a %s cannot be scaled (by %v)", t.visitor, scale)
	}
	if scale != 1 {
		p.Visitor["scale"] = scale
	}
	if add != 0 {
		p.Visitor["valueOffset"] = add
	}
	if t.model == "INT" && (scale != math.Trunc(scale) || add != math.Trunc(add)) {
		if p.Type = "FLOAT"; t.width > 1 {
			p.Type = "DOUBLE"
		}
	}
	return nil
}

func (c *converter) access(s cellSet, p *Point, _ place, _ valueType, _ bool) error {
	text := s.get("access")
	if text == "" || text == "-" {
		c.list.note("points without access rights are read-only")
		return nil
	}
	writable, only, ok := accessOf(text)
	if !ok {
		return fmt.Errorf("access %q is not understood: R, RO, RW, R/W, WO, read, read/write", clip(text))
	}
	if table := p.Visitor["register"]; writable && (table == "input" || table == "discrete") {
		c.list.note("points of tables that can only be read are read-only, whatever the list says")
		writable, only = false, false
	}
	p.Writable = writable
	if only {
		p.Visitor["readBack"] = false
	}
	return nil
}

func (c *converter) limits(s cellSet, p *Point, _ place, _ valueType, _ bool) error {
	if p.Type != "INT" && p.Type != "FLOAT" && p.Type != "DOUBLE" {
		return nil
	}
	for column, into := range map[string]*string{"minimum": &p.Minimum, "maximum": &p.Maximum} {
		text := s.get(column)
		if text == "" || text == "-" {
			continue
		}
		n, ok := number(text, c.comma)
		if !ok {
			return fmt.Errorf("%s %q is not a number", column, clip(text))
		}
		*into = strconv.FormatFloat(n, 'f', -1, 64)
		if len(*into) > 64 {
			return fmt.Errorf("%s %q has too many digits", column, clip(text))
		}
	}
	return nil
}

// rest reads what is neither where nor how.
func (c *converter) rest(s cellSet, p *Point, _ place, _ valueType, _ bool) error {
	if text := s.get("cycle"); text != "" && text != "-" {
		ms, ok := number(strings.TrimSuffix(strings.TrimSpace(strings.ToLower(text)), "ms"), c.comma)
		if !ok || ms < 0 || ms > 604800000 || ms != math.Trunc(ms) {
			return fmt.Errorf("cycle %q is not a number of milliseconds", clip(text))
		}
		p.Cycle = int64(ms)
		if p.Cycle > 0 && p.Cycle < 10 {
			return fmt.Errorf("cycle %q is shorter than 10 ms", clip(text))
		}
	}
	if text := s.get("station"); text != "" && text != "-" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 255 {
			return fmt.Errorf("unit id %q is not within 0 to 255", clip(text))
		}
		p.Station = n
	}
	return nil
}
