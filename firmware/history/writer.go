package history

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// writer appends to the newest segment. It is guarded by History.writing.
type writer struct {
	f      file // nil: the next value begins a segment
	seg    *segment
	off    int64
	enc    encoder
	out    []byte
	sizes  []uint32          // of the values in out
	parts  map[deviceKey]int // index in seg.parts
	index  int               // bytes that the index of seg will take, about
	nextID uint64
	made   bool // the folder is there
	told   bool // the log says that writing fails
	metaIn bool // seg holds the counters and cursors
}

// release closes the file of the newest segment. The next Open goes on with it.
func (w *writer) release() {
	if w.f != nil {
		_ = w.f.Close() // all that counts is synced
		w.f = nil
	}
}

// Flush writes what waits and returns when it is durable. Run calls it in time; it is for the end, and for tests.
func (h *History) Flush() error {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return ErrClosed
	}
	since, _, _ := h.queue.waiting()
	entries, last := h.queue.take()
	meta, due := h.takeMeta()
	if len(entries) == 0 && !due {
		h.queue.done(entries)
		return nil
	}
	n, err := h.write(entries, &meta, due)
	if err != nil {
		h.queue.putBack(entries[n:], since)
		h.failed(err, due)
		return err
	}
	h.queue.done(entries)
	h.mu.Lock()
	h.rise(last)
	recovered := h.w.told
	h.err = nil
	h.mu.Unlock()
	if recovered {
		h.w.told = false
		h.log.Info("the history of device values can be written again", "dir", h.opt.Dir, "dropped", meta.full)
	}
	return nil
}

// rise makes the values up to seq visible to readers. The caller holds mu.
func (h *History) rise(seq uint64) {
	if seq <= h.durable {
		return
	}
	h.durable = seq
	close(h.more)
	h.more = make(chan struct{})
}

// failed notes that writing failed, and tells it once.
func (h *History) failed(err error, metaDue bool) {
	h.mu.Lock()
	h.err = err
	h.stats.Failures++
	if metaDue {
		for _, t := range h.targets {
			t.dirty, t.since = true, time.Now()
		}
		h.forgot = time.Now() // perhaps
	}
	h.mu.Unlock()
	if h.w.told {
		return
	}
	h.w.told = true
	h.log.Error("the history of device values cannot be written; values wait in memory, and are dropped and counted when there are too many",
		"dir", h.opt.Dir, "room", h.queue.room(), "error", err)
}

// diskError adds the remedy to the errors that have one.
func diskError(doing, dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("history: %s in %s: the disk is full, free some space or lower devices.history.maxBytes: %w", doing, dir, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("history: %s in %s: the file system is read-only, look for disk errors in the kernel's log: %w", doing, dir, err)
	}
	return fmt.Errorf("history: %s in %s: %w", doing, dir, err)
}

// takeMeta returns the counters and cursors, and whether they have to be written.
func (h *History) takeMeta() (m meta, due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m = h.metaLocked()
	due = m.full != h.stats.writtenFull || m.tooLarge != h.stats.writtenLarge || !h.forgot.IsZero()
	h.forgot = time.Time{}
	for _, t := range h.targets {
		due = due || t.dirty
		t.dirty = false
	}
	return m, due
}

func (h *History) metaLocked() meta {
	full, large := h.queue.losses()
	m := meta{full: h.stats.base.full + full, tooLarge: h.stats.base.tooLarge + large, overwritten: h.stats.Overwritten, damaged: h.stats.Damaged}
	for name, t := range h.targets {
		m.targets = append(m.targets, cursor{name, t.acked, t.lost})
	}
	slices.SortFunc(m.targets, func(a, b cursor) int {
		if a.target < b.target {
			return -1
		}
		return 1
	})
	return m
}

// write writes entries, and the counters and cursors if they are due. It returns how many of the entries are durable.
func (h *History) write(entries []Entry, m *meta, metaDue bool) (done int, err error) {
	w := &h.w
	for done < len(entries) || metaDue {
		if w.f == nil {
			first := h.durable + 1
			if done < len(entries) {
				first = entries[done].Seq
			}
			if err := h.beginSegment(first); err != nil {
				return done, diskError("beginning a segment", h.opt.Dir, err)
			}
		}
		n, full, err := h.writeGroup(entries[done:], m, metaDue)
		if err != nil {
			// After a failed sync the kernel may have dropped the pages and report success the next time: this file cannot be appended to any more.
			h.retire()
			return done, diskError("writing a segment", h.opt.Dir, err)
		}
		done += n
		if n > 0 || !full {
			metaDue = false
		}
		if full {
			h.finishSegment()
		}
	}
	h.mu.Lock()
	h.stats.writtenFull, h.stats.writtenLarge = m.full, m.tooLarge
	h.mu.Unlock()
	return done, nil
}

// maxGroupBytes bounds one write.
const maxGroupBytes = 256 << 10

// writeGroup writes as many entries as one write and the segment take, and syncs them. full says that the segment takes no more.
func (h *History) writeGroup(entries []Entry, m *meta, metaDue bool) (n int, full bool, err error) {
	w := &h.w
	w.out, w.sizes = w.out[:0], w.sizes[:0]
	index := w.index
	for len(w.out) < maxGroupBytes && !full {
		from := n
		w.enc.begin()
		withMeta := len(w.out) == 0 && (metaDue || !w.metaIn)
		if withMeta {
			w.enc.b = m.append(w.enc.b)
		}
		for n < len(entries) && len(w.enc.b) < softBody {
			e := &entries[n]
			more := index + len(e.Namespace) + len(e.Device) + 12
			if !h.fits(len(w.enc.b)+bound(e), more) {
				full = true
				break
			}
			before := len(w.enc.b)
			w.enc.entry(e)
			w.sizes = append(w.sizes, uint32(len(w.enc.b)-before)) //nolint:gosec // a frame is small
			if _, ok := w.parts[deviceKey{e.Namespace, e.Device}]; !ok {
				index = more // counted for each of the new device's values in this write: more than it takes
			}
			n++
		}
		if n == from && !withMeta {
			break
		}
		if w.out, err = appendFrame(w.out, h.opt.Sealer, w.seg.id, w.off+int64(len(w.out)), w.enc.b); err != nil {
			return 0, false, err
		}
		if n == len(entries) {
			break
		}
	}
	if len(w.out) == 0 {
		return 0, true, nil
	}
	if _, err := w.f.WriteAt(w.out, w.off); err != nil {
		return 0, false, err
	}
	if err := w.f.Datasync(); err != nil {
		return 0, false, err
	}
	w.off += int64(len(w.out))
	w.metaIn = true
	h.publish(entries[:n])
	return n, full, nil
}

// fits says whether a body of so many bytes fits into the segment behind what is in out, and its index, too.
func (h *History) fits(body, index int) bool {
	w := &h.w
	if index > h.indexLimit() {
		index = 0 // it will have none
	}
	need := len(w.out) + body + index + 2*(frameHeader+sealOverhead) + trailerSize + metaRoom
	return w.off+int64(need) <= h.segSize
}

// metaRoom is at least what counters and cursors take in an index.
const metaRoom = 64 + maxTargets*24

func (h *History) indexLimit() int { return int(h.segSize / 4) }

// publish takes values that are durable into account.
func (h *History) publish(entries []Entry) {
	w := &h.w
	h.mu.Lock()
	defer h.mu.Unlock()
	w.seg.end = w.off
	h.stats.Written += int64(len(w.out))
	h.stats.Syncs++
	for i := range entries {
		e := &entries[i]
		w.seg.note(e.Seq, e.Value.Server.UnixMicro())
		h.account(w.seg, w.parts, deviceKey{e.Namespace, e.Device}, w.sizes[i])
	}
	w.index = 0
	for _, p := range w.seg.parts {
		w.index += len(p.device.key.namespace) + len(p.device.key.device) + 12
	}
	if len(entries) > 0 {
		h.rise(entries[len(entries)-1].Seq)
	}
}

// account adds one value of a device to a segment. The caller holds mu.
func (h *History) account(s *segment, parts map[deviceKey]int, k deviceKey, size uint32) {
	i, ok := parts[k]
	if !ok {
		use := h.devices[k]
		if use == nil {
			use = &deviceUse{key: k}
			h.devices[k] = use
		}
		i = len(s.parts)
		s.parts = append(s.parts, part{device: use})
		parts[k] = i
	}
	p := &s.parts[i]
	p.device.gone = false // it is back
	p.bytes += size
	p.count++
	p.device.live += int64(size)
}

// beginSegment makes room for a segment and makes it.
func (h *History) beginSegment(first uint64) error {
	w := &h.w
	if !w.made {
		if err := h.opt.fs.makeDir(h.opt.Dir); err != nil {
			return err
		}
		w.made = true
	}
	if err := h.tidy(); err != nil {
		return err
	}
	w.nextID++ // even if this attempt fails: its file may be left over
	id, path := w.nextID, h.segPath(w.nextID)
	f, err := h.opt.fs.create(path)
	if err != nil {
		return err
	}
	if err = h.blank(f, id, first); err == nil {
		err = h.opt.fs.syncDir(h.opt.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), h.opt.fs.remove(path))
	}
	w.f, w.off, w.parts, w.index, w.metaIn = f, segHeader, map[deviceKey]int{}, 0, false
	w.enc.reset()
	h.mu.Lock()
	defer h.mu.Unlock()
	w.seg = &segment{id: id, path: path, size: h.segSize, end: segHeader} // read under mu, too
	h.segs = append(h.segs, w.seg)
	h.used += h.segSize
	h.stats.Syncs += 2
	h.stats.Written += h.segSize
	return nil
}

// blank writes a segment's header and fills it with zeros: writing into blocks that are there and initialised changes nothing
// in the file system's own records, so that a sync needs no commit of its journal.
func (h *History) blank(f file, id, first uint64) error {
	const chunk = 64 << 10
	zeros := make([]byte, chunk)
	for off := int64(0); off < h.segSize; off += chunk {
		if _, err := f.WriteAt(zeros[:min(chunk, h.segSize-off)], off); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(appendSegHeader(nil, id, first, h.opt.Epoch, h.opt.Sealer.KeyID()), 0); err != nil {
		return err
	}
	return f.Datasync()
}

// finishSegment writes the index of a full segment and closes it. Without an index it is only slower to open.
func (h *History) finishSegment() {
	w := &h.w
	if err := h.writeIndex(); err != nil {
		h.log.Warn("the index of a full segment of the history could not be written; it is read as a whole at the next start", "file", w.seg.path, "error", err)
	}
	h.retire()
}

// retire ends the newest segment.
func (h *History) retire() {
	h.w.release()
	h.mu.Lock()
	h.w.seg = nil
	h.mu.Unlock()
}

func (h *History) writeIndex() error {
	w := &h.w
	h.mu.Lock()
	x := w.seg.index()
	x.meta = h.metaLocked()
	h.mu.Unlock()
	var out []byte
	if body := x.append(nil); len(body) <= h.indexLimit()+metaRoom && len(body) <= maxBody {
		var err error
		if out, err = appendFrame(nil, h.opt.Sealer, w.seg.id, w.off, body); err != nil {
			return err
		}
		out = appendTrailer(out, w.off)
	}
	if len(out) > 0 {
		if _, err := w.f.WriteAt(out, w.off); err != nil {
			return err
		}
	}
	size := w.off + int64(len(out))
	if err := w.f.Truncate(size); err != nil {
		return err
	}
	if err := w.f.Datasync(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used += size - w.seg.size
	w.seg.size = size
	h.stats.Written += int64(len(out))
	h.stats.Syncs++
	return nil
}

// index returns the index of a segment. The caller holds History.mu.
func (s *segment) index() index {
	x := index{first: s.first, last: s.last, minTime: s.minTime, maxTime: s.maxTime}
	for _, p := range s.parts {
		x.devices = append(x.devices, indexed{p.device.key, p.bytes, p.count})
	}
	return x
}
