// Package powercut proves that the agent's store and its history of device values survive a power cut at any instant.
//
// # How it works
//
// A workload writes twins, desired objects, the outbox and history into a folder that is a FUSE file system (recorder.go), which records every write, truncation, sync
// and change of a folder, those of bbolt too. A cut (replay.go) takes a prefix of that record and keeps all that was synced; of what was not, it keeps nothing,
// all, some writes, or some sectors of 512 bytes; changes of a folder that was not synced are kept up to some point. The result is opened by a child process
// (child.go), because a damaged bbolt file could fault its process, and what the child finds is compared with what the workload was promised (ledger.go).
//
// # Usage
//
//	make powercut N=1000
//	go test -tags integration ./hil-tests/powercut
//
//	func main() {
//		powercut.Child() // ends the process if it is a child of the campaign
//		result, err := powercut.Run(ctx, powercut.Options{Cuts: 1000, Seed: 1})
//	}
//
// # Concurrency
//
// Run may be called once at a time in a process. The workload of the campaign is concurrent; that of the day, which is cut at each of its writes, is not.
//
// # Testing
//
// The tests leave out one sync after the other (the recorder swallows it) and demand that the campaign notices each. Others build the children with a mutant of the store (the Go
// tool's -overlay), for example one that takes what an earlier segment left in a file for the present one's, and demand the same. They need root, /dev/fuse and the Go tool.
package powercut
