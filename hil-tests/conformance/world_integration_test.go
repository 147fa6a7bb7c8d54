//go:build integration

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const namespace = "conformance"

// world is the system that all rows share, and what its API has shown.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
	private *images.Registry
	values  map[string]string // of the placeholders that are the same for all rows
	ended   sync.WaitGroup

	mu     sync.Mutex
	pods   map[string]*seen // by name
	events map[string][]corev1.Event
	ends   map[string][]discoveryv1.EndpointConditions // by the pod's name
	news   chan struct{}                               // closed and replaced at each change
}

// seen is what the API has shown of one pod name since a row began.
type seen struct {
	versions []*corev1.Pod
	gone     bool
}

func newWorld(t *testing.T, o stack.Options) *world {
	t.Helper()
	w := &world{pods: map[string]*seen{}, events: map[string][]corev1.Event{}, ends: map[string][]discoveryv1.EndpointConditions{}, news: make(chan struct{})}
	var err error
	if o.Module, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	w.Stack = stacktest.Start(t, o)
	if w.cluster, err = w.Cluster(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.pushImages(t.Context()), w.StartRelay(t.Context()), w.Join(t.Context()), w.StartAgent(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.private.Close() })
	w.prepare(t)
	w.mountShared(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); w.ended.Wait() })
	w.watch(ctx, t)
	return w
}

// pushImages makes the images that rows name.
func (w *world) pushImages(ctx context.Context) (err error) {
	w.values = map[string]string{
		"<box>": w.Images.Ref("box:1"), "<user>": w.Images.Ref("box:user"), "<sample>": w.Images.Ref("sample:1"),
		"<reg>": w.Images.Addr(), "<node>": w.Node, "<ns>": namespace,
	}
	if _, w.values["<regport>"], err = net.SplitHostPort(w.Images.Addr()); err != nil {
		return err
	}
	if w.values["<ipc>"], err = os.Readlink("/proc/self/ns/ipc"); err != nil {
		return err
	}
	for tag, config := range map[string]images.ImageConfig{"box:1": {}, "box:user": {User: "1000"}, "box:quit": {StopSignal: "SIGQUIT"}} {
		image, err := images.Busybox(ctx, runtime.GOARCH, config)
		if err != nil {
			return err
		}
		if err := w.Images.Push(ctx, tag, image); err != nil {
			return err
		}
		digest, err := image.Digest()
		if err != nil {
			return err
		}
		if tag == "box:1" {
			w.values["<digest>"] = digest.String()
		}
	}
	if w.private, err = w.Images.Private("edge", "s3cret"); err != nil {
		return err
	}
	if err := w.Runtime.AllowHTTP(w.private.Addr()); err != nil {
		return err
	}
	w.values["<private>"] = w.private.Addr()
	return nil
}

// prepare waits for the node and makes the namespace.
func (w *world) prepare(t *testing.T) {
	t.Helper()
	core := w.cluster.Core.CoreV1()
	if _, err := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, "the node is Ready and the namespace has its service account", func() (bool, string) {
		status, message, err := w.cluster.NodeReady(t.Context(), w.Node)
		if err != nil || status != corev1.ConditionTrue {
			return false, fmt.Sprint(message, err)
		}
		// Rows that want a token ask for one.
		_, err = core.ServiceAccounts(namespace).Patch(t.Context(), "default", types.MergePatchType, []byte(`{"automountServiceAccountToken":false}`), metav1.PatchOptions{})
		return err == nil, fmt.Sprint(err)
	})
	node, err := core.Nodes().Get(t.Context(), w.Node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			w.values["<nodeip>"] = a.Address
		}
	}
}

// mountShared makes a file system whose mounts propagate: the machine's own may not, as in a container. Stack.Stop unmounts it.
func (w *world) mountShared(t *testing.T) {
	t.Helper()
	dir := filepath.Join(w.Dir, "shared")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	w.values["<shared>"] = dir
}

// watch records every version of every pod, and the events.
func (w *world) watch(ctx context.Context, t *testing.T) {
	t.Helper()
	core := w.cluster.Core.CoreV1()
	pods, err := core.Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := core.Events(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slices, err := w.cluster.Core.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	follow := func(from watch.Interface, note func(e watch.Event)) {
		w.ended.Go(func() {
			defer from.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case e, ok := <-from.ResultChan():
					if !ok {
						if ctx.Err() == nil {
							t.Error("a watch ended: what rows wait for cannot be seen any more")
						}
						return
					}
					w.mu.Lock()
					note(e)
					close(w.news)
					w.news = make(chan struct{})
					w.mu.Unlock()
				}
			}
		})
	}
	follow(pods, func(e watch.Event) {
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			return
		}
		s := w.pods[p.Name]
		if s == nil {
			s = &seen{}
			w.pods[p.Name] = s
		}
		if e.Type == watch.Added {
			s.gone = false
		}
		s.versions = append(s.versions, p)
		s.gone = e.Type == watch.Deleted
	})
	follow(slices, func(e watch.Event) {
		if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok && e.Type != watch.Deleted {
			for _, end := range s.Endpoints {
				if end.TargetRef != nil {
					w.ends[end.TargetRef.Name] = append(w.ends[end.TargetRef.Name], end.Conditions)
				}
			}
		}
	})
	follow(events, func(e watch.Event) {
		if ev, ok := e.Object.(*corev1.Event); ok && e.Type != watch.Deleted {
			w.events[ev.InvolvedObject.Name] = append(w.events[ev.InvolvedObject.Name], *ev)
		}
	})
}

// views returns what is to be seen of a pod in its versions from the given one on, and a channel that tells of more.
func (w *world) views(name string, from int) (out []View, more <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.pods[name]; s != nil {
		for i := from; i < len(s.versions); i++ {
			out = append(out, View{Pod: s.versions[i], Gone: s.gone && i == len(s.versions)-1, Events: w.events[name], Endpoints: w.ends[name]})
		}
	}
	return out, w.news
}

// valuesOf are the placeholders' values for a row.
func (w *world) valuesOf(r *Row) map[string]string {
	out := map[string]string{"<name>": r.PodName(), "<dir>": filepath.Join(w.Dir, "rows", r.PodName())}
	for k, v := range w.values {
		out[k] = v
	}
	return out
}
