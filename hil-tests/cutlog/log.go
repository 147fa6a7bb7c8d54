package cutlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// SectorSize is what a disk writes at once, and what everything here is counted in.
const SectorSize = 512

// Flags of an entry.
type Flags uint64

// The flags of the format.
const (
	Flush   Flags = 1 << iota // what was written before is on the medium
	FUA                       // what this entry writes is, too
	Discard                   // the sectors hold zeros; there is no data
	Mark                      // text of whoever made the log
)

// The format: all numbers little-endian.
const (
	magic     = 0x6a736677736872
	version   = 1
	entrySize = 32
	maxSector = 64 << 10 // largest size of a log's own sectors
	maxDisk   = int64(1) << 46
)

// Entry is one request to the disk, in the order of the log.
type Entry struct {
	Start, Count int64 // in sectors of SectorSize
	Flags        Flags
	data         int64 // where in the log the data is
}

// Writes says whether the entry changes what the disk holds.
func (e Entry) Writes() bool { return e.Count > 0 && e.Flags&Mark == 0 }

// Log is a log that was read.
type Log struct {
	Entries []Entry
	data    io.ReaderAt
}

// ErrFormat is wrapped by errors of Read: it is no log of this format, or not a whole one.
var ErrFormat = errors.New("not a whole log of dm-log-writes")

// Read reads the list of entries of a log of size bytes. Data is read later, when states are: r has to stay open.
func Read(r io.ReaderAt, size int64) (*Log, error) {
	head := make([]byte, entrySize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: read its head: %w", ErrFormat, err)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	if u64(0) != magic || u64(8) != version {
		return nil, fmt.Errorf("%w: it begins with %x, and version 1 begins with 7268737766736a00 0100000000000000", ErrFormat, head[:16])
	}
	count, unit := u64(16), int64(binary.LittleEndian.Uint32(head[24:]))
	if unit < SectorSize || unit > maxSector || unit&(unit-1) != 0 {
		return nil, fmt.Errorf("%w: its sectors have %d bytes; a power of two from 512 is allowed", ErrFormat, unit)
	}
	if count > uint64(size/unit) { //nolint:gosec // a size is not negative
		return nil, fmt.Errorf("%w: %d entries cannot be in %d bytes", ErrFormat, count, size)
	}
	l := &Log{data: r}
	at := unit
	for i := range count {
		e, next, err := readEntry(r, at, unit, size)
		if err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", i+1, count, err)
		}
		l.Entries = append(l.Entries, e)
		at = next
	}
	return l, nil
}

func readEntry(r io.ReaderAt, at, unit, size int64) (e Entry, next int64, err error) {
	b := make([]byte, entrySize)
	if _, err := r.ReadAt(b, at); err != nil {
		return e, 0, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	start, count := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if limit := uint64(maxDisk / unit); start > limit || count > limit { //nolint:gosec // positive
		return e, 0, fmt.Errorf("%w: %d sectors at %d lie behind any disk", ErrFormat, count, start)
	}
	per := unit / SectorSize
	e = Entry{Start: int64(start) * per, Count: int64(count) * per, Flags: Flags(binary.LittleEndian.Uint64(b[16:])), data: at + unit} //nolint:gosec // limited above
	next = e.data
	switch {
	case e.Flags&Mark != 0: // its text is in the entry's own sector
		e.Count = 0
	case e.Flags&Discard == 0:
		next += e.Count * SectorSize
	}
	if next > size {
		return e, 0, fmt.Errorf("%w: its data ends at %d, and the log at %d", ErrFormat, next, size)
	}
	return e, next, nil
}
