// Package twin decides, without any I/O, what a device property should be and whether that still has to be written.
//
// # The rule
//
// A property's desired value may come from the cloud (the Device's spec) and from the edge (a local application). Wall clocks
// decide nothing: a gateway may wake up in 1970. A cloud value carries the Device generation at which it appeared; an edge
// write carries the Device generation that its writer saw and a sequence number of this agent. A higher cloud generation wins,
// otherwise the edge's write stands; among edge writes the later one wins. Merge is that rule, as a total order, so it is
// commutative, associative and idempotent: the order in which writes become known does not matter, and a stale one never wins.
//
// # Usage
//
//	var p twin.Property
//	p.SetCloud("21.5", device.Metadata.Generation)   // on every version of the Device
//	if p.Due(now, time.Second, time.Minute) {        // never tried, or failed and waited
//		… write …
//		p.Record(p.Desired(), twin.Verified, "", now)
//	}
//
// # Concurrency
//
// Property is plain data with one owner.
//
// # Testing
//
// Table tests for the rule, property tests for the algebra of Merge and for "stale never wins".
package twin

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false -file twin.go -o twin_gen.go
