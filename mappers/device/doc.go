// Package device is the contract between the agent's device host and the protocol drivers ("mappers").
//
// # Purpose
//
// A Driver knows one protocol. It checks configuration without any I/O, compiles each property's free-form configData
// into an opaque Point, and opens Sessions. A Session is one device; it reads and writes batches of points, so that the
// driver, which knows the protocol, decides how many requests that takes. Abilities that only some protocols have are
// interfaces of their own (abilities.go): Subscriber, Browser and Caller of a session; Planner, Scanner and Truster of a driver.
//
// # Usage
//
//	cfg := device.Config{Device: "default/pump", Protocol: map[string]any{"ip": "10.0.0.7", "slaveID": 1}}
//	if err := driver.Check(cfg); err != nil { … }            // names the field
//	p, err := driver.Compile(device.PointConfig{Property: "temperature", Type: device.TypeFloat, Visitor: …})
//	s, err := driver.Open(ctx, cfg)                          // may do I/O, obeys ctx
//	values := make([]device.Value, 1)
//	err = s.Read(ctx, []device.Point{p}, values)
//
// configData arrives as it was decoded from MessagePack or JSON: numbers may be int64, uint64, float64 or strings,
// because manifests in the field have all of them. Fields reads it with one clear error for each wrong field.
//
// # Concurrency
//
// Drivers and sessions are safe for concurrent use; points and values are immutable. Every method that takes a context
// returns within a short grace (100 ms) of its end.
//
// # Testing
//
// Package devicetest is the conformance suite that every driver passes, and a fake driver for tests of the host.
package device
