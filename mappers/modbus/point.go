package modbus

import (
	"fmt"

	"github.com/skerry/skerry/mappers/device"
)

// point is a compiled property. It is immutable.
type point struct {
	span
	format   format
	order    order
	scale    scale
	readBack bool
	property string
}

func (p *point) String() string {
	s := fmt.Sprintf("%s %d (%s", p.table, p.addr, p.format)
	if p.order != (order{}) && !p.table.bits() {
		s += " " + orderName(p.order)
	}
	if !p.scale.one() {
		s += " × " + device.Float(p.scale.factor).Text()
	}
	if !p.readBack {
		s += ", no read-back"
	}
	return s + ")"
}

var (
	registerWords = map[string]table{
		"coil": coils, "coils": coils, "coilregister": coils,
		"discrete": discreteInputs, "discreteinput": discreteInputs, "discreteinputs": discreteInputs, "discreteinputregister": discreteInputs,
		"input": inputRegisters, "inputregister": inputRegisters, "inputregisters": inputRegisters,
		"holding": holdingRegisters, "holdingregister": holdingRegisters, "holdingregisters": holdingRegisters,
	}
	registerAllowed = []string{"holding (HoldingRegister)", "input (InputRegister)", "coil (CoilRegister)", "discrete (DiscreteInputRegister)"}

	typeWords = map[string]format{
		"bool": formatBool, "boolean": formatBool, "int16": formatInt16, "uint16": formatUint16, "int32": formatInt32, "uint32": formatUint32,
		"int64": formatInt64, "uint64": formatUint64, "float32": formatFloat32, "float": formatFloat32, "float64": formatFloat64, "double": formatFloat64,
	}
	typeAllowed = []string{"bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"}

	orderWords = map[string]order{
		"abcd": {}, "ab": {}, "big": {}, "cdab": {swapWords: true}, "badc": {swapBytes: true}, "ba": {swapBytes: true},
		"dcba": {swapWords: true, swapBytes: true}, "little": {swapWords: true, swapBytes: true},
	}
	orderAllowed = []string{"ABCD (big-endian)", "CDAB (words swapped)", "BADC (bytes swapped)", "DCBA (little-endian)"}
)

func orderName(o order) string {
	switch o {
	case order{swapWords: true}:
		return "CDAB"
	case order{swapBytes: true}:
		return "BADC"
	case order{swapWords: true, swapBytes: true}:
		return "DCBA"
	default:
		return "ABCD"
	}
}

// describeVisitor is the reference of a property's visitor.
func describeVisitor() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "register", Aliases: []string{"table"}, Meaning: "which of the four tables", Default: "required", Allowed: "holding, input, coil, discrete; or KubeEdge's HoldingRegister, InputRegister, CoilRegister, DiscreteInputRegister"},
		{Name: "offset", Aliases: []string{"address"}, Meaning: "address within the table, from 0 (what manuals call 40001 is holding offset 0)", Default: "required", Allowed: "0 to 65535"},
		{Name: "limit", Aliases: []string{"quantity"}, Meaning: "how many registers the value takes", Default: "what type needs", Allowed: "1, 2, 4; must agree with type"},
		{Name: "type", Aliases: []string{"dataType"}, Meaning: "layout of the value in registers", Default: "from the model's type and limit: INT int16/int32/int64, FLOAT float32, DOUBLE float64, BOOLEAN bool; FLOAT and DOUBLE with limit 1 are a scaled int16", Allowed: "bool, int16, uint16, int32, uint32, int64, uint64, float32, float64"},
		{Name: "wordOrder", Aliases: []string{"byteOrder"}, Meaning: "order of the bytes of a value", Default: "ABCD", Allowed: "ABCD, CDAB, BADC, DCBA"},
		{Name: "isRegisterSwap", Meaning: "KubeEdge's spelling of CDAB", Default: "false", Allowed: "true, false"},
		{Name: "isSwap", Meaning: "KubeEdge's spelling of BADC", Default: "false", Allowed: "true, false"},
		{Name: "scale", Meaning: "what a raw value is multiplied by; desired values are divided by it", Default: "1", Allowed: "any number but 0"},
		{Name: "readBack", Meaning: "whether a written value is read again to verify it; false for registers that only take commands", Default: "true", Allowed: "true, false"},
	}
}

// parsePoint judges a visitor without I/O.
func parsePoint(cfg device.PointConfig) (*point, error) {
	f := device.NewFields(cfg.Path, cfg.Visitor)
	p := &point{property: cfg.Property}
	f.Require("holding, input, coil, discrete", "register", "table")
	p.table = device.Choice(f, holdingRegisters, registerWords, registerAllowed, "register", "table")
	f.Require("0 to 65535", "offset", "address")
	p.addr = uint16(f.Int(0, 0, 65535, "offset", "address"))
	limit := uint16(f.Int(0, 0, 125, "limit", "quantity"))
	given := device.Choice(f, formatBool, typeWords, typeAllowed, "type", "dataType")
	p.order = parseOrder(f)
	p.parseScale(f)
	p.readBack = f.Bool(true, "readBack")
	switch {
	case p.table.bits():
		p.format, p.width = formatBool, 1
		if f.Has("type", "dataType") && given != formatBool {
			f.Fail("type", given.String(), "a "+p.table.String()+" is a single bit", "bool, or leave it out")
		}
	case f.Has("type", "dataType"):
		p.format, p.width = given, given.registers()
	default:
		p.format = p.guess(f, cfg.Type, limit)
		p.width = p.format.registers()
	}
	p.judge(f, cfg, limit)
	if err := f.Err(describeVisitor()); err != nil {
		return nil, err
	}
	return p, nil
}

// judge checks what several fields say together.
func (p *point) judge(f *device.Fields, cfg device.PointConfig, limit uint16) {
	if limit != 0 && limit != p.width {
		f.Fail("limit", limit, fmt.Sprintf("%s takes %d", p.format, p.width), fmt.Sprintf("%d, or another type", p.width))
	}
	if p.end() > 65536 {
		f.Fail("offset", p.addr, fmt.Sprintf("%s takes %d registers and reaches beyond the last address 65535", p.format, p.width), fmt.Sprintf("0 to %d", 65536-int(p.width)))
	}
	if cfg.Writable && !p.table.writable() {
		f.Fail("register", p.table.String(), "can only be read, and the DeviceModel says ReadWrite", "holding or coil, or accessMode ReadOnly")
	}
	switch cfg.Type {
	case device.TypeBytes, device.TypeStream:
		f.Fail("type", p.format.String(), "cannot be shown as the DeviceModel's "+cfg.Type.String(), "a DeviceModel property of type INT, FLOAT, DOUBLE, BOOLEAN or STRING")
	case device.TypeInt, device.TypeFloat, device.TypeDouble, device.TypeBoolean, device.TypeString:
		if p.table.bits() && (cfg.Type == device.TypeFloat || cfg.Type == device.TypeDouble) {
			f.Fail("register", p.table.String(), "is a bit and cannot be shown as the DeviceModel's "+cfg.Type.String(), "a DeviceModel property of type BOOLEAN or INT")
		}
	}
}

// guess picks the layout when the visitor gives none: KubeEdge's visitors have only limit, beside the model's type.
func (p *point) guess(f *device.Fields, t device.Type, limit uint16) format {
	switch t {
	case device.TypeInt, device.TypeString:
		switch limit {
		case 0, 1:
			return formatInt16
		case 2:
			return formatInt32
		case 4:
			return formatInt64
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
	}
	f.Fail("limit", limit, fmt.Sprintf("no layout of %s takes so many registers", t), "1, 2, 4; or give type")
	return formatInt16
}

func parseOrder(f *device.Fields) order {
	o := device.Choice(f, order{}, orderWords, orderAllowed, "wordOrder", "byteOrder")
	swaps := order{swapWords: f.Bool(false, "isRegisterSwap"), swapBytes: f.Bool(false, "isSwap")}
	if !f.Has("wordOrder", "byteOrder") {
		return swaps
	}
	if swaps != (order{}) && swaps != o {
		f.Fail("wordOrder", orderName(o), "contradicts isSwap or isRegisterSwap", "one of the two spellings")
	}
	return o
}

func (p *point) parseScale(f *device.Fields) {
	s := f.Float(1, "scale")
	if s == 0 {
		f.Fail("scale", s, "would make every value 0", "any number but 0; 1 leaves values as they are")
		return
	}
	p.scale = newScale(s)
}

// CheckValue implements device.ValueChecker.
func (p *point) CheckValue(v device.Value) error {
	_, err := p.write(v)
	return err
}

// write returns the request that writes v.
func (p *point) write(v device.Value) (*request, error) {
	if p.table == coils {
		switch v.Kind() {
		case device.KindBool:
			return writeCoil(p.addr, v.AsBool()), nil
		case device.KindInt, device.KindUint, device.KindFloat:
			if x := v.AsFloat(); x == 0 || x == 1 {
				return writeCoil(p.addr, x == 1), nil
			}
		}
		return nil, fmt.Errorf("%q is neither true nor false, and a coil holds nothing else", v.Text())
	}
	if !p.table.writable() {
		return nil, fmt.Errorf("a %s can only be read", p.table)
	}
	regs, err := encode(p.format, p.order, p.scale, v)
	if err != nil {
		return nil, err
	}
	return writeRegisters(p.addr, regs), nil
}

// value takes the point's value out of the data of a block that starts at base.
func (p *point) value(base uint16, data []byte) device.Value {
	at := int(p.addr - base)
	if p.table.bits() {
		return decodeBit(data, at)
	}
	return decode(p.format, p.order, p.scale, data[2*at:2*(at+int(p.width))])
}
