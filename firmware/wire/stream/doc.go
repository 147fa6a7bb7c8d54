// Package stream carries streams inside a session between agent and relay: byte streams in both directions, opened by either side to a
// named service of the other (logs, exec, port-forward, requests for tokens). Both ends share it; their shells are firmware/link and
// relay/hub.
//
// # Use
//
//	s := stream.NewSession(stream.Options{Config: …, Services: &services, Send: …})
//	conn, err := s.Dial(ctx, "kubelet")       // a net.Conn: http.Transport's DialContext
//	l, err := services.Listen("cloud")        // a net.Listener: for http.Server
//	err = s.Receive(frame)                    // from the peer; an error ends the session
//	for f := s.Next(); f != nil; f = s.Next() // when there is nothing more important to send
//	s.End(why)                                // with the session
//
// # Flow control
//
// A StreamData takes its bytes, and wire.StreamCost for itself, of two windows. The stream's own is given back when its reader has
// read: one that does not read costs its window, 64 KiB, and nothing more. The window of all streams is given back when data has
// arrived, read or not, and bounds what is on its way: a state frame finds at most so much before it in the network's buffers, and
// stalled streams take nothing of it from others. Windows are given back in halves and quarters. An end that must not be flooded gives the
// latter back at a rate (Limits.BytesPerSecond), and the peer waits.
//
// A writer hands over 32 KiB at the most before the network has taken something. So one stream holds 96 KiB when everything stands
// still, and there are at most Limits.Streams of each side.
//
// # Ends
//
// Each direction ends by itself (CloseWrite, StreamEnd). Close ends both: what was written is still sent, within Limits.Linger, and a peer
// that goes on writing learns it (ErrPeerClosed), while it may read to the end. Reset ends both at once, with a reason that the
// peer's calls fail with. The end of a session fails all calls with ErrSessionEnded; only what had arrived whole can be read.
//
// Refused at once, with a reason: streams to a service that nobody listens for, too many, too many in a second, while this side shuts
// down. What breaks the protocol or a limit that an honest peer cannot reach is a Violation, and ends the session.
//
// # Layers and concurrency
//
// Mux and Stream are the protocol without I/O, for one goroutine at a time. Session and Conn are the shell, safe for concurrent use, with
// one lock for a session and no goroutines. A Session's memory is taken with its first stream by the hub; Listen's streams are
// accepted as they come and wait, 64 at most, for their service.
//
// # Tests
//
// golang.org/x/net/nettest holds Conn to net.Conn's contract. A simulation drives two Muxes with every order of events, a fuzz
// test feeds one with arbitrary frames; relay/hub has real sessions, with HTTP in both directions.
package stream
