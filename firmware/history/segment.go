package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

const (
	segPrefix = "h-"
	segSuffix = ".seg"
	newSuffix = ".new" // a segment that is being written again
)

// segment is one file of the log. Fields are guarded by History.mu; of a full segment only parts change.
type segment struct {
	id               uint64
	path             string
	size             int64 // on the disk
	end              int64 // of the last frame that counts
	first, last      uint64
	minTime, maxTime int64
	count            int64
	parts            []part
	generation       int // rises when the file is written again
	damaged          bool
}

// part is what one device has in a segment.
type part struct {
	device       *deviceUse
	bytes, count uint32
	dead         bool // not wanted any more
}

// deviceUse is what one device has in all segments.
type deviceUse struct {
	key         deviceKey
	live        int64  // bytes of parts that are not dead
	overwritten uint64 // values, since Open
	gone        bool   // the gateway has it no longer: its values make room first
}

func (s *segment) deadBytes() (n int64) {
	for _, p := range s.parts {
		if p.dead {
			n += int64(p.bytes)
		}
	}
	return n
}

func (s *segment) liveBytes() (n int64) {
	for _, p := range s.parts {
		if !p.dead {
			n += int64(p.bytes)
		}
	}
	return n
}

// has says whether the device has anything in the segment.
func (s *segment) has(k deviceKey) bool {
	return slices.ContainsFunc(s.parts, func(p part) bool { return p.device.key == k })
}

// note takes a value into account.
func (s *segment) note(seq uint64, at int64) {
	if s.count == 0 {
		s.first, s.minTime, s.maxTime = seq, at, at
	}
	s.last = max(s.last, seq)
	s.minTime, s.maxTime = min(s.minTime, at), max(s.maxTime, at)
	s.count++
}

func (h *History) segPath(id uint64) string {
	return filepath.Join(h.opt.Dir, fmt.Sprintf("%s%016x%s", segPrefix, id, segSuffix))
}

func parseSegName(name string) (id uint64, ok bool) {
	hex, ok := strings.CutPrefix(name, segPrefix)
	if !ok {
		return 0, false
	}
	hex, ok = strings.CutSuffix(hex, segSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	_, err := fmt.Sscanf(hex, "%016x", &id)
	return id, err == nil && id > 0
}

func appendSegHeader(b []byte, id, first, epoch uint64, keyID [8]byte) []byte {
	start := len(b)
	b = append(b, segMagic...)
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = binary.LittleEndian.AppendUint64(b, epoch)
	b = append(b, keyID[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseSegHeader returns the id and the key's id of a header that is whole.
func parseSegHeader(b []byte) (id uint64, keyID [8]byte, ok bool) {
	if len(b) < segHeader || string(b[:8]) != segMagic ||
		crc32.Checksum(b[:segHeader-4], castagnoli) != binary.LittleEndian.Uint32(b[segHeader-4:]) {
		return 0, keyID, false
	}
	copy(keyID[:], b[32:])
	return binary.LittleEndian.Uint64(b[8:]), keyID, true
}

func appendTrailer(b []byte, offset int64) []byte {
	start := len(b)
	b = append(b, trailerMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(offset)) //nolint:gosec // an offset
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseTrailer(b []byte, size int64) (offset int64, ok bool) {
	if len(b) != trailerSize || string(b[:8]) != trailerMagic || crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, false
	}
	at := binary.LittleEndian.Uint64(b[8:])
	return int64(at), at >= segHeader && at < uint64(size) //nolint:gosec // checked
}

func frameSum(id uint64, offset int64, length uint32) uint32 {
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], id)
	binary.LittleEndian.PutUint64(b[8:], uint64(offset)) //nolint:gosec // an offset
	binary.LittleEndian.PutUint32(b[16:], length)
	return crc32.Checksum(b[:], castagnoli)
}

// frameAD is bound to a sealed body: a frame opens in its own place only.
func frameAD(id uint64, offset int64) []byte {
	b := append(make([]byte, 0, 40), "skerry history 1"...)
	b = binary.LittleEndian.AppendUint64(b, id)
	return binary.LittleEndian.AppendUint64(b, uint64(offset)) //nolint:gosec // an offset
}

// appendFrame seals a body for its place in a segment.
func appendFrame(b []byte, s Sealer, id uint64, offset int64, body []byte) ([]byte, error) {
	start := len(b)
	b = append(b, frameTag...)
	b = append(b, make([]byte, 8)...)
	b, err := s.Seal(b, body, frameAD(id, offset))
	if err != nil {
		return nil, err
	}
	n := uint32(len(b) - start - frameHeader) //nolint:gosec // bodies are bounded
	binary.LittleEndian.PutUint32(b[start+4:], n)
	binary.LittleEndian.PutUint32(b[start+8:], frameSum(id, offset, n))
	return b, nil
}

// scanner reads the frames of one segment. Its buffers are reused; what a visitor gets does not refer to them.
type scanner struct {
	r      io.ReaderAt
	id     uint64
	sealer Sealer
	names  *names
	sealed []byte
	body   []byte
	tries  int // whole-looking frames that did not open
}

// maxTries bounds what a segment that somebody made can cost.
const maxTries = 1 << 10

// frame reads the frame at off. ok is false if there is no whole one.
func (s *scanner) frame(off, end int64) (next int64, ok bool, err error) {
	var hdr [frameHeader]byte
	if end-off < frameHeader {
		return 0, false, nil
	}
	if _, err := s.r.ReadAt(hdr[:], off); err != nil {
		return 0, false, err
	}
	n := binary.LittleEndian.Uint32(hdr[4:])
	if string(hdr[:4]) != frameTag || n < sealOverhead || n > maxBody+sealOverhead || int64(n) > end-off-frameHeader ||
		binary.LittleEndian.Uint32(hdr[8:]) != frameSum(s.id, off, n) || s.tries >= maxTries {
		return 0, false, nil
	}
	if cap(s.sealed) < int(n) {
		s.sealed = make([]byte, n)
	}
	s.sealed = s.sealed[:n]
	if _, err := s.r.ReadAt(s.sealed, off+frameHeader); err != nil {
		return 0, false, err
	}
	body, err := s.sealer.Open(s.body[:0], s.sealed, frameAD(s.id, off))
	if err != nil {
		s.tries++
		return 0, false, nil
	}
	s.body = body
	return off + frameHeader + int64(n), true, nil
}

// find returns the offset of the next tag at or after off, or end.
func (s *scanner) find(off, end int64) (int64, error) {
	const window = 64 << 10
	win := make([]byte, min(window, max(0, end-off)))
	for end-off >= frameHeader {
		n := min(int64(len(win)), end-off)
		if _, err := s.r.ReadAt(win[:n], off); err != nil {
			return end, err
		}
		if i := bytes.Index(win[:n], []byte(frameTag)); i >= 0 {
			return off + int64(i), nil
		}
		off += n - int64(len(frameTag)) + 1
	}
	return end, nil
}

// scanned is what a scan has found.
type scanned struct {
	end   int64 // after the last whole frame
	gaps  int   // damaged places with whole frames after them
	ended bool  // the visitor has ended it; end is then where the frame begins that it was in
}

// scan gives all whole frames from off to end to v.
func (s *scanner) scan(off, end int64, v visitor) (res scanned, err error) {
	res.end = off
	gap := false
	for off < end {
		next, ok, err := s.frame(off, end)
		if err != nil {
			return res, err
		}
		if ok {
			more, err := decode(s.body, s.names, v)
			if !more {
				res.ended = true
				return res, nil
			}
			if err == nil {
				if gap {
					res.gaps++
					gap = false
				}
				off, res.end = next, next
				continue
			}
		}
		gap = true
		if off, err = s.find(off+1, end); err != nil {
			return res, err
		}
	}
	return res, nil
}
