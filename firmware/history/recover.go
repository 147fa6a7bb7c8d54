package history

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// recover reads the folder. It writes nothing but removes what is superfluous.
func (h *History) recover() error {
	list, err := h.opt.fs.list(h.opt.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var ids []uint64
	for _, name := range list {
		if strings.HasSuffix(name, newSuffix) {
			h.drop(filepath.Join(h.opt.Dir, name)) // a segment that was being written again
		} else if id, ok := parseSegName(name); ok {
			ids = append(ids, id)
			h.w.nextID = max(h.w.nextID, id)
		}
	}
	slices.Sort(ids)
	for i, id := range ids {
		if err := h.recoverSegment(id, i == len(ids)-1); err != nil {
			return err
		}
	}
	for _, t := range h.targets {
		h.durable = max(h.durable, t.acked)
	}
	return nil
}

// drop removes a file that is not needed; if it cannot be removed, the next Open tries again.
func (h *History) drop(path string) {
	if err := h.opt.fs.remove(path); err != nil {
		h.log.Warn("a superfluous file of the history cannot be removed", "file", path, "error", err)
	}
}

// recoverSegment takes one file into account.
func (h *History) recoverSegment(id uint64, newest bool) error {
	path := h.segPath(id)
	f, err := h.opt.fs.open(path)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return err
	}
	hdr := make([]byte, min(size, segHeader))
	if _, err := f.ReadAt(hdr, 0); err != nil && len(hdr) > 0 {
		return err
	}
	gotID, keyID, ok := parseSegHeader(hdr)
	if ok && keyID != h.opt.Sealer.KeyID() {
		h.damage(path, "it was sealed with another key (seal.key was lost or replaced); removed")
		h.drop(path)
		return nil
	}
	s := &segment{id: id, path: path, size: size, damaged: !ok || gotID != id}
	if !s.damaged && h.recoverIndex(f, s) {
		h.adopt(s)
		return nil
	}
	sc := &scanner{r: f, id: id, sealer: h.opt.Sealer, names: newNames()}
	parts := map[deviceKey]int{}
	cursors := false // it may have the newest ones
	res, err := sc.scan(segHeader, size, visitor{
		entry: func(e *Entry, size int) bool {
			if e.Seq > s.last || s.count == 0 {
				s.note(e.Seq, e.Value.Server.UnixMicro())
			}
			h.account(s, parts, deviceKey{e.Namespace, e.Device}, uint32(size)) //nolint:gosec // a frame is small
			return true
		},
		meta: func(m meta) {
			cursors = true
			h.recoverMeta(m)
		},
	})
	if err != nil {
		return err
	}
	s.end = res.end
	switch {
	case s.count == 0 && sc.names.unnamed == 0 && res.gaps == 0 && !cursors:
		if s.damaged && size > segHeader && !newest {
			h.damage(path, "nothing in it is whole; removed")
		}
		h.drop(path) // only begun
		return nil
	case s.damaged:
		h.damage(path, "its header is damaged; the whole frames in it are kept")
	case res.gaps > 0 || sc.names.unnamed > 0:
		s.damaged = true
		h.damage(path, "frames in it are damaged; the others are kept")
	}
	h.adopt(s)
	if newest && !s.damaged && size == h.segSize {
		keep = true
		h.resume(f, s, sc.names, parts)
	}
	return nil
}

// damage notes and tells damage.
func (h *History) damage(path, what string) {
	h.stats.Damaged++
	h.log.Warn("history: damage found", "file", path, "detail", what)
}

// recoverIndex reads what a full segment holds from its index.
func (h *History) recoverIndex(f file, s *segment) bool {
	if s.size < segHeader+trailerSize {
		return false
	}
	b := make([]byte, trailerSize)
	if _, err := f.ReadAt(b, s.size-trailerSize); err != nil {
		return false
	}
	at, ok := parseTrailer(b, s.size)
	if !ok {
		return false
	}
	sc := &scanner{r: f, id: s.id, sealer: h.opt.Sealer, names: newNames()}
	if _, ok, err := sc.frame(at, s.size-trailerSize); !ok || err != nil {
		return false
	}
	var got *index
	if _, err := decode(sc.body, sc.names, visitor{index: func(x index) { got = &x }, meta: h.recoverMeta}); err != nil || got == nil {
		return false
	}
	s.end, s.first, s.last, s.minTime, s.maxTime = at, got.first, got.last, got.minTime, got.maxTime
	for _, d := range got.devices {
		use := h.devices[d.deviceKey]
		if use == nil {
			use = &deviceUse{key: d.deviceKey}
			h.devices[d.deviceKey] = use
		}
		use.live += int64(d.bytes)
		s.count += int64(d.count)
		s.parts = append(s.parts, part{device: use, bytes: d.bytes, count: d.count})
	}
	return true
}

// recoverMeta takes over counters, which never go back, and cursors. Each meta names all targets there are, and metas come in the order in which they
// were written, but for those of segments that were written again: such a one is newer than its place, and each that follows it is no older than what had been promised
// by then. So the last one counts, and a target that it does not name was forgotten.
func (h *History) recoverMeta(m meta) {
	b := &h.stats.base
	b.full, b.tooLarge = max(b.full, m.full), max(b.tooLarge, m.tooLarge)
	h.stats.writtenFull, h.stats.writtenLarge = b.full, b.tooLarge
	h.stats.Overwritten, h.stats.Damaged = max(h.stats.Overwritten, m.overwritten), max(h.stats.Damaged, m.damaged)
	clear(h.targets)
	for _, c := range m.targets {
		h.targets[c.target] = &target{acked: c.acked, lost: c.lost}
	}
}

// adopt adds a segment that was read. One whose values are all in segments before it was written again together with them.
func (h *History) adopt(s *segment) {
	if n := len(h.segs); n > 0 && s.last <= h.durable && s.count > 0 {
		for _, p := range s.parts {
			p.device.live -= int64(p.bytes)
		}
		h.drop(s.path)
		return
	}
	h.segs = append(h.segs, s)
	h.used += s.size
	h.durable = max(h.durable, s.last)
}

// resume goes on writing into the newest segment.
func (h *History) resume(f file, s *segment, n *names, parts map[deviceKey]int) {
	w := &h.w
	w.f, w.seg, w.off, w.parts, w.made = f, s, s.end, parts, true
	w.enc.reset()
	for id, k := range n.series {
		w.enc.series[k] = id
	}
	for id, text := range n.reasons {
		w.enc.reasons[text] = id
	}
	for _, p := range s.parts {
		w.index += len(p.device.key.namespace) + len(p.device.key.device) + 12
	}
}
