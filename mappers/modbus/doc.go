// Package modbus is the driver for Modbus TCP (Modbus Application Protocol V1.1b3; Messaging on TCP/IP V1.0b).
//
// # Usage
//
// New returns a device.Driver; package mappers/all lists it. docs/devices.md is the reference of its configData, and Describe its
// source. KubeEdge's spellings are accepted beside ours.
//
// # Parts
//
//   - config.go, point.go: configuration, compiled without I/O
//   - codec.go: values ⇄ registers (word order, byte order, scale)
//   - plan.go: which requests read a batch of points; pure
//   - pdu.go, adu.go: requests, and the check of every reply against its request; pure
//   - endpoint.go, queue.go: one owner goroutine for each TCP endpoint, shared by all devices behind it
//   - session.go, write.go: device.Session
//
// PDU codes and the MBAP packaging come from goburrow/modbus. Its client and its transporter are not used: they index replies
// unchecked, never recover from a late reply, do not reconnect and know no context.
//
// # Concurrency
//
// Driver and sessions are safe for concurrent use. All requests to one host:port go through one owner goroutine over one
// connection, one at a time, writes ahead of reads. A unit that does not answer is left alone with a growing, jittered
// back-off, and so is an endpoint; neighbours pay at most one time-out for each probe. The connection is closed after every
// error but a Modbus exception, because only then is it certain that no late reply is on its way.
//
// # Testing
//
// The pure parts have table, property and fuzz tests. The transporter runs against modbustest, a hand-written server that can
// misbehave. The same conformance suite runs against pymodbus in hil-tests/modbus.
package modbus
