// Package cutlog replays what was written to a disk up to a power cut, on a disk that loses what was not flushed. The log is that of the kernel's
// dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst, version 1 of the format), which QEMU's blklogwrites driver makes of a whole
// machine's disk: killing QEMU alone loses nothing.
//
//	log, err := cutlog.Read(file, size)         // of QEMU, or of a Recorder
//	disk := cutlog.NewDisk(before, size, log)   // before: the disk as it was when the log began
//	state := disk.Cut(n, cutlog.Sectors, rng)   // after n entries; cuts come in ascending order
//	state.ReadAt(…)                             // what a reader finds after the cut
//
// All that was written before the last flush is there. Of what was written since, a [Mode] says what is: nothing, all, some writes, some sectors of each,
// all but the last write, which is torn, or noise here and there. Of two writes that both are kept, the later one counts.
//
// What a log cannot show: QEMU notes a flush when it is asked for. A write that was asked for before and had not ended by then counts as flushed here, though
// nothing was promised of it; a system that waits for its writes before it flushes, as all file systems do, does not rely on the difference.
//
// A [Disk] and its states are for one goroutine. The reader takes logs of anybody and is fuzzed; testdata has one that QEMU 7.2 wrote.
package cutlog
