// Package store runs the agent's store on a real file system that fills up.
//
// # Usage
//
//	go test -tags integration ./hil-tests/store
//
// # Concurrency
//
// Tests run one after the other, each on a file system of its own.
//
// # Testing
//
// The package has nothing but tests. They need root, to mount a tmpfs of a few hundred KiB.
package store
