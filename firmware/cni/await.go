package cni

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// await tells whether a gateway that has no network yet should wait for a CNI that the cluster brings. Pods that started in our network would stay in it.
// A network that is there is never taken away for one that may come.
func (k *Keeper) await() verdict {
	now := time.Now()
	if name := k.awaitedPod(); name != "" {
		if k.awaited.IsZero() {
			k.awaited = now
		}
		left := k.o.AwaitedWait - now.Sub(k.awaited)
		if left <= 0 {
			return verdict{} // it has had its time
		}
		return verdict{wait: min(left, k.o.Period), problem: fmt.Sprintf("waiting up to %v for the CNI of pod %s, which writes to %s: if it makes no network of its own, "+
			"put a configuration there; else see why that pod does not run", k.o.AwaitedWait, name, k.dir)}
	}
	k.awaited = time.Time{}
	if !k.fresh {
		return verdict{}
	}
	// A gateway that joins: the DaemonSets' pods are made for it as soon as its node is there, and the relay tells of them a little later.
	if k.heard.IsZero() {
		if _, ok := k.o.Desired.Get(wire.NewKey(wire.KindNode, "", k.o.Node, "")); !ok {
			return verdict{} // ranges waits for it
		}
		k.heard = now
	}
	if left := k.o.Settle - now.Sub(k.heard); left > 0 {
		return verdict{wait: left, problem: fmt.Sprintf("waiting %v for the cluster to say whether it brings a CNI of its own", k.o.Settle)}
	}
	k.fresh = false
	return verdict{}
}

func (k *Keeper) awaitedPod() string {
	if k.o.Awaited == nil {
		return ""
	}
	return k.o.Awaited(k.dir)
}
