package cutlog

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
)

// Mode says what becomes of writes that were not flushed when the power went.
type Mode uint8

// The modes.
const (
	None    Mode = iota // nothing of them reached the medium
	All                 // all
	Some                // some of the writes
	Sectors             // some sectors of each
	Torn                // all but the last one, of which only the beginning did
	Noise               // each sector holds what it held, what was written, or neither: flash whose pages were being programmed
	Modes
)

func (m Mode) String() string {
	return [...]string{"none", "all", "some", "sectors", "torn", "noise"}[m]
}

// Where a sector's content is: in the log at this offset, or one of these.
const (
	untouched = int64(0) // as before the log; offset 0 is the log's head
	zeros     = int64(-1)
	noise     = int64(-2)
)

// Disk is a disk to which a log is applied bit by bit.
type Disk struct {
	before  io.ReaderAt
	log     *Log
	where   []int64 // of each sector, what is certain to be on the medium
	applied int     // entries that have been looked at
	pending []Entry // of these, writes since the last flush
	seed    maphash.Seed
}

// NewDisk returns a disk of size bytes, as it was before the log. It fails if the log writes behind its end.
func NewDisk(before io.ReaderAt, size int64, log *Log) (*Disk, error) {
	for i, e := range log.Entries {
		if e.Writes() && (e.Start+e.Count)*SectorSize > size {
			return nil, fmt.Errorf("entry %d of the log writes up to sector %d, and the disk has %d: the log is of another disk", i+1, e.Start+e.Count, size/SectorSize)
		}
	}
	return &Disk{before: before, log: log, where: make([]int64, size/SectorSize), seed: maphash.MakeSeed()}, nil
}

// Cut returns the disk after a power cut behind the first n entries. n must not be smaller than at the cut before, whose state must no longer be used.
func (d *Disk) Cut(n int, mode Mode, rng *rand.Rand) *State {
	for ; d.applied < n; d.applied++ {
		d.apply(d.log.Entries[d.applied])
	}
	s := &State{disk: d, over: map[int64]int64{}}
	for i, e := range d.pending {
		s.lose(e, i == len(d.pending)-1, mode, rng)
	}
	return s
}

func (d *Disk) apply(e Entry) {
	if e.Flags&Flush != 0 {
		for _, p := range d.pending {
			p.each(func(sector, at int64) { d.where[sector] = at })
		}
		d.pending = d.pending[:0]
	}
	if e.Writes() {
		d.pending = append(d.pending, e)
	}
}

// each calls f for each sector with the place of its content.
func (e Entry) each(f func(sector, at int64)) {
	for i := range e.Count {
		at := zeros
		if e.Flags&Discard == 0 {
			at = e.data + i*SectorSize
		}
		f(e.Start+i, at)
	}
}

// State is a disk after a power cut.
type State struct {
	disk *Disk
	over map[int64]int64 // what is elsewhere than disk.where says
}

// lose keeps of a write what the mode leaves; all of one that was to be on the medium before anybody went on.
func (s *State) lose(e Entry, last bool, mode Mode, rng *rand.Rand) {
	keep := e.Count
	switch mode {
	case None:
		keep = 0
	case Some:
		keep *= rng.Int64N(2)
	case Torn:
		if last {
			keep = rng.Int64N(e.Count + 1)
		}
	}
	sure := e.Flags&FUA != 0
	e.each(func(sector, at int64) {
		switch {
		case sure:
		case sector-e.Start >= keep, mode == Sectors && rng.IntN(2) == 0:
			return
		case mode == Noise:
			switch rng.IntN(3) {
			case 0:
				return
			case 1:
				at = noise
			}
		}
		s.over[sector] = at
	})
}

func (s *State) at(sector int64) int64 {
	if at, ok := s.over[sector]; ok {
		return at
	}
	return s.disk.where[sector]
}

// Size of the disk in bytes.
func (s *State) Size() int64 { return int64(len(s.disk.where)) * SectorSize }

// ReadAt implements io.ReaderAt.
func (s *State) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		sector, within := (off+int64(n))/SectorSize, (off+int64(n))%SectorSize
		if off < 0 || sector >= int64(len(s.disk.where)) {
			return n, io.EOF
		}
		from := s.at(sector)
		// As much as follows in the same place.
		count := int64(1)
		for end := sector + 1; count*SectorSize-within < int64(len(p)-n) && end < int64(len(s.disk.where)) && follows(from, s.at(end), count); end++ {
			count++
		}
		part := p[n:min(len(p), n+int(count*SectorSize-within))]
		switch from {
		case zeros:
			clear(part)
		case noise:
			for i := range part {
				part[i] = byte(uint64(off+int64(n+i)) * 0x9e3779b97f4a7c15 >> 56) //nolint:gosec // any number will do
			}
		case untouched:
			_, err = s.disk.before.ReadAt(part, sector*SectorSize+within)
		default:
			_, err = s.disk.log.data.ReadAt(part, from+within)
		}
		if err != nil {
			return n, fmt.Errorf("sector %d: %w", sector, err)
		}
		n += len(part)
	}
	return n, nil
}

// follows says whether a sector's content is count sectors behind from.
func follows(from, at, count int64) bool {
	if from <= untouched {
		return at == from
	}
	return at == from+count*SectorSize
}

// Fingerprint says where the content of bytes start to end comes from: if two states of one disk have the same one, they hold the same there.
func (s *State) Fingerprint(start, end int64) uint64 {
	var h maphash.Hash
	h.SetSeed(s.disk.seed)
	b := make([]byte, 8)
	for sector := start / SectorSize; sector*SectorSize < end; sector++ {
		binary.LittleEndian.PutUint64(b, uint64(s.at(sector))) //nolint:gosec // any number will do
		_, _ = h.Write(b)                                      // never fails
	}
	return h.Sum64()
}

// Apply writes what differs from the disk before the log to a copy of that.
func (s *State) Apply(to io.WriterAt) error {
	const most = 2048 // sectors at a time
	buf := make([]byte, most*SectorSize)
	for sector := int64(0); sector < int64(len(s.disk.where)); {
		count := int64(0)
		for count < most && sector+count < int64(len(s.disk.where)) && s.at(sector+count) != untouched {
			count++
		}
		if count == 0 {
			sector++
			continue
		}
		part := buf[:count*SectorSize]
		if _, err := s.ReadAt(part, sector*SectorSize); err != nil {
			return err
		}
		if _, err := to.WriteAt(part, sector*SectorSize); err != nil {
			return err
		}
		sector += count
	}
	return nil
}
