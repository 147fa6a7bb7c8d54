package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

const (
	segPrefix = "log-"
	segSuffix = ".wal"
)

func segName(id uint64) string { return fmt.Sprintf("%s%016x%s", segPrefix, id, segSuffix) }

func parseSegName(name string) (id uint64, ok bool) {
	hex, ok := strings.CutPrefix(name, segPrefix)
	if !ok {
		return 0, false
	}
	hex, ok = strings.CutSuffix(hex, segSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	if _, err := fmt.Sscanf(hex, "%016x", &id); err != nil {
		return 0, false
	}
	return id, id > 0
}

// segInfo is a segment that is no longer written to.
type segInfo struct {
	id      uint64
	size    int64 // up to the end of its last frame
	alloc   int64 // of the file: the next segment that is written over it has blocks up to here; 0: it must not be used again
	damaged bool  // to be set aside, not removed, once the checkpoint has what it holds
}

// logWriter appends to the log. Its caller serialises all calls.
type logWriter struct {
	fs    fsys
	dir   string
	epoch uint64
	keyID [8]byte
	m     *counters

	cur    file // nil: the next append begins a segment
	id     uint64
	off    int64 // end of the last acknowledged frame
	ahead  int64 // up to here the file has blocks: with frames, zeros, or what an earlier segment left
	reused bool  // the file was an earlier segment's
	broken bool  // the last sync failed
	closed []segInfo
	spare  *segInfo // the next segment is written over it (spare.go)
	nextID uint64
}

// ready makes sure that there is a segment to append to. after is the sequence of the last acknowledged frame; last is what it is then,
// also beside an error.
func (w *logWriter) ready(after uint64) (last uint64, err error) {
	if w.cur != nil {
		return after, nil
	}
	if w.spare != nil {
		if last, err := w.reuse(after); err == nil {
			return last, nil
		}
		// A new file may do: the old one's blocks may be what is bad.
	}
	return after, w.begin(after)
}

// begin begins a segment in a new file.
func (w *logWriter) begin(after uint64) error {
	id := w.nextID
	w.nextID++ // even if this attempt fails: its file may be left over
	path := filepath.Join(w.dir, segName(id))
	f, err := w.fs.create(path)
	if err != nil {
		return err
	}
	hdr := segHeader{id: id, after: after, epoch: w.epoch, keyID: w.keyID}.append(nil)
	_, err = f.WriteAt(hdr, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = w.fs.syncDir(w.dir)
	}
	if err != nil {
		_ = f.Close()
		_ = w.fs.remove(path) // an empty segment that stays is skipped by recovery
		return err
	}
	w.m.bytes.Add(int64(len(hdr)))
	w.m.fsyncs.Add(2)
	w.cur, w.id, w.off, w.ahead, w.reused = f, id, int64(len(hdr)), int64(len(hdr)), false
	return nil
}

// append writes a frame that was made for segment w.id and syncs it. On an error the frame does not count.
func (w *logWriter) append(frame []byte) error {
	n, err := w.cur.WriteAt(frame, w.off)
	w.m.bytes.Add(int64(n))
	if err != nil {
		// Nothing unsynced but this frame is in the file: cut it off, and the segment is as it was.
		if terr := w.cur.Truncate(w.off); terr != nil {
			w.retire()
		}
		w.ahead = w.off
		return err
	}
	w.zeros(w.off+int64(len(frame)), len(frame))
	w.m.fsyncs.Add(1)
	if err := w.cur.Datasync(); err != nil {
		w.doubt()
		return err
	}
	w.broken = false
	w.off += int64(len(frame))
	return nil
}

// doubt ends the current segment after a failed sync: the kernel may have dropped the pages and report success the next time (the "fsyncgate" of
// 2018), so the file cannot be appended to any more, nor used again. The next segment's header says where this one ended.
func (w *logWriter) doubt() {
	_ = w.cur.Truncate(w.off)
	w.retire()
	w.closed[len(w.closed)-1].alloc = 0
	w.broken = true
}

// Zeros are written ahead of small frames: a sync of a file that grows commits the file system's journal, which is three blocks or more; one that writes into blocks that
// are there and initialised does not. A large frame costs more zeros than that is.
const (
	smallFrame = 4 << 10
	zeroAhead  = 32 << 10
)

// zeros makes sure that what follows a small frame, which ends at end, has blocks already. It is only an attempt: without them the next frame costs more.
func (w *logWriter) zeros(end int64, frame int) {
	if end <= w.ahead {
		return
	}
	w.ahead = end
	if frame > smallFrame || w.broken { // on a full disk it may be the zeros that make a sync fail
		return
	}
	n, err := w.cur.WriteAt(make([]byte, zeroAhead), end)
	w.m.bytes.Add(int64(n))
	if err == nil {
		w.ahead += zeroAhead
	}
}

// retire ends the current segment.
func (w *logWriter) retire() {
	if w.cur == nil {
		return
	}
	info := segInfo{id: w.id, size: w.off, alloc: max(w.ahead, w.off)}
	if w.ahead > w.off && !w.reused {
		_ = w.cur.Truncate(w.off) // zeros that stay are cut off at the next Open
		info.alloc = w.off
	}
	_ = w.cur.Close() // everything acknowledged in it is synced
	w.closed = append(w.closed, info)
	w.cur = nil
}

// size returns the length of all segments.
func (w *logWriter) size() int64 {
	var n int64
	if w.cur != nil {
		n = w.off
	}
	for _, s := range w.closed {
		n += s.size
	}
	return n
}

// span is a part of a segment, in bytes from its beginning.
type span struct{ from, to int64 }

// scanned is what scanSegment found.
type scanned struct {
	frames int
	reused bool   // the file was an earlier segment's: behind the last frame is what that one left
	last   uint64 // sequence of the last whole frame, or of the last before the segment
	end    int64  // end of the last whole frame
	gaps   []span // damage between whole frames
	tail   span   // bytes after the last whole frame
}

// scanSegment calls fn for every whole frame beyond the sequence last. After damage it looks for the next whole frame whose sequence continues what came before.
func scanSegment(r io.ReaderAt, size int64, id, last uint64, fn func(seq uint64, changes []change)) (scanned, error) {
	res := scanned{last: last, end: min(size, segHeaderSize)}
	off := res.end
	var buf []byte
	for off < size {
		seq, changes, n, b, err := readFrame(r, off, size, id, buf)
		buf = b
		if err != nil && !isFrameError(err) {
			return res, err
		}
		if err == nil && seq > res.last {
			if off > res.end {
				res.gaps = append(res.gaps, span{res.end, off})
			}
			if off == segHeaderSize && len(changes) == 0 {
				res.reused = true
			}
			fn(seq, changes)
			res.frames++
			res.last = seq
			off += n
			res.end = off
			continue
		}
		next, err := findFrame(r, off+1, size, id, res.last)
		if err != nil {
			return res, err
		}
		off = next
	}
	if res.end < size {
		res.tail = span{res.end, size}
	}
	return res, nil
}

func isFrameError(err error) bool {
	var e frameError
	return errors.As(err, &e)
}

// readFrame reads and checks the frame at off. buf is reused if it is large enough; changes do not outlive it.
func readFrame(r io.ReaderAt, off, size int64, id uint64, buf []byte) (seq uint64, changes []change, n int64, _ []byte, err error) {
	var hdr [frameHeader]byte
	if size-off < frameHeader {
		return 0, nil, 0, buf, errFrameShort
	}
	if _, err := r.ReadAt(hdr[:], off); err != nil {
		return 0, nil, 0, buf, err
	}
	length, err := frameLen(hdr[:], size-off)
	if err != nil {
		return 0, nil, 0, buf, err
	}
	if cap(buf) < length {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	if _, err := r.ReadAt(buf, off+frameHeader); err != nil {
		return 0, nil, 0, buf, err
	}
	seq, changes, err = decodeFrame(hdr[:], buf, id)
	return seq, changes, frameHeader + int64(length), buf, err
}

// findFrame returns the offset of the next whole frame at or after off, or size. The sequence is compared first, so that hardly any
// offset costs a checksum.
func findFrame(r io.ReaderAt, off, size int64, id, last uint64) (int64, error) {
	const window = 64 << 10
	const probe = frameHeader + 8
	const maxJump = 1 << 32
	win := make([]byte, window)
	var buf []byte
	for off+probe < size {
		n := int(min(int64(window), size-off))
		if _, err := r.ReadAt(win[:n], off); err != nil {
			return 0, err
		}
		for i := 0; i+probe <= n; i++ {
			if _, err := frameLen(win[i:i+frameHeader], size-off-int64(i)); err != nil {
				continue
			}
			if seq := binary.LittleEndian.Uint64(win[i+frameHeader:]); seq <= last || seq-last > maxJump {
				continue
			}
			_, _, _, b, err := readFrame(r, off+int64(i), size, id, buf)
			buf = b
			if err == nil {
				return off + int64(i), nil
			}
			if !isFrameError(err) {
				return 0, err
			}
		}
		off += int64(n - probe + 1)
	}
	return size, nil
}
