// Package history keeps what devices said on the gateway's flash: a bounded ring of (time, value, quality) for each device, which survives power
// cuts, and a durable cursor for each target that values are pushed to. After an outage a target gets every value that is still there, in order,
// at least once; what is not there any more is counted.
//
// # Usage
//
//	h, err := history.Open(history.Options{Dir: dir, Sealer: sealer, Epoch: store.Epoch(), MaxBytes: 64 << 20, DeviceBytes: 16 << 20})
//	go h.Run(ctx) // in the agent: a supervised task
//	h.Record("plant", "pump-1", "speed", value)           // never blocks
//	last, err := h.Range("plant", "pump-1", "speed", from, to, 100)
//	r, err := h.Reader("influx")
//	for {
//		batch, err := r.Next(ctx, 500) // blocks until there is something
//		if push(batch) == nil { err = r.Ack(batch[len(batch)-1].Seq) } else { r.Rewind() }
//	}
//	err = h.Close()
//
// # How it works
//
// All devices share one log of segments, so that a second of values of a thousand devices is one write and one fdatasync; a file for each device
// would cost the flash a page, or a journal's commit, for each (docs/adr/0013). A segment is filled with zeros when it is begun: writing into
// blocks that exist needs no commit of the file system's journal. Values wait in memory for Options.Window at most, and go to the segment as one
// sealed frame (frame.go). A full segment gets an index of its devices at its end and is never written again.
//
// When the ring is full, the devices that hold most lose their oldest values first, so that a noisy device costs a quiet one nothing. Segments of which little
// is wanted any more are written again without the rest (clean.go); the order of values never changes.
//
// Values are ordered by sequence, never by clock: a gateway may wake up in 1970. Epoch counts the starts of the agent; (Epoch, Seq) never names two values.
// Sequences have no holes but where values were lost, so that whoever reads in order sees each loss: a full queue, a full disk, a full
// ring, damage.
//
// # Damage
//
// Frames are sealed and bound to their place (segment and offset). One that does not open costs itself; one that defined names costs
// the values that used them, up to the end of its segment. A file that is no segment, or was sealed with another key, is removed and counted.
// Each frame repeats the definitions it needs after damage was found in the same segment.
//
// # Concurrency
//
// All methods of History may be called concurrently; Run and Close by its owner. A Reader belongs to one goroutine, and there is one for each target at a time.
//
// # Testing
//
// Encoding is held to its inverse, decoders are fuzzed, random histories with crashes, rotations and full rings are compared with a model, each
// write fails once, and every byte of a segment is damaged. hil-tests/powercut replays power cuts at block level.
package history
