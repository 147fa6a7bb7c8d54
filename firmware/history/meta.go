package history

import "encoding/binary"

// meta is what must survive beside values. The newest one in the log counts.
type meta struct {
	full, tooLarge, overwritten, damaged uint64
	targets                              []cursor
}

// cursor says up to where a target has acknowledged, and how much of that it never got.
type cursor struct {
	target string
	acked  uint64
	lost   uint64
}

const (
	maxTargets = 32
	maxTarget  = 100 // bytes of a target's name
	counters   = 4
)

func (m *meta) append(b []byte) []byte {
	b = append(b, recMeta, counters)
	for _, n := range []uint64{m.full, m.tooLarge, m.overwritten, m.damaged} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(m.targets)))
	for _, c := range m.targets {
		b = appendText(b, c.target)
		b = binary.AppendUvarint(b, c.acked)
		b = binary.AppendUvarint(b, c.lost)
	}
	return b
}

func (r *reader) meta() (m meta) {
	if r.byte() != counters {
		r.bad = true
		return m
	}
	m.full, m.tooLarge, m.overwritten, m.damaged = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	n := r.uvarint()
	if n > maxTargets {
		r.bad = true
	}
	for i := uint64(0); i < n && !r.bad; i++ {
		m.targets = append(m.targets, cursor{r.text(maxTarget), r.uvarint(), r.uvarint()})
	}
	return m
}

// index says what a full segment holds.
type index struct {
	first, last      uint64
	minTime, maxTime int64 // µs
	meta             meta  // the newest in the segment
	devices          []indexed
}

type indexed struct {
	deviceKey
	bytes, count uint32
}

func (x *index) append(b []byte) []byte {
	b = append(b, recIndex)
	b = binary.AppendUvarint(b, x.first)
	b = binary.AppendUvarint(b, x.last)
	b = binary.AppendVarint(b, x.minTime)
	b = binary.AppendVarint(b, x.maxTime)
	b = binary.AppendUvarint(b, uint64(len(x.devices)))
	for _, d := range x.devices {
		b = appendText(b, d.namespace)
		b = appendText(b, d.device)
		b = binary.AppendUvarint(b, uint64(d.bytes))
		b = binary.AppendUvarint(b, uint64(d.count))
	}
	return x.meta.append(b) // a record of its own
}

func (r *reader) index() (x index) {
	x.first, x.last, x.minTime, x.maxTime = r.uvarint(), r.uvarint(), r.varint(), r.varint()
	n := r.uvarint()
	if n > uint64(len(r.b))/4 { // a device takes at least 4 bytes
		r.bad = true
		return x
	}
	x.devices = make([]indexed, 0, n)
	for i := uint64(0); i < n && !r.bad; i++ {
		d := indexed{deviceKey: deviceKey{r.text(maxNames), r.text(maxNames)}}
		b, c := r.uvarint(), r.uvarint()
		if b > 1<<32-1 || c > 1<<32-1 {
			r.bad = true
		}
		d.bytes, d.count = uint32(b), uint32(c) //nolint:gosec // bad if they do not fit
		x.devices = append(x.devices, d)
	}
	return x
}
