// Package uabin decodes the OPC UA binary encoding (Part 6, section 5.2) as a server sends it.
//
// # Purpose
//
// What comes from a server may be hostile or broken. Every length is checked against the bytes that are left before memory is taken,
// nesting is limited, and no input can make the decoder panic. The decoder of gopcua/opcua promises none of that (four bytes make it
// take gigabytes, and nested variants exhaust the stack), and it drops the bodies of structures that it does not know; so only its
// message structs, its encoder and its constants are used.
//
// # Usage
//
//	response, err := uabin.DecodeResponse(body)      // *ua.BrowseResponse, *uabin.ReadResponse, …
//	r := uabin.NewReader(extension.Body)
//	temperature, unit := r.Float64(), r.String()
//	if err := r.Err(); err != nil { … }
//
// # Concurrency
//
// A Reader belongs to one goroutine. Decoded values share no memory with the input.
//
// # Testing
//
// Round trips against gopcua's encoder for every built-in type, and fuzz tests of responses and values that also watch the memory.
package uabin
