// Package session is the relay's end of one agent's session, as a machine without I/O: Step(event, now) returns actions, Wake says
// when it wants a Tick. relay/hub puts sockets around it.
//
// # What it decides
//
// Down: it holds a set of dirty keys, never payloads, and builds a commit when the agent may take more. A pod goes in one commit with
// the references that the agent lacks; deletions go after everything that is put, what refers before what is referred to, and
// only on the word of a complete cache. It knows what the agent holds from the digest comparison and from what it sent since, so
// nothing that the agent holds is sent again.
//
// It tells the agent revisions of changes only, not of bookmarks, so that another relay with the same changes is not behind. A
// reference counts as absent only as of its pod's revision.
//
// Up: offers of earlier sessions' reports go to the Sink, whose answer goes back. It lets a report through if the node may write
// that key, holds reports back while the caches know less than the agent, and retries outbox items until the Sink has them.
//
// A Source that is not ready, or behind the revisions that the agent has seen, makes it wait. If that lasts Limits.OlderAfter the
// session ends with wire.CloseOlderState and nothing is changed at the agent: whether a cache hangs or the cluster was restored from a
// backup, it keeps what it has until revisions pass what it has seen, or an operator decides.
//
// # Concurrency
//
// A Machine belongs to one goroutine at a time. It calls Source inside Step: a Source must not call Step from Subscribe's
// notifications while it holds a lock that Keys, Object or Revisions take.
//
// # Tests
//
// hil-tests/sim drives it against the agent's machine, with the relay's index and sink, in worlds that lose connections, swallow
// frames, fail to store, crash and lag, seed after seed. together_test.go has single scenes of both machines, where what is sent is
// counted exactly; machine_test.go has single rules. sessiontest has the models.
package session
