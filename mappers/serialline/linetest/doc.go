// Package linetest has what drivers of serial lines are tested with.
//
// # Usage
//
//	pair := linetest.OpenPTY(t)      // a pseudo-terminal: pair.Path is a port, pair.Peer the device at its other end
//	line, peer := linetest.Pair(cfg) // no system calls: characters take their time, under testing/synctest too
//
// # Concurrency
//
// Both ends may be used at the same time, each by one goroutine.
//
// # Testing
//
// The tests of package serialline use both, and check that they behave alike where drivers rely on it.
package linetest
