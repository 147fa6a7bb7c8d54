// Package modbus runs the Modbus driver against devices that we did not write: pymodbus and jsmodbus over TCP, RTU, ASCII and their
// mixtures (serial lines are pseudo-terminals of socat), and libmodbus's unit-test server, which misbehaves on purpose.
//
// # Usage
//
//	make modbus-peers
//	SKERRY_BIN=$PWD/build/bin go test -tags integration ./hil-tests/modbus
//
// # Concurrency
//
// Tests run one after the other; each starts a server of its own on a free port of loopback.
//
// # Testing
//
// The package has nothing but tests. They need what `scripts/deps.sh modbus` installs, and Node.js with npm; no root.
package modbus
