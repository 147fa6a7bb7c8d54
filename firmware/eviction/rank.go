package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// CriticalPriority is the lowest priority of pods that the node never evicts (system-cluster-critical).
const CriticalPriority = 2_000_000_000

// Usage is what a pod or a container uses of a resource, and what it has asked for.
type Usage struct{ Used, Request int64 }

func (u Usage) over() int64 { return u.Used - u.Request }

// Pod is a candidate for eviction.
type Pod struct {
	ID         string // the caller's
	Measured   bool   // what it uses is known
	Critical   bool   // static, or of CriticalPriority: never evicted
	Priority   int32
	Memory     Usage // bytes of working set
	Disk       Usage // bytes on the disk that is short
	Inodes     int64 // on that disk
	Processes  int64
	Containers []Container
}

// Container is what one container of a pod uses.
type Container struct {
	Name         string
	Memory, Disk Usage
}

// use returns what the pod uses of what the signal is about.
func (p *Pod) use(s Signal) Usage {
	switch s.Resource() {
	case memoryName:
		return p.Memory
	case storageName:
		return p.Disk
	case inodesName:
		return Usage{Used: p.Inodes}
	default:
		return Usage{Used: p.Processes}
	}
}

// Rank puts the pods into the order in which they are evicted: those that use more than they asked for first, then by priority,
// then by how much more they use. Under pressure of processes priority goes first. A pod of which nothing is known goes before
// all others of its priority. Critical pods are last, and must not be evicted.
func Rank(s Signal, pods []Pod) {
	slices.SortStableFunc(pods, func(a, b Pod) int {
		ua, ub := a.use(s), b.use(s)
		over := 0
		if s != PIDs {
			over = cmp.Compare(first(ua.over() > 0), first(ub.over() > 0))
		}
		return cmp.Or(
			cmp.Compare(first(!a.Critical), first(!b.Critical)),
			cmp.Compare(first(!a.Measured), first(!b.Measured)),
			over,
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(ub.over(), ua.over()),
		)
	})
}

// first sorts true before false.
func first(b bool) int {
	if b {
		return 0
	}
	return 1
}

// Message says why a pod is evicted, in the kubelet's words.
func Message(t *Threshold, o Observations, p *Pod) string {
	resource := t.Signal.Resource()
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. ", resource)
	if v, ok := o[t.Signal]; ok {
		fmt.Fprintf(&b, "Threshold quantity: %s, available: %s. ", binary(t.Least.Of(v.Capacity)), binary(v.Available))
	}
	for i := range p.Containers {
		c := &p.Containers[i]
		var u Usage
		switch resource {
		case memoryName:
			u = c.Memory
		case storageName:
			u = c.Disk
		default:
			continue
		}
		if u.over() > 0 {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, binary(u.Used), binary(u.Request), resource)
		}
	}
	return b.String()
}
