package history

import (
	"cmp"
	"maps"
	"slices"
)

// tidy makes room for one more segment. The devices that hold most give up their oldest values first, down to a level at which all have room; what they gave
// up is dead. A segment without live values is removed; others are written again without it, the oldest first, together
// with neighbours that then fit into the same file. At least an eighth of the ring is dead before anything is written again, so that
// on the whole little is copied for much room; devices that record evenly cost no copying at all.
func (h *History) tidy() error {
	room := h.opt.MaxBytes - h.segSize
	budget := room - h.opt.MaxBytes/8
	h.mu.Lock()
	h.trim(h.opt.DeviceBytes)
	if h.used > room {
		h.trimGone()
		h.trim(h.level(budget))
	}
	h.mu.Unlock()
	for {
		h.mu.Lock()
		used := h.used
		i, dead := h.victim()
		h.mu.Unlock()
		if used <= room || i < 0 {
			return nil
		}
		if dead {
			if err := h.remove(i); err != nil {
				return err
			}
			continue
		}
		if err := h.rewrite(i); err != nil {
			return err
		}
		h.mu.Lock()
		if used-h.used < h.segSize/16 { // what is kept takes more than its values, for example an index of many devices
			budget -= budget / 4
			h.trim(h.level(budget))
		}
		h.mu.Unlock()
	}
}

// level returns how much each device may keep, so that all together keep at most budget. The caller holds mu.
func (h *History) level(budget int64) int64 {
	lives := make([]int64, 0, len(h.devices))
	for _, d := range h.devices {
		lives = append(lives, d.live)
	}
	slices.Sort(lives)
	budget = max(budget, 0)
	for i, live := range lives {
		share := budget / int64(len(lives)-i)
		if live > share {
			return share
		}
		budget -= live
	}
	return 1 << 62 // all fit
}

// trim lets each device that has more than limit give up its oldest values. The caller holds mu.
func (h *History) trim(limit int64) {
	for _, s := range h.segs {
		for i := range s.parts {
			if p := &s.parts[i]; !p.dead && p.device.live > limit && s != h.w.seg {
				p.dead = true
				p.device.live -= int64(p.bytes)
			}
		}
	}
	maps.DeleteFunc(h.devices, func(_ deviceKey, d *deviceUse) bool {
		return d.live <= 0 && (d.gone || d.overwritten == 0) && !slices.ContainsFunc(h.segs, func(s *segment) bool {
			return slices.ContainsFunc(s.parts, func(p part) bool { return p.device == d })
		})
	})
}

// trimGone lets devices that the gateway has no longer give up all they have. The caller holds mu.
func (h *History) trimGone() {
	for _, s := range h.segs {
		for i := range s.parts {
			if p := &s.parts[i]; !p.dead && p.device.gone && s != h.w.seg {
				p.dead = true
				p.device.live -= int64(p.bytes)
			}
		}
	}
}

// overwritten counts the values of segments that are not in their place any more, which is out, or nothing. The caller holds mu.
func (h *History) overwritten(run []*segment, out *segment) {
	var n int64
	for _, s := range run {
		n += s.count
		for _, p := range s.parts {
			p.device.overwritten += uint64(p.count)
		}
	}
	if out != nil {
		n -= out.count
		for _, p := range out.parts {
			p.device.overwritten -= uint64(p.count)
		}
	}
	h.stats.Overwritten += uint64(max(0, n)) //nolint:gosec // not negative
}

// Retain tells which devices the gateway has. The values of all others stay until there is no room: then they make it before anybody else's. A device for which a
// value is recorded is there again.
func (h *History) Retain(has func(namespace, device string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, d := range h.devices {
		d.gone = !has(k.namespace, k.device)
	}
}

// victim returns the oldest full segment in which something is dead, and whether nothing else is in it; -1: there is none. What a device gave up is its
// oldest, so that going from the oldest segment to newer ones never leaves a hole in what it has. Without any dead values the segment with the largest
// share of frames' overhead is returned, for one that was written a value at a time. The caller holds mu.
func (h *History) victim() (best int, dead bool) {
	best = -1
	var share float64
	for i, s := range h.segs {
		if s == h.w.seg {
			continue
		}
		if s.deadBytes() > 0 || len(s.parts) == 0 {
			return i, s.liveBytes() == 0
		}
		if got := float64(s.size-s.liveBytes()) / float64(s.size); best < 0 || got > share {
			best, share = i, got
		}
	}
	return best, false
}

// remove deletes a segment of which nothing is wanted.
func (h *History) remove(i int) error {
	h.mu.Lock()
	s := h.segs[i]
	h.forget(s)
	h.overwritten([]*segment{s}, nil)
	h.mu.Unlock()
	return h.opt.fs.remove(s.path) // if it stays, the next Open finds it again
}

// forget takes a segment out of the list. The caller holds mu.
func (h *History) forget(s *segment) {
	h.segs = slices.DeleteFunc(h.segs, func(x *segment) bool { return x == s })
	h.used -= s.size
	for _, p := range s.parts {
		if !p.dead {
			p.device.live -= int64(p.bytes)
		}
	}
}

// rewrite writes segment i, and those after it that fit into one with it, again without what is dead.
func (h *History) rewrite(i int) error {
	h.mu.Lock()
	run := []*segment{h.segs[i]}
	live := h.segs[i].liveBytes()
	for _, s := range h.segs[i+1:] {
		if live += s.liveBytes(); s == h.w.seg || live > h.segSize/4*3 {
			break
		}
		run = append(run, s)
	}
	first := run[0]
	h.mu.Unlock()
	tmp := first.path + newSuffix
	out, err := h.copyLive(run, tmp)
	if err != nil {
		_ = h.opt.fs.remove(tmp) // the next Open removes it, too
		return err
	}
	if err := h.opt.fs.rename(tmp, first.path); err != nil {
		return err
	}
	h.mu.Lock()
	at := slices.Index(h.segs, first)
	for _, s := range run {
		h.forget(s)
	}
	h.overwritten(run, out)
	out.generation = first.generation + 1
	h.segs = slices.Insert(h.segs, at, out)
	h.used += out.size
	for _, p := range out.parts {
		p.device.live += int64(p.bytes)
	}
	h.mu.Unlock()
	if err := h.opt.fs.syncDir(h.opt.Dir); err != nil {
		return err
	}
	for _, s := range run[1:] {
		h.drop(s.path) // if it stays, the next Open finds that its values are in the one before
	}
	return nil
}

// copyLive writes what is not dead of segments into a file of the first one's id. The parts of the result are not yet counted.
func (h *History) copyLive(run []*segment, path string) (out *segment, err error) {
	f, err := h.opt.fs.create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	c := &copier{h: h, f: f, off: segHeader, out: &segment{id: run[0].id, path: run[0].path, end: segHeader}, parts: map[deviceKey]int{}}
	c.enc.reset()
	if _, err := f.WriteAt(appendSegHeader(nil, c.out.id, run[0].first, h.opt.Epoch, h.opt.Sealer.KeyID()), 0); err != nil {
		return nil, err
	}
	for _, s := range run {
		if err := c.copy(s); err != nil {
			return nil, err
		}
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	return c.out, f.Datasync()
}

// copier writes a segment from others.
type copier struct {
	h     *History
	f     file
	off   int64
	enc   encoder
	out   *segment
	parts map[deviceKey]int
	last  uint64
	err   error
}

func (c *copier) copy(s *segment) error {
	c.h.mu.Lock()
	dead := map[deviceKey]bool{}
	for _, p := range s.parts {
		if p.dead {
			dead[p.device.key] = true
		}
	}
	c.h.mu.Unlock()
	err := c.h.readSegment(s.path, s.id, segHeader, s.end, newNames(), visitor{entry: func(e *Entry, _ int) bool {
		k := deviceKey{e.Namespace, e.Device}
		if dead[k] || e.Seq <= c.last && c.out.count > 0 {
			return true
		}
		c.last = e.Seq
		before := len(c.enc.b)
		c.enc.entry(e)
		c.note(e, k, uint32(len(c.enc.b)-before)) //nolint:gosec // a frame is small
		if len(c.enc.b) >= softBody {
			c.err = cmp.Or(c.err, c.flush())
		}
		return c.err == nil
	}})
	return cmp.Or(err, c.err)
}

func (c *copier) note(e *Entry, k deviceKey, size uint32) {
	c.out.note(e.Seq, e.Value.Server.UnixMicro())
	i, ok := c.parts[k]
	if !ok {
		c.h.mu.Lock()
		use := c.h.devices[k]
		if use == nil {
			use = &deviceUse{key: k}
			c.h.devices[k] = use
		}
		c.h.mu.Unlock()
		i = len(c.out.parts)
		c.out.parts = append(c.out.parts, part{device: use})
		c.parts[k] = i
	}
	c.out.parts[i].bytes += size
	c.out.parts[i].count++
}

func (c *copier) flush() error {
	if len(c.enc.b) == 0 {
		return nil
	}
	err := c.write(c.enc.b)
	c.enc.begin()
	c.out.end = c.off
	return err
}

func (c *copier) write(body []byte) error {
	b, err := appendFrame(nil, c.h.opt.Sealer, c.out.id, c.off, body)
	if err != nil {
		return err
	}
	if _, err := c.f.WriteAt(b, c.off); err != nil {
		return err
	}
	c.off += int64(len(b))
	c.h.mu.Lock()
	c.h.stats.Written += int64(len(b))
	c.h.stats.Syncs++
	c.h.mu.Unlock()
	return nil
}

// finish writes the index and the trailer.
func (c *copier) finish() error {
	c.h.mu.Lock()
	x := c.out.index()
	x.meta = c.h.metaLocked()
	c.h.mu.Unlock()
	if body := x.append(nil); len(body) <= maxBody {
		at := c.off
		if err := c.write(body); err != nil {
			return err
		}
		if _, err := c.f.WriteAt(appendTrailer(nil, at), c.off); err != nil {
			return err
		}
		c.off += trailerSize
	}
	c.out.size = c.off
	return nil
}
