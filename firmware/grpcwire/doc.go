// Package grpcwire is what the agent speaks gRPC with: protobuf messages that are written by hand, and calls over net/http's
// unencrypted HTTP/2 on Unix sockets. Linking grpc-go instead costs 6 MB of flash and as much memory on a gateway. firmware/cri asks
// container runtimes with it; firmware/dmi serves and asks mappers.
//
// # Messages
//
// A message is a plain struct whose Walk method names its fields once, in the order of the .proto file; encoding and decoding both
// follow that one list, so they cannot disagree. Unknown fields are skipped when decoding. A nil pointer is an absent sub-message.
//
//	func (m *Twin) Walk(f *grpcwire.Fields) {
//		f.Str(1, &m.PropertyName)
//		grpcwire.Opt(f, 2, &m.Reported)
//	}
//
// # Calls
//
// AppendFrame and ReadFrame are gRPC's framing; NewTransport, NewRequest, CheckHeader and Status the client's side of a call, Server a
// service's side of unary ones.
//
// # Limits
//
// A message that is longer than its reader allows, or whose decoded form would take much more memory than its bytes, is refused
// before memory is taken for it.
//
// # Concurrency
//
// Functions may be called concurrently; messages are not safe for concurrent change. A Server is safe for concurrent use once it serves.
//
// # Testing
//
// Unit tests and a fuzz test here; hil-tests/contract/cri and hil-tests/contract/dmi hold both sides to grpc-go.
package grpcwire
