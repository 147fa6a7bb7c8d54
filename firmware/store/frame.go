package store

import (
	"encoding/binary"
	"hash/crc32"
)

// A segment is a header and frames. All integers are little endian.
//
//	header: magic[8] id[8] after[8] epoch[8] keyID[8] crc32c[4]
//	frame:  length[4] crc32c[4] payload[length]
//	payload: seq[8] count(uvarint) count × change
//	change: kind[1] space[1] keyLen(uvarint) key sealedLen(uvarint) sealed
//
// A frame is the unit of atomicity: a group of whole batches. Its checksum also covers the segment's id, so that a frame
// never counts in a file where it was not written. seq rises by one per frame; a hole in it proves a loss. after is the sequence
// acknowledged before the segment was begun: what earlier segments hold beyond it was refused (a failed sync) and is ignored.
const (
	segMagic       = "SKRYWAL1"
	segHeaderSize  = 8 + 8 + 8 + 8 + 8 + 4
	frameHeader    = 8
	minPayload     = 8 + 1
	sealOverhead   = 24 + 16
	changeOverhead = 16 // kind, space, and two lengths of at most 5 bytes
	// A group takes no further batch at maxGroup; one batch alone may be larger, and lazy ones wait up to maxLazyBytes and one batch.
	maxGroup   = 1 << 20
	maxPayload = maxLazyBytes + MaxBatch + 64
)

const (
	changePut    = 1
	changeDelete = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameError says why bytes are not a whole frame.
type frameError string

func (e frameError) Error() string { return string(e) }

const (
	errFrameShort frameError = "frame is cut off"
	errFrameSize  frameError = "frame length is impossible"
	errFrameSum   frameError = "frame checksum differs"
	errFrameForm  frameError = "frame is malformed"
)

type segHeader struct {
	id, after, epoch uint64
	keyID            [8]byte
}

func (h segHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, segMagic...)
	b = binary.LittleEndian.AppendUint64(b, h.id)
	b = binary.LittleEndian.AppendUint64(b, h.after)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = append(b, h.keyID[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseSegHeader(b []byte) (h segHeader, ok bool) {
	if len(b) < segHeaderSize || string(b[:8]) != segMagic {
		return h, false
	}
	if crc32.Checksum(b[:segHeaderSize-4], castagnoli) != binary.LittleEndian.Uint32(b[segHeaderSize-4:]) {
		return h, false
	}
	h.id = binary.LittleEndian.Uint64(b[8:])
	h.after = binary.LittleEndian.Uint64(b[16:])
	h.epoch = binary.LittleEndian.Uint64(b[24:])
	copy(h.keyID[:], b[32:])
	return h, true
}

// change is one record as the log holds it. sealed is the sealed value, or for a deletion the sealed empty value, which
// proves that the deletion is ours.
type change struct {
	recKey
	del    bool
	sealed []byte
}

// beginFrame reserves the frame's header in b; endFrame fills it in.
func beginFrame(b []byte, seq uint64, count int) []byte {
	b = append(b, make([]byte, frameHeader)...)
	b = binary.LittleEndian.AppendUint64(b, seq)
	return binary.AppendUvarint(b, uint64(count))
}

func appendChange(b []byte, c change) []byte {
	kind := byte(changePut)
	if c.del {
		kind = changeDelete
	}
	b = append(b, kind, byte(c.space))
	b = binary.AppendUvarint(b, uint64(len(c.key)))
	b = append(b, c.key...)
	b = binary.AppendUvarint(b, uint64(len(c.sealed)))
	return append(b, c.sealed...)
}

func endFrame(b []byte, start int, segID uint64) {
	payload := b[start+frameHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], frameSum(payload, segID))
}

func frameSum(payload []byte, segID uint64) uint32 {
	var seed [12]byte
	binary.LittleEndian.PutUint64(seed[:], segID)
	binary.LittleEndian.PutUint32(seed[8:], uint32(len(payload)))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, payload)
}

// frameLen checks a frame's header against what is left of the file, before anything is allocated for it.
func frameLen(hdr []byte, left int64) (int, error) {
	if len(hdr) < frameHeader || left < frameHeader {
		return 0, errFrameShort
	}
	n := int64(binary.LittleEndian.Uint32(hdr))
	if n < minPayload || n > maxPayload {
		return 0, errFrameSize
	}
	if n > left-frameHeader {
		return 0, errFrameShort
	}
	return int(n), nil
}

// decodeFrame checks and takes apart the payload of a frame. The changes point into payload.
func decodeFrame(hdr, payload []byte, segID uint64) (seq uint64, changes []change, err error) {
	if len(payload) < minPayload {
		return 0, nil, errFrameShort
	}
	if binary.LittleEndian.Uint32(hdr[4:]) != frameSum(payload, segID) {
		return 0, nil, errFrameSum
	}
	seq = binary.LittleEndian.Uint64(payload)
	rest := payload[8:]
	count, rest, ok := takeUvarint(rest, maxPayload)
	// A change takes at least 5 bytes, which bounds what count may ask for.
	if !ok || seq == 0 || count > len(rest)/5 {
		return 0, nil, errFrameForm
	}
	changes = make([]change, 0, count)
	for range count {
		var c change
		if c, rest, ok = takeChange(rest); !ok {
			return 0, nil, errFrameForm
		}
		changes = append(changes, c)
	}
	if len(rest) != 0 {
		return 0, nil, errFrameForm
	}
	return seq, changes, nil
}

func takeChange(b []byte) (c change, rest []byte, ok bool) {
	if len(b) < 2 || (b[0] != changePut && b[0] != changeDelete) || !Space(b[1]).valid() {
		return c, nil, false
	}
	c.del = b[0] == changeDelete
	c.space = Space(b[1])
	n, b, ok := takeUvarint(b[2:], MaxKey)
	if !ok || n == 0 || n > len(b) {
		return c, nil, false
	}
	c.key, b = string(b[:n]), b[n:]
	n, b, ok = takeUvarint(b, MaxValue+sealOverhead)
	if !ok || n > len(b) {
		return c, nil, false
	}
	c.sealed = b[:n:n]
	return c, b[n:], true
}

func takeUvarint(b []byte, limit int) (int, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > uint64(limit) {
		return 0, nil, false
	}
	return int(v), b[n:], true
}
