package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// replayed is what reading the log found.
type replayed struct {
	frames  int
	last    uint64 // sequence of the last frame that counts
	epoch   uint64
	unknown int // segments whose header cannot be read, so whose epoch is unknown
	damaged bool
}

// segment is one file of the log while it is replayed.
type segment struct {
	id    uint64
	path  string
	f     file
	size  int64
	hdr   segHeader
	hdrOK bool
	limit uint64 // frames beyond it were refused before a later segment was begun
}

// unlimited is the limit of a segment behind which no header says where the log ended.
const unlimited = ^uint64(0)

// replay reads the segments in order and puts what the checkpoint does not have into the overlay.
func (s *Store) replay(names []string, ck checked) (replayed, error) {
	res := replayed{last: ck.seq}
	segs, err := s.openSegments(names)
	defer func() {
		for _, g := range segs {
			_ = g.f.Close()
		}
	}()
	if err != nil {
		return res, err
	}
	limit := unlimited
	for i := len(segs) - 1; i >= 0; i-- {
		segs[i].limit = limit
		if segs[i].hdrOK {
			limit = min(limit, segs[i].hdr.after)
		}
	}
	for i, g := range segs {
		keep, err := s.replaySegment(g, i == len(segs)-1, ck, &res)
		if err != nil {
			return res, fmt.Errorf("store: reading %s: %w", g.path, err)
		}
		if keep != nil {
			s.wal.closed = append(s.wal.closed, *keep)
		}
	}
	return res, nil
}

// openSegments opens the segments in order. It also takes care that no name is used again.
func (s *Store) openSegments(names []string) ([]*segment, error) {
	var segs []*segment
	for _, name := range names {
		// A segment that was set aside keeps its number for itself, too.
		stem, _, _ := bytes.Cut([]byte(name), []byte(".damaged-"))
		id, ok := parseSegName(string(stem))
		if !ok {
			s.adoptSpare(name)
			continue
		}
		s.wal.nextID = max(s.wal.nextID, id+1)
		if len(stem) != len(name) {
			continue
		}
		path := filepath.Join(s.opt.Dir, name)
		f, err := s.opt.fs.open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return segs, fmt.Errorf("store: %w", err)
		}
		g := &segment{id: id, path: path, f: f}
		segs = append(segs, g)
		if g.size, err = f.Size(); err != nil {
			return segs, fmt.Errorf("store: %w", err)
		}
		hdr := make([]byte, min(g.size, segHeaderSize))
		if _, err := f.ReadAt(hdr, 0); err != nil && len(hdr) > 0 {
			return segs, fmt.Errorf("store: reading %s: %w", path, err)
		}
		g.hdr, g.hdrOK = parseSegHeader(hdr)
		g.hdrOK = g.hdrOK && g.hdr.id == id
	}
	slices.SortFunc(segs, func(a, b *segment) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return segs, nil
}

// replaySegment applies one segment. It returns nil if nothing of the segment needs to be kept in the log.
func (s *Store) replaySegment(g *segment, isLast bool, ck checked, res *replayed) (*segInfo, error) {
	if g.hdrOK {
		res.epoch = max(res.epoch, g.hdr.epoch)
		if g.hdr.keyID != s.opt.Sealer.KeyID() {
			aside, err := setAside(s.opt.fs, g.path)
			if err == nil {
				s.note(Finding{OtherKey, g.path, "the segment was sealed with another key (seal.key was lost or replaced); set aside as " + filepath.Base(aside) + ", what it held comes again from the relay"})
			}
			return nil, err
		}
	}
	before := uint64(0)
	if g.hdrOK {
		before = g.hdr.after
	}
	scan, err := scanSegment(g.f, g.size, g.id, before, func(seq uint64, changes []change) {
		s.replayFrame(g, seq, changes, ck, res)
	})
	if err != nil {
		return nil, err
	}
	if !g.hdrOK && scan.frames == 0 && g.size <= segHeaderSize {
		// The power went while the segment was begun, or the disk was full: nothing was ever acknowledged in it.
		if g.size > 0 {
			s.note(Finding{TornTail, g.path, "the segment was only begun; removed"})
		}
		return nil, s.opt.fs.remove(g.path)
	}
	info := &segInfo{id: g.id, size: g.size, alloc: g.size}
	if !g.hdrOK {
		res.unknown++
		info.damaged = true
		s.note(Finding{LogDamaged, g.path, fmt.Sprintf("its header is damaged, %d whole frames follow", scan.frames)})
	}
	for _, gap := range scan.gaps {
		info.damaged = true
		s.note(Finding{LogDamaged, g.path, fmt.Sprintf("bytes %d to %d are not whole frames, %d whole frames in the segment are kept", gap.from, gap.to, scan.frames)})
	}
	if scan.tail.to > scan.tail.from {
		if err := s.tail(g, scan, isLast, res, info); err != nil {
			return nil, err
		}
	}
	res.damaged = res.damaged || info.damaged
	if scan.frames == 0 && !info.damaged {
		return nil, s.opt.fs.remove(g.path) // begun, never used
	}
	return info, nil
}

// replayFrame applies one whole frame.
func (s *Store) replayFrame(g *segment, seq uint64, changes []change, ck checked, res *replayed) {
	if seq > g.limit || seq <= res.last {
		return // refused when it was written, or in the checkpoint already
	}
	// Without the checkpoint's own record it is unknown where the log must begin.
	if seq != res.last+1 && (res.frames > 0 || ck.info || !ck.exists) {
		s.note(Finding{LogGap, g.path, fmt.Sprintf("%d frames before frame %d are missing", seq-res.last-1, seq)})
		res.damaged = true
	}
	res.last = seq
	res.frames++
	for _, c := range changes {
		r := rec{seq: seq, del: c.del}
		if c.del {
			if !s.provenDeletion(c, seq) {
				continue
			}
		} else {
			r.sealed = bytes.Clone(c.sealed)
		}
		s.active[c.recKey] = r
	}
}

// provenDeletion reports whether a deletion carries our seal.
func (s *Store) provenDeletion(c change, seq uint64) bool {
	if _, err := s.opt.Sealer.Open(nil, c.sealed, appendAD(nil, c.recKey, seq, true)); err != nil {
		s.note(Finding{RecordDropped, c.String(), "a deletion in the log does not open: altered or moved; it is ignored"})
		return false
	}
	return true
}

// tail deals with bytes after the last whole frame. They are a write that was cut off, if no acknowledged frame can have been there: in the last
// segment, or where the next segment's header says that the log ended here. They are cut off for good, unless an earlier segment left them: then the blocks are of use.
func (s *Store) tail(g *segment, scan scanned, isLast bool, res *replayed, info *segInfo) error {
	// Zeros were written ahead of frames that did not come. If no later segment says where the log ended, it was cut while that one was begun.
	harmless, err := isBlank(g.f, scan.tail)
	if err != nil {
		return err
	}
	harmless = harmless || scan.reused
	n := scan.tail.to - scan.tail.from
	if !g.hdrOK || !isLast && g.limit > res.last && !(harmless && g.limit == unlimited) {
		info.damaged = true
		s.note(Finding{LogDamaged, g.path, fmt.Sprintf("the last %d bytes are not whole frames, %d whole frames before are kept", n, scan.frames)})
		return nil
	}
	info.size = scan.tail.from
	if scan.reused {
		if isLast && isNextFrame(g.f, scan) {
			s.note(Finding{TornTail, g.path, fmt.Sprintf("the write of frame %d was cut off before it was acknowledged; ignored", scan.last+1)})
		}
		return nil
	}
	// A file system that copies on write needs room even to cut something off. What stays is ignored.
	err = g.f.Truncate(scan.tail.from)
	if err == nil {
		err = g.f.Datasync()
	}
	info.alloc = info.size
	became := "removed"
	if err != nil {
		info.alloc, became = 0, fmt.Sprintf("ignored, since it cannot be removed: %v", err)
	}
	if !harmless {
		s.note(Finding{TornTail, g.path, fmt.Sprintf("%d bytes of a write that was cut off before it was acknowledged; %s", n, became)})
	}
	return nil
}

// isNextFrame tells whether the tail begins like the frame that would have come next: not like what an earlier segment left, whose sequences are lower.
func isNextFrame(r io.ReaderAt, scan scanned) bool {
	var b [frameHeader + 8]byte
	if scan.tail.to-scan.tail.from < int64(len(b)) {
		return false
	}
	if _, err := r.ReadAt(b[:], scan.tail.from); err != nil {
		return false
	}
	return binary.LittleEndian.Uint64(b[frameHeader:]) == scan.last+1
}

// isBlank tells whether there are only zeros.
func isBlank(r io.ReaderAt, in span) (bool, error) {
	const window = 32 << 10
	buf := make([]byte, min(window, in.to-in.from))
	for off := in.from; off < in.to; off += window {
		part := buf[:min(window, in.to-off)]
		if _, err := r.ReadAt(part, off); err != nil {
			return false, err
		}
		if len(bytes.Trim(part, "\x00")) > 0 {
			return false, nil
		}
	}
	return true, nil
}
