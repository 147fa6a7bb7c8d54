package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"github.com/skerry/skerry/firmware/wire"
)

// fakeAPI is an API server in memory with what client-go's own fake lacks and the sink relies on: growing
// resourceVersions, preconditions, merge patches and conflicts. hil-tests/relay holds the same expectations against the
// real one.
type fakeAPI struct {
	mu       sync.Mutex
	rv       uint64
	uids     int
	objects  map[schema.GroupVersionResource]map[string]*unstructured.Unstructured
	watchers map[schema.GroupVersionResource][]*fakeWatch
	metadata map[schema.GroupVersionResource][]*fakeWatch
	requests []string       // "verb resource ns/name", writes and gets only
	lists    map[string]int // by resource, "watch " before those of watches
	takes    time.Duration  // a create or patch, before it counts
	atOnce   map[string]int // creates and patches under way, by "resource" and "resource name"
	most     map[string]int // and the most that there were
	// fail, if set, is asked before each write and get; its error is the answer.
	fail func(verb, resource, name string) error
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		rv:       100,
		lists:    make(map[string]int),
		atOnce:   make(map[string]int),
		most:     make(map[string]int),
		objects:  make(map[schema.GroupVersionResource]map[string]*unstructured.Unstructured),
		watchers: make(map[schema.GroupVersionResource][]*fakeWatch),
		metadata: make(map[schema.GroupVersionResource][]*fakeWatch),
	}
}

// IsWatchListSemanticsUnSupported tells the reflector to list.
func (a *fakeAPI) IsWatchListSemanticsUnSupported() bool { return true }

func (a *fakeAPI) Resource(gvr schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return &fakeResource{api: a, gvr: gvr}
}

type fakeResource struct {
	dynamic.NamespaceableResourceInterface // what is not overridden is not used
	api                                    *fakeAPI
	gvr                                    schema.GroupVersionResource
	ns                                     string
}

func (r *fakeResource) Namespace(ns string) dynamic.ResourceInterface {
	return &fakeResource{api: r.api, gvr: r.gvr, ns: ns}
}

func (r *fakeResource) begin(verb, name string) error {
	r.api.requests = append(r.api.requests, verb+" "+r.gvr.Resource+" "+r.ns+"/"+name)
	if r.api.fail != nil {
		return r.api.fail(verb, r.gvr.Resource, name)
	}
	return nil
}

// travel takes the time of a write; the returned function ends it.
func (r *fakeResource) travel(name string) (end func()) {
	a := r.api
	each := func(f func(what string)) {
		a.mu.Lock()
		defer a.mu.Unlock()
		f(r.gvr.Resource)
		f(r.gvr.Resource + " " + name)
	}
	each(func(what string) {
		a.atOnce[what]++
		a.most[what] = max(a.most[what], a.atOnce[what])
	})
	a.mu.Lock()
	takes := a.takes
	a.mu.Unlock()
	time.Sleep(takes)
	return func() { each(func(what string) { a.atOnce[what]-- }) }
}

func (r *fakeResource) notFound(name string) error {
	return apierrors.NewNotFound(r.gvr.GroupResource(), name)
}

func (r *fakeResource) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if err := r.begin("get", name); err != nil {
		return nil, err
	}
	if o := r.api.objects[r.gvr][r.ns+"/"+name]; o != nil {
		return o.DeepCopy(), nil
	}
	return nil, r.notFound(name)
}

func (r *fakeResource) Create(_ context.Context, obj *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	defer r.travel(obj.GetName())()
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if err := r.begin("create", obj.GetName()); err != nil {
		return nil, err
	}
	if r.api.objects[r.gvr][r.ns+"/"+obj.GetName()] != nil {
		return nil, apierrors.NewAlreadyExists(r.gvr.GroupResource(), obj.GetName())
	}
	return r.api.store(r.gvr, obj.DeepCopy(), watch.Added), nil
}

func (r *fakeResource) Update(_ context.Context, obj *unstructured.Unstructured, _ metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if err := r.begin("update", obj.GetName()); err != nil {
		return nil, err
	}
	have := r.api.objects[r.gvr][r.ns+"/"+obj.GetName()]
	if have == nil {
		return nil, r.notFound(obj.GetName())
	}
	if rv := obj.GetResourceVersion(); rv != have.GetResourceVersion() {
		return nil, apierrors.NewConflict(r.gvr.GroupResource(), obj.GetName(), fmt.Errorf("it is at %s, not %s", have.GetResourceVersion(), rv))
	}
	next := obj.DeepCopy()
	next.SetUID(have.GetUID())
	return r.api.store(r.gvr, next, watch.Modified), nil
}

func (r *fakeResource) Patch(_ context.Context, name string, pt types.PatchType, data []byte, _ metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error) {
	defer r.travel(name)()
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	verb := "patch"
	if len(subresources) > 0 {
		verb += "/" + subresources[0]
	}
	if err := r.begin(verb, name); err != nil {
		return nil, err
	}
	have := r.api.objects[r.gvr][r.ns+"/"+name]
	if have == nil {
		return nil, r.notFound(name)
	}
	var patch map[string]any
	if pt != types.MergePatchType {
		return nil, apierrors.NewBadRequest("only merge patches are expected")
	}
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	meta := child(patch, "metadata")
	if rv := text(meta, "resourceVersion"); rv != "" && rv != have.GetResourceVersion() {
		return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, fmt.Errorf("it is at %s, not %s", have.GetResourceVersion(), rv))
	}
	if uid := text(meta, "uid"); uid != "" && uid != string(have.GetUID()) {
		return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, fmt.Errorf("other uid"))
	}
	if len(subresources) > 0 {
		patch = map[string]any{"status": patch["status"]}
	}
	next := have.DeepCopy()
	applyMergePatch(next.Object, patch)
	return r.api.store(r.gvr, next, watch.Modified), nil
}

func applyMergePatch(to, patch map[string]any) {
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(to, k)
		case map[string]any:
			sub, ok := to[k].(map[string]any)
			if !ok {
				sub = map[string]any{}
			}
			applyMergePatch(sub, v)
			to[k] = sub
		default:
			to[k] = v
		}
	}
}

func (r *fakeResource) Delete(_ context.Context, name string, o metav1.DeleteOptions, _ ...string) error {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if err := r.begin("delete", name); err != nil {
		return err
	}
	have := r.api.objects[r.gvr][r.ns+"/"+name]
	if have == nil {
		return r.notFound(name)
	}
	if p := o.Preconditions; p != nil && (*p.UID != have.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != have.GetResourceVersion()) {
		return apierrors.NewConflict(r.gvr.GroupResource(), name, fmt.Errorf("other uid, or it has changed"))
	}
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds != 0 {
		return apierrors.NewBadRequest("grace period 0 is expected")
	}
	r.api.store(r.gvr, have, watch.Deleted)
	return nil
}

func (r *fakeResource) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if r.api.fail != nil {
		if err := r.api.fail("list", r.gvr.Resource, ""); err != nil {
			return nil, err
		}
	}
	r.api.lists[r.gvr.Resource]++
	list := &unstructured.UnstructuredList{}
	list.SetResourceVersion(strconv.FormatUint(r.api.rv, 10))
	for _, name := range slices.Sorted(maps.Keys(r.api.objects[r.gvr])) {
		list.Items = append(list.Items, *r.api.objects[r.gvr][name].DeepCopy())
	}
	return list, nil
}

func (r *fakeResource) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	r.api.lists["watch "+r.gvr.Resource]++
	w := newFakeWatch()
	r.api.watchers[r.gvr] = append(r.api.watchers[r.gvr], w)
	return w, nil
}

// fakeMetadata shows the same API's objects by their metadata.
type fakeMetadata struct{ api *fakeAPI }

// IsWatchListSemanticsUnSupported tells the reflector to list.
func (m fakeMetadata) IsWatchListSemanticsUnSupported() bool { return true }

func (m fakeMetadata) Resource(gvr schema.GroupVersionResource) metadata.Getter {
	return &fakeGetter{api: m.api, gvr: gvr}
}

type fakeGetter struct {
	metadata.Getter // what is not overridden is not used
	api             *fakeAPI
	gvr             schema.GroupVersionResource
}

func (g *fakeGetter) List(context.Context, metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	g.api.mu.Lock()
	defer g.api.mu.Unlock()
	g.api.lists[g.gvr.Resource]++
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(g.api.rv, 10)}}
	for _, name := range slices.Sorted(maps.Keys(g.api.objects[g.gvr])) {
		list.Items = append(list.Items, *metadataOf(g.api.objects[g.gvr][name]))
	}
	return list, nil
}

func (g *fakeGetter) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	g.api.mu.Lock()
	defer g.api.mu.Unlock()
	g.api.lists["watch "+g.gvr.Resource]++
	w := newFakeWatch()
	g.api.metadata[g.gvr] = append(g.api.metadata[g.gvr], w)
	return w, nil
}

func metadataOf(u *unstructured.Unstructured) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
		Annotations: u.GetAnnotations(), OwnerReferences: u.GetOwnerReferences(),
	}}
}

// fakeWatch is a watch with room for what a test does between two looks at it.
type fakeWatch struct {
	ch   chan watch.Event
	mu   sync.Mutex
	over bool
}

func newFakeWatch() *fakeWatch { return &fakeWatch{ch: make(chan watch.Event, 4096)} }

func (w *fakeWatch) ResultChan() <-chan watch.Event { return w.ch }

func (w *fakeWatch) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.over = true
		close(w.ch)
	}
}

func (w *fakeWatch) tell(what watch.EventType, obj runtime.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.ch <- watch.Event{Type: what, Object: obj}
	}
}

// store makes a change visible: everything that happens gets the next resourceVersion and goes to the watchers.
func (a *fakeAPI) store(gvr schema.GroupVersionResource, obj *unstructured.Unstructured, event watch.EventType) *unstructured.Unstructured {
	a.rv++
	// As the API does, store what comes as JSON: numbers are int64 or float64.
	b, err := json.Marshal(obj.Object)
	if err != nil {
		panic(err)
	}
	next := &unstructured.Unstructured{}
	if err := next.UnmarshalJSON(b); err != nil {
		panic(err)
	}
	if next.GetUID() == "" {
		a.uids++
		next.SetUID(types.UID(fmt.Sprintf("uid-%d", a.uids)))
	}
	next.SetResourceVersion(strconv.FormatUint(a.rv, 10))
	if a.objects[gvr] == nil {
		a.objects[gvr] = make(map[string]*unstructured.Unstructured)
	}
	name := next.GetNamespace() + "/" + next.GetName()
	if event == watch.Deleted {
		delete(a.objects[gvr], name)
	} else {
		a.objects[gvr][name] = next
	}
	for _, w := range a.metadata[gvr] {
		w.tell(event, metadataOf(next))
	}
	for _, w := range a.watchers[gvr] {
		w.tell(event, next.DeepCopy())
	}
	return next.DeepCopy()
}

// put is what kubectl and the controllers do: it replaces or adds an object given as YAML-like JSON.
func (a *fakeAPI) put(t *testing.T, kind wire.Kind, text string) *unstructured.Unstructured {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	res, _ := resourceOf(kind)
	obj := decode(t, res, text)
	event := watch.Added
	if have := a.objects[res.gvr][obj.GetNamespace()+"/"+obj.GetName()]; have != nil {
		event = watch.Modified
		if obj.GetUID() == "" {
			obj.SetUID(have.GetUID())
		}
	}
	return a.store(res.gvr, obj, event)
}

func (a *fakeAPI) remove(kind wire.Kind, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	res, _ := resourceOf(kind)
	a.store(res.gvr, a.objects[res.gvr][name], watch.Deleted)
}

func (a *fakeAPI) get(gvr schema.GroupVersionResource, name string) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.objects[gvr][name]; o != nil {
		return o.DeepCopy().Object
	}
	return nil
}

// taken returns the requests since the last call, leases left out.
func (a *fakeAPI) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.DeleteFunc(a.requests, func(r string) bool { return strings.Contains(r, " leases ") })
	a.requests = nil
	return out
}

// writesTake says how long creates and patches take from now on.
func (a *fakeAPI) writesTake(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.takes = d
}

// underWay returns how many creates and patches of what are under way, and the most that there were; what is a resource, or "resource name".
func (a *fakeAPI) underWay(what string) (now, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.atOnce[what], a.most[what]
}

func (a *fakeAPI) failWith(f func(verb, resource, name string) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = f
}

func decode(t *testing.T, res resource, text string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	text = strings.Replace(text, "{", fmt.Sprintf(`{"apiVersion":%q,"kind":%q,`, res.apiVersion(), res.apiKind), 1)
	if err := obj.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatalf("object %s: %v", text, err)
	}
	return obj
}

var errAway = apierrors.NewServiceUnavailable("etcd is away")

// Error is what the API server sends before it ends a watch.
func (w *fakeWatch) Error(obj runtime.Object) { w.tell(watch.Error, obj) }
