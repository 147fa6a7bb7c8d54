package fleet

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/skerry/skerry/firmware/wire"
)

// kinds is how many kinds of objects puts tells apart; wire.Kinds has fewer.
const kinds = 8

// puts counts the objects that relays have sent, by kind. Safe for concurrent use.
type puts struct {
	byKind  [kinds]atomic.Int64
	tainted atomic.Int64
}

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
