package modbus

import (
	"fmt"

	"github.com/skerry/skerry/mappers/device"
)

// point is a compiled property. It is immutable.
type point struct {
	span
	layout   *layout // shared with other points
	readBack bool
	multiple bool // one register or coil is written with FC 16 or 15 too
}

func (p *point) String() string {
	s := fmt.Sprintf("%s %d (%s", p.table, p.addr, p.layout)
	if !p.readBack {
		s += ", no read-back"
	}
	return s + ")"
}

// CheckValue implements device.ValueChecker.
func (p *point) CheckValue(v device.Value) error {
	_, err := p.encode(v)
	return err
}

// encode returns what a write of v puts into the table, in the form in which a read returns it.
func (p *point) encode(v device.Value) ([]byte, error) {
	if !p.table.writable() {
		return nil, fmt.Errorf("a %s can only be read", p.table)
	}
	if p.table != coils {
		return p.layout.encode(v)
	}
	switch v.Kind() {
	case device.KindBool, device.KindInt, device.KindUint, device.KindFloat:
		if x := numeric(v).AsFloat(); x == 0 || x == 1 {
			return []byte{byte(x)}, nil
		}
	case device.KindNone, device.KindString, device.KindBytes:
	}
	return nil, fmt.Errorf("%q is neither true nor false, and a coil holds nothing else", v.Text())
}

// value takes the point's value out of the data of a block that starts at base.
func (p *point) value(base uint16, data []byte) device.Value {
	at := int(p.addr - base)
	if p.table.bits() {
		return decodeBit(data, at)
	}
	return p.layout.decode(data[2*at : 2*(at+int(p.width))])
}
