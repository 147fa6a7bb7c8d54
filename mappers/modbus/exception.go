package modbus

import (
	"fmt"

	"github.com/goburrow/modbus"
)

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
	if e.code == modbus.ExceptionCodeIllegalFunction && e.function == funcEncapsulated {
		w[1] = "the device does not say what it is, which is no fault; its points are in its manual"
	}
	if !ok {
		w = [2]string{"unknown exception", "see the device's manual"}
	}
	return fmt.Sprintf("%s (%d): %s: %s", w[0], e.code, e.doing, w[1])
}

// unreachable tells that a gateway says that the unit does not answer.
func (e *exception) unreachable() bool {
	return e.code == modbus.ExceptionCodeGatewayPathUnavailable || e.code == modbus.ExceptionCodeGatewayTargetDeviceFailedToRespond
}

// busy tells that the device wants to be asked again later.
func (e *exception) busy() bool {
	return e.code == modbus.ExceptionCodeAcknowledge || e.code == modbus.ExceptionCodeServerDeviceBusy
}

// splits tells which exceptions may be the fault of one point of a request, or of the request's size.
func (e *exception) splits() bool {
	return e.code == modbus.ExceptionCodeIllegalDataAddress || e.code == modbus.ExceptionCodeIllegalDataValue || e.code == modbus.ExceptionCodeServerDeviceFailure
}
