// Package opcualean is an OPC UA server that costs little, for benchmarks of the client: on one machine node-opcua would be what is
// measured.
//
// # Usage
//
//	p, err := opcualean.Start(ctx, self, log, 10)   // ten servers in a process of their own, which calls Main
//	err = p.Ready(ctx)
//	c, err := p.Counters(ctx)
//
// Every node id that is a number in namespace 1 is a Double that changes once a second. The server knows policy None and the services
// that polling and subscribing need: sessions, reading values and attributes, subscriptions, monitored items, publishing. It checks
// nothing. What comes and goes is encoded by hand, except the rare messages.
//
// # Concurrency
//
// One goroutine reads each connection, and one publishes once a second.
//
// # Testing
//
// The driver reads and subscribes 12,000 items of it, and what each of 20,000 costs in memory is counted.
package opcualean
