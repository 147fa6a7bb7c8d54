package history

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

// readSegment gives the frames of a segment's file from off to end to v.
func (h *History) readSegment(path string, id uint64, off, end int64, n *names, v visitor) error {
	f, err := h.opt.fs.open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if size, err := f.Size(); err != nil {
		return err
	} else if size < end {
		end = size // cut off by somebody: what is there counts
	}
	sc := &scanner{r: f, id: id, sealer: h.opt.Sealer, names: n}
	_, err = sc.scan(off, end, v)
	return err
}

// place is what a reader needs of a segment without holding the lock.
type place struct {
	id, first, last  uint64
	path             string
	end              int64
	generation       int
	minTime, maxTime int64
}

func (s *segment) place() place {
	return place{s.id, s.first, s.last, s.path, s.end, s.generation, s.minTime, s.maxTime}
}

// MaxRange is the most that one call of Range returns.
const MaxRange = 100_000

// Range returns the newest values of a property that were received between from and to (both inclusive, by the gateway's clock at that time; zero times are open),
// at most limit of them, in the order in which they were recorded. An empty property means all of the device. Values of the last
// Options.Window may not be there yet.
func (h *History) Range(namespace, deviceName, property string, from, to time.Time, limit int) ([]Entry, error) {
	if limit <= 0 || limit > MaxRange {
		limit = MaxRange
	}
	low, high := int64(-1<<63), int64(1<<63-1)
	if !from.IsZero() {
		low = from.UnixMicro()
	}
	if !to.IsZero() {
		high = to.UnixMicro()
	}
	k := deviceKey{namespace, deviceName}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	var places []place
	for _, s := range h.segs {
		if s.count > 0 && s.maxTime >= low && s.minTime <= high && s.has(k) {
			places = append(places, s.place())
		}
	}
	h.mu.Unlock()
	var out [][]Entry
	left, before := limit, ^uint64(0)
	for _, p := range slices.Backward(places) {
		if left == 0 {
			break
		}
		var got []Entry
		last := uint64(0)
		err := h.readSegment(p.path, p.id, segHeader, p.end, newNames(), visitor{entry: func(e *Entry, _ int) bool {
			at := e.Value.Server.UnixMicro()
			if e.Device != deviceName || e.Namespace != namespace || property != "" && e.Property != property || at < low || at > high ||
				e.Seq >= before || e.Seq <= last {
				return true
			}
			last = e.Seq
			if got = append(got, *e); len(got) >= 2*left+64 {
				got = slices.Delete(got, 0, len(got)-left)
			}
			return true
		}})
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was given up, or written again together with the one before, meanwhile
		}
		if err != nil {
			return nil, diskError("reading a segment", h.opt.Dir, err)
		}
		if len(got) > left {
			got = got[len(got)-left:]
		}
		left -= len(got)
		before = min(before, p.first)
		if len(got) > 0 {
			out = append(out, got)
		}
	}
	slices.Reverse(out)
	return slices.Concat(out...), nil
}
