package history

import (
	"cmp"
	"slices"
)

// Stats are levels, and counters: Dropped, Overwritten, Damaged and Lost since the history was made, the others since Open.
type Stats struct {
	Bytes, MaxBytes int64 // on the disk
	Segments        int
	Devices         int
	Values          int64 // on the disk
	Queued          int   // values that wait for the disk

	DroppedFull     uint64 // values that came while too many waited for the disk
	DroppedTooLarge uint64 // values or names that no frame takes
	Overwritten     uint64 // values that made room for newer ones
	Damaged         uint64 // places that were found damaged

	Written  int64 // bytes
	Syncs    int64
	Failures int64 // writes that failed

	Targets []TargetStats
	Error   string // why values cannot be written now
}

// TargetStats is the state of one target.
type TargetStats struct {
	Name    string
	Acked   uint64 // sequence
	Pending uint64 // values on the disk that it has not acknowledged
	Lost    uint64 // values that it never got and never will: dropped, overwritten or damaged before it came to them
	Open    bool   // somebody reads for it
}

// DeviceStats says what is kept of one device. The counters are since Open.
type DeviceStats struct {
	Values, Bytes   int64  // on the disk
	Overwritten     uint64 // values that made room for newer ones
	DroppedFull     uint64 // values that came while too many waited for the disk
	DroppedTooLarge uint64 // values or names that no frame takes
}

// Device returns the figures of one device.
func (h *History) Device(namespace, name string) (s DeviceStats) {
	k := deviceKey{namespace, name}
	h.queue.mu.Lock()
	d := h.queue.drops[k]
	h.queue.mu.Unlock()
	s.DroppedFull, s.DroppedTooLarge = d.full, d.tooLarge
	h.mu.Lock()
	defer h.mu.Unlock()
	use := h.devices[k]
	if use == nil {
		return s
	}
	s.Overwritten, s.Bytes = use.overwritten, use.live
	for _, seg := range h.segs {
		for _, p := range seg.parts {
			if p.device == use {
				s.Values += int64(p.count)
			}
		}
	}
	return s
}

// NamedStats are the figures of a device.
type NamedStats struct {
	Namespace, Name string
	DeviceStats
}

// AllDevices returns the figures of all devices of which something is kept, or was lost since Open, by namespace and name.
func (h *History) AllDevices() []NamedStats {
	all := map[deviceKey]*DeviceStats{}
	of := func(k deviceKey) *DeviceStats {
		if all[k] == nil {
			all[k] = &DeviceStats{}
		}
		return all[k]
	}
	h.queue.mu.Lock()
	for k, d := range h.queue.drops {
		s := of(k)
		s.DroppedFull, s.DroppedTooLarge = d.full, d.tooLarge
	}
	h.queue.mu.Unlock()
	h.mu.Lock()
	for k, use := range h.devices {
		s := of(k)
		s.Overwritten, s.Bytes = use.overwritten, use.live
	}
	for _, seg := range h.segs {
		for _, p := range seg.parts {
			of(p.device.key).Values += int64(p.count)
		}
	}
	h.mu.Unlock()
	out := make([]NamedStats, 0, len(all))
	for k, s := range all {
		out = append(out, NamedStats{k.namespace, k.device, *s})
	}
	slices.SortFunc(out, func(a, b NamedStats) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// tally is what counts beside Stats.
type tally struct {
	Stats
	base                      meta // counters of the queue at Open
	writtenFull, writtenLarge uint64
}

func (q *queue) losses() (full, tooLarge uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full, q.tooLarge
}

// Stats returns the present figures.
func (h *History) Stats() Stats {
	h.queue.mu.Lock()
	queued, last := len(h.queue.entries)+h.queue.writing, h.queue.seq
	h.queue.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats.Stats
	m := h.metaLocked()
	s.DroppedFull, s.DroppedTooLarge = m.full, m.tooLarge
	s.Bytes, s.MaxBytes, s.Segments, s.Devices, s.Queued = h.used, h.opt.MaxBytes, len(h.segs), len(h.devices), queued
	for _, seg := range h.segs {
		s.Values += seg.count
	}
	if h.err != nil {
		s.Error = h.err.Error()
	}
	for name, t := range h.targets {
		there := uint64(0)
		for _, seg := range h.segs {
			if seg.last > t.acked {
				there += min(uint64(max(0, seg.count)), seg.last-t.acked) //nolint:gosec // not negative
			}
		}
		missing := uint64(0)
		if n := there + uint64(queued); last > t.acked+n { //nolint:gosec // not negative
			missing = last - t.acked - n
		}
		s.Targets = append(s.Targets, TargetStats{Name: name, Acked: t.acked, Pending: there, Lost: t.lost + missing, Open: t.open})
	}
	slices.SortFunc(s.Targets, func(a, b TargetStats) int { return cmp.Compare(a.Name, b.Name) })
	return s
}
