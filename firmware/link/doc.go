// Package link is the agent's end of the connection to its relay: it keeps one session open, applies what the relay sends to the
// durable store, and offers what the agent reports.
//
// # Use
//
//	c := link.New(link.Options{Addresses: …, TLS: identity.TLS, Node: …, Desired: store.NewDesired(s), Outbox: outbox, Log: log})
//	go c.Run(ctx)                 // blocks until ctx ends
//	c.Report(key, body)           // never blocks; the newest body of each key wins
//	c.Status()                    // for skerryctl status
//
// # Two layers
//
// Machine is the protocol without I/O: Step(event, now) returns actions, Wake says when it wants a Tick. It holds the back-off, the
// heartbeats, the assembly of commits, the conflation of reports and the outbox's one batch in flight. Client is the shell: it
// dials, reads, writes, calls the store, and turns what fails into one sentence for a technician (explain.go).
//
// The machine waits with its digest until a commit of an earlier session has been stored or has failed, so that the relay is never
// told less than what the agent is about to hold. Everything that was received and not yet stored is forgotten with its
// session: the next digest tells the relay.
//
// What was reported before is offered after a reconnect, by one sum over all of it, and sent only if the relay asks (offer.go). Relays
// that another one named when it sent the agent away are dialled before the configured ones (elsewhere.go).
//
// # Concurrency
//
// Client's methods may be called from anywhere. A Machine belongs to one goroutine at a time. Desired.Apply runs in one goroutine, in
// order; Outbox calls in another one.
//
// # Tests
//
// Machine: step by step here, and against the relay's machine in relay/session (virtual time, faults at every step). Client:
// against wrong peers over loopback here, against a real hub in relay/hub. linktest has an in-memory store that checks what the link
// promises.
package link
