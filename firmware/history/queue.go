package history

import (
	"sync"
	"time"
)

// Limits of what waits for the disk.
const (
	maxQueued      = 16 << 10 // values
	maxQueuedBytes = 4 << 20  // of names, strings and reasons
	earlyFlush     = maxQueued / 4
)

// queue holds what was recorded and is not on the disk yet.
type queue struct {
	mu       sync.Mutex
	most     int // values that may wait; set by Limit
	entries  []Entry
	spare    []Entry // the other of two buffers
	bytes    int
	writing  int // values that are being written, and wait no longer here
	seq      uint64
	since    time.Time // when the first of entries came
	full     uint64    // values dropped because the queue was full
	tooLarge uint64
	lost     bool                // something was dropped since the last take
	drops    map[deviceKey]drops // the same by device, since Open
}

// drops counts what was dropped of one device.
type drops struct{ full, tooLarge uint64 }

// maxDropKeys bounds drops; further devices are in the sums only.
const maxDropKeys = 4096

func (q *queue) init() {
	q.most = maxQueued
	q.entries, q.spare, q.drops = make([]Entry, 0, 64), make([]Entry, 0, 64), map[deviceKey]drops{}
}

// early is how many values wait at most if the disk keeps up. The caller holds mu.
func (q *queue) early() int { return min(earlyFlush, max(q.most/4, 1)) }

// dropped counts a loss. The caller holds mu.
func (q *queue) dropped(k deviceKey, full, tooLarge uint64) {
	q.full += full
	q.tooLarge += tooLarge
	q.lost = true
	if d, known := q.drops[k]; known || len(q.drops) < maxDropKeys {
		q.drops[k] = drops{d.full + full, d.tooLarge + tooLarge}
	}
}

func sizeOf(e *Entry) int {
	return len(e.Namespace) + len(e.Device) + len(e.Property) + len(e.Value.Reason) + e.Value.DatumSize()
}

// put gives e its sequence and appends it. It reports whether the writer should be woken.
func (q *queue) put(e Entry) (wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	e.Seq = q.seq
	size := sizeOf(&e)
	if len(q.entries)+q.writing >= q.most || q.bytes+size > maxQueuedBytes {
		q.dropped(deviceKey{e.Namespace, e.Device}, 1, 0) // its sequence is left out, so that a target sees that something is missing
		return false
	}
	if len(q.entries) == 0 {
		q.since, wake = time.Now(), true
	}
	q.entries = append(q.entries, e)
	q.bytes += size
	return wake || len(q.entries) == q.early()
}

// lose counts a value that is too large to be kept.
func (q *queue) lose(k deviceKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	q.dropped(k, 0, 1)
}

// miss counts values that were lost before they came here: their sequences are left out.
func (q *queue) miss(k deviceKey, n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq += n
	q.dropped(k, n, 0)
}

// waiting says since when values wait, and whether they are many.
func (q *queue) waiting() (since time.Time, much, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.since, len(q.entries) >= q.early() || q.bytes > maxQueuedBytes/4, len(q.entries) > 0
}

// take returns what waits, and the last sequence that was given. The entries must be given back to done.
func (q *queue) take() (entries []Entry, last uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	entries = q.entries
	q.entries, q.spare = q.spare[:0], nil
	q.writing = len(entries)
	q.bytes = 0
	q.lost = false
	return entries, q.seq
}

// done takes back the buffer of take after its entries were written.
func (q *queue) done(entries []Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(entries) // let go of strings
	if cap(entries) > earlyFlush {
		entries = make([]Entry, 0, 64)
	}
	q.spare, q.writing = entries[:0], 0
}

// putBack puts what could not be written in front again.
func (q *queue) putBack(entries []Entry, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	newer := q.entries
	q.entries = append(entries, newer...)
	clear(newer)
	q.spare, q.writing = newer[:0], 0
	q.bytes = 0
	for i := range q.entries {
		q.bytes += sizeOf(&q.entries[i])
	}
	if len(q.entries) > 0 {
		q.since = since
	}
}

// Limit sets how many values may wait for the disk from now on: 1 at least, 65,536 at most, 16,384 until it is called. What waits already
// is not dropped. It bounds memory only: what is on the disk stays.
func (h *History) Limit(values int) {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	h.queue.most = min(max(values, 1), 4*maxQueued)
}

// room is how many values may wait.
func (q *queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.most
}
