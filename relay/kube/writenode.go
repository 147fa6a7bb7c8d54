package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/firmware/wire"
)

const agentLabel = "node.skerry.dev/agent"

// kubernetesLabels are the labels of Kubernetes' own domains that NodeRestriction lets a node set on itself.
var kubernetesLabels = map[string]bool{
	"kubernetes.io/hostname": true, "kubernetes.io/arch": true, "kubernetes.io/os": true,
	"beta.kubernetes.io/arch": true, "beta.kubernetes.io/os": true, "beta.kubernetes.io/instance-type": true,
	"node.kubernetes.io/instance-type": true, "node.kubernetes.io/windows-build": true,
	"topology.kubernetes.io/zone": true, "topology.kubernetes.io/region": true,
	"failure-domain.beta.kubernetes.io/zone": true, "failure-domain.beta.kubernetes.io/region": true,
}

// nodeMayLabel applies NodeRestriction's rules to a label that a node reports about itself, and keeps the labels by which
// Skerry's nodes are found, and their pods kept, out of its reach.
func nodeMayLabel(name string) bool {
	prefix, _, found := strings.Cut(name, "/")
	if !found {
		return true
	}
	in := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	switch {
	case name == agentLabel, name == autonomyLabel:
		return false
	case !in("kubernetes.io") && !in("k8s.io"):
		return true
	case kubernetesLabels[name]:
		return true
	}
	return in("kubelet.kubernetes.io") || in("node.kubernetes.io")
}

// nodeMayAnnotate allows our own domain only: other annotations steer controllers.
func nodeMayAnnotate(name string) bool {
	prefix, _, _ := strings.Cut(name, "/")
	if name == KubeletPortAnnotation || name == gatewayAddresses || name == wire.AnnotationUpdate { // the relays' own, and the operators'
		return false
	}
	return prefix == "skerry.dev" || strings.HasSuffix(prefix, ".skerry.dev")
}

func (s *Sink) writeNode(ctx context.Context, w *work) (outcome, error) {
	doc, err := s.document(w)
	if err != nil {
		return dropReport, err
	}
	reported := child(doc, "status")
	if reported == nil {
		return dropReport, refusal{"node report has no status"}
	}
	rec := s.index.get(w.key)
	if rec == nil {
		if w.hasNode {
			// Deleted by somebody during this session: like a kubelet, the node registers again only when it starts anew.
			return unwritable, nil
		}
		return s.createNode(ctx, w, doc, reported)
	}
	w.hasNode = true
	if err := s.labelNode(ctx, w, rec, doc); err != nil {
		return written, err
	}
	return s.patchStatus(ctx, w, func(current map[string]any) (from, to map[string]any, err error) {
		return s.nodeStatus(w.node, current, reported)
	})
}

func (s *Sink) createNode(ctx context.Context, w *work, doc, reported map[string]any) (outcome, error) {
	_, status, err := s.nodeStatus(w.node, map[string]any{}, reported)
	if err != nil {
		return dropReport, err
	}
	labels, annotations := s.nodeMetadata(w, doc)
	labels["kubernetes.io/hostname"] = w.node
	labels[agentLabel] = "true"
	meta := map[string]any{"name": w.node, "labels": labels}
	if len(annotations) > 0 {
		meta["annotations"] = annotations
	}
	node := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status,
	}}
	if taints, ok := doc["taints"].([]any); ok && len(taints) > 0 {
		node.Object["spec"] = map[string]any{"taints": taints} // the API server checks them; a node may set them here and nowhere else
	}
	if err := s.spend(ctx, w); err != nil {
		return written, err
	}
	created, err := s.client(w.key).Create(ctx, node, metav1.CreateOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsAlreadyExists(err):
		return awaitObject, nil // the watch will show it, and it is compared then
	case err != nil:
		return written, fmt.Errorf("create Node %s: %w", w.node, err)
	}
	w.hasNode = true
	w.base = max(w.base, parseRevision(created.GetResourceVersion()))
	s.log.Info("Node created", slog.String("node", w.node), slog.String("uid", string(created.GetUID())))
	return written, nil
}

// nodeMetadata returns the reported labels and annotations that a node may set.
func (s *Sink) nodeMetadata(w *work, doc map[string]any) (labels, annotations map[string]any) {
	pick := func(name string, may func(string) bool) map[string]any {
		out := make(map[string]any)
		for k, v := range child(doc, name) {
			if _, ok := v.(string); !ok || !may(k) {
				s.opts.Metrics.reports("label-refused")
				s.remark(w.node, slog.LevelWarn, "node may not set this on itself; ignored", slog.String(name, k))
				continue
			}
			out[k] = v
		}
		return out
	}
	labels, annotations = pick("labels", nodeMayLabel), pick("annotations", nodeMayAnnotate)
	if s.opts.Kubelet != nil {
		s.opts.Kubelet.annotate(annotations, w.node, child(doc, "status"))
	}
	return labels, annotations
}

// labelNode writes labels and annotations that differ. What is no longer reported stays: the relay cannot know whether
// the node or its owner set it. What relays themselves wrote goes with the kubelet port.
func (s *Sink) labelNode(ctx context.Context, w *work, rec *record, doc map[string]any) error {
	body, err := decodeReport(rec.body)
	if err != nil {
		return refusal{err.Error()}
	}
	have := child(body, "metadata")
	labels, annotations := s.nodeMetadata(w, doc)
	labels[agentLabel] = "true"
	meta := map[string]any{}
	for name, want := range map[string]map[string]any{"labels": labels, "annotations": annotations} {
		changed := map[string]any{}
		for k, v := range want {
			if child(have, name)[k] != v {
				changed[k] = v
			}
		}
		if name == "annotations" && s.opts.Kubelet == nil {
			unannotate(changed, w.node, child(have, name))
		}
		if len(changed) > 0 {
			meta[name] = changed
		}
	}
	if len(meta) == 0 {
		return nil
	}
	if err := s.guard(ctx, w, rec); err != nil {
		return err
	}
	obj, err := s.patch(ctx, w, rec, map[string]any{"metadata": meta})
	if apierrors.IsConflict(err) {
		if _, err = s.reread(ctx, w); err == nil {
			err = fmt.Errorf("label node %s: changed meanwhile, trying again", w.node)
		}
	}
	if err != nil {
		return err
	}
	_, err = s.answered(w, obj)
	return err
}

// nodeStatus is the function of that name, and where the kubelet API is.
func (s *Sink) nodeStatus(node string, current, reported map[string]any) (from, to map[string]any, err error) {
	from, to, err = nodeStatus(current, reported, time.Now())
	if err == nil && s.opts.Kubelet != nil {
		s.opts.Kubelet.addressRelays(to, node, s.index.kubeletPortOf(node))
	}
	return from, to, err
}

// nodeStatus merges what the agent reports into the current status, and returns both in comparable form. Heartbeat times
// do not count as a difference (the Lease is the heartbeat), and times are the relay's: a gateway may live in 1970.
func nodeStatus(current, reported map[string]any, now time.Time) (from, to map[string]any, err error) {
	if from, err = normalise(current, &corev1.NodeStatus{}); err != nil {
		return nil, nil, err
	}
	report, err := normalise(reported, &corev1.NodeStatus{})
	if err != nil {
		return nil, nil, err
	}
	to = make(map[string]any, len(from)+len(report))
	for k, v := range from {
		to[k] = v
	}
	for k, v := range report {
		if _, said := reported[k]; said { // the typed form has zero structs for what was not said
			to[k] = v
		}
	}
	for _, name := range []string{"capacity", "allocatable"} {
		keepExtended(child(to, name), child(from, name))
	}
	mergeNodeConditions(from, to, report, now.UTC().Format(time.RFC3339))
	return from, to, nil
}

// keepExtended keeps the extended resources (those with a domain) that others have set.
func keepExtended(to, from map[string]any) {
	for k, v := range from {
		if _, ok := to[k]; !ok && to != nil && strings.Contains(k, "/") {
			to[k] = v
		}
	}
}

func mergeNodeConditions(from, to, report map[string]any, stamp string) {
	have, order := conditionsByType(from)
	ours, reportedOrder := conditionsByType(report)
	var merged []any
	for _, t := range order {
		c := ours[t]
		if c == nil {
			merged = append(merged, have[t])
			continue
		}
		keepTransition(c, have[t], stamp)
		c["lastHeartbeatTime"] = stamp
		if sameCondition(c, have[t]) {
			c = have[t]
		}
		merged = append(merged, c)
	}
	for _, t := range reportedOrder {
		if _, known := have[t]; !known {
			c := ours[t]
			c["lastTransitionTime"], c["lastHeartbeatTime"] = stamp, stamp
			merged = append(merged, c)
		}
	}
	delete(to, "conditions")
	if len(merged) > 0 {
		to["conditions"] = merged
	}
}

// sameCondition compares what a condition says, not when.
func sameCondition(a, b map[string]any) bool {
	for _, f := range []string{"status", "reason", "message"} {
		if text(a, f) != text(b, f) {
			return false
		}
	}
	return true
}

// onlyFigures reports whether a change of a Node's status only brings figures up to date: no condition says anything new.
// Such a write lets others go first.
func onlyFigures(diff map[string]any) bool {
	_, conditions := diff["conditions"]
	return !conditions
}
