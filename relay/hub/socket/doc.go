// Package socket is the server's end of a WebSocket (RFC 6455), made for ten thousand connections that are idle nearly always.
//
// # Why not a library
//
// A relay's memory is what its idle connections hold. coder/websocket, which the agents use, keeps 3 KB for each: buffers for both
// directions, locks, maps. This package keeps the state of the frame that is being read and nothing else: TLS has a record's
// plaintext in memory anyway, and what is sent is framed where it was encoded, so that a commit is one Write and one system call.
// It can do less in return: no compression, no fragments on sending, one subprotocol.
//
// Release also lets go of what crypto/tls keeps of a handshake: 8 KB of certificates and input buffers.
//
// # Use
//
//	c, err := socket.Accept(w, r, "skerry.v1", 512<<10)
//	c.Release()
//	for c.Wait() == nil { // holds no buffer
//		message, err := c.Read(buffer[:0], nil)
//	}
//
// # Concurrency
//
// Wait and Read belong to one goroutine; all else may be called from anywhere, Close and CloseNow while others read and write.
// Nothing here has a time limit of its own, but CloseNow never blocks, and WritingSince shows what a Write waits for. The
// owner of a Conn calls CloseNow in the end.
//
// # Tests
//
// socket_test.go speaks with coder/websocket as the client, over TLS, and feeds malformed frames by hand; the fuzz test feeds
// arbitrary ones.
package socket
