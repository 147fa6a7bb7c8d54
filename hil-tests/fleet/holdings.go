package fleet

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"unique"

	"github.com/skerry/skerry/firmware/wire"
)

// Tally is what one agent's commits amounted to. The fields count since the agent was made.
type Tally struct {
	Commits, Puts, Deletes int64
	Repeated               int64 // puts of exactly what was held already
	Breaches               int64 // puts or deletions that go back in time, deletions of what was not held
}

func (t *Tally) add(o Tally) {
	t.Commits += o.Commits
	t.Puts += o.Puts
	t.Deletes += o.Deletes
	t.Repeated += o.Repeated
	t.Breaches += o.Breaches
}

// holdings is an agent's durable state without the bodies: what link.Desired asks for, in about 150 bytes per object. It is
// a list, because a simulated gateway holds few objects. Safe for concurrent use.
type holdings struct {
	mu        sync.Mutex
	entries   []held
	rules     wire.Rules
	revisions map[wire.Kind]uint64
	tally     Tally
	breach    string // the newest
	// applied hears of each commit after it was applied, without the lock held. Set before the link runs.
	applied func(*wire.Commit)
}

type held struct {
	wire.Entry
	revision uint64
}

// Apply implements link.Desired.
func (h *holdings) Apply(_ context.Context, c wire.Commit) error {
	h.mu.Lock()
	for i := range c.Put {
		h.put(&c, &c.Put[i])
	}
	for _, k := range c.Delete {
		h.remove(&c, k)
	}
	h.rules = c.Rules
	if h.revisions == nil {
		h.revisions = make(map[wire.Kind]uint64, len(c.Revisions))
	}
	for k, r := range c.Revisions {
		k = unique.Make(k).Value()
		h.revisions[k] = max(h.revisions[k], r)
	}
	h.tally.Commits++
	h.mu.Unlock()
	if h.applied != nil {
		h.applied(&c)
	}
	return nil
}

func (h *holdings) put(c *wire.Commit, o *wire.Object) {
	h.tally.Puts++
	i := h.find(o.Key)
	if i < 0 {
		h.entries = append(h.entries, held{wire.Entry{Key: shared(o.Key), Version: o.Version}, o.Revision})
		return
	}
	old := &h.entries[i]
	switch {
	case old.Version == o.Version:
		h.tally.Repeated++
	case o.Revision < old.revision:
		h.breached("commit %d takes %s back from revision %d to %d", c.ID, o.Key, old.revision, o.Revision)
	}
	old.Version, old.revision = o.Version, o.Revision
}

func (h *holdings) remove(c *wire.Commit, k wire.Key) {
	h.tally.Deletes++
	i := h.find(k)
	if i < 0 {
		h.breached("commit %d deletes %s, which is not held", c.ID, k)
		return
	}
	// An absent one only ceases to be referred to: its revision says how far a cache had come.
	if old := h.entries[i].revision; old > c.Revisions[k.Kind()] && h.entries[i].Version != wire.AbsentVersion() {
		h.breached("commit %d deletes %s at revision %d on the word of a cache at %d", c.ID, k, old, c.Revisions[k.Kind()])
	}
	last := len(h.entries) - 1
	h.entries[i] = h.entries[last]
	h.entries[last] = held{}
	h.entries = h.entries[:last]
}

func (h *holdings) breached(format string, args ...any) {
	h.tally.Breaches++
	h.breach = fmt.Sprintf(format, args...)
}

func (h *holdings) find(k wire.Key) int {
	for i := range h.entries {
		if h.entries[i].Key == k {
			return i
		}
	}
	return -1
}

// shared returns one copy of a key that thousands of agents hold.
func shared(k wire.Key) wire.Key {
	switch k.Kind() {
	case wire.KindConfigMap, wire.KindSecret, wire.KindDeviceModel, wire.KindService, wire.KindRuntimeClass:
		return unique.Make(k).Value()
	}
	return k
}

// Digest implements link.Desired.
func (h *holdings) Digest() wire.Digest {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := wire.Digest{Rules: h.rules}
	for i := range h.entries {
		d.Toggle(h.entries[i].Entry)
	}
	return d
}

// Bucket implements link.Desired.
func (h *holdings) Bucket(i int) []wire.Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []wire.Entry
	for _, e := range h.entries {
		if e.Key.Bucket() == i {
			out = append(out, e.Entry)
		}
	}
	return out
}

// Revisions implements link.Desired.
func (h *holdings) Revisions() map[wire.Kind]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[wire.Kind]uint64, len(h.revisions))
	for k, r := range h.revisions {
		out[k] = r
	}
	return out
}

// versions returns what is held.
func (h *holdings) versions() map[wire.Key]wire.Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[wire.Key]wire.Version, len(h.entries))
	for _, e := range h.entries {
		out[e.Key] = e.Version
	}
	return out
}

func (h *holdings) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.entries)
}

// terminating says whether the body of a pod carries a deletionTimestamp: canonical MessagePack holds its name as it is.
func terminating(body []byte) bool { return bytes.Contains(body, []byte("deletionTimestamp")) }
