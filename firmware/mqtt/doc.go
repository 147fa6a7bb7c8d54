// Package mqtt is the gateway's event bus: an MQTT broker inside the agent (MQTT 3.1.1 and 5, mochi-mqtt), the $hw/events topics of devices and the
// node, and a driver for devices that speak MQTT themselves.
//
// # Usage
//
//	driver := mqtt.NewDriver()                    // among the drivers of the device host
//	broker, err := mqtt.New(mqtt.Options{Node: "gw-1", Listeners: …, Identities: …, Devices: host, Driver: driver, Records: …})
//	err = broker.Run(ctx)                          // blocks; listeners that cannot be opened are tried again
//
// # How it works
//
// Each caller is one of the configured identities (auth.go, passwords.go) and has topic filters; a device's identity reaches the topics of that device only
// (acl.go). A connection is admitted by its source (admission.go), its first packet is held to a size before anything is allocated for it (gate.go), and what is
// written to it passes a bounded buffer of its own, so that one who never reads holds up nobody (conn.go). Requests under $hw/events are answered in order
// for each device (requests.go, events.go); changes become documents and deltas (changes.go). Sessions and retained messages are kept in the store
// within a budget of bytes (keep.go).
//
// # Concurrency
//
// Broker and Driver are safe for concurrent use; Run is called once at a time.
//
// # Testing
//
// Every parser has a fuzz test; the broker is tested over real sockets on loopback with packets made by hand.
package mqtt
