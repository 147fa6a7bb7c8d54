package kube

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/relay/api/devices/v1beta1"
)

// summaryLimit bounds the line of values that `kubectl get devicestatuses` shows, in bytes.
const summaryLimit = 100

// conditionPace is the shortest time between two looks at what one device reports, unless DeviceInterval is shorter: reports may
// come far more often than anything in them can be written.
const conditionPace = 100 * time.Millisecond

// writeDevice writes a device's report in two steps: its conditions, which are readiness, and, in the lane of statistics and at
// most once per DeviceInterval, its values.
func (s *Sink) writeDevice(ctx context.Context, w *work) (outcome, error) {
	rec := s.index.get(w.key)
	if rec == nil {
		return s.unknownObject(w), nil
	}
	if err := s.pace(w); err != nil {
		return written, err // before it is decoded
	}
	doc, err := s.document(w)
	if err != nil {
		return dropReport, err
	}
	if _, ok := doc["conditions"]; ok && w.stated != w.serial {
		result, err := s.patchStatus(ctx, w, func(current map[string]any) (from, to map[string]any, err error) {
			return deviceState(current, doc)
		})
		if err != nil || result != written {
			return result, err
		}
	}
	w.stated = w.serial
	values := child(doc, "deviceStatus")
	if values == nil {
		return written, nil
	}
	return s.writeValues(ctx, w, rec, values)
}

// pace returns a waitError while the device's turn has not come.
func (s *Sink) pace(w *work) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	every := s.opts.DeviceInterval
	last := time.Unix(0, s.statuses.byDevice[w.key].at)
	if !w.low {
		_, p := s.current(w)
		if p == nil {
			return nil
		}
		every, last = min(every, conditionPace), p.looked
		if wait := every - now.Sub(last); wait > 0 {
			return waitError{wait}
		}
		p.looked = now
		return nil
	}
	if wait := every - now.Sub(last); wait > 0 {
		return waitError{wait}
	}
	return nil
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

// writeValues writes the DeviceStatus object, if its values differ.
func (s *Sink) writeValues(ctx context.Context, w *work, rec *record, values map[string]any) (outcome, error) {
	status, err := deviceStatus(values)
	if err != nil {
		return dropReport, err
	}
	b, err := canon.FromValue(status)
	if err != nil {
		return dropReport, refusal{err.Error()}
	}
	hash := canon.Hash(b)
	st, known, err := s.stored(w.key)
	if err != nil {
		return written, err
	}
	if known && st.rv != 0 && !st.gone() && st.owner == uidHash(rec.version.UID) && st.hash == hash {
		s.opts.Metrics.unchanged("devicestatuses")
		return written, nil
	}
	if !w.low {
		return lowerLane, nil
	}
	if known && st.rv != 0 && !st.mine && (w.foreign || st.rv > s.held(w.n, w.epoch)) { // putValues asks about what it reads
		if err := s.ours(ctx, w.n, w.epoch); err != nil { // what stands there may be a newer session's
			return written, err
		}
		s.trust(w, st.rv)
	}
	return written, s.putValues(ctx, w, rec, &deviceValues{status: status, hash: hash}, st, known)
}

// deviceStatus brings the reported values into the API's form and adds the summary line.
func deviceStatus(values map[string]any) (map[string]any, error) {
	var typed v1beta1.DeviceStatusStatus
	status, err := normalise(values, &typed)
	if err != nil {
		return nil, err
	}
	if summary := v1beta1.Summary(typed.Twins, summaryLimit); summary != "" {
		ext := make(map[string]any, 3)
		maps.Copy(ext, child(status, "extensions")) // what the agent says of the state
		ext["summary"] = summary
		status["extensions"] = ext
	}
	return status, nil
}

// deviceValues is what is to be written.
type deviceValues struct {
	status map[string]any
	hash   [16]byte
}

// putValues writes the values, based on what is known of the object; it is read if nothing is known, or a conflict shows that it
// was wrong.
func (s *Sink) putValues(ctx context.Context, w *work, rec *record, v *deviceValues, st storedValues, known bool) error {
	c := s.opts.Client.Resource(deviceStatusesGVR).Namespace(w.key.Namespace())
	base := patchBase{}
	if known && st.rv != 0 && !st.gone() {
		base.rv = strconv.FormatUint(st.rv, 10)
		if st.owner != uidHash(rec.version.UID) {
			base.owner = deviceOwner(w.key, rec) // left by a Device of the same name, and about to be collected with it
		}
	}
	for range writeTries {
		if !known {
			obj, err := c.Get(ctx, w.key.Name(), metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				base = patchBase{}
			case err != nil:
				return fmt.Errorf("read DeviceStatus %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
			default:
				base = patchBase{rv: obj.GetResourceVersion(), from: child(obj.Object, "status"), mark: obj.GetAnnotations()[reportAnnotation]}
				if !ownedBy(obj, rec) {
					base.owner = deviceOwner(w.key, rec)
				}
				// After the object was read: what a newer session has written until then must not be what an old report is based on.
				if err := s.ours(ctx, w.n, w.epoch); err != nil {
					return err
				}
				w.confirmed = true
				if now := s.index.get(w.key); now == nil || now.node != w.node {
					return waitError{statusWait} // another node's meanwhile, whose values stand there: refused in the next attempt
				}
			}
		}
		next, err := s.storeValues(ctx, c, w, rec, v, base)
		if err == nil {
			rv := parseRevision(next)
			w.top = max(w.top, rv)
			s.store(w.key, storedValues{rv: rv, hash: v.hash, owner: uidHash(rec.version.UID), at: time.Now().UnixNano(), mine: true})
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("write DeviceStatus %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
		}
		s.opts.Metrics.conflict("devicestatuses")
		known = false
	}
	return fmt.Errorf("DeviceStatus %s/%s: %d conflicts in a row", w.key.Namespace(), w.key.Name(), writeTries)
}

// patchBase is what a patch of a DeviceStatus is based on. Without rv there is none, and it is made.
type patchBase struct {
	rv    string
	from  map[string]any // the status there, if it was read
	mark  string         // and its annotation
	owner any            // owner references to set; nil if they are right
}

// storeValues makes or patches the object, and returns its resourceVersion.
func (s *Sink) storeValues(ctx context.Context, c dynamic.ResourceInterface, w *work, rec *record, v *deviceValues, base patchBase) (string, error) {
	mark := hex.EncodeToString(v.hash[:])
	if base.rv == "" {
		if err := s.spend(ctx, w); err != nil {
			return "", err
		}
		obj, err := s.createValues(ctx, c, w, rec, v.status, mark)
		if err != nil {
			return "", err
		}
		return obj.GetResourceVersion(), nil
	}
	full := make(map[string]any, 4)
	// What an earlier report said and this one does not is removed; fields of others in extensions stay.
	for _, name := range []string{"twins", "state", "lastOnlineTime"} {
		full[name] = v.status[name]
	}
	ext := map[string]any{"stateReason": nil, "stateSince": nil}
	maps.Copy(ext, child(v.status, "extensions"))
	full["extensions"] = ext
	if base.owner == nil && base.from != nil && base.mark == mark && mergePatch(base.from, merged(base.from, full)) == nil {
		s.opts.Metrics.unchanged("devicestatuses")
		return base.rv, nil
	}
	meta := map[string]any{
		"resourceVersion": base.rv, "annotations": map[string]any{reportAnnotation: mark},
		"managedFields": []any{map[string]any{}}, // as of Leases, see putLease: a fifth of the work, two fifths of the bytes
	}
	if base.owner != nil {
		meta["ownerReferences"] = base.owner
	}
	b, err := json.Marshal(map[string]any{"metadata": meta, "status": full})
	if err != nil {
		return "", refusal{err.Error()}
	}
	if err := s.spend(ctx, w); err != nil {
		return "", err
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

func (s *Sink) createValues(ctx context.Context, c dynamic.ResourceInterface, w *work, rec *record, status map[string]any, mark string) (*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": deviceStatusesGVR.GroupVersion().String(), "kind": "DeviceStatus",
		"metadata": map[string]any{
			"name": w.key.Name(), "namespace": w.key.Namespace(),
			"ownerReferences": deviceOwner(w.key, rec),
			"annotations":     map[string]any{reportAnnotation: mark},
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
