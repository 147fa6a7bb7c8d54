// Package devicetest is the conformance suite of package device, and a fake driver.
//
// # Usage
//
// A driver's tests call Run with a Subject: how to make the driver, a device that answers, and how to make that device
// fail. Tests of the host use Fake, which passes the suite itself.
//
// # Concurrency
//
// Fake is safe for concurrent use. Run runs its cases one after the other, because each checks that no goroutine is left.
//
// # Testing
//
// The suite runs against Fake, against the Modbus driver on every transport with a hand-written server, against that driver with
// pymodbus, and against the drivers of OPC UA servers and serial devices.
package devicetest
