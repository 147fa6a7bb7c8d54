// Package store keeps everything that the agent must still know after a power cut: desired objects, device twins, pod
// state and the outbox.
//
// # How it works
//
// Every change passes one append-only log. Commits that arrive while an earlier one is being synced share the next
// write and the next fdatasync (group commit), so that flash is written once for many. What the log holds beyond the last checkpoint is
// also in memory (the overlay); in the background it is moved to a bbolt file in one transaction, and only after that
// file is synced are the log's older segments used again or deleted. Reading looks in the overlay first, then in bbolt; bodies are never held twice.
//
// A sync of a file that grows commits the file system's journal, which costs three blocks or more, and a sync of a write into initialised blocks does not. So a segment is written over
// an earlier one, whose frames the checkpoint has (spare.go, docs/adr/0018). Where there is none, zeros are written ahead behind small frames; those that are
// left are cut off when a segment ends, or at the next Open.
//
//	DIR/LOCK              held by the one agent that uses DIR
//	DIR/log-<hex>.wal     segments of the log
//	DIR/spare-<hex>.wal   an earlier one, over which the next will be written
//	DIR/state.db          the checkpoint (bbolt)
//	DIR/*.damaged-N       what was found damaged, set aside for diagnosis; a few of each kind are kept
//
// Each value is sealed before it is written (XChaCha20-Poly1305), with its space, key and version bound to it: a value
// that was altered, or moved to another key, does not open. It is then dropped and listed in [Recovery]; for desired objects the relay sends it
// again, because the digest differs. Putting back an older state of the whole directory is not detected; that takes
// a counter outside the disk, for example in a TPM. Names of keys are not secret and are not sealed.
//
// # Usage
//
//	s, err := store.Open(ctx, store.Options{Dir: dir, Sealer: sealer})
//	defer s.Close()
//	go s.Run(ctx) // in the agent: a supervised task
//	var b store.Batch
//	b.Put(store.SpaceTwin, "pump/speed", value)
//	err = s.Commit(ctx, b)
//
// [Store.Commit] returns after the fdatasync. [Store.CommitLazy] returns at once: its values are visible to readers and become
// durable within Options.Window. [Desired] and [Outbox] are typed views.
//
// # Damage
//
// A torn tail of the log is a write that was never acknowledged; it is cut off or ignored. Damage elsewhere in the log costs the frames it touches: the
// segment is set aside and every whole frame is kept. A damaged bbolt file is never opened in place, since it is mapped into memory
// and can fault the process from a goroutine of bbolt's own, where no recover can reach. Open therefore first walks its pages with
// ordinary bounded reads (see boltcheck.go): that needs no child process, costs one read of the file, and lets the readable part be
// salvaged, because each record proves itself by its seal. Later reads run under debug.SetPanicOnFault, for media that fail while mapped.
//
// A full disk fails Commit with an error that wraps the cause, nothing of that batch is applied, reading goes on, and the
// next Commit after space was freed succeeds.
//
// # Concurrency
//
// All methods of Store, Desired, Outbox and Watch may be called concurrently. Batch is a plain value. Functions given to Scan
// run without a lock held and may call the store.
//
// # Testing
//
// The tests cut the log at every byte, flip bits in every region of every file, inject a full disk at every write, kill a
// child process at random while it commits, and compare random histories with a map. hil-tests/powercut replays power cuts, bbolt's writes included. BenchmarkBytesPerUpdate prints what a twin update costs the flash.
package store
