package sessiontest

import (
	"context"
	"fmt"
	"sync"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Sink is a model of what takes reports (hub.Sink). It keeps reports as if they were written at once, and knows them again when
// they are offered. It is safe for concurrent use.
type Sink struct {
	mu       sync.Mutex
	epochs   map[string]uint64
	reports  map[wire.Key][]byte
	of       map[string]map[wire.Key][16]byte // hashes of reports, by node
	count    int
	outbox   map[string]map[[2]uint64]wire.OutboxItem
	received int

	// FailOutbox, if set, decides whether the next Outbox call fails.
	FailOutbox func() error
}

// NewSink returns an empty sink.
func NewSink() *Sink {
	return &Sink{epochs: map[string]uint64{}, reports: map[wire.Key][]byte{}, of: map[string]map[wire.Key][16]byte{}, outbox: map[string]map[[2]uint64]wire.OutboxItem{}}
}

// SessionStarted fences older sessions of the node.
func (s *Sink) SessionStarted(_ context.Context, node string, epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch <= s.epochs[node] {
		return fmt.Errorf("session %d of node %s is older than session %d", epoch, node, s.epochs[node])
	}
	s.epochs[node] = epoch
	return nil
}

// SessionEnded does nothing.
func (s *Sink) SessionEnded(string, uint64) {}

// Report keeps the newest body, unless a newer session has begun.
func (s *Sink) Report(node string, epoch uint64, key wire.Key, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch == s.epochs[node] {
		s.reports[key] = body
		if s.of[node] == nil {
			s.of[node] = map[wire.Key][16]byte{}
		}
		s.of[node][key] = canon.Hash(body)
		s.count++
	}
}

// OfferedAll says whether the node's reports are exactly those.
func (s *Sink) OfferedAll(node string, epoch uint64, sum wire.Sum) bool {
	have := s.Sum(node)
	s.mu.Lock()
	defer s.mu.Unlock()
	return epoch == s.epochs[node] && have == sum
}

// Sum returns the wire.OfferSum of the node's reports.
func (s *Sink) Sum(node string) wire.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]wire.OfferItem, 0, len(s.of[node]))
	for k, h := range s.of[node] {
		items = append(items, wire.OfferItem{Key: k, Hash: h})
	}
	return wire.OfferSum(items)
}

// Offered returns the keys whose newest report is another one.
func (s *Sink) Offered(node string, epoch uint64, items []wire.OfferItem) (want []wire.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		if have, ok := s.of[node][it.Key]; !ok || have != it.Hash || epoch != s.epochs[node] {
			want = append(want, it.Key)
		}
	}
	return want
}

// Forget loses sight of some of the node's reports, as a relay does that is started anew, and returns their keys.
func (s *Sink) Forget(node string, which func(wire.Key) bool) []wire.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []wire.Key
	for k := range s.of[node] {
		if which(k) {
			keys = append(keys, k)
			delete(s.of[node], k)
		}
	}
	return keys
}

// Outbox keeps items, once each.
func (s *Sink) Outbox(_ context.Context, node string, items []wire.OutboxItem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.FailOutbox != nil {
		if err := s.FailOutbox(); err != nil {
			return err
		}
	}
	if s.outbox[node] == nil {
		s.outbox[node] = map[[2]uint64]wire.OutboxItem{}
	}
	for _, it := range items {
		s.outbox[node][[2]uint64{it.Epoch, it.Seq}] = it
		s.received++
	}
	return nil
}

// Reported returns the newest body of a key.
func (s *Sink) Reported(key wire.Key) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.reports[key]
	return b, ok
}

// Counts returns how many reports were taken, how many distinct outbox items of the node there are, and how many came.
func (s *Sink) Counts(node string) (reports, items, received int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, len(s.outbox[node]), s.received
}
