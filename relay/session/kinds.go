package session

import (
	"maps"
	"slices"

	"github.com/skerry/skerry/firmware/wire"
)

// An agent of an older release does not know all kinds, and would end the session over a key of one that it does not know. For it the
// Source has the kinds that it knows: what it compares, what it is sent, and what a pod travels with.

// knows reports whether the agent knows the key's kind.
func (m *Machine) knows(k wire.Key) bool { return k.Kind().KnownTo(uint32(m.peerKinds)) }

// knowsAll reports whether the agent knows every kind that there is: nearly all do.
func (m *Machine) knowsAll() bool { return uint32(m.peerKinds) >= wire.KindsKnown() }

// sourceKeys returns what the node should hold, of the kinds that the agent knows.
func (m *Machine) sourceKeys() (map[wire.Key]wire.Version, bool) {
	keys, ready := m.source.Keys(m.node)
	if !m.knowsAll() {
		maps.DeleteFunc(keys, func(k wire.Key, _ wire.Version) bool { return !m.knows(k) })
	}
	return keys, ready
}

// sourceObject returns an object, unless it is of a kind that the agent does not know, with those of its references that it knows.
func (m *Machine) sourceObject(k wire.Key) (wire.Object, []wire.Key, bool) {
	if m.knowsAll() {
		return m.source.Object(m.node, k)
	}
	if !m.knows(k) {
		return wire.Object{}, nil, false
	}
	obj, refs, ok := m.source.Object(m.node, k)
	if slices.ContainsFunc(refs, func(r wire.Key) bool { return !m.knows(r) }) {
		refs = slices.DeleteFunc(slices.Clone(refs), func(r wire.Key) bool { return !m.knows(r) })
	}
	return obj, refs, ok
}
