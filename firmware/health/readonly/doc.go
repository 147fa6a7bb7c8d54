// Package readonly watches over the file system that holds the agent's data. The kernel makes an ext4 in which it finds an error read-only (errors=remount-ro), and nothing
// is durable from then on: no desired state, no event, no certificate. What mends it is e2fsck, which runs when the machine starts; so a [Guard] tells, and restarts the
// machine: three times in a row at most, after longer and longer pauses. Then the machine stays up with what still works, and says so.
//
//	g := readonly.New(readonly.Options{Dir: …, Boot: id, ReadOnly: readonly.Look(dir), Restart: …, Changed: …})
//	err := g.Run(ctx)   // blocks
//	g.State()           // from any goroutine
//
// A file system that is read-only cannot count restarts. So a Guard counts starts while it still can: the number is written when the agent starts, and taken back when the
// machine is shut down in order, or when all has been well for a day. Power cuts count, too; that makes fewer restarts, never more. A restart that could not be counted is not made.
//
// State may be called concurrently, Run once. The tests use virtual time and a folder in place of the disk.
package readonly
