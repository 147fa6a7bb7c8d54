package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kubeletConditions are the pod conditions that the node owns: one that it no longer reports is removed. All other types
// (PodScheduled, DisruptionTarget, readiness gates) are somebody else's and stay.
var kubeletConditions = []string{
	string(corev1.PodReady), string(corev1.PodInitialized), string(corev1.ContainersReady),
	string(corev1.PodReadyToStartContainers), string(corev1.PodResizePending), string(corev1.PodResizeInProgress),
	string(corev1.AllContainersRestarting),
}

// schedulerFields of a pod's status are written by others than the node.
var schedulerFields = []string{
	"nominatedNodeName", "qosClass", "resourceClaimStatuses", "extendedResourceClaimStatus", "resize",
}

func (s *Sink) writePod(ctx context.Context, w *work) (outcome, error) {
	doc, err := s.document(w)
	if err != nil {
		return dropReport, err
	}
	if doc["deleted"] == true {
		if err := s.lastStatus(ctx, w, child(doc, "status")); err != nil {
			return written, err
		}
		return s.deletePod(ctx, w)
	}
	if manifest := child(doc, "mirror"); manifest != nil {
		return s.createMirror(ctx, w, manifest)
	}
	if s.index.get(w.key) == nil {
		return s.unknownObject(w), nil
	}
	reported := child(doc, "status")
	if reported == nil {
		return dropReport, refusal{"pod report has neither status nor deleted"}
	}
	return s.patchStatus(ctx, w, func(current map[string]any) (from, to map[string]any, err error) {
		return podStatus(current, reported, time.Now())
	})
}

// lastStatus writes how a pod ended that is about to be removed, because whoever waits for it with a finalizer (the Job controller) asks. One
// that cannot be written does not keep the pod from being removed.
func (s *Sink) lastStatus(ctx context.Context, w *work, reported map[string]any) error {
	if rec := s.index.get(w.key); reported == nil || rec == nil || !rec.deleting {
		return nil
	}
	_, err := s.patchStatus(ctx, w, func(current map[string]any) (from, to map[string]any, err error) {
		return podStatus(current, reported, time.Now())
	})
	var no refusal
	if errors.As(err, &no) || permanent(err) {
		s.log.Debug("the last status of a pod is not written", slog.String("key", string(w.key)), slog.Any("error", err))
		return nil
	}
	return err
}

// unknownObject decides about a report on what the cache does not hold: it may be about to arrive (another relay was
// faster), so it is kept and compared when it does.
func (s *Sink) unknownObject(w *work) outcome {
	s.log.Debug("report on an object that the cache does not hold; kept until it appears or the session ends",
		slog.String("node", w.node), slog.String("key", string(w.key)))
	s.opts.Metrics.reports("unknown-object")
	return awaitObject
}

// clockLead is how far a gateway's clock may be ahead before the times in its statuses are the relay's. Whoever counts from a time (a Deployment's
// minReadySeconds does) would wait until then.
const clockLead = 2 * time.Minute

// sane reports whether a time can be true: it is neither from before there were gateways nor in the future. A relay whose own clock is wrong does not know.
func sane(at string, now time.Time) bool {
	t, err := time.Parse(time.RFC3339, at)
	return err == nil && (now.Before(noEventBefore) || !t.Before(noEventBefore) && !t.After(now.Add(clockLead)))
}

// mendTime replaces a time of a status that cannot be true.
func mendTime(in map[string]any, name string, now time.Time) {
	if at := text(in, name); at != "" && !sane(at, now) {
		in[name] = now.UTC().Format(time.RFC3339)
	}
}

// podStatus merges what the node reports into the current status, and returns both in comparable form. The times at which a pod began and its conditions
// changed stay what they were, unless they were noted by a clock that was wrong.
func podStatus(current, reported map[string]any, now time.Time) (from, to map[string]any, err error) {
	if from, err = normalise(current, &corev1.PodStatus{}); err != nil {
		return nil, nil, err
	}
	if to, err = normalise(reported, &corev1.PodStatus{}); err != nil {
		return nil, nil, err
	}
	if was, is := text(from, "phase"), text(to, "phase"); terminal(was) && !terminal(is) {
		// A pod that has ended never comes back; the API lets others end it (pod garbage collection, eviction).
		return nil, nil, refusal{fmt.Sprintf("the pod is %s in the API and cannot become %s again", was, is)}
	}
	for _, name := range schedulerFields {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
	if at := text(from, "startTime"); sane(at, now) {
		to["startTime"] = at
	}
	mendTime(to, "startTime", now)
	have, order := conditionsByType(from)
	ours, reportedOrder := conditionsByType(to)
	var merged []any
	for _, t := range order {
		switch c := ours[t]; {
		case t == string(corev1.PodScheduled), c == nil && !slices.Contains(kubeletConditions, t) && !strings.Contains(t, "skerry.dev/"):
			merged = append(merged, have[t])
		case c != nil:
			if sane(text(have[t], "lastTransitionTime"), now) {
				keepTransition(c, have[t], "")
			}
			mendTime(c, "lastTransitionTime", now)
			// The kubelet's probe time is null; what the API stores of it is the same as what we send.
			merged = append(merged, c)
		}
	}
	for _, t := range reportedOrder {
		if _, known := have[t]; !known && t != string(corev1.PodScheduled) {
			mendTime(ours[t], "lastTransitionTime", now)
			merged = append(merged, ours[t])
		}
	}
	if have[string(corev1.PodScheduled)] == nil {
		// A pod that was created with its nodeName never met the scheduler; the kubelet says it then.
		c := map[string]any{"type": string(corev1.PodScheduled), "status": string(corev1.ConditionTrue)}
		if at, ok := to["startTime"]; ok {
			c["lastTransitionTime"] = at
		}
		merged = append(merged, c)
	}
	delete(to, "conditions")
	if len(merged) > 0 {
		to["conditions"] = merged
	}
	return from, to, nil
}

func terminal(phase string) bool {
	return phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed)
}

// deletePod removes a terminating pod whose containers are gone. It does so in the state in which the cache has it, and reads it
// after a conflict: a restore from a backup may have undone the deletion, which the cache learns a moment later.
func (s *Sink) deletePod(ctx context.Context, w *work) (outcome, error) {
	zero := int64(0)
	rec := s.index.get(w.key)
	for range writeTries {
		if rec == nil {
			return dropReport, nil
		}
		if !rec.deleting && !rec.mirrors() {
			// Our cache may lag behind the relay that told the agent. The agent is asked again when the pod changes.
			s.complain(w.node, slog.LevelWarn, "agent says that a pod is gone which nobody has deleted; not removed", slog.String("key", string(w.key)))
			s.opts.Metrics.reports("not-deleting")
			w.base = max(w.base, rec.revision)
			return unwritable, nil
		}
		if err := s.guard(ctx, w, rec); err != nil {
			return written, err
		}
		if err := s.spend(ctx, w); err != nil {
			return written, err
		}
		uid, rv := types.UID(rec.version.UID), rec.rv
		err := s.client(w.key).Delete(ctx, w.key.Name(), metav1.DeleteOptions{
			GracePeriodSeconds: &zero,
			Preconditions:      &metav1.Preconditions{UID: &uid, ResourceVersion: &rv},
		})
		switch {
		case err == nil, apierrors.IsNotFound(err):
			return dropReport, nil
		case !apierrors.IsConflict(err):
			return written, fmt.Errorf("delete %s: %w", w.key, err)
		}
		if rec, err = s.reread(ctx, w); err != nil {
			return written, err
		}
	}
	return written, fmt.Errorf("delete %s: %d conflicts in a row", w.key, writeTries)
}
