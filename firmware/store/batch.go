package store

import (
	"errors"
	"fmt"
)

// Space separates the kinds of keys in a store.
type Space uint8

// The spaces. Their numbers are part of the file format.
const (
	SpaceDesired Space = 1 // desired objects by wire.Key; owned by [Desired]
	SpaceMeta    Space = 2 // small facts of the views and the agent
	SpaceTwin    Space = 3 // device twins; owned by firmware/devices
	SpacePod     Space = 4 // what belongs to pods; "token/…" is owned by firmware/tokens
	SpaceOutbox  Space = 5 // items for the relay; owned by [Outbox]
)

// Spaces lists all spaces.
func Spaces() []Space {
	return []Space{SpaceDesired, SpaceMeta, SpaceTwin, SpacePod, SpaceOutbox}
}

func (s Space) valid() bool { return s >= SpaceDesired && s <= SpaceOutbox }

// String returns the name that bbolt's bucket has, too.
func (s Space) String() string {
	switch s {
	case SpaceDesired:
		return "desired"
	case SpaceMeta:
		return "meta"
	case SpaceTwin:
		return "twin"
	case SpacePod:
		return "pod"
	case SpaceOutbox:
		return "outbox"
	}
	return fmt.Sprintf("space(%d)", uint8(s))
}

// Limits of one batch, checked before anything is written. Kubernetes objects are at most about 1.5 MiB (etcd's request
// limit), and a pod travels with what it references.
const (
	MaxKey   = 1 << 10
	MaxValue = 4 << 20
	MaxBatch = 16 << 20 // keys and values of one batch together, with 56 bytes for each
	maxOps   = 1 << 16
)

// ErrTooLarge is wrapped by the error for a batch beyond the limits.
var ErrTooLarge = errors.New("too large for the store")

type recKey struct {
	space Space
	key   string
}

func (k recKey) String() string { return k.space.String() + " " + k.key }

type op struct {
	recKey
	value []byte
	del   bool
	order uint64 // position among all changes since Open; decides what a reader sees while changes wait for the log
}

// size is at least what the change takes in a frame.
func (o op) size() int { return len(o.key) + len(o.value) + sealOverhead + changeOverhead }

// Batch is a list of changes that take effect together or not at all. The zero Batch is empty. Values given to Put belong
// to the store from then on and must not be changed.
type Batch struct{ ops []op }

// Put sets key to value.
func (b *Batch) Put(space Space, key string, value []byte) {
	b.ops = append(b.ops, op{recKey: recKey{space, key}, value: value})
}

// Delete removes key. Removing what is not there is not an error.
func (b *Batch) Delete(space Space, key string) {
	b.ops = append(b.ops, op{recKey: recKey{space, key}, del: true})
}

// Len returns the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

func (b *Batch) check() (size int, err error) {
	if len(b.ops) > maxOps {
		return 0, fmt.Errorf("store: batch of %d changes, at most %d are allowed: %w", len(b.ops), maxOps, ErrTooLarge)
	}
	for _, o := range b.ops {
		switch {
		case !o.space.valid():
			return 0, fmt.Errorf("store: key %q: unknown %v", o.key, o.space)
		case o.key == "":
			return 0, fmt.Errorf("store: a key in space %v is empty", o.space)
		case len(o.key) > MaxKey:
			return 0, fmt.Errorf("store: a key in space %v has %d bytes, at most %d are allowed: %w", o.space, len(o.key), MaxKey, ErrTooLarge)
		case len(o.value) > MaxValue:
			return 0, fmt.Errorf("store: value of %v has %d bytes, at most %d are allowed: %w", o.recKey, len(o.value), MaxValue, ErrTooLarge)
		}
		size += o.size()
	}
	if size > MaxBatch {
		return 0, fmt.Errorf("store: batch of %d bytes, at most %d are allowed: %w", size, MaxBatch, ErrTooLarge)
	}
	return size, nil
}
