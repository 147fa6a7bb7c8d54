// Package push sends values of devices to where their pushMethod says: HTTP servers, InfluxDB, OpenTelemetry collectors, TDengine,
// MQTT brokers and Redis (docs/push.md).
//
// # Usage
//
//	p := push.New(push.Options{Desired: desired, Watch: desired.Watch(wire.KindDevice), History: history, …})
//	err := p.Check("spec.properties[speed].pushMethod", fields) // what is wrong with a pushMethod; for the Device's conditions
//	p.Offer("plant", "pump-1", "speed", value)                  // a value that the history does not keep; never blocks
//	err = p.Run(ctx)                                            // blocks
//
// # How it works
//
// Pusher reads the pushMethods of all Devices and groups their properties by target: a protocol, an address, and what else the connection
// depends on (parse.go). Each target has up to two lanes (lane.go): one reads the history with a durable cursor, one a bounded
// queue in memory for values that no history keeps. A lane is one goroutine with one connection. It collects a batch, by count, size
// and time, and hands it to the target's sender until it is taken; only then the cursor moves. So order is kept, every value arrives
// at least once, and a target that is slow or dead delays no other.
//
// A sender is one file: http.go, influx.go, and so on. It tells two failures apart: a refusal of these values (refusal), after which the
// lane halves the batch until it has found the value that is refused, and all others, after which it tries the same batch again with back-off.
//
// # Concurrency
//
// Check, Offer and Status may be called concurrently. Run is called once at a time.
//
// # Testing
//
// Senders meet servers that refuse, hang, cut off and talk nonsense; decoders of replies are fuzzed. Lanes run under
// testing/synctest; back-fill runs over a real history.
package push
