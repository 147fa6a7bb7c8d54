// Package modbus is the driver for Modbus (Application Protocol V1.1b3; Messaging on TCP/IP V1.0b; Serial Line V1.02).
//
// # Usage
//
// New returns a device.Driver; package mappers/all lists it. docs/modbus.md is the reference of its configData, and Describe its
// source. KubeEdge's spellings are accepted beside ours.
//
// # Parts
//
//   - config.go, visitor.go, address.go, point.go: configuration, compiled without I/O
//   - layout.go, codec.go, half.go: values ⇄ registers (types, orders, bits, scale)
//   - plan.go: which requests read a batch of points, around what the device does not have; pure
//   - pdu.go, exception.go, framing.go: requests, their frames over TCP, RTU and ASCII, and the check of every reply against its
//     request; pure
//   - endpoint.go, faults.go, queue.go, health.go: one owner goroutine for each line, shared by all devices behind it
//   - line.go, listen.go: serial ports, connections that we dial, and that gateways dial
//   - session.go, read.go, write.go, identify.go: device.Session and device.Browser
//
// PDU codes and the packaging of requests come from goburrow/modbus. Its clients and its transporters are not used: they index
// replies unchecked, never recover from a late reply, do not reconnect and know no context.
//
// # Concurrency
//
// Driver and sessions are safe for concurrent use. All requests to one address go through one owner goroutine over one
// connection, one at a time unless the device's configuration allows more, writes ahead of reads. A unit that does not answer is left alone with a growing, jittered
// back-off, and so is an endpoint; neighbours pay at most one time-out for each probe. The connection is closed after every
// error but a Modbus exception, because only then is it certain that no late reply is on its way.
//
// # Testing
//
// The pure parts have table, property and fuzz tests; polling numbers is held to no allocation at all. The transports run against modbustest, a hand-written server that can
// misbehave, over TCP and over pseudo-terminals; the timing of a line over a model of one. The same conformance suite runs against
// pymodbus in hil-tests/modbus.
package modbus
