package kube

import "github.com/skerry/skerry/firmware/wire"

// departedMost is how many pods that are gone are remembered: 100 KB.
const departedMost = 1024

// departed remembers whose pods were that are gone. What an agent tells of a pod's end may come after the pod has left the API, the
// later the more it has to tell. Guarded by Sink.mu; the zero value is ready.
type departed struct {
	nodes map[wire.Key]string
	order []wire.Key // a ring, the oldest at next
	next  int
}

func (d *departed) add(pod wire.Key, node string) {
	if node == "" {
		return
	}
	if d.nodes == nil {
		d.nodes = make(map[wire.Key]string)
	}
	if _, known := d.nodes[pod]; !known {
		if len(d.order) < departedMost {
			d.order = append(d.order, pod)
		} else {
			delete(d.nodes, d.order[d.next])
			d.order[d.next] = pod
			d.next = (d.next + 1) % departedMost
		}
	}
	d.nodes[pod] = node
}

// was returns the node of a pod that is gone, "" if it is not remembered.
func (d *departed) was(pod wire.Key) string { return d.nodes[pod] }
