// Package dmi is the driver for devices whose protocol no built-in driver speaks: it hands them to mappers, programs in other
// processes that speak KubeEdge's Device Mapper Interface (v1beta1), and turns what those report into values.
//
// # Usage
//
//	r := dmi.NewRegistry(dmi.Options{BuiltIn: []string{"modbus"}, Log: log})
//	host := devices.New(devices.Options{Others: r.Driver, …})   // one driver for each protocol that a Device names
//	r.Keep(d, m); r.Drop("ns", "name")                          // what Devices there are
//	models, devices, err := r.Register(reg, true)               // a mapper has come
//	err = r.Report(caller, "ns", "name", twins)                 // it has read something
//	err = r.Run(ctx)                                            // keeps every mapper in line with the Devices
//
// # How it works
//
// A mapper is told state, not events: for each mapper the registry knows what it holds (link.go), compares it with what it should hold, and
// makes one call at a time until both are the same. Nothing is queued; a device that changes ten times while its mapper is busy is sent
// once. A change of a Device is UpdateDevice, never a removal and a registration; a session that the host closes and opens again sends nothing.
// A device is sent when the host has opened a session for it and has said what is wanted of it (device.Follower): values that were written at the
// gateway outlive a restart of the agent, and a mapper must not see the older ones of the manifest in between.
//
// A mapper that does not answer within Options.CallTimeout is in trouble: its devices are unreachable, with the reason, and it is called again
// with back-off. Each mapper has its own goroutine and its own lock, so others do not notice.
//
// This package has no I/O: firmware/dmi serves the socket and makes the calls (Mapper).
//
// # Concurrency
//
// Registry, the drivers and their sessions are safe for concurrent use; Run is called once at a time.
//
// # Testing
//
// Unit tests run registry and fake mappers in virtual time (testing/synctest). hil-tests/contract/dmi runs a mapper made of KubeEdge's own generated code.
package dmi
