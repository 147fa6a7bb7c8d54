// Package serial runs the serial driver against lines and devices that we did not write: socat, pyserial, gpsd.
//
// # Usage
//
//	go test -tags integration ./hil-tests/serial
//
// # Concurrency
//
// Tests run one after the other; each has lines of its own in a temporary folder.
//
// # Testing
//
// The package has nothing but tests. They need socat, python3-serial, gpsd and gpsd-clients; gpsd wants root.
package serial
