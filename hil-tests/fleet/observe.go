package fleet

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// follow hands every event of a watch to see until ctx ends, and opens the watch again when it ends. open is given the
// resourceVersion to go on from, "" for the state of now.
func follow(ctx context.Context, open func(ctx context.Context, from string) (watch.Interface, error), see func(watch.Event)) {
	from := ""
	for ctx.Err() == nil {
		w, err := open(ctx, from)
		if err != nil {
			from = ""
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		for e := range w.ResultChan() {
			if e.Type == watch.Error {
				from = ""
				break
			}
			if o, ok := e.Object.(metav1.Object); ok {
				from = o.GetResourceVersion()
			}
			see(e)
		}
		w.Stop()
	}
}

// NodeWatch counts how often Nodes stopped being Ready. Safe for concurrent use.
type NodeWatch struct {
	leases func(ctx context.Context, node string) string // describes a node's Lease
	mu     sync.Mutex
	ready  map[string]bool
	lost   int
	causes []string
	done   chan struct{}
}

// causesKept is how many lost Nodes are looked at more closely: each costs a request.
const causesKept = 12

// WatchNodes follows all Nodes until ctx ends.
func (c *Cluster) WatchNodes(ctx context.Context) *NodeWatch {
	n := &NodeWatch{ready: map[string]bool{}, done: make(chan struct{}), leases: c.describeLease}
	go func() {
		defer close(n.done)
		follow(ctx, func(ctx context.Context, from string) (watch.Interface, error) {
			return c.Core.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{ResourceVersion: from})
		}, func(e watch.Event) { n.see(ctx, e) })
	}()
	return n
}

// describeLease tells whose a node is, and since when its Lease was not renewed.
func (c *Cluster) describeLease(ctx context.Context, node string) string {
	l, err := c.Core.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
	if err != nil || l.Spec.RenewTime == nil {
		return fmt.Sprintf("its Lease: %v", err)
	}
	return fmt.Sprintf("its Lease was renewed %.1f s ago by %s", time.Since(l.Spec.RenewTime.Time).Seconds(), l.Annotations["skerry.dev/relay"])
}

func (n *NodeWatch) see(ctx context.Context, e watch.Event) {
	node, ok := e.Object.(*corev1.Node)
	if !ok || e.Type == watch.Deleted {
		return
	}
	now, why := false, "no condition Ready"
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			now, why = cond.Status == corev1.ConditionTrue, cond.Reason+": "+cond.Message
		}
	}
	n.mu.Lock()
	lost := n.ready[node.Name] && !now
	n.ready[node.Name] = now
	if lost {
		n.lost++
	}
	ask := lost && len(n.causes) < causesKept
	n.mu.Unlock()
	if ask {
		cause := fmt.Sprintf("%s %s: %s; %s", time.Now().UTC().Format(time.TimeOnly), node.Name, why, n.leases(ctx, node.Name))
		n.mu.Lock()
		n.causes = append(n.causes, cause)
		n.mu.Unlock()
	}
}

// Lost is how often a Node that was Ready stopped being so, and what is known of the first of them.
func (n *NodeWatch) Lost() (times int, causes []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost, slices.Clone(n.causes)
}

// Wait blocks until the watch, whose context has ended, is over.
func (n *NodeWatch) Wait() { <-n.done }

// ValueWatch is what the API showed of one device's value. Safe for concurrent use.
type ValueWatch struct {
	mu        sync.Mutex
	versions  int
	reversals int
	value     int64
	done      chan struct{}
}

// WatchValue follows the DeviceStatus of a node's device, whose values count up, until ctx ends.
func (c *Cluster) WatchValue(ctx context.Context, node string) *ValueWatch {
	v := &ValueWatch{done: make(chan struct{})}
	go func() {
		defer close(v.done)
		follow(ctx, func(ctx context.Context, from string) (watch.Interface, error) {
			return c.Dynamic.Resource(stack.DeviceStatuses).Namespace(Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + deviceName(node), ResourceVersion: from})
		}, v.see)
	}()
	return v
}

func (v *ValueWatch) see(e watch.Event) {
	u, ok := e.Object.(*unstructured.Unstructured)
	if !ok || e.Type == watch.Deleted {
		return
	}
	now, err := strconv.ParseInt(stack.ReadDeviceState(u).Value(property).Value, 10, 64)
	if err != nil {
		return // nothing was reported yet
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.versions++
	if now < v.value {
		v.reversals++
	}
	v.value = now
}

// Seen returns how many versions were shown, how often a value was followed by an older one, and the newest.
func (v *ValueWatch) Seen() (versions, reversals int, value int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.versions, v.reversals, v.value
}

// Await blocks until the API has shown value.
func (v *ValueWatch) Await(ctx context.Context, value int64) error {
	for {
		if _, _, now := v.Seen(); now == value {
			return nil
		}
		select {
		case <-ctx.Done():
			_, _, now := v.Seen()
			return fmt.Errorf("the API shows %d, the device reported %d last: %w", now, value, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Wait blocks until the watch, whose context has ended, is over.
func (v *ValueWatch) Wait() { <-v.done }

// Values reads the newest value that the API has of each node's device, by node.
func (c *Cluster) Values(ctx context.Context) (map[string]int64, error) {
	list, err := c.Dynamic.Resource(stack.DeviceStatuses).Namespace(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the devices' values: %w", err)
	}
	out := make(map[string]int64, len(list.Items))
	for i := range list.Items {
		d := stack.ReadDeviceState(&list.Items[i])
		if n, err := strconv.ParseInt(d.Value(property).Value, 10, 64); err == nil {
			out[strings.TrimPrefix(d.Name, deviceName(""))] = n
		}
	}
	return out, nil
}
