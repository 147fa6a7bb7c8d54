package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

const (
	fieldManager = "skerry-relay"
	writeTries   = 4 // conflicts in a row before a write goes back to the queue
)

// write brings the API in line with one report.
func (s *Sink) write(ctx context.Context, w *work) (outcome, error) {
	// Who the object belongs to may have changed since the report was taken.
	if why := s.refuse(w.node, w.key, w.body); why != "" {
		s.refused(w.node, w.key, why)
		return dropReport, nil
	}
	if !s.index.synced(w.key.Kind()) {
		return awaitObject, nil // compared again for every object of the first list
	}
	switch w.key.Kind() {
	case wire.KindNode:
		return s.writeNode(ctx, w)
	case wire.KindPod:
		return s.writePod(ctx, w)
	case wire.KindDevice:
		return s.writeDevice(ctx, w)
	}
	return dropReport, refusal{"agents do not report on " + string(w.key.Kind())}
}

// document decodes the report.
func (s *Sink) document(w *work) (map[string]any, error) {
	doc, err := decodeReport(w.body)
	if err != nil {
		return nil, refusal{"report cannot be read: " + err.Error()}
	}
	if why := oversized(w.key.Kind(), len(w.body), doc); why != "" {
		return nil, oversizedError{why}
	}
	return doc, nil
}

// guard is called before a write that is based on rec. If somebody else has written the object since this session last knew it,
// that may have been a newer session of the node, through another relay: the Lease is asked whose the node is, after rec was
// read. Without this, a session that is half dead could base its old report on the newer one's write, and overwrite it without a
// conflict.
func (s *Sink) guard(ctx context.Context, w *work, rec *record) error {
	if rec.revision <= w.base {
		return nil
	}
	if w.base != 0 || !rec.untouched() {
		if err := s.ours(ctx, w.n, w.epoch); err != nil {
			return err
		}
	}
	w.base = rec.revision
	return nil
}

func (s *Sink) client(key wire.Key) dynamic.ResourceInterface {
	res, _ := resourceOf(key.Kind())
	c := s.opts.Client.Resource(res.gvr)
	if ns := key.Namespace(); ns != "" {
		return c.Namespace(ns)
	}
	return c
}

// patchStatus writes what want makes of the object's current status, if that differs, based on the resourceVersion of the
// state compared with. On a conflict it asks the Lease whether the session is still the node's own, reads the object and
// tries again. want must return two maps without nulls; it is called once per try.
func (s *Sink) patchStatus(ctx context.Context, w *work, want func(current map[string]any) (from, to map[string]any, err error)) (outcome, error) {
	kind := string(w.key.Kind())
	rec := s.index.get(w.key)
	for range writeTries {
		if rec == nil {
			return awaitObject, nil
		}
		from, to, err := want(rec.currentStatus())
		if err != nil {
			return dropReport, err
		}
		diff := mergePatch(from, to)
		if diff == nil || w.settled == canon.Hash(rec.status) {
			s.opts.Metrics.unchanged(kind)
			w.base = max(w.base, rec.revision)
			return written, nil
		}
		if !w.low && w.key.Kind() == wire.KindNode && onlyFigures(diff) {
			return lowerLane, nil
		}
		if err := s.guard(ctx, w, rec); err != nil {
			return written, err
		}
		obj, err := s.patch(ctx, w, rec, map[string]any{"status": diff}, "status")
		switch {
		case err == nil:
			return written, s.settle(w, obj, want)
		case apierrors.IsNotFound(err):
			return awaitObject, nil // the watch will tell
		case !apierrors.IsConflict(err):
			return written, err
		}
		if rec, err = s.reread(ctx, w); err != nil {
			return written, err
		}
	}
	return written, fmt.Errorf("%s: %d conflicts in a row", w.key, writeTries)
}

// patch sends a merge patch with the record's UID and resourceVersion as preconditions.
func (s *Sink) patch(ctx context.Context, w *work, rec *record, patch map[string]any, subresources ...string) (*unstructured.Unstructured, error) {
	meta := child(patch, "metadata")
	if meta == nil {
		meta = map[string]any{}
		patch["metadata"] = meta
	}
	meta["uid"], meta["resourceVersion"] = rec.version.UID, rec.rv
	b, err := json.Marshal(patch)
	if err != nil {
		return nil, refusal{err.Error()}
	}
	if err := s.spend(ctx, w); err != nil {
		return nil, err
	}
	obj, err := s.client(w.key).Patch(ctx, w.key.Name(), types.MergePatchType, b, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	if err != nil {
		return nil, fmt.Errorf("patch %s: %w", w.key, err)
	}
	return obj, nil
}

// reread is called after a conflict: it returns the object as it is now, and makes sure, after that, that the session may still
// write. nil means that it is gone or another one of the same name.
func (s *Sink) reread(ctx context.Context, w *work) (*record, error) {
	s.opts.Metrics.conflict(string(w.key.Kind()))
	obj, err := s.client(w.key).Get(ctx, w.key.Name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w.key, err)
	}
	rec, err := s.read(w, obj)
	if err != nil || rec.key != w.key || rec.node != w.node {
		return nil, err
	}
	if err := s.ours(ctx, w.n, w.epoch); err != nil {
		return nil, err
	}
	w.base = max(w.base, rec.revision)
	return rec, nil
}

// answered gives the API's answer to a write to the index, so that the next comparison need not wait for the watch.
func (s *Sink) answered(w *work, obj *unstructured.Unstructured) (*record, error) {
	rec, err := s.read(w, obj)
	if err == nil {
		w.base = max(w.base, rec.revision)
	}
	return rec, err
}

// read does the same with an object that may have been written by others.
func (s *Sink) read(w *work, obj *unstructured.Unstructured) (*record, error) {
	res, _ := resourceOf(w.key.Kind())
	rec, err := newRecord(res, obj)
	if err != nil {
		return nil, refusal{err.Error()}
	}
	s.index.refresh(w.key.Kind(), rec)
	return rec, nil
}

// settle notes the state after a write. If that still differs from the report, the API server has changed what it was
// given; writing the same again, when the watch shows it, would go on for ever.
func (s *Sink) settle(w *work, obj *unstructured.Unstructured, want func(map[string]any) (from, to map[string]any, err error)) error {
	rec, err := s.answered(w, obj)
	if err != nil {
		return err
	}
	from, to, err := want(rec.currentStatus())
	if err != nil {
		return err
	}
	if diff := mergePatch(from, to); diff != nil {
		w.settled = canon.Hash(rec.status)
		s.complain(w.node, slog.LevelWarn, "the API server stores another status than the one reported; it is left so until either changes",
			slog.String("key", string(w.key)), slog.Any("difference", diff))
	}
	return nil
}

// normalise decodes src into the typed struct dst and back: times lose the fractions that the API does not store,
// quantities get their canonical spelling, and what the type does not know is dropped. So what an agent reports and what
// the API returns can be compared.
func normalise(src map[string]any, dst any) (map[string]any, error) {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(src, dst); err != nil {
		return nil, refusal{fmt.Sprintf("status is not a %s: %v", reflect.TypeOf(dst).Elem().Name(), err)}
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(dst)
	if err != nil {
		return nil, refusal{err.Error()}
	}
	return canon.DropNulls(m).(map[string]any), nil
}

// conditionsByType returns the named list as a map, and the types in their order.
func conditionsByType(status map[string]any) (map[string]map[string]any, []string) {
	byType := make(map[string]map[string]any)
	var order []string
	for c := range items(status, "conditions") {
		t := text(c, "type")
		if _, twice := byType[t]; !twice {
			order = append(order, t)
		}
		byType[t] = c
	}
	return byType, order
}

// keepTransition gives c the time at which it really changed: the current one's, unless its status is another one.
func keepTransition(c, current map[string]any, now string) {
	if current != nil && text(current, "status") == text(c, "status") && text(current, "lastTransitionTime") != "" {
		c["lastTransitionTime"] = current["lastTransitionTime"]
	} else if now != "" {
		c["lastTransitionTime"] = now
	}
}
