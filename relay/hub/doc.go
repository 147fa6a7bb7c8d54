// Package hub accepts agents on one port and keeps their sessions. It is the shell around relay/session: one TLS 1.3 port, the registry of sessions, the calls to
// Source and Sink, metrics.
//
// # The port
//
//	GET  /v1/link    WebSocket, subprotocol skerry.v1; needs a client certificate, which alone says who the node is
//	POST /v1/enroll  Options.Enroll
//	POST /v1/renew   Options.Enroll
//	GET  /healthz    200 while the process serves
//	GET  /readyz     200 when Options.Ready returns nil
//
// Every answer carries the header Skerry-Relay, so that an agent can tell a relay that refuses from something else.
//
// # Sessions
//
// A newer session of a node ends the older one. Revoke ends a node's session, and the hook Options.Refused keeps it out:
// it is asked in VerifyConnection, which also runs when a TLS session is resumed. Options.Admit is where admission control
// (a reconnect storm, an overloaded relay) says "not now, come back in so long".
//
// # Concurrency and memory
//
// Serve blocks; all other methods may be called from anywhere. An idle agent has one goroutine, blocked in a read with a small
// stack, a TLS connection that has forgotten its handshake (socket.Release), and a session's machine: 11 KB. What came from it and
// what it is to be sent is handled by a crew of a few workers that all sessions share, who write what belongs together with one
// system call; an agent that takes nothing keeps its worker, and another takes the worker's place. The lock order is a session's
// machine before its queue; notifications of the Source take the queue's lock only, so a Source may send them while it
// holds its own.
//
// # Tests
//
// hub_test.go drives real agents (firmware/link) over loopback TLS against the models in relay/session/sessiontest. The benchmarks in
// fleet_linux_test.go run the hub in a process of its own, with thousands of agents and no control plane, and print what one costs.
package hub
