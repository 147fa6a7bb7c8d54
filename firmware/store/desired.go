package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/skerry/skerry/firmware/wire"
)

// Desired is what the relay wants this node to hold. Keys and versions are in memory; bodies are read from the store when
// they are asked for.
type Desired struct {
	store *Store

	apply sync.Mutex // one Apply at a time, so that memory follows the order of the log

	mu        sync.Mutex
	index     map[wire.Key]held
	digest    wire.Digest
	revisions map[wire.Kind]uint64
	watches   map[*Watch]bool
}

type held struct {
	version wire.Version
	absent  bool
}

// desiredMeta is the record that holds the trim rules and the revisions.
const desiredMeta = "desired"

// NewDesired reads the index. A record whose body does not have the hash of its version is dropped and listed in Recovery.
func NewDesired(s *Store) (*Desired, error) {
	d := &Desired{store: s, index: map[wire.Key]held{}, revisions: map[wire.Kind]uint64{}, watches: map[*Watch]bool{}}
	var broken Batch
	err := s.Scan(SpaceDesired, "", func(key string, value []byte) error {
		obj, err := decodeObject(key, value)
		if err != nil {
			broken.Delete(SpaceDesired, key)
			s.note(Finding{RecordDropped, SpaceDesired.String() + " " + key, err.Error()})
			return nil
		}
		d.set(obj)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: reading desired objects: %w", err)
	}
	meta, ok, err := s.Get(SpaceMeta, desiredMeta)
	if err != nil {
		return nil, fmt.Errorf("store: reading desired objects: %w", err)
	}
	if ok {
		if d.digest.Rules, d.revisions, ok = decodeDesiredMeta(meta); !ok {
			s.note(Finding{RecordDropped, SpaceMeta.String() + " " + desiredMeta, "the revisions are malformed"})
			d.revisions = map[wire.Kind]uint64{}
		}
	}
	return d, s.CommitLazy(broken)
}

// Apply makes a commit of the relay durable, then tells the watches. On an error nothing is applied. Objects that are held at the same version
// already are not written again.
func (d *Desired) Apply(ctx context.Context, c wire.Commit) error {
	for _, o := range c.Put {
		if err := checkObject(o); err != nil {
			return fmt.Errorf("store: commit %d: %w", c.ID, err)
		}
	}
	d.apply.Lock()
	defer d.apply.Unlock()
	b, puts, deletes := d.changes(c)
	meta, revisions := d.nextMeta(c)
	if meta != nil {
		b.Put(SpaceMeta, desiredMeta, meta)
	}
	if err := d.store.Commit(ctx, b); err != nil {
		return err
	}
	d.mu.Lock()
	d.digest.Rules, d.revisions = c.Rules, revisions
	var changed []wire.Key
	for _, o := range puts {
		d.set(o)
		changed = append(changed, o.Key)
	}
	for _, k := range deletes {
		d.unset(k)
		changed = append(changed, k)
	}
	d.notify(changed)
	d.mu.Unlock()
	return nil
}

// changes returns what of c differs from what is held. A key that is both put and deleted is deleted, as in the order of Commit's fields.
func (d *Desired) changes(c wire.Commit) (b Batch, puts []wire.Object, deletes []wire.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := map[wire.Key]bool{}
	for _, k := range c.Delete {
		gone[k] = true
	}
	for _, o := range c.Put {
		if h, ok := d.index[o.Key]; gone[o.Key] || (ok && h == holding(o)) {
			continue
		}
		puts = append(puts, o)
		b.Put(SpaceDesired, string(o.Key), encodeObject(o))
	}
	for k := range gone {
		if _, ok := d.index[k]; ok {
			deletes = append(deletes, k)
			b.Delete(SpaceDesired, string(k))
		}
	}
	return b, puts, deletes
}

// nextMeta returns the rules and revisions after c, encoded only if they differ from what is stored.
func (d *Desired) nextMeta(c wire.Commit) ([]byte, map[wire.Kind]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(d.revisions)
	for kind, r := range c.Revisions {
		next[kind] = max(next[kind], r)
	}
	if maps.Equal(next, d.revisions) && c.Rules == d.digest.Rules {
		return nil, next
	}
	return encodeDesiredMeta(c.Rules, next), next
}

func holding(o wire.Object) held {
	if o.Absent {
		return held{version: wire.AbsentVersion(), absent: true}
	}
	return held{version: o.Version}
}

// set and unset keep index and digest in step. The caller holds mu, or is the only user.
func (d *Desired) set(o wire.Object) {
	d.unset(o.Key)
	h := holding(o)
	d.index[o.Key] = h
	d.digest.Toggle(wire.Entry{Key: o.Key, Version: h.version})
}

func (d *Desired) unset(k wire.Key) {
	if h, ok := d.index[k]; ok {
		d.digest.Toggle(wire.Entry{Key: k, Version: h.version})
		delete(d.index, k)
	}
}

func (d *Desired) notify(changed []wire.Key) {
	if len(changed) == 0 {
		return
	}
	for w := range d.watches {
		w.add(changed)
	}
}

// Get returns the object at key and whether it is held. If the disk cannot be read at the moment the object comes without its
// Body, though it is not Absent: not to be able to read a pod is no reason to stop it.
func (d *Desired) Get(key wire.Key) (wire.Object, bool) {
	value, ok, err := d.store.Get(SpaceDesired, string(key))
	var obj wire.Object
	if err == nil && ok {
		if obj, err = decodeObject(string(key), value); err == nil {
			return obj, true
		}
	}
	d.mu.Lock()
	h, known := d.index[key]
	d.mu.Unlock()
	switch {
	case !known:
		return wire.Object{}, false
	case err != nil:
		d.store.log.Error("a desired object cannot be read", "key", key, "error", err)
		return wire.Object{Key: key, Version: h.version, Absent: h.absent}, true
	}
	d.forget(key)
	return wire.Object{}, false
}

// forget takes a key whose record was dropped out of index and digest, so that the relay sees the difference and sends it
// again. While an Apply runs the record may just be about to change; the next Get decides then.
func (d *Desired) forget(key wire.Key) {
	if !d.apply.TryLock() {
		return
	}
	defer d.apply.Unlock()
	if _, ok, err := d.store.Get(SpaceDesired, string(key)); ok || err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unset(key)
	d.notify([]wire.Key{key})
}

// List returns the objects of a kind, by key, absent ones included. See Get for objects that cannot be read.
func (d *Desired) List(kind wire.Kind) []wire.Object {
	d.mu.Lock()
	var keys []wire.Key
	for k := range d.index {
		if k.Kind() == kind {
			keys = append(keys, k)
		}
	}
	d.mu.Unlock()
	slices.Sort(keys)
	objs := make([]wire.Object, 0, len(keys))
	for _, k := range keys {
		if o, ok := d.Get(k); ok {
			objs = append(objs, o)
		}
	}
	return objs
}

// Len returns the number of objects held, absent ones included.
func (d *Desired) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.index)
}

// Digest returns the digest of all entries, with the trim rules of the last commit.
func (d *Desired) Digest() wire.Digest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.digest
}

// Bucket returns the entries of one bucket of the digest, by key.
func (d *Desired) Bucket(i int) []wire.Entry {
	d.mu.Lock()
	var out []wire.Entry
	for k, h := range d.index {
		if k.Bucket() == i {
			out = append(out, wire.Entry{Key: k, Version: h.version})
		}
	}
	d.mu.Unlock()
	slices.SortFunc(out, func(a, b wire.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// Revisions returns the highest resourceVersion that was seen of each kind.
func (d *Desired) Revisions() map[wire.Kind]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.revisions)
}

// Watch begins a watch on the given kinds, or on all.
func (d *Desired) Watch(kinds ...wire.Kind) *Watch {
	w := &Watch{owner: d, kinds: map[wire.Kind]bool{}, c: make(chan struct{}, 1), keys: map[wire.Key]bool{}}
	for _, k := range kinds {
		w.kinds[k] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watches[w] = true
	w.add(slices.Collect(maps.Keys(d.index)))
	return w
}

// A stored object: format[1] flags[1] revision(uvarint) uidLen(uvarint) uid hash[16] body. The key is the record's.
const (
	objectFormat = 1
	objectAbsent = 1
)

func encodeObject(o wire.Object) []byte {
	b := make([]byte, 0, 40+len(o.Version.UID)+len(o.Body))
	flags := byte(0)
	if o.Absent {
		flags = objectAbsent
		o.Version, o.Body = wire.AbsentVersion(), nil
	}
	b = append(b, objectFormat, flags)
	b = binary.AppendUvarint(b, o.Revision)
	b = binary.AppendUvarint(b, uint64(len(o.Version.UID)))
	b = append(b, o.Version.UID...)
	b = append(b, o.Version.Hash[:]...)
	return append(b, o.Body...)
}

func decodeObject(key string, b []byte) (o wire.Object, err error) {
	malformed := fmt.Errorf("object %q is malformed", key)
	if len(b) < 2 || b[0] != objectFormat || b[1]&^objectAbsent != 0 {
		return o, malformed
	}
	o.Absent = b[1] == objectAbsent
	rev, n := binary.Uvarint(b[2:])
	if n <= 0 {
		return o, malformed
	}
	o.Revision = rev
	size, b, ok := takeUvarint(b[2+n:], MaxKey)
	if !ok || len(b) < size+16 {
		return o, malformed
	}
	o.Version.UID = string(b[:size])
	copy(o.Version.Hash[:], b[size:])
	if body := b[size+16:]; len(body) > 0 {
		o.Body = body
	}
	if o.Key, err = wire.ParseKey(key); err != nil {
		return o, err
	}
	return o, checkObject(o)
}

// checkObject holds an object to what its key and version say.
func checkObject(o wire.Object) error {
	if _, err := wire.ParseKey(string(o.Key)); err != nil {
		return err
	}
	if len(o.Version.UID) > MaxKey {
		return fmt.Errorf("object %s: its UID has %d bytes", o.Key, len(o.Version.UID))
	}
	if o.Absent {
		if len(o.Body) > 0 {
			return fmt.Errorf("object %s: it is absent and has a body of %d bytes", o.Key, len(o.Body))
		}
		return nil
	}
	if want := wire.BodyVersion(o.Version.UID, o.Body); len(o.Body) == 0 || o.Version != want {
		return fmt.Errorf("object %s: its body of %d bytes does not have the hash of its version", o.Key, len(o.Body))
	}
	return nil
}

func encodeDesiredMeta(rules wire.Rules, revisions map[wire.Kind]uint64) []byte {
	b := binary.AppendUvarint(nil, uint64(rules))
	for _, kind := range slices.Sorted(maps.Keys(revisions)) {
		b = binary.AppendUvarint(b, uint64(len(kind)))
		b = append(b, kind...)
		b = binary.AppendUvarint(b, revisions[kind])
	}
	return b
}

func decodeDesiredMeta(b []byte) (rules wire.Rules, revisions map[wire.Kind]uint64, ok bool) {
	revisions = map[wire.Kind]uint64{}
	v, n := binary.Uvarint(b)
	if n <= 0 || v > 1<<32-1 {
		return 0, revisions, false
	}
	for b = b[n:]; len(b) > 0; b = b[n:] {
		size, rest, ok := takeUvarint(b, MaxKey)
		if !ok || size > len(rest) {
			return 0, revisions, false
		}
		kind := wire.Kind(rest[:size])
		b = rest[size:]
		rev, m := binary.Uvarint(b)
		if m <= 0 {
			return 0, revisions, false
		}
		revisions[kind], n = rev, m
	}
	return wire.Rules(v), revisions, true
}
