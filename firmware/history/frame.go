package history

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// A segment is a header, frames, and once it is full an index and a trailer. All fixed integers are little endian.
//
//	header:  magic[8] id[8] firstSeq[8] epoch[8] keyID[8] crc32c[4]
//	frame:   tag[4] length[4] crc32c(id, offset, length)[4] sealed[length]
//	trailer: magic[8] offset of the index' frame[8] crc32c[4], at the very end of the file
//
// Sealed is a body; the segment's id and the frame's offset are bound to it. A body is a list of records, each of which begins with a byte:
//
//	1 context: epoch, sequence of the next entry, time in µs       (uvarint, uvarint, varint)
//	2 series:  id, namespace, device, property                      (uvarint, 3 × length and bytes)
//	3 reason:  id, text                                             (uvarint, length and bytes)
//	4 skip:    how many sequences are left out before the next entry (uvarint)
//	5 meta:    counters and cursors (meta.go)
//	6 index:   what the segment holds (index.go)
//	≥ 128 entry: bits 0–2 the datum's code, 3–4 the quality, 5 has a source time, 6 has a reason;
//	           series, time since the entry before it in µs, [source time − time], [reason], datum (uvarint, varint, varint, uvarint, device.AppendDatum)
//
// Series and reasons are defined once in a segment, before they are used. Their numbers are explicit, so that a lost definition costs the values
// that use it, and never gives a value to another property.
const (
	segMagic     = "SKRYHIS1"
	trailerMagic = "SKRYHIX1"
	segHeader    = 8 + 8 + 8 + 8 + 8 + 4
	trailerSize  = 8 + 8 + 4
	frameTag     = "SkH\x01"
	frameHeader  = 4 + 4 + 4
	sealOverhead = 24 + 16

	recContext = 1
	recSeries  = 2
	recReason  = 3
	recSkip    = 4
	recMeta    = 5
	recIndex   = 6
	recEntry   = 0x80

	maxDatum  = 16 << 10
	maxNames  = 1 << 10
	maxReason = 200
	softBody  = 64 << 10 // a frame takes no further value beyond this
	maxBody   = 1 << 20
	maxID     = 1 << 24 // of series and reasons
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBody = errors.New("history: a frame's body is malformed")

// series names what a value belongs to.
type series struct{ namespace, device, property string }

// encoder makes bodies of the frames of one segment.
type encoder struct {
	b       []byte
	series  map[series]uint32
	reasons map[string]uint32

	begun       bool // b has a context
	epoch, next uint64
	time        int64
}

// reset begins a new segment.
func (e *encoder) reset() {
	e.series, e.reasons = map[series]uint32{}, map[string]uint32{}
	e.begin()
}

// begin begins a new body.
func (e *encoder) begin() { e.b, e.begun = e.b[:0], false }

// bound is at least what entry appends for en.
func bound(en *Entry) int {
	return 3*binary.MaxVarintLen64 + 1 + // context
		16 + len(en.Namespace) + len(en.Device) + len(en.Property) + 10 + len(en.Value.Reason) +
		1 + 6*binary.MaxVarintLen64 + en.Value.DatumSize()
}

// entry appends one value. Sequences rise.
func (e *encoder) entry(en *Entry) {
	at := en.Value.Server.UnixMicro()
	switch {
	case !e.begun || en.Epoch != e.epoch || en.Seq < e.next:
		e.b = append(e.b, recContext)
		e.b = binary.AppendUvarint(e.b, en.Epoch)
		e.b = binary.AppendUvarint(e.b, en.Seq)
		e.b = binary.AppendVarint(e.b, at)
		e.begun, e.epoch, e.time = true, en.Epoch, at
	case en.Seq > e.next:
		e.b = append(e.b, recSkip)
		e.b = binary.AppendUvarint(e.b, en.Seq-e.next)
	}
	e.next = en.Seq + 1
	id := e.seriesID(series{en.Namespace, en.Device, en.Property})
	v := &en.Value
	flags := byte(recEntry) | v.DatumCode() | byte(v.Quality&3)<<3
	var reason uint32
	if v.Reason != "" {
		reason = e.reasonID(v.Reason)
		flags |= 1 << 6
	}
	if !v.Source.IsZero() {
		flags |= 1 << 5
	}
	e.b = append(e.b, flags)
	e.b = binary.AppendUvarint(e.b, uint64(id))
	e.b = binary.AppendVarint(e.b, at-e.time)
	e.time = at
	if !v.Source.IsZero() {
		e.b = binary.AppendVarint(e.b, v.Source.UnixMicro()-at)
	}
	if v.Reason != "" {
		e.b = binary.AppendUvarint(e.b, uint64(reason))
	}
	e.b = v.AppendDatum(e.b)
}

func (e *encoder) seriesID(s series) uint32 {
	id, ok := e.series[s]
	if !ok {
		id = uint32(len(e.series)) //nolint:gosec // a segment has room for fewer than 2^20
		e.series[s] = id
		e.b = append(e.b, recSeries)
		e.b = binary.AppendUvarint(e.b, uint64(id))
		e.b = appendText(e.b, s.namespace)
		e.b = appendText(e.b, s.device)
		e.b = appendText(e.b, s.property)
	}
	return id
}

func (e *encoder) reasonID(text string) uint32 {
	id, ok := e.reasons[text]
	if !ok {
		id = uint32(len(e.reasons)) //nolint:gosec // see seriesID
		e.reasons[text] = id
		e.b = append(e.b, recReason)
		e.b = binary.AppendUvarint(e.b, uint64(id))
		e.b = appendText(e.b, text)
	}
	return id
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// names are the definitions that were read of one segment.
type names struct {
	series  map[uint32]series
	reasons map[uint32]string
	unnamed int // values that used a definition that is lost
}

func newNames() *names { return &names{series: map[uint32]series{}, reasons: map[uint32]string{}} }

// visitor gets what bodies hold. Nil functions are not called. entry returns false to end the walk.
type visitor struct {
	entry func(e *Entry, size int) bool
	meta  func(meta)
	index func(index)
}

// decode walks a body. It returns false if the visitor ended the walk.
func decode(body []byte, n *names, v visitor) (bool, error) {
	r := reader{b: body}
	var e Entry
	var now int64
	begun := false
	for len(r.b) > 0 && !r.bad {
		left := len(r.b)
		switch kind := r.byte(); {
		case kind >= recEntry:
			if !begun {
				return true, errBody
			}
			known := r.entry(kind, n, &e, &now)
			if r.bad {
				break
			}
			if known && v.entry != nil && !v.entry(&e, left-len(r.b)) {
				return false, nil
			}
			e.Seq++
		case kind == recContext:
			e.Epoch, e.Seq, now = r.uvarint(), r.uvarint(), r.varint()
			begun = true
		case kind == recSeries:
			id := r.id()
			s := series{r.text(maxNames), r.text(maxNames), r.text(maxNames)}
			n.series[id] = s
		case kind == recReason:
			id := r.id()
			n.reasons[id] = r.text(maxReason)
		case kind == recSkip:
			e.Seq += r.uvarint()
		case kind == recMeta:
			m := r.meta()
			if !r.bad && v.meta != nil {
				v.meta(m)
			}
		case kind == recIndex:
			x := r.index()
			if !r.bad && v.index != nil {
				v.index(x)
			}
		default:
			r.bad = true
		}
	}
	if r.bad {
		return true, errBody
	}
	return true, nil
}

// reader takes a body apart. bad is set by what cannot be; everything after that is meaningless.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) id() uint32 {
	v := r.uvarint()
	if v >= maxID {
		r.bad = true
	}
	return uint32(v) //nolint:gosec // bad if it does not fit
}

func (r *reader) text(limit uint64) string {
	n := r.uvarint()
	if n > limit || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// entry reads a value into e. It returns false if its series is not known.
func (r *reader) entry(flags byte, n *names, e *Entry, now *int64) bool {
	s, known := n.series[r.id()]
	*now += r.varint()
	var source time.Time
	if flags&(1<<5) != 0 {
		source = time.UnixMicro(*now + r.varint()).UTC()
	}
	reason := ""
	if flags&(1<<6) != 0 {
		reason = n.reasons[r.id()]
	}
	if r.bad {
		return false
	}
	v, rest, err := device.ReadDatum(flags&7, r.b)
	if err != nil || flags>>3&3 > byte(device.Good) {
		r.bad = true
		return false
	}
	r.b = rest
	if !known {
		n.unnamed++
		return false
	}
	v.Quality, v.Reason, v.Source, v.Server = device.Quality(flags>>3&3), reason, source, time.UnixMicro(*now).UTC()
	e.Namespace, e.Device, e.Property, e.Value = s.namespace, s.device, s.property, v
	return true
}
