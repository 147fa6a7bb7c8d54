//go:build integration

package relays

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// observer watches every version of nodes, Leases and device values, in the order in which the API server stored them, and keeps
// what must not happen.
type observer struct {
	client dynamic.Interface

	mu     sync.Mutex
	wrong  []error
	ready  map[string]bool
	epochs map[string]uint64
	owners map[string]string // node → relay
	moves  map[string]int    // node → how often its Lease changed relays
	values map[string]int
	seen   map[string]int // resource → versions
}

func newObserver(c dynamic.Interface) *observer {
	return &observer{
		client: c, ready: map[string]bool{}, epochs: map[string]uint64{}, owners: map[string]string{}, moves: map[string]int{},
		values: map[string]int{}, seen: map[string]int{},
	}
}

func (o *observer) run(ctx context.Context) {
	var g sync.WaitGroup
	g.Go(func() { o.follow(ctx, schema.GroupVersionResource{Version: "v1", Resource: "nodes"}, o.node) })
	g.Go(func() {
		o.follow(ctx, schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}, o.lease)
	})
	g.Go(func() { o.follow(ctx, stack.DeviceStatuses, o.value) })
	g.Wait()
}

// follow calls fn for each version from now on.
func (o *observer) follow(ctx context.Context, gvr schema.GroupVersionResource, fn func(*unstructured.Unstructured)) {
	rv := ""
	for ctx.Err() == nil {
		if rv == "" {
			list, err := o.client.Resource(gvr).List(ctx, metav1.ListOptions{})
			if err != nil {
				time.Sleep(time.Second)
				continue
			}
			rv = list.GetResourceVersion()
		}
		w, err := o.client.Resource(gvr).Watch(ctx, metav1.ListOptions{ResourceVersion: rv})
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == "ERROR" {
				o.say("the watch of %s has a gap: %v", gvr.Resource, e.Object)
				rv = ""
				break
			}
			rv = u.GetResourceVersion()
			o.mu.Lock()
			o.seen[gvr.Resource]++
			o.mu.Unlock()
			if e.Type != "DELETED" {
				fn(u)
			}
		}
		w.Stop()
	}
}

func (o *observer) say(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrong = append(o.wrong, fmt.Errorf(format, args...))
}

// err returns what was wrong since it was last asked.
func (o *observer) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := errors.Join(o.wrong[:min(len(o.wrong), 20)]...)
	o.wrong = nil
	return err
}

func (o *observer) node(u *unstructured.Unstructured) {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		if m["type"] != "Ready" {
			continue
		}
		if m["status"] == "True" {
			o.ready[u.GetName()] = true
		} else if o.ready[u.GetName()] && strings.HasPrefix(u.GetName(), "gw-") {
			o.say("node %s is no longer ready: %v", u.GetName(), m)
		}
	}
}

func (o *observer) lease(u *unstructured.Unstructured) {
	if u.GetNamespace() != "kube-node-lease" {
		return
	}
	epoch, _ := strconv.ParseUint(u.GetAnnotations()["skerry.dev/session-epoch"], 10, 64)
	relay := u.GetAnnotations()["skerry.dev/relay"]
	o.mu.Lock()
	last, owner := o.epochs[u.GetName()], o.owners[u.GetName()]
	if owner != "" && owner != relay {
		o.moves[u.GetName()]++
	}
	o.epochs[u.GetName()], o.owners[u.GetName()] = epoch, relay
	o.mu.Unlock()
	if epoch < last || epoch == last && owner != "" && owner != relay {
		o.say("the Lease of %s went from session %d of %s to %d of %s", u.GetName(), last, owner, epoch, relay)
	}
}

func (o *observer) value(u *unstructured.Unstructured) {
	value, err := strconv.Atoi(stack.ReadDeviceState(u).Value("level").Value)
	if err != nil {
		return // not reported yet
	}
	o.mu.Lock()
	last := o.values[u.GetName()]
	o.values[u.GetName()] = value
	o.mu.Unlock()
	if value < last {
		o.say("the value of %s went from %d back to %d", u.GetName(), last, value)
	}
}

// moved says how many Leases have changed relays.
func (o *observer) moved() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.moves {
		n += m
	}
	return n
}
