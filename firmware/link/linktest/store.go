// Package linktest holds in-memory models of what the link works with, for tests and simulators.
//
// Store stands for the agent's durable state (link.Desired and link.Outbox). It checks, on every commit, what the link
// promises: nothing goes back in time, nothing unchanged is sent again, and no pod arrives before what it refers to.
package linktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Store is an in-memory model of the agent's store. It is safe for concurrent use.
type Store struct {
	mu        sync.Mutex
	objects   map[wire.Key]wire.Object
	rules     wire.Rules
	revisions map[wire.Kind]uint64
	outbox    []wire.OutboxItem
	seq       uint64
	broken    []error
	puts      int
	deletes   int
	changed   chan struct{}

	// FailApply, if set, decides whether the next Apply fails, before anything is changed.
	FailApply func() error
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{objects: map[wire.Key]wire.Object{}, revisions: map[wire.Kind]uint64{}, changed: make(chan struct{}, 1)}
}

// Apply applies a commit atomically.
func (s *Store) Apply(_ context.Context, c wire.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.FailApply != nil {
		if err := s.FailApply(); err != nil {
			return err
		}
	}
	for _, o := range c.Put {
		s.checkPut(c, o)
		s.objects[o.Key] = o
		s.puts++
	}
	for _, k := range c.Delete {
		o, ok := s.objects[k]
		if !ok {
			s.breach("commit %d deletes %s, which is not held", c.ID, k)
		}
		if o.Revision > c.Revisions[k.Kind()] && !o.Absent { // an absent one only ceases to be referred to
			s.breach("commit %d deletes %s at revision %d on the word of a cache at %d", c.ID, k, o.Revision, c.Revisions[k.Kind()])
		}
		delete(s.objects, k)
		s.deletes++
	}
	s.rules = c.Rules
	for k, r := range c.Revisions {
		s.revisions[k] = max(s.revisions[k], r)
	}
	for _, o := range s.objects {
		for _, r := range Refs(o.Body) {
			if _, ok := s.objects[r]; !ok {
				s.breach("after commit %d, %s is held without %s", c.ID, o.Key, r)
			}
		}
	}
	return nil
}

func (s *Store) checkPut(c wire.Commit, o wire.Object) {
	old, ok := s.objects[o.Key]
	if ok && old.Version == o.Version {
		s.breach("commit %d sends %s again, unchanged", c.ID, o.Key)
	}
	if ok && o.Revision < old.Revision {
		s.breach("commit %d takes %s back from revision %d to %d", c.ID, o.Key, old.Revision, o.Revision)
	}
}

func (s *Store) breach(format string, args ...any) {
	s.broken = append(s.broken, fmt.Errorf(format, args...))
}

// Err returns every promise that was broken.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.broken...)
}

// Counts returns how many objects were put and deleted so far.
func (s *Store) Counts() (puts, deletes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts, s.deletes
}

// Digest returns the digest of what is held.
func (s *Store) Digest() wire.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := wire.Digest{Rules: s.rules}
	for k, o := range s.objects {
		d.Toggle(wire.Entry{Key: k, Version: o.Version})
	}
	return d
}

// Bucket returns the entries of one digest bucket.
func (s *Store) Bucket(i int) []wire.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []wire.Entry
	for k, o := range s.objects {
		if k.Bucket() == i {
			out = append(out, wire.Entry{Key: k, Version: o.Version})
		}
	}
	return out
}

// Revisions returns the highest resourceVersion seen per kind.
func (s *Store) Revisions() map[wire.Kind]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[wire.Kind]uint64, len(s.revisions))
	for k, r := range s.revisions {
		out[k] = r
	}
	return out
}

// Versions returns all that is held.
func (s *Store) Versions() map[wire.Key]wire.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[wire.Key]wire.Version, len(s.objects))
	for k, o := range s.objects {
		out[k] = o.Version
	}
	return out
}

// Get returns one object.
func (s *Store) Get(k wire.Key) (wire.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[k]
	return o, ok
}

// Append adds an outbox item.
func (s *Store) Append(kind string, body []byte) {
	s.mu.Lock()
	s.seq++
	s.outbox = append(s.outbox, wire.OutboxItem{Epoch: 1, Seq: s.seq, Kind: kind, Body: body})
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// C notifies about appended items.
func (s *Store) C() <-chan struct{} { return s.changed }

// Pending returns the oldest items after a sequence number.
func (s *Store) Pending(after uint64, limit int) []wire.OutboxItem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []wire.OutboxItem
	for _, it := range s.outbox {
		if it.Seq > after && len(out) < limit {
			out = append(out, it)
		}
	}
	return out
}

// Ack forgets items.
func (s *Store) Ack(_, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox = slices.DeleteFunc(s.outbox, func(it wire.OutboxItem) bool { return it.Seq <= seq })
	return nil
}

// Body returns a canonical body that holds a number and names references.
func Body(n int, refs ...wire.Key) []byte {
	list := make([]any, 0, len(refs))
	for _, r := range refs {
		list = append(list, string(r))
	}
	b, err := canon.FromValue(map[string]any{"n": n, "refs": list})
	if err != nil {
		panic(err) // only of values that canon cannot encode
	}
	return b
}

// Refs returns the references named by a Body.
func Refs(body []byte) []wire.Key {
	v, err := canon.ToValue(body)
	if err != nil {
		return nil
	}
	m, _ := v.(map[string]any)
	list, _ := m["refs"].([]any)
	out := make([]wire.Key, 0, len(list))
	for _, r := range list {
		if s, ok := r.(string); ok {
			out = append(out, wire.Key(s))
		}
	}
	return out
}
