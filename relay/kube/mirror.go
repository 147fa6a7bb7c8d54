package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/firmware/wire"
)

// Annotations of mirror pods (k8s.io/api/core/v1 and pkg/kubelet/types).
const (
	mirrorAnnotation = "kubernetes.io/config.mirror"
	hashAnnotation   = "kubernetes.io/config.hash"
)

// mirrorPatience is how long a mirror waits for another pod of its name to go.
const mirrorPatience = 5 * time.Second

// maxBound is how many pods may be bound to a node that has one more made: what an agent's configuration allows at most. Without it a
// gateway that somebody else has taken over could fill the cluster's storage.
const maxBound = 1000

// createMirror makes the pod by which the API shows a static pod of the node. What it may be is what NodeRestriction lets a kubelet make:
// bound to the node and owned by it, and without anything that would lead the node to objects of others.
func (s *Sink) createMirror(ctx context.Context, w *work, manifest map[string]any) (outcome, error) {
	node := s.index.get(wire.NewKey(wire.KindNode, "", w.node, ""))
	if node == nil {
		return awaitObject, nil
	}
	pod, err := mirrorPod(w.key, w.node, node.version.UID, manifest)
	if err != nil {
		return dropReport, err
	}
	if n := len(s.index.rootsOf(w.node, wire.KindPod)); n >= maxBound {
		return dropReport, refusal{fmt.Sprintf("%d pods are bound to the node already, the limit: delete some, or remove static pods", n)}
	}
	if err := s.ours(ctx, w.n, w.epoch); err != nil {
		return written, err
	}
	if err := s.spend(ctx, w); err != nil {
		return written, err
	}
	_, err = s.client(w.key).Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsAlreadyExists(err):
		return s.mirrorExists(ctx, w)
	case apierrors.IsNotFound(err):
		return dropReport, refusal{fmt.Sprintf("there is no namespace %q for a static pod of the node: make it, or move the pod", w.key.Namespace())}
	case err != nil:
		return written, fmt.Errorf("create the mirror pod %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
	}
	s.log.Info("mirror pod created", slog.String("node", w.node), slog.String("pod", w.key.Namespace()+"/"+w.key.Name()))
	return dropReport, nil
}

// mirrorExists finds out why there is a pod of that name already.
func (s *Sink) mirrorExists(ctx context.Context, w *work) (outcome, error) {
	old, err := s.client(w.key).Get(ctx, w.key.Name(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && old.GetDeletionTimestamp() != nil:
		return written, waitError{mirrorPatience}
	case err != nil:
		return written, fmt.Errorf("read the pod %s/%s: %w", w.key.Namespace(), w.key.Name(), err)
	case old.GetAnnotations()[mirrorAnnotation] == w.key.UID():
		return dropReport, nil // its own; the watch will show it
	}
	return dropReport, refusal{"another pod has the name of a static pod of the node: delete it, or rename the static pod"}
}

// mirrorPod makes the mirror of a static pod, or says why the node may not have it.
func mirrorPod(key wire.Key, node, nodeUID string, manifest map[string]any) (*unstructured.Unstructured, error) {
	meta, spec := child(manifest, "metadata"), child(manifest, "spec")
	annotations := child(meta, "annotations")
	switch {
	case meta == nil || spec == nil || text(meta, "name") != key.Name() || text(meta, "namespace") != key.Namespace():
		return nil, refusal{"the static pod is not the one that the report is about"}
	case !strings.HasSuffix(key.Name(), "-"+strings.ToLower(node)):
		return nil, refusal{"the name of a static pod must end with the node's"}
	case text(annotations, hashAnnotation) != key.UID():
		return nil, refusal{"the static pod's hash is not the one that the report is about"}
	}
	if err := leadsNowhere(meta, spec); err != nil {
		return nil, refusal{"a static pod may not lead to other objects: " + err.Error()}
	}
	if annotations[mirrorAnnotation] = key.UID(); oversizedStrings(annotations) || oversizedStrings(child(meta, "labels")) {
		return nil, refusal{"the static pod's labels or annotations are too large"}
	}
	spec["nodeName"] = node
	kept := map[string]any{
		"name": key.Name(), "namespace": key.Namespace(), "annotations": annotations,
		"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Node", "name": node, "uid": nodeUID, "controller": true}},
	}
	if labels := child(meta, "labels"); len(labels) > 0 {
		kept["labels"] = labels
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": spec}}, nil
}

func oversizedStrings(m map[string]any) bool {
	n := 0
	for k, v := range m {
		s, _ := v.(string)
		n += len(k) + len(s)
	}
	return len(m) > maxLabels || n > maxLabelBytes
}

// leadsNowhere checks that a pod refers to no object of the API (admission plugin NodeRestriction): a node could otherwise read any secret
// by binding a pod to itself.
func leadsNowhere(meta, spec map[string]any) error {
	for _, field := range []string{"serviceAccountName", "serviceAccount"} {
		if text(spec, field) != "" {
			return errors.New("spec." + field)
		}
	}
	for _, field := range []string{"resourceClaims", "ephemeralContainers", "imagePullSecrets"} {
		if list, ok := spec[field].([]any); ok && len(list) > 0 {
			return errors.New("spec." + field)
		}
	}
	refs := references(wire.KindPod, text(meta, "namespace"), map[string]any{"metadata": meta, "spec": spec})
	for _, ref := range refs {
		if ref.Kind() != wire.KindRuntimeClass {
			return fmt.Errorf("%s %s", ref.Kind(), ref.Name())
		}
	}
	for v := range items(spec, "volumes") {
		for name := range v {
			switch name {
			case "name", "emptyDir", "hostPath", "downwardAPI", "image":
			default:
				return fmt.Errorf("volume %q is a %s", text(v, "name"), name)
			}
		}
	}
	return nil
}

// mirrors reports whether the record is a mirror pod, which goes when its node says so.
func (r *record) mirrors() bool {
	body, err := decodeReport(r.body)
	return err == nil && text(child(child(body, "metadata"), "annotations"), mirrorAnnotation) != ""
}
