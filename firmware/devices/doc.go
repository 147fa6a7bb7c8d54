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
// The host looks at the objects that the watch names and resolves each Device against its model and its driver (resolve.go, pure). It
// keeps no object: the store has them. Each device has a worker, an actor that owns the device's twins and its driver session and that
// has a goroutine only while there is mail for it (worker.go); a change of the manifest touches only what changed: neither an unchanged
// session is opened again nor an unchanged desired value written again.
//
// One scheduler wakes the workers. Points with the same collectCycle are read as one batch, at a phase of the cycle that is the device's own
// (read.go). A session that is a device.Subscriber is subscribed to; its values go through an inbox that holds the newest value of each
// point, and within bounds every value of those that the history keeps; what has no good value from there is polled (subscribe.go). Fresh values pass one stage (stage.go) on their way into the twins.
//
// Driver calls run guarded (calls.go): a panic becomes the call's error, a call that does not come back is given up, and either
// restarts that one device's session with jittered back-off (1 s to 1 min).
//
// What somebody at the gateway asks of a device (access.go) is mail, too: reads and calls run beside the cycles, writes are edge writes of
// the twin. Twins are persisted through TwinStore: desired values and their outcomes durably at once, so that a restart writes nothing
// twice; reported values lazily and within a budget, because flash is a wear part (persist.go, budget.go).
//
// # Concurrency
//
// Host is safe for concurrent use; Run is called once at a time.
//
// # Testing
//
// Tests run the host under testing/synctest with devicetest's fake driver: no sockets, no sleeping.
package devices
