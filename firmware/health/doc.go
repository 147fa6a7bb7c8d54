// Package health is what can be asked of a running agent: Prometheus metrics and a liveness answer on a TCP address, and
// the whole state as JSON on a Unix socket that only root may open (`skerryd status` reads it).
//
// Use: fill a Server and call Run; it blocks until its context ends. Status is called for each request and must be safe
// for concurrent use. An address that is taken is an error that names it; the agent goes on without the listener and
// tries again, since a gateway that polls its devices without metrics is better than none.
//
// Tests use real listeners in temporary folders and on free loopback ports.
package health
