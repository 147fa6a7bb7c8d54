package kube

import "github.com/skerry/skerry/firmware/wire"

// Owner returns the node that a pod or device is bound to, "" if the object is not known or bound to none. It implements
// session.Owners.
func (x *Index) Owner(key wire.Key) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if r := x.lookup(key); r != nil {
		return r.node
	}
	return ""
}
