// Package modbus runs the Modbus driver against a device that we did not write (pymodbus).
//
// # Usage
//
//	go test -tags integration ./hil-tests/modbus
//
// # Concurrency
//
// Tests run one after the other; each starts a server of its own on a free port of loopback.
//
// # Testing
//
// The package has nothing but tests. They need /usr/bin/python3 with python3-pymodbus, no root.
package modbus
