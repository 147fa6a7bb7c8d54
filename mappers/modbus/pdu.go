package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/goburrow/modbus"
)

// Quantities that one request may carry (Application Protocol V1.1b3, sections 6.1 to 6.17).
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteBits      = 1968
	maxWriteRegisters = 123
	maxPDU            = 253
)

// Functions and exceptions that goburrow/modbus has no names for.
const (
	funcEncapsulated = 43 // with MEI type 14: read device identification
	meiIdentity      = 14
)

// table is one of the four address spaces.
type table uint8

const (
	coils table = iota
	discreteInputs
	inputRegisters
	holdingRegisters
)

func (t table) String() string {
	return [...]string{"coil", "discrete input", "input register", "holding register"}[t]
}

// bits tells that the table holds bits and not registers.
func (t table) bits() bool { return t == coils || t == discreteInputs }

// writable tells that the table can be written.
func (t table) writable() bool { return t == coils || t == holdingRegisters }

func (t table) readFunction() byte {
	return [...]byte{modbus.FuncCodeReadCoils, modbus.FuncCodeReadDiscreteInputs, modbus.FuncCodeReadInputRegisters, modbus.FuncCodeReadHoldingRegisters}[t]
}

// bytes is how much data a read of so many bits or registers returns.
func (t table) bytes(quantity int) int {
	if t.bits() {
		return (quantity + 7) / 8
	}
	return 2 * quantity
}

// request is one request with all that is needed to judge its reply. Only adu changes, and it belongs to the owner of the
// endpoint.
type request struct {
	table    table
	addr     uint16
	quantity uint16
	pdu      modbus.ProtocolDataUnit
	echo     []byte // what a reply to a write repeats; nil for what returns data
	want     int    // bytes of data in the reply; -1: as many as the device says
	write    bool   // it changes something, so it must not be sent twice unasked

	unit byte   // for which adu was made
	adu  []byte // the request in the endpoint's framing; made once
}

func (r *request) String() string {
	verb, unit := "read", r.table.String()
	switch {
	case r.pdu.FunctionCode == funcEncapsulated:
		return "read device identification"
	case r.pdu.FunctionCode == modbus.FuncCodeReadWriteMultipleRegisters:
		verb = "write and read back"
	case r.write:
		verb = "write"
	}
	if r.quantity == 1 {
		return fmt.Sprintf("%s %s %d", verb, unit, r.addr)
	}
	return fmt.Sprintf("%s %ss %d to %d", verb, unit, r.addr, int(r.addr)+int(r.quantity)-1)
}

func words(v ...uint16) []byte {
	out := make([]byte, 0, 2*len(v))
	for _, x := range v {
		out = binary.BigEndian.AppendUint16(out, x)
	}
	return out
}

// readRequest asks for quantity bits or registers.
func readRequest(t table, addr, quantity uint16) *request {
	return &request{table: t, addr: addr, quantity: quantity, want: t.bytes(int(quantity)),
		pdu: modbus.ProtocolDataUnit{FunctionCode: t.readFunction(), Data: words(addr, quantity)}}
}

// writeCoil writes one coil with FC 5.
func writeCoil(addr uint16, on bool) *request {
	value := uint16(0)
	if on {
		value = 0xFF00
	}
	echo := words(addr, value)
	return &request{table: coils, addr: addr, quantity: 1, echo: echo, write: true, pdu: modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteSingleCoil, Data: echo}}
}

// writeRegister writes one register, given as big-endian bytes, with FC 6.
func writeRegister(addr uint16, reg []byte) *request {
	echo := append(words(addr), reg...)
	return &request{table: holdingRegisters, addr: addr, quantity: 1, echo: echo, write: true, pdu: modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteSingleRegister, Data: echo}}
}

// writeMany writes quantity coils (packed) with FC 15, or registers with FC 16.
func writeMany(t table, addr, quantity uint16, data []byte) *request {
	r := &request{table: t, addr: addr, quantity: quantity, echo: words(addr, quantity), write: true}
	r.pdu = modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteMultipleRegisters, Data: append(append(bytes.Clone(r.echo), byte(len(data))), data...)}
	if t == coils {
		r.pdu.FunctionCode = modbus.FuncCodeWriteMultipleCoils
	}
	return r
}

// maskWrite changes the bits of mask in one register to those of value with FC 22 (section 6.16: (current AND and) OR (or
// AND NOT and)).
func maskWrite(addr, mask, value uint16) *request {
	echo := words(addr, ^mask, value)
	return &request{table: holdingRegisters, addr: addr, quantity: 1, echo: echo, write: true, pdu: modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeMaskWriteRegister, Data: echo}}
}

// writeAndRead writes registers and reads the same ones back in one request with FC 23, which writes first (section 6.17).
func writeAndRead(addr uint16, regs []byte) *request {
	n := uint16(len(regs) / 2)
	data := append(words(addr, n, addr, n), byte(len(regs)))
	return &request{table: holdingRegisters, addr: addr, quantity: n, want: len(regs), write: true,
		pdu: modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeReadWriteMultipleRegisters, Data: append(data, regs...)}}
}

// maxMixed is how many registers FC 23 can write.
const maxMixed = 121

// identify asks for the objects of a device's identification from an object on: category 1 basic, 2 regular, 3 extended
// (section 6.21).
func identify(category, object byte) *request {
	return &request{want: -1, pdu: modbus.ProtocolDataUnit{FunctionCode: funcEncapsulated, Data: []byte{meiIdentity, category, object}}}
}

// check judges the PDU of a reply against the request. For reads it returns the data, which aliases pdu and has exactly
// the size asked for. Its error is an *exception if the device refused, anything else means that the reply is not
// an answer to the request.
func (r *request) check(pdu []byte) ([]byte, error) {
	if len(pdu) == 0 {
		return nil, badFrame("an empty PDU")
	}
	fc := r.pdu.FunctionCode
	switch pdu[0] {
	case fc:
	case fc | 0x80:
		if len(pdu) != 2 {
			return nil, badFrame("an exception of %d bytes instead of 2", len(pdu))
		}
		return nil, &exception{function: fc, code: pdu[1], doing: r.String()}
	default:
		return nil, badFrame("function %d instead of %d", pdu[0], fc)
	}
	data := pdu[1:]
	switch {
	case r.echo != nil:
		if !bytes.Equal(data, r.echo) {
			return nil, badFrame("the reply to a write repeats % x instead of % x", data, r.echo)
		}
		return nil, nil
	case r.want < 0:
		return data, nil
	case len(data) != r.want+1 || int(data[0]) != r.want:
		return nil, badFrame("%d bytes of data, announced as %d, instead of %d", len(data)-1, first(data), r.want)
	}
	return data[1:], nil
}

func first(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return int(b[0])
}
