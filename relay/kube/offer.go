package kube

import "github.com/skerry/skerry/firmware/wire"

// OfferedAll reports whether exactly the documents that sum stands for have been written for the node, and are still what the
// API shows.
func (s *Sink) OfferedAll(node string, epoch uint64, sum wire.Sum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node]
	if !n.live(epoch) {
		return false
	}
	s.prune(n)
	items := make([]wire.OfferItem, 0, len(n.entries))
	for i := range n.entries {
		e := &n.entries[i]
		if e.work != nil || e.hash == [16]byte{} {
			return false
		}
		items = append(items, wire.OfferItem{Key: e.key, Hash: e.hash})
	}
	return wire.OfferSum(items) == sum
}

// Offered returns the keys of those documents whose body is needed: they have not been written by this relay, or somebody else
// may have changed them since. What the node may not report on is refused, as a report would be.
func (s *Sink) Offered(node string, epoch uint64, items []wire.OfferItem) (want []wire.Key) {
	for i := range items {
		it := &items[i]
		if why := s.refuse(node, it.Key, nil); why != "" {
			s.refused(node, it.Key, why)
			continue
		}
		if s.wants(node, epoch, it) {
			want = append(want, it.Key)
		}
	}
	return want
}

func (s *Sink) wants(node string, epoch uint64, it *wire.OfferItem) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node]
	if !n.live(epoch) {
		return false
	}
	e := n.entry(it.Key)
	if e == nil {
		return true
	}
	if e.work != nil {
		return e.work.hash != it.Hash
	}
	return e.hash != it.Hash
}
