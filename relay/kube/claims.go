package kube

import (
	"slices"

	"github.com/skerry/skerry/firmware/wire"
)

// A pod names claims, and a claim names its volume: the one reference that goes over two steps.

// named returns what r names, and the volumes of claims that it names. Sorted; the caller does not change it.
func (x *Index) named(r *record) []wire.Key {
	all := r.refs
	for _, ref := range r.refs {
		switch ref.Kind() {
		case wire.KindPersistentVolumeClaim:
			if volume, ok := x.volumeOf(x.lookup(ref)); ok {
				all = append(all[:len(all):len(all)], volume)
			}
		case wire.KindPersistentVolume:
			if _, ok := x.volumeOf(r); !ok {
				return nil // a claim has no other references
			}
		}
	}
	if len(all) > len(r.refs) {
		slices.Sort(all)
		all = slices.Compact(all)
	}
	return all
}

// volumeOf returns the persistentVolume of a claim. Whoever makes a claim may write any volume's name into it: the volume's own
// claimRef decides, which only administrators and the volume controller write. One that does not exist is returned, too.
func (x *Index) volumeOf(claim *record) (wire.Key, bool) {
	if claim.kind() != wire.KindPersistentVolumeClaim || len(claim.refs) == 0 {
		return "", false
	}
	if volume := x.lookup(claim.refs[0]); volume != nil && volume.claim != claim.key {
		return "", false
	}
	return claim.refs[0], true
}

// usersNodes adds the nodes of those who refer to key, be it through a claim.
func (x *Index) usersNodes(key wire.Key, nodes map[string]struct{}) {
	for user := range x.users[key] {
		u := x.lookup(user)
		switch {
		case u == nil:
		case u.node != "":
			nodes[u.node] = struct{}{}
		case u.kind() == wire.KindPersistentVolumeClaim:
			x.usersNodes(user, nodes)
		}
	}
}
