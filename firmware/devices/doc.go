// Package devices hosts the protocol drivers: it turns the Devices and DeviceModels that this node should run into
// polled, supervised sessions, carries desired values to the devices, and reports what they say.
//
// # Usage
//
//	host, err := devices.New(devices.Options{Drivers: all.Drivers(all.Options{}), Desired: desired, Watch: watch, Reports: link, Events: events, Twins: twins, Log: log})
//	err = host.Run(ctx) // blocks; polls from the store at once, with or without a relay
//
// # How it works
//
// The host looks at the desired view whenever the watch fires and resolves every Device against its model and its driver
// (resolve.go, pure). Each valid device has one worker goroutine, an actor that owns the device's twin and its driver session; a
// change of the manifest touches only what changed: neither an unchanged session is opened again nor an unchanged desired value
// written again. One scheduler wakes the workers; points with the same collectCycle are read as one batch.
//
// Driver calls run guarded: a panic becomes the call's error, a call that does not come back is given up, and either
// restarts that one device's session with jittered back-off (1 s to 1 min).
//
// Twins are persisted through TwinStore: outcomes of desired values durably at once, so that a restart writes nothing
// twice; reported values lazily.
//
// # Concurrency
//
// Host is safe for concurrent use; Run is called once at a time.
//
// # Testing
//
// Tests run the host under testing/synctest with devicetest's fake driver: no sockets, no sleeping.
package devices
