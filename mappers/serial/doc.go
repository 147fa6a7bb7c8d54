// Package serial is the driver for devices with a protocol of their own on a serial line: scales, meters, scanners, receivers.
//
// # Usage
//
// New returns a device.Driver; package mappers/all lists it. docs/serial.md is the manual of its configData, and Describe its source.
//
// # Parts
//
//   - config.go, point.go, template.go: configuration, compiled without I/O
//   - package frame: framings and checksums; pure
//   - message.go, text.go, binary.go, pattern.go, nmea.go: values out of frames; pure
//   - port.go, listen.go, exchange.go, pace.go: one owner goroutine for each line, shared by all devices on it
//   - session.go, watch.go, subscribe.go, write.go: device.Session
//
// A property that has a request is asked for; one that has none is the last value that the device sent, and becomes uncertain and then
// bad with its age. Both kinds may live in one device, and on one line.
//
// # Concurrency
//
// Driver and sessions are safe for concurrent use. A line belongs to one goroutine: exchanges go one after the other, writes ahead of
// reads; in between it listens, if a device on the line talks by itself. A device that does not answer is left alone with a growing
// back-off. A port that is unplugged is opened again by its path.
//
// # Hostile lines
//
// Frames, templates, patterns and values have limits that are checked before memory is taken; the work for each received byte is
// bounded, and so are bytes and frames in a second. What was thrown away is named in the reason of the device's state.
//
// # Testing
//
// The pure parts have table and fuzz tests. The driver runs against scripted peers on pseudo-terminals, and in hil-tests/serial
// against programs that we did not write.
package serial
