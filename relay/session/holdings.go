package session

import (
	"cmp"
	"iter"
	"slices"

	"github.com/skerry/skerry/firmware/wire"
)

// holdings are the entries that an agent holds, sorted by key, each once: half of what a map of them takes.
type holdings []wire.Entry

func compareEntries(a, b wire.Entry) int { return cmp.Compare(a.Key, b.Key) }

// sort brings what was appended into its place. Of several entries of one key the last stays.
func (h *holdings) sort() {
	slices.SortStableFunc(*h, compareEntries)
	all, n := *h, 0
	for i := range all {
		if i+1 == len(all) || all[i].Key != all[i+1].Key {
			all[n] = all[i]
			n++
		}
	}
	clear(all[n:])
	*h = all[:n]
	h.trim()
}

// trim gives back room that much growing, or shrinking, has left.
func (h *holdings) trim() {
	if cap(*h) > len(*h)+len(*h)/4+1 {
		*h = slices.Clone(*h)[:len(*h):len(*h)]
	}
}

func (h holdings) find(k wire.Key) (int, bool) {
	return slices.BinarySearchFunc(h, k, func(e wire.Entry, k wire.Key) int { return cmp.Compare(e.Key, k) })
}

// version returns the version that is held of k, the zero value if none is.
func (h holdings) version(k wire.Key) wire.Version {
	if i, ok := h.find(k); ok {
		return h[i].Version
	}
	return wire.Version{}
}

func (h holdings) all() iter.Seq2[wire.Key, wire.Version] {
	return func(yield func(wire.Key, wire.Version) bool) {
		for i := range h {
			if !yield(h[i].Key, h[i].Version) {
				return
			}
		}
	}
}

// apply returns what is held after the draft.
func (h holdings) apply(d *draft) holdings {
	known := len(h)
	for i := range d.put {
		e := wire.Entry{Key: d.put[i].Key, Version: d.put[i].Version}
		if at, ok := h[:known].find(e.Key); ok {
			h[at] = e
		} else {
			h = append(h, e)
		}
	}
	if len(h) > known {
		h.sort()
	}
	if len(d.del) == 0 {
		return h
	}
	gone := make(map[wire.Key]struct{}, len(d.del))
	for _, k := range d.del {
		gone[k] = struct{}{}
	}
	h = slices.DeleteFunc(h, func(e wire.Entry) bool { _, ok := gone[e.Key]; return ok })
	h.trim()
	return h
}

// mark makes a key dirty.
func (m *Machine) mark(k wire.Key) {
	if m.dirty == nil {
		m.dirty = make(map[wire.Key]struct{}, 1)
	}
	m.dirty[k] = struct{}{}
}

func wanted(want map[wire.Key]wire.Version, k wire.Key) bool {
	_, ok := want[k]
	return ok
}
