package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/skerry/skerry/firmware/wire"
)

// Limits bounds the outbox. Zero values take the defaults of firmware/store.
type Limits struct {
	Items int   // default 5,000
	Bytes int64 // of bodies, default 4 MiB
}

// ErrDown is returned by a Model that has crashed and was not opened again.
var ErrDown = errors.New("the store is down")

// image is one state of a store.
type image struct {
	objects   map[wire.Key]wire.Object
	rules     wire.Rules
	revisions map[wire.Kind]uint64
	outbox    []wire.OutboxItem
	dropped   uint64
}

func (s *image) clone() image {
	return image{
		objects: maps.Clone(s.objects), rules: s.rules, revisions: maps.Clone(s.revisions),
		outbox: slices.Clone(s.outbox), dropped: s.dropped,
	}
}

// Model is an agent's store in memory: desired objects and outbox. It is not safe for concurrent use.
type Model struct {
	limits Limits
	disk   image
	mem    image
	digest wire.Digest
	epoch  uint64 // of this opening
	last   uint64 // highest epoch on the disk
	seq    uint64
	up     bool
	staged *wire.Commit
	lazy   bool // mem is ahead of disk

	// Fail, if set, decides whether the next write fails, before anything is changed.
	Fail func() error
	// Dropped, if set, hears of each item that the outbox gives up because it is full.
	Dropped func(wire.OutboxItem)
}

// NewModel returns an empty store that is open.
func NewModel(limits Limits) *Model {
	limits.Items = cmp.Or(max(limits.Items, 0), 5000)
	limits.Bytes = cmp.Or(max(limits.Bytes, 0), 4<<20)
	m := &Model{limits: limits, disk: image{objects: map[wire.Key]wire.Object{}, revisions: map[wire.Kind]uint64{}}}
	m.Open()
	return m
}

// Open reads what is durable. It does nothing if the store is open.
func (m *Model) Open() {
	if m.up {
		return
	}
	m.mem, m.up, m.lazy, m.staged = m.disk.clone(), true, false, nil
	m.epoch, m.seq = m.last+1, 0
	m.digest = wire.Digest{Rules: m.mem.rules}
	for k, o := range m.mem.objects {
		m.digest.Toggle(wire.Entry{Key: k, Version: o.Version})
	}
}

// Crash loses everything that is not durable. A staged commit had reached the disk if kept is set; otherwise it is gone.
func (m *Model) Crash(kept bool) {
	if m.staged != nil && kept {
		m.Finish()
	}
	m.up, m.staged, m.mem = false, nil, image{}
}

// Begin checks and stages a commit. It is neither visible nor durable before Finish.
func (m *Model) Begin(c wire.Commit) error {
	if err := m.writable(); err != nil {
		return err
	}
	if m.staged != nil {
		return errors.New("a commit is being synced already")
	}
	for i := range c.Put {
		if err := check(&c.Put[i]); err != nil {
			return fmt.Errorf("commit %d: %w", c.ID, err)
		}
	}
	m.staged = &c
	return nil
}

// Finish makes the staged commit durable, and everything lazy before it.
func (m *Model) Finish() {
	c := m.staged
	m.staged = nil
	gone := map[wire.Key]bool{}
	for _, k := range c.Delete {
		gone[k] = true
	}
	for _, o := range c.Put {
		if !gone[o.Key] {
			m.set(o)
		}
	}
	for _, k := range c.Delete {
		m.unset(k)
	}
	m.mem.rules, m.digest.Rules = c.Rules, c.Rules
	for kind, r := range c.Revisions {
		m.mem.revisions[kind] = max(m.mem.revisions[kind], r)
	}
	m.sync()
}

func (m *Model) writable() error {
	if !m.up {
		return ErrDown
	}
	if m.Fail != nil {
		return m.Fail()
	}
	return nil
}

func check(o *wire.Object) error {
	if _, err := wire.ParseKey(string(o.Key)); err != nil {
		return err
	}
	switch {
	case o.Absent && len(o.Body) > 0:
		return fmt.Errorf("%s is absent and has a body", o.Key)
	case !o.Absent && (len(o.Body) == 0 || o.Version != wire.BodyVersion(o.Version.UID, o.Body)):
		return fmt.Errorf("the body of %s does not have the hash of its version", o.Key)
	}
	return nil
}

func (m *Model) set(o wire.Object) {
	if o.Absent {
		o.Version = wire.AbsentVersion()
	}
	if old, ok := m.mem.objects[o.Key]; ok && old.Version == o.Version {
		return // held already: what was stored first stays
	}
	m.unset(o.Key)
	m.mem.objects[o.Key] = o
	m.digest.Toggle(wire.Entry{Key: o.Key, Version: o.Version})
}

func (m *Model) unset(k wire.Key) {
	if o, ok := m.mem.objects[k]; ok {
		m.digest.Toggle(wire.Entry{Key: k, Version: o.Version})
		delete(m.mem.objects, k)
	}
}

// sync writes everything that is in memory. The log is one: what is lazy goes with the next commit.
func (m *Model) sync() {
	m.disk = m.mem.clone()
	m.last, m.lazy = m.epoch, false
}

// FlushLazy ends the window of lazy writes: what they changed is durable.
func (m *Model) FlushLazy() {
	if m.up && m.lazy {
		m.sync()
	}
}

// Apply is Begin and Finish in one.
func (m *Model) Apply(_ context.Context, c wire.Commit) error {
	if err := m.Begin(c); err != nil {
		return err
	}
	m.Finish()
	return nil
}

// Get returns the object at key and whether it is held.
func (m *Model) Get(key wire.Key) (wire.Object, bool) {
	o, ok := m.mem.objects[key]
	return o, ok
}

// Keys returns what is held, sorted.
func (m *Model) Keys() []wire.Key { return slices.Sorted(maps.Keys(m.mem.objects)) }

// Versions returns all that is held.
func (m *Model) Versions() map[wire.Key]wire.Version {
	out := make(map[wire.Key]wire.Version, len(m.mem.objects))
	for k, o := range m.mem.objects {
		out[k] = o.Version
	}
	return out
}

// Digest returns the digest of what is held.
func (m *Model) Digest() wire.Digest { return m.digest }

// Bucket returns the entries of one bucket of the digest, by key.
func (m *Model) Bucket(i int) []wire.Entry {
	var out []wire.Entry
	for k, o := range m.mem.objects {
		if k.Bucket() == i {
			out = append(out, wire.Entry{Key: k, Version: o.Version})
		}
	}
	slices.SortFunc(out, func(a, b wire.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// Revisions returns the highest resourceVersion that was seen of each kind.
func (m *Model) Revisions() map[wire.Kind]uint64 { return maps.Clone(m.mem.revisions) }

// Append stores a message durably. It may drop the oldest ones to make room, a tenth at once.
func (m *Model) Append(kind string, body []byte) error {
	if err := m.writable(); err != nil {
		return err
	}
	size := int64(len(body))
	for _, it := range m.mem.outbox {
		size += int64(len(it.Body))
	}
	if len(m.mem.outbox)+1 > m.limits.Items || size > m.limits.Bytes {
		items, bytes := m.limits.Items-m.limits.Items/10, m.limits.Bytes-m.limits.Bytes/10
		n := 0
		for n < len(m.mem.outbox) && (len(m.mem.outbox)-n+1 > items || size > bytes) {
			size -= int64(len(m.mem.outbox[n].Body))
			if m.Dropped != nil {
				m.Dropped(m.mem.outbox[n])
			}
			n++
		}
		m.mem.outbox = slices.Clone(m.mem.outbox[n:])
		m.mem.dropped += uint64(n)
	}
	m.seq++
	m.mem.outbox = append(m.mem.outbox, wire.OutboxItem{Epoch: m.epoch, Seq: m.seq, Kind: kind, Body: body})
	m.sync()
	return nil
}

// Pending returns up to limit of the oldest items whose sequence is above after, all of one epoch.
func (m *Model) Pending(after uint64, limit int) []wire.OutboxItem {
	var out []wire.OutboxItem
	for _, it := range m.mem.outbox {
		if it.Epoch != m.mem.outbox[0].Epoch || len(out) >= limit {
			break
		}
		if it.Seq > after {
			out = append(out, it)
		}
	}
	return out
}

// Ack forgets the items of epoch up to seq, and all of older epochs. It is lazy: a crash may bring them back.
func (m *Model) Ack(epoch, seq uint64) error {
	if !m.up {
		return ErrDown
	}
	n := 0
	for n < len(m.mem.outbox) && (m.mem.outbox[n].Epoch < epoch || m.mem.outbox[n].Epoch == epoch && m.mem.outbox[n].Seq <= seq) {
		n++
	}
	if n > 0 {
		m.mem.outbox = slices.Clone(m.mem.outbox[n:])
		m.lazy = true
	}
	return nil
}

// Level returns the number of items that wait, and how many were ever dropped.
func (m *Model) Level() (pending int, dropped uint64) { return len(m.mem.outbox), m.mem.dropped }

// Durable returns what a crash now would leave of the desired objects, for a simulator that checks an acknowledgement.
func (m *Model) Durable(k wire.Key) (wire.Object, bool) {
	o, ok := m.disk.objects[k]
	return o, ok
}
