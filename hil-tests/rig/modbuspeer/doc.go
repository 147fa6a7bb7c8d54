// Package modbuspeer runs a Modbus TCP device that we did not write: a server of python3-pymodbus whose registers change by
// themselves.
//
// # Usage
//
//	p, err := modbuspeer.Start(ctx, modbuspeer.Options{}) // units 1, 2, 3 on a free port of loopback
//	defer p.Stop()
//	err = p.SetHolding(ctx, 1, 40, 1234)                  // past the code under test
//
// Every unit has 200 addresses in each table; an address beyond them is refused with exception 2, a unit that does not exist is
// not answered at all. What changes by itself:
//
//	input 0      counter, +1 every 200 ms, wraps at 30,000
//	input 1      negative int16, -1 to -100
//	input 2, 3   temperature, float32 ABCD, swings between 18 and 24
//	input 4, 5   the same, CDAB
//	input 6, 7   int32, -100,000 minus the counter
//	discrete 0   toggles every second; discrete 1 is always on
//	holding 150  the counter again; coil 150 toggles
//
// All other holding registers and coils start at 0 and keep what is written.
//
// # Concurrency
//
// A Peer's methods may be called concurrently, but only one of Start, Restart, Kill and Stop at a time.
//
// # Testing
//
// hil-tests/modbus uses it, and fails if the device does not move.
package modbuspeer
