// Package opcua is the client driver for OPC UA servers.
//
// # Purpose
//
// Values of a server's nodes become properties of a Device: subscribed where the server can do that, read otherwise, written with
// the node's own data type and read back. Of gopcua it uses the messages, their encoder and the cryptography; the channel and the
// decoder are its own (docs/adr/0015-opcua-channel.md). What users get by that: a black-holed server is noticed by a watchdog, a
// lost connection is an explicit gap, after which the session goes on with what the server queued, or every monitored item is created again
// and checked if the server has the session no more, a certificate is verified before anything secret is sent, no security is given up silently, and no server can make it take memory without limit.
//
// # Usage
//
//	driver := opcua.New(opcua.Options{StateDir: dir, Log: log})
//	session, err := driver.Open(ctx, device.Config{Protocol: map[string]any{"url": "opc.tcp://10.0.0.7:4840"}})
//	point, err := driver.Compile(device.PointConfig{Visitor: map[string]any{"nodeID": "nsu=http://vendor/ns;s=Speed"}, …})
//
// Package uabin decodes what a server sends, package channel is the secure channel, package pki keeps the certificates.
//
// # Concurrency
//
// Drivers and sessions are safe for concurrent use. Devices with the same configuration share an endpoint: one connection with two
// goroutines, however many points there are.
//
// # Testing
//
// The conformance suite of package devicetest against gopcua's server behind a proxy that fails, tables for addresses, values and
// security, fuzz tests of what is decoded, and node-opcua with every policy and kind of user in hil-tests.
package opcua
