package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/skerry/skerry/firmware/wire"
)

const (
	watchBackOff    = 500 * time.Millisecond
	watchBackOffMax = 5 * time.Second
	remindInterval  = time.Minute // how often a watch that still fails is logged
)

// Run lists and watches every kind until ctx ends, and for ever retries what fails: a relay whose API server is away
// serves what it holds. It returns nil once all watches have stopped.
func (x *Index) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, res := range resources {
		wg.Go(func() { x.watchKind(ctx, res) })
	}
	wg.Go(func() { x.confirmer(ctx) })
	wg.Wait()
	return nil
}

func (x *Index) watchKind(ctx context.Context, res resource) {
	log := x.opts.Log.With(slog.String("resource", res.gvr.Resource))
	// The reflector's own log would repeat every error of ours in another format.
	ctx = klog.NewContext(ctx, klog.Logger{})
	selector := fields.Everything()
	if res.selector != "" {
		selector = fields.ParseSelectorOrDie(res.selector)
	}
	client := x.opts.Client.Resource(res.gvr)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector.String()
			list, err := client.List(ctx, o)
			x.note(ctx, res, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector.String()
			w, err := client.Watch(ctx, o)
			x.note(ctx, res, err)
			return w, err
		},
	}
	runReflector(ctx, cache.ToListWatcherWithWatchListSemantics(lw, x.opts.Client), &unstructured.Unstructured{},
		&kindStore{index: x, res: res, log: log}, "relay/"+res.gvr.Resource, res.apiKind)
}

// runReflector lists and watches into store until ctx ends.
func runReflector(ctx context.Context, lw cache.ListerWatcher, expected any, store cache.ReflectorStore, name, kind string) {
	quiet := klog.Logger{}
	backOff := wait.Backoff{Duration: watchBackOff, Factor: 2, Jitter: 0.5, Steps: 10, Cap: watchBackOffMax}
	reflector := cache.NewReflectorWithOptions(lw, expected, store,
		cache.ReflectorOptions{
			Name: name, TypeDescription: kind, Logger: &quiet,
			Clock: stoppableClock{ctx: ctx}, Backoff: &backOff,
		})

	delay := backOff
	for ctx.Err() == nil {
		if err := reflector.ListAndWatchWithContext(ctx); err == nil {
			delay = backOff
			pause(ctx, watchBackOff) // a watch that ends at once must not become a storm of lists
			continue
		}
		pause(ctx, delay.Step()) // the error has been noted where it arose
	}
}

// note keeps and logs why a kind's watch does not work, or that it does. Several kinds that fail for one reason are one
// line, repeated every remindInterval.
func (x *Index) note(ctx context.Context, res resource, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err), apierrors.IsInvalid(err), apierrors.IsTimeout(err):
		return // parts of the protocol: the reflector lists anew, or in the old way
	}
	problem := ""
	if err != nil {
		problem = explain(res, err)
	}
	x.mu.Lock()
	x.kinds[res.kind].problem = problem
	var log, healthy bool
	if problem != "" {
		if log = time.Since(x.logged[problem]) >= remindInterval; log {
			x.logged[problem] = time.Now()
		}
	} else if len(x.logged) > 0 && !x.troubledLocked() {
		healthy = true
		clear(x.logged)
	}
	x.mu.Unlock()
	switch {
	case log:
		x.opts.Log.Error("cannot watch the Kubernetes API; retrying, and serving what is known", slog.String("problem", problem))
	case healthy:
		x.opts.Log.Info("all watches of the Kubernetes API work again")
	}
}

func (x *Index) troubledLocked() bool {
	for _, k := range x.kinds {
		if k.problem != "" {
			return true
		}
	}
	return false
}

// stoppableClock is the real clock, except that waiting ends with a context: the reflector sleeps between attempts without
// looking at its own.
type stoppableClock struct {
	clock.RealClock
	ctx context.Context
}

// After implements clock.Clock.
func (c stoppableClock) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 2)
	stop := context.AfterFunc(c.ctx, func() { ch <- time.Now() })
	time.AfterFunc(d, func() {
		stop()
		ch <- time.Now()
	})
	return ch
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// explain says in words of the operator what is wrong and what to do.
func explain(res resource, err error) string {
	switch {
	case apierrors.IsNotFound(err) && res.gvr.Group == devicesGroup:
		return fmt.Sprintf("the API server does not know %s.%s: the CustomResourceDefinitions are not installed; run `skerryctl init`", res.gvr.Resource, res.gvr.Group)
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the relay may not list and watch %s: run `skerryctl init` of this release, and the relay as the ServiceAccount that it makes", res.gvr.Resource)
	case apierrors.IsUnauthorized(err):
		return "the API server refuses the relay's credentials: check --kubeconfig or the service account's token"
	case errors.As(err, new(apierrors.APIStatus)):
		return "the API server refuses: " + err.Error()
	}
	if u := (*url.Error)(nil); errors.As(err, &u) { // the same text for every kind
		err = u.Err
	}
	return "the API server does not answer: " + err.Error()
}

// kindStore feeds one kind's reflector into the index. The reflector calls it from one goroutine.
type kindStore struct {
	index *Index
	res   resource
	log   *slog.Logger
}

func (s *kindStore) record(obj any) *record {
	if r, ok := obj.(*record); ok {
		return r
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		s.log.Error("unexpected object in watch; ignored", slog.String("type", fmt.Sprintf("%T", obj)))
		return nil
	}
	name := u.GetNamespace() + "/" + u.GetName()
	r, err := newRecord(s.res, u)
	if err != nil {
		// One object that cannot be encoded must not take the others with it: agents keep what they have of it.
		s.log.Error("object cannot be sent to agents; ignored", slog.String("object", name), slog.Any("error", err))
		return nil
	}
	s.index.opts.Metrics.encoded(len(r.body))
	return r
}

// Add implements cache.ReflectorStore.
func (s *kindStore) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *kindStore) Update(obj any) error {
	if r := s.record(obj); r != nil {
		s.index.put(s.res.kind, r)
	}
	return nil
}

// Delete implements cache.ReflectorStore. The object carries the deletion's resourceVersion.
func (s *kindStore) Delete(obj any) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	key := wire.NewKey(s.res.kind, u.GetNamespace(), u.GetName(), string(u.GetUID()))
	s.index.remove(s.res.kind, key, string(u.GetUID()), parseRevision(u.GetResourceVersion()))
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *kindStore) Replace(list []any, resourceVersion string) error {
	records := make([]*record, 0, len(list))
	unreadable := make(map[wire.Key]struct{})
	for i, obj := range list {
		if r := s.record(obj); r != nil {
			records = append(records, r)
		} else if u, ok := obj.(*unstructured.Unstructured); ok {
			unreadable[wire.NewKey(s.res.kind, u.GetNamespace(), u.GetName(), string(u.GetUID()))] = struct{}{}
		}
		list[i] = nil // lets the decoded object go while the rest is encoded
	}
	s.index.replaceAll(s.res.kind, records, unreadable, parseRevision(resourceVersion))
	return nil
}

// Resync implements cache.ReflectorStore; there is no period.
func (s *kindStore) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore.
func (s *kindStore) Bookmark(resourceVersion string) error {
	s.index.bookmark(s.res.kind, parseRevision(resourceVersion))
	return nil
}

// Transformer implements cache.TransformingStore: a streamed list is reduced object by object.
func (s *kindStore) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if r := s.record(obj); r != nil {
			return r, nil
		}
		return obj, nil
	}
}

// GetObjectMeta lets the reflector's temporary store name a record.
func (r *record) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: r.key.Namespace(), Name: r.key.Name(), ResourceVersion: r.rv}
}

func parseRevision(resourceVersion string) uint64 {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
