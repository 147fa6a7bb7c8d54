package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Get returns the value of key and whether there is one. The caller must not change it. A value that does not open any more is
// reported as absent, and listed in Recovery.
func (s *Store) Get(space Space, key string) ([]byte, bool, error) {
	k := recKey{space, key}
	s.mu.RLock()
	if d, ok := s.dirty[k]; ok {
		s.mu.RUnlock()
		return d.value, !d.del, nil
	}
	r, ok := s.overlaid(k)
	db := s.db
	s.mu.RUnlock()
	if !ok {
		var err error
		if r, ok, err = readBolt(db, k); err != nil || !ok {
			return nil, false, err
		}
	}
	if r.del {
		return nil, false, nil
	}
	value, err := s.unseal(k, r)
	if err != nil {
		s.drop(k, r)
		return nil, false, nil
	}
	return value, true, nil
}

// overlaid looks in the overlay. The caller holds mu.
func (s *Store) overlaid(k recKey) (rec, bool) {
	if r, ok := s.active[k]; ok {
		return r, true
	}
	r, ok := s.frozen[k]
	return r, ok
}

func (s *Store) unseal(k recKey, r rec) ([]byte, error) {
	var ad [64]byte
	return s.opt.Sealer.Open(nil, r.sealed, appendAD(ad[:0], k, r.seq, false))
}

// drop removes a record that does not open, unless it was replaced meanwhile.
func (s *Store) drop(k recKey, r rec) {
	s.mu.Lock()
	if now, ok := s.overlaid(k); !ok || now.seq == r.seq {
		gone := rec{seq: r.seq, del: true}
		s.overlay += recSize(k, gone)
		if old, ok := s.active[k]; ok {
			s.overlay -= recSize(k, old)
		}
		s.active[k] = gone
	}
	s.mu.Unlock()
	s.note(Finding{What: RecordDropped, Where: k.String(), Detail: "its value does not open: altered, moved, or sealed with another key"})
}

// Scan calls fn for each key with the prefix, in order, until fn fails; that error is returned. It is not a snapshot: each value is
// the newest at the time of its call. fn may call the store.
func (s *Store) Scan(space Space, prefix string, fn func(key string, value []byte) error) error {
	keys, err := s.keys(space, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		value, ok, err := s.Get(space, key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// keys returns the keys with the prefix, sorted. Some may be gone by now.
func (s *Store) keys(space Space, prefix string) ([]string, error) {
	set := map[string]bool{} // false: deleted
	s.mu.RLock()
	for _, layer := range []map[recKey]rec{s.frozen, s.active} {
		for k, r := range layer {
			if k.space == space && strings.HasPrefix(k.key, prefix) {
				set[k.key] = !r.del
			}
		}
	}
	for k, d := range s.dirty {
		if k.space == space && strings.HasPrefix(k.key, prefix) {
			set[k.key] = !d.del
		}
	}
	db := s.db
	s.mu.RUnlock()
	err := viewBolt(db, space, func(b *bolt.Bucket) error {
		c := b.Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, _ = c.Next() {
			if _, ok := set[string(k)]; !ok {
				set[string(k)] = true
			}
		}
		return nil
	})
	keys := make([]string, 0, len(set))
	for k, there := range set {
		if there {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys, err
}

func readBolt(db *bolt.DB, k recKey) (r rec, ok bool, err error) {
	err = viewBolt(db, k.space, func(b *bolt.Bucket) error {
		v := b.Get([]byte(k.key))
		if v == nil {
			return nil
		}
		ok = true
		if seq, sealed, whole := splitStored(v); whole {
			r = rec{seq: seq, sealed: slices.Clone(sealed)}
		}
		return nil
	})
	return r, ok, err
}

// viewBolt runs fn on the bucket of space, if there is one.
func viewBolt(db *bolt.DB, space Space, fn func(*bolt.Bucket) error) error {
	if db == nil {
		return nil
	}
	err := guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket([]byte(space.String())); b != nil {
				return fn(b)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("store: reading the checkpoint: %w", err)
	}
	return nil
}

var errFault = errors.New("the file is damaged or its medium fails")

// guard turns a fault or a panic in bbolt into an error: its file is mapped, and a medium that fails, or is damaged, while
// mapped shows as SIGBUS or as an assertion. bbolt rolls its transaction back on a panic.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w, restart the agent to have it checked and repaired: %v", errFault, p)
		}
	}()
	return fn()
}
