// Package history records what agents and the API server see of each other through a bad network, and has porcupine
// (github.com/anishathalye/porcupine) decide whether that history is one that the promises of the link allow.
//
// The system is real: control plane, two relays as processes, agents with the link of skerryd; only their stores are in memory.
// Between agents and relays stands toxiproxy (github.com/Shopify/toxiproxy), with latency, slices, little bandwidth, resets, and
// connections that go silent. Both are test tools: this is a module of its own, so that they do not weigh on the product's.
//
//	SKERRY_BIN=$PWD/build/bin go -C hil-tests/history test -tags integration -count=1 .
//
// # The model
//
// Each value is a register with one writer that counts up: the configMap of all gateways, the desired value of each device (written
// through the API, read by gateways as they commit), the reported value of each device (written by the gateway, read off the
// watch of DeviceStatuses, in the API server's own order). Links lag and leave out versions, so a write may take effect for a
// reader at any time until everything has come to rest, or be overtaken. porcupine finds a reader that goes back, that sees
// what nobody has written yet, or that does not have the last value in the end.
package history
