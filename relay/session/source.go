package session

import "github.com/skerry/skerry/firmware/wire"

// Source tells what a node should hold. All calls read memory, never block, and are safe for concurrent use; relay/kube
// implements it over informers.
type Source interface {
	// Keys returns what node should hold now, missing references at wire.AbsentVersion included: a key is in it exactly if
	// Object returns ok for it. ready is false until the caches are synced. The caller may change the map.
	Keys(node string) (keys map[wire.Key]wire.Version, ready bool)
	// Object returns the newest encoding of key as node may see it, and the keys it must travel with. A reference that does
	// not exist is returned as an Absent object for as long as something of the node refers to it. ok is false if node may
	// not hold key (any more). The session does not change what it gets.
	Object(node string, key wire.Key) (obj wire.Object, refs []wire.Key, ok bool)
	// Revisions returns the highest resourceVersion that the caches have seen, per kind: the list's own and bookmarks count,
	// or the figure would fall when the newest object is deleted and the relay restarts. The caller may change the map.
	Revisions() map[wire.Kind]uint64
}
