package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// target is a consumer whose cursor is durable. It is guarded by History.mu.
type target struct {
	acked uint64    // all up to here was acknowledged, or is lost
	lost  uint64    // of these, how many the target never got
	dirty bool      // the log has an older cursor
	since time.Time // when that began
	open  bool      // it has a Reader
}

// Reader hands values to one target in the order in which they were recorded. It is not safe for concurrent use. Close it.
type Reader struct {
	h      *History
	name   string
	next   uint64 // sequence that is expected next
	given  uint64 // the last sequence that Next returned
	gaps   []gap  // losses that are not acknowledged yet
	missed uint64 // values that were lost behind the last one that Next gave
	at     place  // segment that was read last
	off    int64  // where to go on in it
	names  *names
	closed bool
}

// gap is a hole in the sequences: n values were lost before seq.
type gap struct{ seq, n uint64 }

// ErrTargets is wrapped by the error for a target beyond the limit, and for one that has a Reader already.
var ErrTargets = errors.New("target of the history")

// Reader returns the reader of a target, which begins behind what it acknowledged last. A new target begins with the oldest value that there is.
func (h *History) Reader(name string) (*Reader, error) {
	if name == "" || len(name) > maxTarget {
		return nil, fmt.Errorf("%w: its name %.40q has %d bytes, allowed are 1 to %d", ErrTargets, name, len(name), maxTarget)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	t := h.targets[name]
	switch {
	case t == nil && len(h.targets) >= maxTargets:
		return nil, fmt.Errorf("%w: %q would be one too many, there are %d: forget one that is not used any more", ErrTargets, name, len(h.targets))
	case t == nil:
		t = &target{dirty: true, since: time.Now()}
		if first, ok := h.oldest(); ok {
			t.acked = first - 1 // what was overwritten before it came is not its loss
		} else {
			t.acked = h.durable
		}
		h.targets[name] = t
		h.poke()
	case t.open:
		return nil, fmt.Errorf("%w: %q has a reader already", ErrTargets, name)
	}
	t.open = true
	return &Reader{h: h, name: name, next: t.acked + 1, given: t.acked}, nil
}

// oldest returns the sequence of the oldest value. The caller holds mu.
func (h *History) oldest() (uint64, bool) {
	for _, s := range h.segs {
		if s.count > 0 {
			return s.first, true
		}
	}
	return 0, false
}

// Forget drops the cursor of a target that will not come back, and tells whether there was one. It becomes durable within Options.Window; from then on the name
// stands for a new target. A target with an open reader is not forgotten.
func (h *History) Forget(name string) bool {
	h.mu.Lock()
	t := h.targets[name]
	if t == nil || t.open || h.closed {
		h.mu.Unlock()
		return false
	}
	delete(h.targets, name)
	if h.forgot.IsZero() {
		h.forgot = time.Now()
	}
	h.mu.Unlock()
	h.poke()
	return true
}

// Next returns up to limit of the values that follow what it returned last. Entry.Missed says where values are lost: the target was so slow that newer ones took
// their place, the disk took nothing, or was damaged. It blocks until there is one, and fails when ctx ends or the history is closed.
func (r *Reader) Next(ctx context.Context, limit int) ([]Entry, error) {
	limit = min(max(limit, 1), MaxRange)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.h.mu.Lock()
		more, closed := r.h.more, r.h.closed
		r.h.mu.Unlock()
		if closed || r.closed {
			return nil, ErrClosed
		}
		if out, err := r.read(limit); err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-more:
		}
	}
}

// read returns what there is.
func (r *Reader) read(limit int) ([]Entry, error) {
	var out []Entry
	for len(out) < limit && r.locate() {
		f, err := r.h.opt.fs.open(r.at.path)
		if errors.Is(err, fs.ErrNotExist) {
			r.h.vanished(r.at)
			continue
		}
		if err != nil {
			return out, diskError("reading a segment", r.h.opt.Dir, err)
		}
		sc := &scanner{r: f, id: r.at.id, sealer: r.h.opt.Sealer, names: r.names}
		size, err := f.Size()
		var res scanned
		if err == nil {
			res, err = sc.scan(r.off, min(r.at.end, size), visitor{entry: func(e *Entry, _ int) bool {
				if e.Seq < r.next {
					return true
				}
				if len(out) == limit {
					return false
				}
				missed := r.skipTo(e.Seq)
				r.next = e.Seq + 1
				out = append(out, *e)
				out[len(out)-1].Missed, r.missed = missed, 0
				return true
			}})
		}
		_ = f.Close() // it was only read
		if err != nil {
			r.at = place{}
			if len(out) > 0 {
				break // the next call meets the error again
			}
			return nil, diskError("reading a segment", r.h.opt.Dir, err)
		}
		r.off = res.end
		if !res.ended && r.next <= r.at.last { // the last values of the segment are damaged
			r.skipTo(r.at.last + 1)
		}
	}
	if len(out) > 0 {
		r.given = out[len(out)-1].Seq
	}
	return out, nil
}

// skipTo notes that what is between the next value and seq is lost, and returns how much was lost since the last value that Next gave.
func (r *Reader) skipTo(seq uint64) uint64 {
	if seq > r.next {
		r.gaps = append(r.gaps, gap{seq, seq - r.next})
		r.missed += seq - r.next
		r.next = seq
	}
	return r.missed
}

// locate finds the segment with the next value. It returns false if there is none yet.
func (r *Reader) locate() bool {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	for _, s := range r.h.segs {
		if s.count == 0 || s.last < r.next {
			continue
		}
		p := s.place()
		if r.names == nil || p.id != r.at.id || p.generation != r.at.generation {
			r.off, r.names = segHeader, newNames()
		}
		r.at = p
		return true
	}
	return false
}

// vanished forgets a segment whose file somebody has removed.
func (h *History) vanished(p place) {
	h.mu.Lock()
	i := slices.IndexFunc(h.segs, func(s *segment) bool { return s.id == p.id && s.generation == p.generation && s != h.w.seg })
	if i >= 0 {
		h.forget(h.segs[i])
		h.stats.Damaged++
	}
	h.mu.Unlock()
	if i >= 0 {
		h.log.Warn("history: a segment has vanished; its values are lost", "file", p.path)
	}
}

// Ack says that the target has everything up to seq, which Next has returned. It becomes durable within Options.Window: after a power cut the
// target may get again what it acknowledged last.
func (r *Reader) Ack(seq uint64) error {
	if seq > r.given {
		return fmt.Errorf("%w: %q acknowledges value %d, and has got none beyond %d", ErrTargets, r.name, seq, r.given)
	}
	r.h.mu.Lock()
	t := r.h.targets[r.name]
	if r.closed || t == nil {
		r.h.mu.Unlock()
		return ErrClosed
	}
	if seq <= t.acked {
		r.h.mu.Unlock()
		return nil
	}
	t.acked = seq
	n := 0
	for n < len(r.gaps) && r.gaps[n].seq <= seq {
		t.lost += r.gaps[n].n
		n++
	}
	r.gaps = slices.Delete(r.gaps, 0, n)
	if !t.dirty {
		t.dirty, t.since = true, time.Now()
	}
	r.h.mu.Unlock()
	r.h.poke()
	return nil
}

// Rewind lets Next begin again behind what was acknowledged last: for a push that failed.
func (r *Reader) Rewind() {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if t := r.h.targets[r.name]; t != nil {
		r.next, r.given = t.acked+1, t.acked
	}
	r.gaps, r.missed, r.at, r.names = nil, 0, place{}, nil
}

// Close ends the reader; the target's cursor stays.
func (r *Reader) Close() {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if t := r.h.targets[r.name]; t != nil && !r.closed {
		t.open = false
	}
	r.closed = true
}
