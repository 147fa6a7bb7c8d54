// Package channel is the client's end of an OPC UA secure channel over TCP (Part 6, sections 6.7 and 7.1).
//
// # Purpose
//
// gopcua/opcua's own channel waits without regard to contexts, keeps chunks without limit and takes the server's word for how much
// memory to take. This one has one goroutine, obeys contexts, bounds what a peer can cost, and tells when it last heard the peer. The
// algorithms are gopcua's uapolicy.
//
// # Usage
//
//	ch, err := channel.Dial(ctx, channel.Options{Address: "10.0.0.7:4840", URL: url, Security: …})
//	response, err := ch.Call(ctx, &ua.ReadRequest{…}, token)       // *uabin.ReadResponse
//	defer ch.Close()
//
// The caller renews the channel's keys: Renew, when RenewAt has come.
//
// # Concurrency
//
// All methods may be called concurrently. Whoever dials closes; Close waits for the channel's goroutine.
//
// # Testing
//
// Against a server's end that is written in the tests, with every policy and mode, and against hostile peers; frames are fuzzed. That foreign
// servers understand it is held by hil-tests/opcua, with node-opcua.
package channel
