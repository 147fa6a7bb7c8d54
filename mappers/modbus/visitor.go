package modbus

import (
	"fmt"
	"math"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

var (
	registerWords = map[string]table{
		"coil": coils, "coils": coils, "coilregister": coils,
		"discrete": discreteInputs, "discreteinput": discreteInputs, "discreteinputs": discreteInputs, "discreteinputregister": discreteInputs,
		"input": inputRegisters, "inputregister": inputRegisters, "inputregisters": inputRegisters,
		"holding": holdingRegisters, "holdingregister": holdingRegisters, "holdingregisters": holdingRegisters,
	}
	registerAllowed = []string{"holding (HoldingRegister)", "input (InputRegister)", "coil (CoilRegister)", "discrete (DiscreteInputRegister)"}
	paddingWords    = map[string]byte{"zero": 0, "nul": 0, "null": 0, "space": ' ', "blank": ' '}
	charsetWords    = map[string]bool{"utf8": false, "ascii": false, "latin1": true, "iso88591": true}

	orderNames = []string{"wordOrder", "byteOrder"}
	typeNames  = []string{"type", "dataType"}
	limitNames = []string{"limit", "quantity"}
	addNames   = []string{"valueOffset", "bias"}
)

// describeVisitor is the reference of a property's visitor.
func describeVisitor() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "register", Aliases: []string{"table"}, Meaning: "which of the four tables", Default: "required, unless addressing is modicon", Allowed: "holding, input, coil, discrete; or KubeEdge's HoldingRegister, InputRegister, CoilRegister, DiscreteInputRegister"},
		{Name: "offset", Aliases: []string{"address"}, Meaning: "address within the table", Default: "required", Allowed: "0 to 65535; by addressing 1 to 65536, or 40001, 400001"},
		{Name: "addressing", Meaning: "how offset counts: from zero as on the wire, from one, or modicon: 40001 or 400001, where the first digit is the table", Default: "zero", Allowed: "zero, one, modicon"},
		{Name: "limit", Aliases: limitNames[1:], Meaning: "how many registers the value takes", Default: "what type needs; required for string and bytes", Allowed: "1, 2, 4; 1 to 123 for string and bytes; must agree with type"},
		{Name: "type", Aliases: typeNames[1:], Meaning: "layout of the value in registers", Default: "from the model's type and limit: INT int16/int32/int64, FLOAT float32, DOUBLE float64, BOOLEAN bool, STRING with limit string, BYTES bytes; FLOAT and DOUBLE with limit 1 are a scaled int16", Allowed: strings.Join(typeAllowed, ", ")},
		{Name: "bit", Meaning: "which bit of the register a bool is; 0 is the least significant", Default: "the register as a whole: true if it is not 0", Allowed: "0 to 15"},
		{Name: "wordOrder", Aliases: orderNames[1:], Meaning: "order of the bytes of a value", Default: "ABCD", Allowed: "AB, BA; ABCD, CDAB, BADC, DCBA; for 64 bits also " + ordersOf(4)},
		{Name: "isRegisterSwap", Meaning: "KubeEdge's spelling of CDAB", Default: "false", Allowed: "true, false"},
		{Name: "isSwap", Meaning: "KubeEdge's spelling of BADC", Default: "false", Allowed: "true, false"},
		{Name: "mask", Meaning: "which bits of the registers count, after wordOrder; only of unsigned integers and bool", Default: "all", Allowed: "a whole number, 0x… is hexadecimal"},
		{Name: "shift", Meaning: "how many bits the masked number is moved right", Default: "0", Allowed: "0 to 63, within the value"},
		{Name: "fractionBits", Meaning: "binary digits behind the point of a fixed-point number", Default: "8 for fixed16 and ufixed16, 16 for fixed32 and ufixed32, otherwise 0", Allowed: "0 to 63, for integers"},
		{Name: "scale", Meaning: "what a raw value is multiplied by; desired values are divided by it", Default: "1", Allowed: "any number but 0"},
		{Name: "valueOffset", Aliases: addNames[1:], Meaning: "is added after scaling, and taken off before a value is written", Default: "0", Allowed: "a number"},
		{Name: "min", Meaning: "a value below it, after scaling, is bad and is not written", Default: "none", Allowed: "a number"},
		{Name: "max", Meaning: "a value above it, after scaling, is bad and is not written", Default: "none", Allowed: "a number"},
		{Name: "padding", Meaning: "what fills a string up that is written; both are cut off when it is read", Default: "zero", Allowed: "zero, space"},
		{Name: "charset", Meaning: "how a string's bytes are letters", Default: "utf-8", Allowed: "utf-8, latin1"},
		{Name: "readBack", Meaning: "whether a written value is read again to verify it; false for registers that only take commands", Default: "true", Allowed: "true, false"},
		{Name: "writeMultiple", Meaning: "whether FC 15 or 16 write a single coil or register too, for devices that know no FC 5 and 6", Default: "false: FC 5 and 6, and the others if the device refuses those", Allowed: "true, false"},
	}
}

// parsePoint judges a visitor without I/O.
func parsePoint(cfg device.PointConfig) (*point, error) {
	f := device.NewFields(cfg.Path, cfg.Visitor)
	p := new(point)
	p.table, p.addr = parseAddress(f)
	p.width = 1
	p.readBack = f.Bool(true, "readBack")
	p.multiple = f.Bool(false, "writeMultiple")
	limit := uint16(f.Int(0, 0, 125, limitNames...))
	p.layout = &layout{format: formatBool, bit: -1, width: 1}
	l := p.layout
	if p.table.bits() {
		p.parseBitTable(f)
	} else {
		parseType(f, l, cfg.Type, limit)
		p.width = l.width
	}
	l.order = parseOrder(f, l)
	parsePart(f, l)
	parseScale(f, l)
	parseText(f, l)
	p.judge(f, cfg, limit)
	if f.Clean() {
		return p, nil
	}
	return nil, f.Err(describeVisitor())
}

// parseBitTable refuses for coils and discrete inputs what only registers have.
func (p *point) parseBitTable(f *device.Fields) {
	w := device.Choice(f, typeWord{format: formatBool}, typeWords, typeAllowed, typeNames...)
	if w.format != formatBool {
		f.Fail("type", w.format.String(), "a "+p.table.String()+" is a single bit", "bool, or leave it out")
	}
	for _, n := range []string{"bit", "mask"} {
		if f.Has(n) {
			f.Fail(n, f.Text("", n), "a "+p.table.String()+" is a single bit", "leave it out")
		}
	}
}

// parseType finds format and width.
func parseType(f *device.Fields, l *layout, model device.Type, limit uint16) {
	if f.Has(typeNames...) {
		w := device.Choice(f, typeWord{format: formatInt16}, typeWords, typeAllowed, typeNames...)
		l.format, l.low, l.frac = w.format, w.low, w.frac
	} else {
		l.format = guess(f, model, limit)
	}
	l.width = shapes[l.format].registers
	if l.format.text() {
		if limit == 0 || limit > maxWriteRegisters {
			f.Fail("limit", limit, fmt.Sprintf("a %s needs its length in registers", l.format), fmt.Sprintf("1 to %d", maxWriteRegisters))
		}
		l.width = max(limit, 1)
	}
}

// guess picks the layout when the visitor gives none: KubeEdge's visitors have only limit, beside the model's type.
func guess(f *device.Fields, t device.Type, limit uint16) format {
	if f.Has("mask") && t != device.TypeBoolean {
		switch limit {
		case 0, 1:
			return formatUint16
		case 2:
			return formatUint32
		case 4:
			return formatUint64
		}
	}
	switch t {
	case device.TypeInt, device.TypeString:
		switch {
		case limit <= 1:
			return formatInt16
		case limit == 2:
			return formatInt32
		case limit == 4:
			return formatInt64
		case t == device.TypeString:
			return formatString
		}
	case device.TypeFloat, device.TypeDouble:
		switch {
		case limit == 1:
			return formatInt16 // a scaled integer
		case limit == 2 || limit == 0 && t == device.TypeFloat:
			return formatFloat32
		case limit == 4 || limit == 0:
			return formatFloat64
		}
	case device.TypeBoolean:
		return formatBool
	case device.TypeBytes:
		return formatBytes
	case device.TypeStream:
	}
	f.Fail("limit", limit, fmt.Sprintf("no layout of %s takes so many registers", t), "1, 2, 4, or a type")
	return formatInt16
}

func parseOrder(f *device.Fields, l *layout) order {
	o := device.Choice(f, order{}, orderWords, orderAllowed, orderNames...)
	swap := f.Bool(false, "isRegisterSwap")
	swaps := order{swapBytes: f.Bool(false, "isSwap"), swapWords: swap, swapLongs: swap}
	given := strings.ToLower(f.Text("", orderNames...))
	switch {
	case given == "":
		o = swaps
	case swaps != (order{}) && swaps != o:
		f.Fail("wordOrder", given, "contradicts isSwap or isRegisterSwap", "one of the two spellings")
	case strings.Trim(given, "abcdefgh") == "" && len(given) == 8 && l.width != 4:
		f.Fail("wordOrder", given, fmt.Sprintf("names 8 bytes, and %s takes %d", l.format, 2*l.width), "AB, BA, ABCD, CDAB, BADC, DCBA")
	}
	if l.format.text() && o.swapWords {
		f.Fail("wordOrder", given, "a "+l.format.String()+" has its registers one after the other", "AB, BA")
	}
	return o
}

// parsePart reads what picks bits out of registers.
func parsePart(f *device.Fields, l *layout) {
	if l.format == formatBool {
		l.bit = int8(f.Int(-1, 0, 15, "bit"))
	} else if f.Has("bit") {
		f.Fail("bit", f.Text("", "bit"), "picks a bit of a register, and the type is "+l.format.String(), "type bool, or mask")
	}
	all := uint64(math.MaxUint64) >> (64 - 16*min(l.width, 4))
	mask := f.Int(0, 1, math.MaxInt64, "mask")
	l.mask = uint64(mask)
	l.shift = uint8(f.Int(0, 0, 63, "shift"))
	unsigned := l.format == formatBool || l.format.integer() && !shapes[l.format].signed && l.format != formatUint8
	switch {
	case l.mask == 0 && l.shift != 0:
		f.Fail("shift", l.shift, "moves what mask leaves, and there is no mask", "a mask, or leave it out")
	case l.mask == 0:
	case !unsigned || l.bit >= 0:
		f.Fail("mask", mask, "takes bits out of an unsigned number, and the type is "+l.String(), "type uint16, uint32, uint64, or bool without bit")
	case l.mask&^all != 0:
		f.Fail("mask", mask, fmt.Sprintf("has bits that %s has not", l.format), fmt.Sprintf("0x1 to %#x", all))
	case l.mask>>l.shift == 0 || l.mask>>l.shift<<l.shift != l.mask:
		f.Fail("shift", l.shift, fmt.Sprintf("loses bits of mask %#x", l.mask), "0 to the mask's least significant bit")
	}
	l.frac = uint8(f.Int(int64(l.frac), 0, 63, "fractionBits"))
	if l.frac != 0 && !l.format.integer() {
		f.Fail("fractionBits", l.frac, "is for integers, and the type is "+l.format.String(), "an integer type, or leave it out")
	}
}

func parseScale(f *device.Fields, l *layout) {
	numeric := l.format != formatBool && !l.format.text()
	s := f.Float(1, "scale")
	l.add = f.Float(0, addNames...)
	l.min, l.max = f.Float(-math.MaxFloat64, "min"), f.Float(math.MaxFloat64, "max")
	l.guard = f.Has("min") || f.Has("max")
	if s == 0 {
		f.Fail("scale", s, "would make every value 0", "any number but 0; 1 leaves values as they are")
		return
	}
	if l.guard && l.min > l.max {
		f.Fail("min", l.min, fmt.Sprintf("is greater than max (%v)", l.max), "at most max")
	}
	l.scale = newScale(s)
	if numeric {
		return
	}
	// KubeEdge's manifests have a scale everywhere, also for bits, where 1 means nothing.
	if l.add != 0 {
		f.Fail(addNames[0], l.add, "is for numbers, and the type is "+l.format.String(), "leave it out")
	}
	if l.guard {
		f.Fail(map[bool]string{true: "min", false: "max"}[f.Has("min")], f.Text("", "min", "max"), "is for numbers, and the type is "+l.format.String(), "leave it out")
	}
}

func parseText(f *device.Fields, l *layout) {
	l.pad = device.Choice(f, 0, paddingWords, []string{"zero", "space"}, "padding")
	l.latin = device.Choice(f, false, charsetWords, []string{"utf-8", "latin1"}, "charset")
	for _, n := range []string{"padding", "charset"} {
		if f.Has(n) && l.format != formatString {
			f.Fail(n, f.Text("", n), "is for strings, and the type is "+l.format.String(), "type string, or leave it out")
		}
	}
}

// judge checks what several fields say together.
func (p *point) judge(f *device.Fields, cfg device.PointConfig, limit uint16) {
	l := p.layout
	if limit != 0 && limit != p.width {
		f.Fail("limit", limit, fmt.Sprintf("%s takes %d", l.format, p.width), fmt.Sprintf("%d, or another type", p.width))
	}
	if p.end() > 65536 {
		f.Fail("offset", p.addr, fmt.Sprintf("%s takes %d registers and reaches beyond the last address 65535", l.format, p.width), fmt.Sprintf("0 to %d", 65536-int(p.width)))
	}
	if cfg.Writable && !p.table.writable() {
		f.Fail("register", p.table.String(), "can only be read, and the DeviceModel says ReadWrite", "holding or coil, or accessMode ReadOnly")
	}
	text := l.format.text()
	switch cfg.Type {
	case device.TypeStream:
		f.Fail("type", l.format.String(), "cannot be shown as the DeviceModel's STREAM", "a DeviceModel property of another type")
	case device.TypeBytes:
		if l.format != formatBytes {
			f.Fail("type", l.format.String(), "cannot be shown as the DeviceModel's BYTES", "type bytes with limit, or a DeviceModel property of type INT, FLOAT, DOUBLE, BOOLEAN or STRING")
		}
	case device.TypeInt, device.TypeFloat, device.TypeDouble, device.TypeBoolean:
		if text {
			f.Fail("type", l.format.String(), "cannot be shown as the DeviceModel's "+cfg.Type.String(), "a DeviceModel property of type STRING or BYTES")
		} else if l.format == formatBool && (cfg.Type == device.TypeFloat || cfg.Type == device.TypeDouble) {
			f.Fail("register", p.table.String(), "is a bit and cannot be shown as the DeviceModel's "+cfg.Type.String(), "a DeviceModel property of type BOOLEAN or INT")
		}
	case device.TypeString:
		if l.format == formatBytes {
			f.Fail("type", l.format.String(), "cannot be shown as the DeviceModel's STRING", "type string, or a DeviceModel property of type BYTES")
		}
	}
}
