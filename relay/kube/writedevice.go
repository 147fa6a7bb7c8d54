package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/relay/api/devices/v1beta1"
)

// summaryLimit bounds the line of values that `kubectl get devicestatuses` shows, in bytes.
const summaryLimit = 100

// writtenDevice is what stands in a device's DeviceStatus, as far as this relay knows. The objects are not watched: values
// come at any rate, nobody else writes them, and each write says on which state it was based.
type writtenDevice struct {
	node string
	uid  string   // of the Device
	hash [16]byte // of the canonical status document
	rv   string
	at   time.Time // when it was written
}

func (s *Sink) writeDevice(ctx context.Context, w *work, doc map[string]any) (outcome, error) {
	rec := s.index.get(w.key)
	if rec == nil {
		return s.unknownObject(w), nil
	}
	if values := child(doc, "deviceStatus"); values != nil {
		if err := s.writeValues(ctx, w, rec, values); err != nil {
			return keepReport, err
		}
	}
	if _, ok := doc["conditions"]; !ok {
		return keepReport, nil
	}
	return s.patchStatus(ctx, w, func(current map[string]any) (from, to map[string]any, err error) {
		return deviceState(current, doc)
	})
}

// deviceState merges reported conditions into a Device's status. All of them are the agent's; fields of KubeEdge's older
// status stay.
func deviceState(current, doc map[string]any) (from, to map[string]any, err error) {
	if from, err = normalise(current, &v1beta1.DeviceState{}); err != nil {
		return nil, nil, err
	}
	reported := map[string]any{"conditions": doc["conditions"], "observedGeneration": doc["observedGeneration"]}
	report, err := normalise(reported, &v1beta1.DeviceState{})
	if err != nil {
		return nil, nil, err
	}
	to = make(map[string]any, len(from)+2)
	for k, v := range from {
		to[k] = v
	}
	have, _ := conditionsByType(from)
	now := time.Now().UTC().Format(time.RFC3339)
	list := []any{}
	for c := range items(report, "conditions") {
		stamp := ""
		if text(c, "lastTransitionTime") == "" || have[text(c, "type")] != nil {
			stamp = now // the gateway's clock is good for a first value only, and better than none
		}
		keepTransition(c, have[text(c, "type")], stamp)
		list = append(list, c)
	}
	to["conditions"] = list
	if g, ok := report["observedGeneration"]; ok {
		to["observedGeneration"] = g
	}
	return from, to, nil
}

// due returns a waitError while the last write of the device's values is less than DeviceInterval ago. So the first change
// is written at once, and the newest value is always on its way and never queued behind older ones.
func (s *Sink) due(w *work) error {
	if w.key.Kind() != wire.KindDevice {
		return nil
	}
	s.mu.Lock()
	last := s.written[w.key]
	s.mu.Unlock()
	if wait := s.opts.DeviceInterval - time.Since(last.at); wait > 0 {
		return waitError{wait}
	}
	return nil
}

// writeValues writes the DeviceStatus object.
func (s *Sink) writeValues(ctx context.Context, w *work, rec *record, values map[string]any) error {
	status, err := deviceStatus(values)
	if err != nil {
		return err
	}
	b, err := canon.FromValue(status)
	if err != nil {
		return refusal{err.Error()}
	}
	hash := canon.Hash(b)
	s.mu.Lock()
	last := s.written[w.key]
	s.mu.Unlock()
	if last.uid != rec.version.UID {
		last.rv = "" // made anew under its name; its values go with the old one
	}
	if last.rv != "" && last.hash == hash {
		s.opts.Metrics.unchanged("devicestatuses")
		return nil
	}
	rv, err := s.putValues(ctx, w, rec, status, last.rv)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if last.rv != "" {
			last.rv = "" // whatever stands there now, read it first
			s.written[w.key] = last
		}
		return err
	}
	s.written[w.key] = writtenDevice{node: w.node, uid: rec.version.UID, hash: hash, rv: rv, at: time.Now()}
	return nil
}

// deviceStatus brings the reported values into the API's form and adds the summary line.
func deviceStatus(values map[string]any) (map[string]any, error) {
	var typed v1beta1.DeviceStatusStatus
	status, err := normalise(values, &typed)
	if err != nil {
		return nil, err
	}
	if summary := v1beta1.Summary(typed.Twins, summaryLimit); summary != "" {
		ext, err := json.Marshal(map[string]string{"summary": summary})
		if err != nil {
			return nil, refusal{err.Error()}
		}
		typed.Extensions = &runtime.RawExtension{Raw: ext}
		status["extensions"] = map[string]any{"summary": summary}
	}
	return status, nil
}

// putValues writes status, based on resourceVersion rv; "" means that it is not known what stands there.
func (s *Sink) putValues(ctx context.Context, w *work, rec *record, status map[string]any, rv string) (string, error) {
	c := s.opts.Client.Resource(deviceStatusesGVR).Namespace(w.key.Namespace())
	var from map[string]any
	var owner any
	for range writeTries {
		if rv == "" {
			obj, err := c.Get(ctx, w.key.Name(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				obj, err = s.createValues(ctx, c, w, rec, status)
				if apierrors.IsAlreadyExists(err) {
					continue
				}
				if err != nil {
					return "", fmt.Errorf("create DeviceStatus %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
				}
				return obj.GetResourceVersion(), nil
			}
			if err != nil {
				return "", fmt.Errorf("read DeviceStatus %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
			}
			rv, from = obj.GetResourceVersion(), child(obj.Object, "status")
			if owner = nil; !ownedBy(obj, rec) {
				owner = deviceOwner(w.key, rec) // left by a Device of the same name, and about to be collected with it
			}
		}
		next, err := s.patchValues(ctx, c, w, patchBase{from: from, rv: rv, owner: owner}, status)
		if err == nil {
			return next, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("patch DeviceStatus %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
		}
		s.opts.Metrics.conflict("devicestatuses")
		if err := s.ours(ctx, w.node, w.epoch); err != nil {
			return "", err
		}
		rv, from, owner = "", nil, nil
	}
	return "", fmt.Errorf("DeviceStatus %s/%s: %d conflicts in a row", w.key.Namespace(), w.key.Name(), writeTries)
}

// patchBase is what a patch of a DeviceStatus is based on.
type patchBase struct {
	rv    string
	from  map[string]any // the status there, if it was read
	owner any            // owner references to set; nil if they are right
}

func (s *Sink) patchValues(ctx context.Context, c dynamic.ResourceInterface, w *work, base patchBase, status map[string]any) (string, error) {
	full := make(map[string]any, 4)
	// What an earlier report said and this one does not is removed; fields of others in extensions stay.
	for _, name := range []string{"twins", "state", "lastOnlineTime"} {
		full[name] = status[name]
	}
	if ext := child(status, "extensions"); ext != nil {
		full["extensions"] = ext
	}
	if base.owner == nil && base.from != nil && mergePatch(base.from, merged(base.from, full)) == nil {
		s.opts.Metrics.unchanged("devicestatuses")
		return base.rv, nil
	}
	meta := map[string]any{"resourceVersion": base.rv}
	if base.owner != nil {
		meta["ownerReferences"] = base.owner
	}
	b, err := json.Marshal(map[string]any{"metadata": meta, "status": full})
	if err != nil {
		return "", refusal{err.Error()}
	}
	obj, err := c.Patch(ctx, w.key.Name(), types.MergePatchType, b, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return "", err
	}
	return obj.GetResourceVersion(), nil
}

// merged returns from with the entries of a merge patch applied, one level deep and extensions two.
func merged(from, patch map[string]any) map[string]any {
	out := make(map[string]any, len(from)+len(patch))
	for k, v := range from {
		out[k] = v
	}
	for k, v := range patch {
		sub, isMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap && child(from, k) != nil:
			out[k] = merged(child(from, k), sub)
		default:
			out[k] = v
		}
	}
	return out
}

func (s *Sink) createValues(ctx context.Context, c dynamic.ResourceInterface, w *work, rec *record, status map[string]any) (*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": deviceStatusesGVR.GroupVersion().String(), "kind": "DeviceStatus",
		"metadata": map[string]any{
			"name": w.key.Name(), "namespace": w.key.Namespace(),
			"ownerReferences": deviceOwner(w.key, rec),
		},
		"spec":   map[string]any{},
		"status": status,
	}}
	return c.Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
}

func deviceOwner(key wire.Key, rec *record) []any {
	return []any{map[string]any{
		"apiVersion": deviceStatusesGVR.GroupVersion().String(), "kind": "Device", "name": key.Name(), "uid": rec.version.UID,
	}}
}

func ownedBy(obj *unstructured.Unstructured, rec *record) bool {
	for _, o := range obj.GetOwnerReferences() {
		if string(o.UID) == rec.version.UID {
			return true
		}
	}
	return false
}
