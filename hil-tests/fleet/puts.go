package fleet

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/skerry/skerry/firmware/wire"
)

// puts counts the objects that relays have sent, by kind. Safe for concurrent use.
type puts struct {
	byKind  []atomic.Int64 // in the order of wire.Kinds
	tainted atomic.Int64
}

func newPuts() puts { return puts{byKind: make([]atomic.Int64, len(wire.Kinds()))} }

func (p *puts) count(o *wire.Object) {
	if i := slices.Index(wire.Kinds(), o.Key.Kind()); i >= 0 {
		p.byKind[i].Add(1)
	}
	if o.Key.Kind() == wire.KindNode && (bytes.Contains(o.Body, []byte("node.kubernetes.io/unreachable")) || bytes.Contains(o.Body, []byte("node.kubernetes.io/not-ready"))) {
		p.tainted.Add(1)
	}
}

// Puts is how many objects all agents have been sent since the fleet was made, by kind, and how many of the Nodes among them bore
// the taint of a node that was lost: those are sent because Kubernetes changed them, not because the relay forgot.
func (f *Fleet) Puts() (byKind map[wire.Kind]int64, tainted int64) {
	byKind = map[wire.Kind]int64{}
	for i, k := range wire.Kinds() {
		if n := f.puts.byKind[i].Load(); n > 0 {
			byKind[k] = n
		}
	}
	return byKind, f.puts.tainted.Load()
}
