// Package all is the table of drivers that an agent is built with.
//
// # Usage
//
//	host, err := devices.New(devices.Options{Drivers: all.Drivers(all.Options{StateDir: dir, Log: log}), …})
//
// Each driver has a file of its own with a build tag that leaves it out (for example -tags nomodbus), so a gateway without a
// protocol does not carry its code.
//
// # Concurrency
//
// Drivers returns new driver instances at each call; call it once for an agent.
//
// # Testing
//
// A test checks that names are unique and that every driver describes its configuration.
package all
