package session

import "github.com/skerry/skerry/firmware/wire"

// Source tells what a node should hold. All calls read memory, never block, and are safe for concurrent use; relay/kube
// implements it over informers.
type Source interface {
	// Keys returns what node should hold now. ready is false until the caches are synced.
	Keys(node string) (keys map[wire.Key]wire.Version, ready bool)
	// Object returns the newest encoding of key as node may see it, and the keys it must travel with. A reference that does
	// not exist is returned as an Absent object for as long as something of the node refers to it. ok is false if node may
	// not hold key (any more). The session does not change what it gets.
	Object(node string, key wire.Key) (obj wire.Object, refs []wire.Key, ok bool)
	// Revisions returns the highest resourceVersion that the caches have seen, per kind.
	Revisions() map[wire.Kind]uint64
}
