// Package health is what can be asked of a running agent, and what its parts have to do to count as alive.
//
// A [Registry] holds the liveness contract: each component of the agent has a [Beat], which its own main loop gives a sign of life when it has
// gone round and done what there was to do. A loop that has nothing to do goes round all the same, well within its limit, takes its locks and
// looks; nothing beats on behalf of a loop. A link that is down and a cloud that is away are no faults: their loops go round. A scheduler that
// is stuck, a store whose fdatasync hangs or fails, and a dead-locked loop of pods are. What follows from a component that is not alive
// (the watchdog is no longer fed) is package watchdog's.
//
// A [Server] answers: Prometheus metrics and a liveness answer on a TCP address, and the whole state as JSON on a Unix socket that only root may
// open (`skerryd status` and `skerryd diagnose` read it).
//
// Use: make the Registry with [NewRegistry] and one Beat for each component, hand each loop its Beat's Alive; fill a Server and call Run, which blocks until its context
// ends. Everything here is safe for concurrent use; a Beat is one atomic store and allocates nothing. Times are of the monotonic clock: a
// gateway without a real-time clock wakes up in 1970 and jumps. An address that is taken is an error that names it; the agent goes on without
// the listener and tries again, since a gateway that polls its devices without metrics is better than none.
//
// Tests use synctest for the clock, and real listeners in temporary folders and on free loopback ports.
package health
