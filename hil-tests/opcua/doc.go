// Package opcua holds the interoperability tests of the OPC UA driver with node-opcua (build tag integration).
//
//	make opcua-peers
//	go test -tags integration ./hil-tests/opcua
//
// Everything is on loopback; black holes are made with toxiproxy and SIGSTOP. What is written is checked at the server, past the
// driver. The tests run one after the other and end what they start.
package opcua
