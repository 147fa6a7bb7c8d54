package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// termsOf reads what a Node says.
func (a *Autonomy) termsOf(rec *record) terms {
	of := terms{autonomous: true, keep: a.opts.Duration}
	body := decoded(rec.body)
	of.apply(a, rec.key, text(child(child(body, "metadata"), "labels"), autonomyLabel))
	if rec.traits.has(traitLost) {
		ready := conditionOf(map[string]any{"status": rec.currentStatus()}, "Ready")
		if at, err := time.Parse(time.RFC3339, text(ready, "lastTransitionTime")); err == nil {
			of.lost = at
		}
	}
	return of
}

// ofPod takes what the pod says for itself.
func (of *terms) ofPod(a *Autonomy, pod *record) {
	if pod.traits.has(traitOwn) {
		of.apply(a, pod.key, podAutonomy(child(decoded(pod.body), "metadata")))
	}
}

// apply takes what a label or annotation says.
func (of *terms) apply(a *Autonomy, key wire.Key, value string) {
	switch value {
	case "", "true":
	case "false":
		of.autonomous = false
	case "forever":
		of.keep = 0
	default:
		d, err := time.ParseDuration(value)
		if err == nil && d >= time.Second {
			of.keep = d
		} else if a.quiet.allow() {
			a.log.Warn("what is said of autonomy is not understood and has no effect: use false, true, forever or a duration such as 30m", slog.String("key", string(key)), slog.String("value", value))
		}
	}
}

// tolerate raises how long a pod tolerates that its node is away. It never lowers it.
func (a *Autonomy) tolerate(ctx context.Context, pod *record, of terms) (did bool, err error) {
	if pod.traits.has(traitFixed) || pod.patience == forever {
		return false, nil
	}
	of.ofPod(a, pod)
	if !of.autonomous || of.keep > 0 && time.Duration(pod.patience)*time.Second >= of.keep {
		return false, nil
	}
	body := decoded(pod.body)
	have, _ := child(body, "spec")["tolerations"].([]any)
	want := tolerations(have, of.keep)
	if want == nil {
		return false, nil
	}
	// Without a resourceVersion: pods that have just been bound change all the time, and the API server lets no toleration be taken away that
	// somebody else has added meanwhile.
	return a.patch(ctx, pod, map[string]any{"spec": map[string]any{"tolerations": want}, "metadata": map[string]any{"uid": pod.version.UID}}, "toleration")
}

// tolerations returns the list in which both taints are tolerated for at least keep (0: for ever), nil if they are. Kubernetes lets a bound pod's
// tolerations only be added to, and their tolerationSeconds change. Of several that match, the first counts: so one that
// tolerates other taints, too, is left as it is, and another is put before it.
func tolerations(have []any, keep time.Duration) []any {
	want := slices.Clone(have)
	changed := false
	for _, taint := range awayTaints {
		next := map[string]any{"key": taint, "operator": "Exists", "effect": "NoExecute"}
		if keep > 0 {
			next["tolerationSeconds"] = int64((keep + time.Second - 1) / time.Second)
		}
		tol, at := tolerating(items(map[string]any{"l": want}, "l"), taint)
		if tol != nil && longEnough(tol["tolerationSeconds"], next["tolerationSeconds"]) {
			continue
		}
		changed = true
		switch {
		case tol != nil && text(tol, "key") == taint && text(tol, "effect") == "NoExecute":
			raised := map[string]any{}
			for k, v := range tol {
				raised[k] = v
			}
			delete(raised, "tolerationSeconds")
			if s, ok := next["tolerationSeconds"]; ok {
				raised["tolerationSeconds"] = s
			}
			want[at] = raised
		default:
			want = slices.Insert(want, 0, any(next))
		}
	}
	if !changed {
		return nil
	}
	return want
}

// longEnough compares tolerationSeconds; nil is for ever.
func longEnough(have, want any) bool {
	h, _ := have.(int64)
	w, limited := want.(int64)
	return have == nil || limited && h >= w
}

// restore makes a pod Ready that the node controller has marked, and takes that back when its time is over.
func (a *Autonomy) restore(ctx context.Context, pod *record, of terms, now time.Time) (did bool, err error) {
	if of.lost.IsZero() || !pod.traits.has(traitMarked|traitRestored) || pod.traits.has(traitFixed) && !pod.traits.has(traitRestored) {
		return false, nil
	}
	of.ofPod(a, pod)
	keeps := of.autonomous && (of.keep == 0 || now.Before(of.lost.Add(of.keep)))
	if keeps == pod.traits.has(traitRestored) {
		return false, nil
	}
	status := pod.currentStatus()
	ready := conditionOf(map[string]any{"status": status}, "Ready")
	if keeps && text(ready, "reason") == reasonRestored { // it was before, and somebody does not want it
		if at, err := time.Parse(time.RFC3339, text(ready, "lastTransitionTime")); err == nil && now.Before(at.Add(restoreAgain)) {
			return false, nil
		}
	}
	conditions, _ := status["conditions"].([]any)
	next := slices.Clone(conditions)
	for i, c := range next {
		c, _ := c.(map[string]any)
		if text(c, "type") != "Ready" {
			continue
		}
		changed := map[string]any{"type": "Ready", "reason": reasonRestored, "status": "False", "lastTransitionTime": now.UTC().Format(time.RFC3339),
			"message": "the node is cut off, and has been for longer than its pods are kept ready"}
		if g, ok := c["observedGeneration"]; ok {
			changed["observedGeneration"] = g
		}
		if keeps {
			changed["status"], changed["message"] = "True", "the node is cut off; its last report said that the pod is ready"
			if since := text(conditionOf(map[string]any{"status": status}, "ContainersReady"), "lastTransitionTime"); since != "" {
				changed["lastTransitionTime"] = since // or Deployments would count minReadySeconds anew
			}
		}
		next[i] = changed
	}
	return a.patch(ctx, pod, map[string]any{
		"status":   map[string]any{"conditions": next},
		"metadata": map[string]any{"uid": pod.version.UID, "resourceVersion": pod.rv},
	}, "ready", "status")
}

// patch writes a change of a pod. A conflict is errOvertaken: the cache will show another state.
func (a *Autonomy) patch(ctx context.Context, pod *record, change map[string]any, what string, subresources ...string) (did bool, err error) {
	b, err := json.Marshal(change)
	if err != nil {
		return false, err
	}
	if a.budget != nil {
		if err := a.budget.Wait(ctx); err != nil {
			return false, err
		}
	}
	res, _ := resourceOf(wire.KindPod)
	obj, err := a.opts.Client.Resource(res.gvr).Namespace(pod.key.Namespace()).
		Patch(ctx, pod.key.Name(), types.MergePatchType, b, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil // the watch will tell
	case apierrors.IsConflict(err):
		a.opts.Metrics.conflict("autonomy")
		return false, errOvertaken
	case err != nil:
		return false, fmt.Errorf("patch %s: %w", pod.key, err)
	}
	a.opts.Metrics.kept(what)
	rec, err := newRecord(res, obj)
	if err != nil {
		return false, err
	}
	a.index.refresh(wire.KindPod, rec)
	return true, nil
}

// errOvertaken says that a pod was changed by somebody else.
var errOvertaken = errors.New("it has changed meanwhile")

// decoded is a canonical body as a tree; empty if it is not one.
func decoded(body []byte) map[string]any {
	v, err := canon.ToValue(body)
	if m, ok := v.(map[string]any); ok && err == nil {
		return m
	}
	return map[string]any{}
}
