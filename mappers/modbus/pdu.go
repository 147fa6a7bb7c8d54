package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/goburrow/modbus"
)

// Quantities that one request may ask for (Application Protocol V1.1b3, sections 6.1 to 6.4).
const (
	maxReadBits      = 2000
	maxReadRegisters = 125
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

// exception is a Modbus exception: the device understood the request and says why it does not serve it.
type exception struct {
	function, code byte
	doing          string // what was asked, e.g. "read holding registers 40 to 49"
}

var exceptionWords = map[byte][2]string{
	modbus.ExceptionCodeIllegalFunction:                    {"illegal function", "the device does not support this access; check the register's table"},
	modbus.ExceptionCodeIllegalDataAddress:                 {"illegal data address", "the device has no such address; check offset, limit and type"},
	modbus.ExceptionCodeIllegalDataValue:                   {"illegal data value", "the device refuses the value or the quantity"},
	modbus.ExceptionCodeServerDeviceFailure:                {"server device failure", "the device failed while it served the request"},
	modbus.ExceptionCodeAcknowledge:                        {"acknowledge", "the device accepted the request and needs more time"},
	modbus.ExceptionCodeServerDeviceBusy:                   {"server device busy", "the device is busy; it is asked again"},
	modbus.ExceptionCodeMemoryParityError:                  {"memory parity error", "the device's memory is damaged"},
	modbus.ExceptionCodeGatewayPathUnavailable:             {"gateway path unavailable", "the gateway has no way to this unit; check slaveID and the gateway"},
	modbus.ExceptionCodeGatewayTargetDeviceFailedToRespond: {"gateway target device failed to respond", "the device behind the gateway is off or has another slaveID"},
}

func (e *exception) Error() string {
	w, ok := exceptionWords[e.code]
	if !ok {
		w = [2]string{"unknown exception", "see the device's manual"}
	}
	return fmt.Sprintf("%s (%d): %s: %s", w[0], e.code, e.doing, w[1])
}

// unreachable tells that a gateway says that the unit does not answer.
func (e *exception) unreachable() bool {
	return e.code == modbus.ExceptionCodeGatewayPathUnavailable || e.code == modbus.ExceptionCodeGatewayTargetDeviceFailedToRespond
}

// request is one request with all that is needed to judge its reply.
type request struct {
	table    table
	addr     uint16
	quantity uint16
	pdu      modbus.ProtocolDataUnit
	echo     []byte // what a reply to a write repeats; nil for reads
}

func (r *request) String() string {
	verb, unit := "read", r.table.String()
	if r.echo != nil {
		verb = "write"
	}
	if r.quantity == 1 {
		return fmt.Sprintf("%s %s %d", verb, unit, r.addr)
	}
	return fmt.Sprintf("%s %ss %d to %d", verb, unit, r.addr, int(r.addr)+int(r.quantity)-1)
}

// readRequest asks for quantity bits or registers.
func readRequest(t table, addr, quantity uint16) *request {
	data := binary.BigEndian.AppendUint16(nil, addr)
	data = binary.BigEndian.AppendUint16(data, quantity)
	return &request{table: t, addr: addr, quantity: quantity, pdu: modbus.ProtocolDataUnit{FunctionCode: t.readFunction(), Data: data}}
}

// writeCoil writes one coil with FC 5.
func writeCoil(addr uint16, on bool) *request {
	value := uint16(0)
	if on {
		value = 0xFF00
	}
	echo := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, addr), value)
	return &request{table: coils, addr: addr, quantity: 1, echo: echo, pdu: modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteSingleCoil, Data: echo}}
}

// writeRegisters writes the 1 to 4 registers of a value, given as big-endian bytes, one with FC 6 and several with FC 16.
func writeRegisters(addr uint16, regs []byte) *request {
	r := &request{table: holdingRegisters, addr: addr, quantity: uint16(len(regs) / 2)}
	head := binary.BigEndian.AppendUint16(nil, addr)
	if r.quantity == 1 {
		r.echo = append(head, regs...)
		r.pdu = modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteSingleRegister, Data: r.echo}
		return r
	}
	r.echo = binary.BigEndian.AppendUint16(head, r.quantity)
	data := append(bytes.Clone(r.echo), byte(len(regs)))
	r.pdu = modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteMultipleRegisters, Data: append(data, regs...)}
	return r
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
	if r.echo != nil {
		if !bytes.Equal(data, r.echo) {
			return nil, badFrame("the reply to a write repeats % x instead of % x", data, r.echo)
		}
		return nil, nil
	}
	want := int(r.quantity) * 2
	if r.table.bits() {
		want = (int(r.quantity) + 7) / 8
	}
	if len(data) != want+1 || int(data[0]) != want {
		return nil, badFrame("%d bytes of data, announced as %d, instead of %d", len(data)-1, first(data), want)
	}
	return data[1:], nil
}

func first(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return int(b[0])
}
