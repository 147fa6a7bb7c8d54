package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/skerry/skerry/firmware/wire"
)

// OutboxLimits bounds the outbox. Zero values take the defaults.
type OutboxLimits struct {
	Items int   // default 5,000
	Bytes int64 // of bodies, default 4 MiB
}

const (
	defaultOutboxItems = 5000
	defaultOutboxBytes = 4 << 20
	maxOutboxBody      = 64 << 10
)

// OutboxStats are levels, and counters since the store was first made.
type OutboxStats struct {
	Pending      int
	PendingBytes int64
	Epoch        uint64 // of items appended now
	Dropped      uint64 // items given up because the outbox was full, oldest first
	DroppedBytes uint64
}

// Outbox keeps messages to the relay until they are acknowledged: at least once, oldest first. When it is full the oldest are dropped, which is
// counted durably and logged.
type Outbox struct {
	store  *Store
	limits OutboxLimits
	notify chan struct{}

	appending sync.Mutex // one Append at a time: it decides what to drop

	mu    sync.Mutex
	items []outboxEntry // oldest first
	stats OutboxStats
	seq   uint64
}

type outboxEntry struct {
	epoch, seq uint64
	size       int
}

const outboxMeta = "outbox"

// NewOutbox reads the outbox. The items' epoch is the store's.
func NewOutbox(s *Store, limits OutboxLimits) (*Outbox, error) {
	limits.Items = cmp.Or(max(limits.Items, 0), defaultOutboxItems)
	limits.Bytes = cmp.Or(max(limits.Bytes, 0), defaultOutboxBytes)
	o := &Outbox{store: s, limits: limits, notify: make(chan struct{}, 1)}
	o.stats.Epoch = s.Epoch()
	err := s.Scan(SpaceOutbox, "", func(key string, value []byte) error {
		item, ok := decodeItem(key, value)
		if !ok {
			s.note(Finding{RecordDropped, SpaceOutbox.String(), fmt.Sprintf("item %x is malformed", key)})
			return nil
		}
		o.add(outboxEntry{item.Epoch, item.Seq, len(item.Body)})
		if item.Epoch == o.stats.Epoch {
			o.seq = max(o.seq, item.Seq)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: reading the outbox: %w", err)
	}
	meta, ok, err := s.Get(SpaceMeta, outboxMeta)
	if err != nil {
		return nil, fmt.Errorf("store: reading the outbox: %w", err)
	}
	if ok && len(meta) == 16 {
		o.stats.Dropped, o.stats.DroppedBytes = binary.BigEndian.Uint64(meta), binary.BigEndian.Uint64(meta[8:])
	}
	if len(o.items) > 0 {
		o.wake()
	}
	return o, nil
}

func (o *Outbox) add(e outboxEntry) {
	o.items = append(o.items, e)
	o.stats.Pending++
	o.stats.PendingBytes += int64(e.size)
}

// Append stores a message; it is durable when Append returns nil. It may drop the oldest messages to make room. Bodies have at most 64 KiB.
func (o *Outbox) Append(kind string, body []byte) error { return o.AppendAll(kind, [][]byte{body}) }

// AppendAll is Append for messages of one kind in one commit: all of them are stored, in their order, or none.
func (o *Outbox) AppendAll(kind string, bodies [][]byte) error {
	size := 0
	for _, body := range bodies {
		if len(body) > maxOutboxBody || len(kind) > MaxKey {
			return fmt.Errorf("store: outbox item of kind %.40q with %d bytes, at most %d are allowed: %w", kind, len(body), maxOutboxBody, ErrTooLarge)
		}
		size += len(body)
	}
	o.appending.Lock()
	defer o.appending.Unlock()
	var b Batch
	o.mu.Lock()
	drop, stats := o.victims(len(bodies), size)
	var entries []outboxEntry
	for i, body := range bodies {
		entries = append(entries, outboxEntry{o.stats.Epoch, o.seq + 1 + uint64(i), len(body)})
	}
	o.mu.Unlock()
	for _, v := range drop {
		b.Delete(SpaceOutbox, v.key())
	}
	if len(drop) > 0 {
		meta := binary.BigEndian.AppendUint64(nil, stats.Dropped)
		b.Put(SpaceMeta, outboxMeta, binary.BigEndian.AppendUint64(meta, stats.DroppedBytes))
	}
	for i, body := range bodies {
		b.Put(SpaceOutbox, entries[i].key(), encodeItem(kind, body))
	}
	if err := o.store.Commit(context.Background(), b); err != nil {
		return err
	}
	o.mu.Lock()
	if len(drop) > 0 {
		o.remove(drop[len(drop)-1].epoch, drop[len(drop)-1].seq)
		o.stats.Dropped, o.stats.DroppedBytes = stats.Dropped, stats.DroppedBytes
	}
	for _, entry := range entries {
		o.seq = entry.seq
		o.add(entry)
	}
	o.mu.Unlock()
	o.wake()
	if len(drop) > 0 {
		o.store.log.Warn("the outbox is full, its oldest messages to the relay were dropped", "dropped", len(drop), "droppedEver", stats.Dropped, "limitItems", o.limits.Items, "limitBytes", o.limits.Bytes)
	}
	return nil
}

// victims returns which of the oldest items must go for so many more of size bytes together, and the counters after that. A tenth goes at
// once, so that a full outbox does not write a counter and a warning with every message.
func (o *Outbox) victims(more, size int) ([]outboxEntry, OutboxStats) {
	stats := o.stats
	if stats.Pending+more <= o.limits.Items && stats.PendingBytes+int64(size) <= o.limits.Bytes {
		return nil, stats
	}
	items, bytes := o.limits.Items-o.limits.Items/10, o.limits.Bytes-o.limits.Bytes/10
	n := 0
	for n < len(o.items) && (stats.Pending+more > items || stats.PendingBytes+int64(size) > bytes) {
		stats.Pending--
		stats.PendingBytes -= int64(o.items[n].size)
		stats.Dropped++
		stats.DroppedBytes += uint64(o.items[n].size)
		n++
	}
	return slices.Clone(o.items[:n]), stats
}

// Pending returns up to limit of the oldest items whose sequence is above after, all of one epoch. An item that cannot be read
// any more is passed over.
func (o *Outbox) Pending(after uint64, limit int) []wire.OutboxItem {
	o.mu.Lock()
	var want []outboxEntry
	for _, e := range o.items {
		if e.epoch != o.items[0].epoch || len(want) >= limit {
			break
		}
		if e.seq > after {
			want = append(want, e)
		}
	}
	o.mu.Unlock()
	var out []wire.OutboxItem
	for _, e := range want {
		value, ok, err := o.store.Get(SpaceOutbox, e.key())
		if err != nil {
			o.store.log.Error("an outbox item cannot be read", "epoch", e.epoch, "seq", e.seq, "error", err)
			break // later ones must not overtake it: acknowledging them would forget it
		}
		if item, whole := decodeItem(e.key(), value); ok && whole {
			out = append(out, item)
		}
	}
	if len(want) > 0 && len(out) == 0 {
		o.skip(want)
	}
	return out
}

// skip forgets items that are gone from the store, so that those after them are found.
func (o *Outbox) skip(gone []outboxEntry) {
	for _, e := range gone {
		if _, ok, err := o.store.Get(SpaceOutbox, e.key()); ok || err != nil {
			return
		}
	}
	last := gone[len(gone)-1]
	o.mu.Lock()
	o.remove(last.epoch, last.seq)
	o.mu.Unlock()
	o.wake()
}

// Ack forgets the items of epoch up to seq, and all of older epochs. It is lazy: what a power cut brings back is sent again,
// and the relay knows it.
func (o *Outbox) Ack(epoch, seq uint64) error {
	o.mu.Lock()
	var b Batch
	for _, e := range o.items {
		if !e.within(epoch, seq) {
			break
		}
		b.Delete(SpaceOutbox, e.key())
	}
	o.mu.Unlock()
	if err := o.store.CommitLazy(b); err != nil {
		return err
	}
	o.mu.Lock()
	o.remove(epoch, seq)
	o.mu.Unlock()
	return nil
}

// remove forgets the entries up to (epoch, seq). The caller holds mu.
func (o *Outbox) remove(epoch, seq uint64) {
	n := 0
	for n < len(o.items) && o.items[n].within(epoch, seq) {
		o.stats.Pending--
		o.stats.PendingBytes -= int64(o.items[n].size)
		n++
	}
	o.items = slices.Delete(o.items, 0, n)
}

// Stats returns the present figures.
func (o *Outbox) Stats() OutboxStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stats
}

// C holds a token after something was appended.
func (o *Outbox) C() <-chan struct{} { return o.notify }

func (o *Outbox) wake() {
	select {
	case o.notify <- struct{}{}:
	default:
	}
}

func (e outboxEntry) within(epoch, seq uint64) bool {
	return e.epoch < epoch || (e.epoch == epoch && e.seq <= seq)
}

// key sorts by epoch, then sequence.
func (e outboxEntry) key() string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), e.epoch)
	return string(binary.BigEndian.AppendUint64(b, e.seq))
}

// A stored item: kindLen(uvarint) kind body.
func encodeItem(kind string, body []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 2+len(kind)+len(body)), uint64(len(kind)))
	return append(append(b, kind...), body...)
}

func decodeItem(key string, value []byte) (item wire.OutboxItem, ok bool) {
	n, rest, ok := takeUvarint(value, MaxKey)
	if !ok || n > len(rest) || len(key) != 16 {
		return item, false
	}
	k := []byte(key)
	return wire.OutboxItem{
		Epoch: binary.BigEndian.Uint64(k), Seq: binary.BigEndian.Uint64(k[8:]),
		Kind: string(rest[:n]), Body: rest[n:],
	}, true
}
