package kube

import (
	"slices"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// TrimVersion numbers the rules below. Raise it when the same API object would give other bytes than before: every agent
// then holds another version of every object, and mixed versions of relay and agent must be able to tell.
const TrimVersion = 2

// Annotations that say nothing to an agent. The first repeats the whole object; the second changes on every node of a
// cluster when the cluster grows past a threshold, which would send every node object again.
var droppedAnnotations = []string{
	"kubectl.kubernetes.io/last-applied-configuration",
	"node.alpha.kubernetes.io/ttl",
	wire.AnnotationUpdateStatus, // the agent's own, which changes while it is at it
}

// Taints that Kubernetes derives from the node's own status and Lease: an echo of what the agent has reported, or has not.
// A gateway that flaps would be told of each change of its own readiness. What operators set, unschedulable included, stays.
var echoedTaints = []string{
	"node.kubernetes.io/not-ready",
	"node.kubernetes.io/unreachable",
	"node.kubernetes.io/memory-pressure",
	"node.kubernetes.io/disk-pressure",
	"node.kubernetes.io/pid-pressure",
	"node.kubernetes.io/network-unavailable",
}

// trim reduces an API object, which it owns and changes, to what travels to agents, and returns the status apart.
//
// Dropped: metadata.managedFields, resourceVersion (it travels in the envelope) and selfLink; the annotations and taints above; the
// status, because the agent owns it and would be told of each of its own reports, but for the conditions that a pod's
// readiness gates name (gateConditions) and the phase of a claim, which the agent does not report on; nulls in objects of Kubernetes'
// own APIs, which mean the same as no field. Everything else stays, known to us or not, so that the edge can serve the object again;
// but of a Service only what containers' variables are made of (services.go).
func trim(res resource, obj map[string]any) (body, status map[string]any) {
	body = obj
	status, _ = body["status"].(map[string]any)
	delete(body, "status")
	switch res.kind {
	case wire.KindPod:
		if gates := gateConditions(child(body, "spec"), status); gates != nil {
			body["status"] = gates
		}
	case wire.KindService:
		return trimService(res, obj), nil
	case wire.KindPersistentVolumeClaim:
		if phase := text(status, "phase"); phase != "" {
			body["status"] = map[string]any{"phase": phase}
		}
	}
	// Items of a list carry neither; a watch event carries both. The version must not depend on which it was.
	body["apiVersion"] = res.apiVersion()
	body["kind"] = res.apiKind

	if meta, ok := body["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		delete(meta, "resourceVersion")
		delete(meta, "selfLink")
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			for _, name := range droppedAnnotations {
				delete(annotations, name)
			}
			if len(annotations) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	if res.kind == wire.KindNode {
		dropTaints(child(body, "spec"))
	}
	if res.gvr.Group != devicesGroup {
		canon.DropNulls(body)
	} else {
		// Free-form configData may hold a null of its own; metadata may not.
		canon.DropNulls(body["metadata"])
	}
	return body, status
}

// dropTaints takes the echoed taints out of a node's spec.
func dropTaints(spec map[string]any) {
	list, ok := spec["taints"].([]any)
	if !ok {
		return
	}
	list = slices.DeleteFunc(list, func(v any) bool {
		taint, _ := v.(map[string]any)
		return slices.Contains(echoedTaints, text(taint, "key"))
	})
	spec["taints"] = list
	if len(list) == 0 {
		delete(spec, "taints")
	}
}

// references returns the keys of the objects that obj names and cannot do without: what has to travel with it. Sorted,
// each once, references that are marked optional included (their absence has to be known, too).
func references(kind wire.Kind, namespace string, obj map[string]any) []wire.Key {
	var refs []wire.Key
	add := func(kind wire.Kind, name string) {
		if name != "" {
			refs = append(refs, wire.NewKey(kind, namespace, name, ""))
		}
	}
	spec := child(obj, "spec")
	switch kind {
	case wire.KindPod:
		podReferences(spec, add)
		if name := text(spec, "runtimeClassName"); name != "" {
			refs = append(refs, wire.NewKey(wire.KindRuntimeClass, "", name, ""))
		}
		claims(text(child(obj, "metadata"), "name"), spec, add)
	case wire.KindPersistentVolumeClaim:
		if name := text(spec, "volumeName"); name != "" {
			refs = append(refs, wire.NewKey(wire.KindPersistentVolume, "", name, ""))
		}
	case wire.KindDevice:
		add(wire.KindDeviceModel, text(child(spec, "deviceModelRef"), "name"))
	default:
		return nil
	}
	slices.Sort(refs)
	return slices.Clip(slices.Compact(refs))
}

func podReferences(spec map[string]any, add func(wire.Kind, string)) {
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for c := range items(spec, list) {
			for from := range items(c, "envFrom") {
				add(wire.KindConfigMap, text(child(from, "configMapRef"), "name"))
				add(wire.KindSecret, text(child(from, "secretRef"), "name"))
			}
			for env := range items(c, "env") {
				from := child(env, "valueFrom")
				add(wire.KindConfigMap, text(child(from, "configMapKeyRef"), "name"))
				add(wire.KindSecret, text(child(from, "secretKeyRef"), "name"))
			}
		}
	}
	for v := range items(spec, "volumes") {
		add(wire.KindConfigMap, text(child(v, "configMap"), "name"))
		add(wire.KindSecret, text(child(v, "secret"), "secretName"))
		add(wire.KindSecret, text(child(child(v, "csi"), "nodePublishSecretRef"), "name"))
		for source := range items(child(v, "projected"), "sources") {
			add(wire.KindConfigMap, text(child(source, "configMap"), "name"))
			add(wire.KindSecret, text(child(source, "secret"), "name"))
		}
	}
	for s := range items(spec, "imagePullSecrets") {
		add(wire.KindSecret, text(s, "name"))
	}
}

// claims adds the claims that a pod's volumes are made from. The one of a generic ephemeral volume is called after pod and volume.
func claims(pod string, spec map[string]any, add func(wire.Kind, string)) {
	for v := range items(spec, "volumes") {
		add(wire.KindPersistentVolumeClaim, text(child(v, "persistentVolumeClaim"), "claimName"))
		if child(v, "ephemeral") != nil && pod != "" {
			add(wire.KindPersistentVolumeClaim, pod+"-"+text(v, "name"))
		}
	}
}
