package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// client is one relay process's way to the API server: each request takes time to get there and back, may fail on either way,
// and suspends the coroutine that made it.
type client struct{ relay *relay }

// Resource implements dynamic.Interface.
func (c *client) Resource(gvr schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return &requester{c: c, gvr: gvr}
}

type requester struct {
	dynamic.NamespaceableResourceInterface // what is not overridden is not used
	c                                      *client
	gvr                                    schema.GroupVersionResource
	ns                                     string
}

// Namespace implements dynamic.NamespaceableResourceInterface.
func (r *requester) Namespace(ns string) dynamic.ResourceInterface {
	return &requester{c: r.c, gvr: r.gvr, ns: ns}
}

var errNoAnswer = errors.New("the API server does not answer")

// do carries one request to the API server and its answer back. The request may have its effect although the caller learns
// of an error.
func (r *requester) do(ctx context.Context, verb, name string, op func(a *api) (*object, error)) (*unstructured.Unstructured, error) {
	s := r.c.relay.s
	p := s.current
	if p == nil {
		panic("sim: a request outside of a coroutine: " + verb + " " + r.gvr.Resource + " " + name)
	}
	s.requests++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	there, back := s.apiDelay(), s.apiDelay()
	lost, unanswered := s.chance(s.world.APILost), s.chance(s.world.APILost)
	if s.chance(s.world.APILate) {
		there += s.upTo(2 * time.Minute)
	}
	if r.c.relay.cutOff() {
		lost, back = true, 2*time.Second
	}
	if expiry, ok := ctx.Deadline(); ok && s.now.Add(there+back).After(expiry) {
		s.after(there, func() { _, _ = r.serve(verb, name, op) }) // it has its effect; nobody waits for the answer
		p.wait(expiry.Sub(s.now))
		return nil, context.DeadlineExceeded
	}
	p.wait(there)
	if lost {
		p.wait(back)
		return nil, fmt.Errorf("%s %s %s: %w", verb, r.gvr.Resource, name, errNoAnswer)
	}
	obj, err := r.serve(verb, name, op)
	p.wait(back)
	if unanswered {
		return nil, fmt.Errorf("%s %s %s: %w", verb, r.gvr.Resource, name, errNoAnswer)
	}
	if cerr := ctx.Err(); cerr != nil {
		return nil, cerr
	}
	return obj, err
}

// serve is the request at the API server.
func (r *requester) serve(verb, name string, op func(a *api) (*object, error)) (*unstructured.Unstructured, error) {
	s := r.c.relay.s
	if s.api.down {
		return nil, apierrors.NewServiceUnavailable("the API server is down")
	}
	o, err := op(s.api)
	if s.detailed(r.gvr.Resource, verb) {
		more := verb + " " + r.gvr.Resource + " " + r.ns + "/" + name
		if err != nil {
			more += ": " + string(apierrors.ReasonForError(err))
		} else if o != nil {
			more += "@" + strconv.FormatUint(o.rv, 10)
			if r.gvr.Resource == leases { // who has it
				u := o.unstructured()
				more += " " + u.GetAnnotations()["skerry.dev/relay"] + " " + u.GetAnnotations()["skerry.dev/session-epoch"]
			}
		}
		s.note(r.c.relay.who, "request", more)
	}
	if err != nil || o == nil {
		return nil, err
	}
	return o.copy(), nil
}

func (r *requester) full(name string) string { return r.ns + "/" + name }

func (r *requester) notFound(name string) error {
	return apierrors.NewNotFound(r.gvr.GroupResource(), name)
}

// Get implements dynamic.ResourceInterface.
func (r *requester) Get(ctx context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	obj, err := r.do(ctx, "get", name, func(a *api) (*object, error) {
		if o := a.get(r.gvr.Resource, r.full(name)); o != nil {
			return o, nil
		}
		return nil, r.notFound(name)
	})
	if claim := r.c.relay.claimed[name]; err == nil && claim != nil && r.gvr.Resource == leases {
		obj.SetAnnotations(claim)
	}
	return obj, err
}

// claims notes, for IgnoreFencing, what this relay last wrote, or tried to write, to a Lease: that is what it will read there.
func (r *requester) claims(obj *unstructured.Unstructured) {
	if r.gvr.Resource == leases && r.c.relay.s.broken(IgnoreFencing) {
		r.c.relay.claimed[obj.GetName()] = obj.GetAnnotations()
	}
}

// List implements dynamic.ResourceInterface. It knows no selectors but labels'.
func (r *requester) List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	list := &unstructured.UnstructuredList{}
	_, err := r.do(ctx, "list", "", func(a *api) (*object, error) {
		list.SetResourceVersion(strconv.FormatUint(a.rv, 10))
		for _, name := range a.names(r.gvr.Resource) {
			if strings.HasPrefix(name, r.ns+"/") || r.ns == "" {
				list.Items = append(list.Items, *a.get(r.gvr.Resource, name).copy())
			}
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Create implements dynamic.ResourceInterface.
func (r *requester) Create(ctx context.Context, obj *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	data := runtime.DeepCopyJSON(stored(obj.Object))
	r.claims(obj)
	return r.do(ctx, "create", obj.GetName(), func(a *api) (*object, error) {
		if a.get(r.gvr.Resource, r.full(obj.GetName())) != nil {
			return nil, apierrors.NewAlreadyExists(r.gvr.GroupResource(), obj.GetName())
		}
		return a.store(r.gvr.Resource, data, r.c.relay.who), nil
	})
}

// Patch implements dynamic.ResourceInterface, for JSON merge patches.
func (r *requester) Patch(ctx context.Context, name string, pt types.PatchType, body []byte, _ metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error) {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil || pt != types.MergePatchType {
		return nil, apierrors.NewBadRequest("only JSON merge patches are expected")
	}
	patch = stored(patch)
	verb := "patch"
	if len(subresources) > 0 {
		verb += "/" + subresources[0]
	}
	return r.do(ctx, verb, name, func(a *api) (*object, error) { return r.patch(a, name, patch, len(subresources) > 0) })
}

func (r *requester) patch(a *api, name string, patch map[string]any, status bool) (*object, error) {
	have := a.get(r.gvr.Resource, r.full(name))
	if have == nil {
		return nil, r.notFound(name)
	}
	rv, _ := dig(patch, "metadata", "resourceVersion").(string)
	if rv != "" && rv != strconv.FormatUint(have.rv, 10) && !a.s.broken(BlindWrites) {
		return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, fmt.Errorf("it is at %d, not %s", have.rv, rv))
	}
	if uid, _ := dig(patch, "metadata", "uid").(string); uid != "" && uid != have.uid {
		return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, errors.New("another object has the name"))
	}
	if status {
		patch = map[string]any{"status": patch["status"]}
	}
	next := runtime.DeepCopyJSON(have.data)
	mergePatch(next, patch)
	next["metadata"].(map[string]any)["resourceVersion"] = strconv.FormatUint(have.rv, 10)
	if reflect.DeepEqual(next, have.data) {
		return have, nil // a write that changes nothing makes no new revision
	}
	return a.store(r.gvr.Resource, next, r.c.relay.who), nil
}

// Update implements dynamic.ResourceInterface.
func (r *requester) Update(ctx context.Context, obj *unstructured.Unstructured, _ metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
	data, name, rv := runtime.DeepCopyJSON(stored(obj.Object)), obj.GetName(), obj.GetResourceVersion()
	r.claims(obj)
	return r.do(ctx, "update", name, func(a *api) (*object, error) {
		have := a.get(r.gvr.Resource, r.full(name))
		if have == nil {
			return nil, r.notFound(name)
		}
		if rv != "" && rv != strconv.FormatUint(have.rv, 10) && !a.s.broken(BlindWrites) {
			return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, fmt.Errorf("it is at %d, not %s", have.rv, rv))
		}
		data["metadata"].(map[string]any)["uid"] = have.uid
		return a.store(r.gvr.Resource, data, r.c.relay.who), nil
	})
}

// Delete implements dynamic.ResourceInterface.
func (r *requester) Delete(ctx context.Context, name string, o metav1.DeleteOptions, _ ...string) error {
	_, err := r.do(ctx, "delete", name, func(a *api) (*object, error) {
		have := a.get(r.gvr.Resource, r.full(name))
		if have == nil {
			return nil, r.notFound(name)
		}
		if p := o.Preconditions; p != nil && p.UID != nil && string(*p.UID) != have.uid {
			return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, errors.New("another object has the name"))
		}
		if p := o.Preconditions; p != nil && p.ResourceVersion != nil && *p.ResourceVersion != strconv.FormatUint(have.rv, 10) {
			return nil, apierrors.NewConflict(r.gvr.GroupResource(), name, errors.New("it has changed"))
		}
		a.remove(have, r.c.relay.who)
		return nil, nil
	})
	return err
}

func mergePatch(to, patch map[string]any) {
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(to, k)
		case map[string]any:
			sub, ok := to[k].(map[string]any)
			if !ok {
				sub = map[string]any{}
			}
			mergePatch(sub, v)
			to[k] = sub
		default:
			to[k] = v
		}
	}
}

// stored returns v with the number types that the API's decoder makes.
func stored(v map[string]any) map[string]any {
	return numbers(v).(map[string]any)
}

func numbers(v any) any {
	switch t := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[k] = numbers(e)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = numbers(e)
		}
		return out
	case float64:
		if t == float64(int64(t)) {
			return int64(t)
		}
	case int:
		return int64(t)
	case int32:
		return int64(t)
	}
	return v
}

// apiDelay is the way of a request or of its answer.
func (s *Sim) apiDelay() time.Duration { return s.upTo(s.world.APIDelay) }
