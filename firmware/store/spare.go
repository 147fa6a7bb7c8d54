package store

import (
	"fmt"
	"path/filepath"
	"strings"
)

// A segment whose frames the checkpoint has is kept as the spare, and the next segment is written over it: a sync of a write into blocks that a file has
// costs no commit of the file system's journal, as one of a file that grows does. What the earlier segment left behind the new one's last frame
// never counts: each frame's checksum covers its segment's number, no number is used twice, and a segment has no sequence that was used before
// it. Such a segment begins with a frame without changes, so that Open knows what the bytes behind its last frame are (docs/adr/0018).

const sparePrefix = "spare-"

func spareName(id uint64) string { return sparePrefix + strings.TrimPrefix(segName(id), segPrefix) }

// toSpare renames the largest segment up to number upTo, if it is of more use than the present spare, and returns it. Files beyond most bytes take too much room.
// The segment is the spare only once keepSpare has been told that its name is on the disk.
func (w *logWriter) toSpare(upTo uint64, most int64) *segInfo {
	var best *segInfo
	for _, seg := range w.closed {
		if seg.id <= upTo && !seg.damaged && seg.alloc > 0 && seg.alloc <= most && (best == nil || seg.alloc > best.alloc) {
			best = &seg
		}
	}
	if best == nil || w.spare != nil && w.spare.alloc >= best.alloc {
		return nil
	}
	if w.fs.rename(filepath.Join(w.dir, segName(best.id)), filepath.Join(w.dir, spareName(best.id))) != nil {
		return nil // it is removed, then
	}
	return best
}

// keepSpare takes seg, which may be nil, for the spare, if err, of the sync of the folder, is nil.
func (w *logWriter) keepSpare(seg *segInfo, err error) {
	switch {
	case seg == nil:
	case err != nil:
		w.dropSpare(seg.id) // a name that is not on the disk must not become another one
	default:
		if w.spare != nil {
			w.dropSpare(w.spare.id)
		}
		w.spare = seg
	}
}

// dropSpare removes a spare; one that stays is found by the next Open.
func (w *logWriter) dropSpare(id uint64) { _ = w.fs.remove(filepath.Join(w.dir, spareName(id))) }

// reuse begins a segment over the spare, and returns the sequence of its first frame, which says so. Its header is on the disk before
// its name is, so that no segment ever has an earlier one's header.
func (w *logWriter) reuse(after uint64) (last uint64, err error) {
	spare := *w.spare
	w.spare = nil
	from := filepath.Join(w.dir, spareName(spare.id))
	id := w.nextID
	w.nextID++
	last = after + 1
	head := segHeader{id: id, after: after, epoch: w.epoch, keyID: w.keyID}.append(nil)
	head = beginFrame(head, last, 0)
	endFrame(head, segHeaderSize, id)
	f, err := w.fs.open(from)
	if err != nil {
		return 0, err
	}
	at := from
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		path := filepath.Join(w.dir, segName(id))
		if err = w.fs.rename(from, path); err == nil {
			at = path
			err = w.fs.syncDir(w.dir)
		}
	}
	if err != nil {
		_ = f.Close()
		_ = w.fs.remove(at) // if it stays, nothing in it counts: the next segment's header says that the log ended before it
		return 0, err
	}
	w.m.bytes.Add(int64(len(head)))
	w.m.fsyncs.Add(2)
	w.cur, w.id, w.off, w.ahead, w.reused = f, id, int64(len(head)), max(spare.alloc, int64(len(head))), true
	return last, nil
}

// adoptSpare takes a file that was found at Open for the spare, if it is the largest, and takes care that no number in it is used again: a cut can
// have left the name of an earlier segment on a file that has a later one's header.
func (s *Store) adoptSpare(name string) {
	rest, ok := strings.CutPrefix(name, sparePrefix)
	if !ok {
		return
	}
	id, ok := parseSegName(segPrefix + rest)
	if !ok {
		return
	}
	w := s.wal
	w.nextID = max(w.nextID, id+1)
	size, header, err := w.spareHeader(name)
	if err != nil {
		s.log.Warn("a file of the log that was to be used again cannot be read; removed", "file", filepath.Join(w.dir, name), "error", err)
		w.dropSpare(id)
		return
	}
	w.nextID = max(w.nextID, header+1)
	found := &segInfo{id: id, size: size, alloc: size}
	if w.spare != nil {
		if w.spare.alloc >= size {
			w.dropSpare(id)
			return
		}
		w.dropSpare(w.spare.id)
	}
	w.spare = found
}

// spareHeader returns the size of a spare, and the number in its header, 0 if that is not whole.
func (w *logWriter) spareHeader(name string) (size int64, id uint64, err error) {
	f, err := w.fs.open(filepath.Join(w.dir, name))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if size, err = f.Size(); err != nil {
		return 0, 0, err
	}
	b := make([]byte, min(size, segHeaderSize))
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		return 0, 0, fmt.Errorf("reading its header: %w", err)
	}
	h, _ := parseSegHeader(b)
	return size, h.id, nil
}
