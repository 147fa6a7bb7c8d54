package kube

import "github.com/skerry/skerry/firmware/wire"

// OfferedAll reports whether exactly the documents that sum stands for have been written for the node. This sink keeps no record
// beyond a session, so it never knows.
func (s *Sink) OfferedAll(string, uint64, wire.Sum) bool { return false }

// Offered returns the keys whose bodies are needed: all of them.
func (s *Sink) Offered(_ string, _ uint64, items []wire.OfferItem) (want []wire.Key) {
	want = make([]wire.Key, 0, len(items))
	for i := range items {
		want = append(want, items[i].Key)
	}
	return want
}
