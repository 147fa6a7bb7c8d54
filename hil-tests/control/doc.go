// Package control runs `skerryctl device` as a technician does: the real skerryd, without any relay, with devices that we did not write
// (pymodbus over TCP and over a serial line of socat).
//
// # Usage
//
//	SKERRY_BIN=$PWD/build/bin go test -tags integration -count=1 ./hil-tests/control
//
// # Concurrency
//
// Each test has a gateway of its own in a temporary folder.
//
// # Testing
//
// The package has nothing but tests. They need skerryd in SKERRY_BIN (default build/bin), socat and python3-pymodbus.
package control
