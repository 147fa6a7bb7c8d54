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
	// Revisions returns the highest resourceVersion up to which the caches are complete, per kind: lists' own and bookmarks count.
	// The caller may change the map.
	Revisions() map[wire.Kind]uint64
	// Changed returns a resourceVersion of kind that every cache reaches by itself and that is not lower than any change this one
	// knows of: that of the newest object or deletion. Bookmarks do not count: another relay's come at other times.
	Changed(kind wire.Kind) uint64
}

// AbsenceConfirmer is an optional ability of a Source. Its caches are filled kind by kind: that of configMaps may not know yet what
// was there before the pod that refers to it.
type AbsenceConfirmer interface {
	// ConfirmAbsent asks the Source to find out, without waiting for the next change of that kind, whether the object was really
	// absent at revision. Subscribers are told of key when it is known. It does not block and may be called often.
	ConfirmAbsent(key wire.Key, revision uint64)
}
