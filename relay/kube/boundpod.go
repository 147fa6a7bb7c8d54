package kube

import (
	"github.com/skerry/skerry/firmware/wire"
)

// BoundPod returns the body of a pod that is bound to node, and its phase, as the cache knows them. ok is false if it is gone, another
// node's, or not known yet. body is shared: read only.
func (x *Index) BoundPod(node string, key wire.Key) (body []byte, phase string, ok bool) {
	r := x.get(key)
	if r == nil || r.node != node || key.Kind() != wire.KindPod {
		return nil, "", false
	}
	return r.body, text(r.currentStatus(), "phase"), true
}
