package kube

import (
	"bytes"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// record is what stays of an API object: immutable once it is in the index, except that Index may replace it by another.
type record struct {
	key      wire.Key
	version  wire.Version
	rv       string // resourceVersion, the precondition of writes
	revision uint64 // the same as a number
	since    uint64 // the first revision that this cache has seen with the present body: status writes do not count
	body     []byte // canonical bytes of the trimmed object, shared by all who send them
	status   []byte // canonical bytes of the status, to compare reports with; nil for kinds without reports
	refs     []wire.Key
	node     string   // the node that may see it and report on it; empty for what is seen by reference only
	claim    wire.Key // of a persistentVolume: whose it is; only that may lead a node to it
	deleting bool     // metadata.deletionTimestamp is set
	traits   traits
	patience int32 // of a pod: for how many seconds it tolerates that its node is away
	links    bool  // a pod whose containers get variables for the Services of its namespace, a Service that gives some
}

// newRecord trims and encodes an object, which it owns and changes.
func newRecord(res resource, u *unstructured.Unstructured) (*record, error) {
	namespace, name, uid := u.GetNamespace(), u.GetName(), string(u.GetUID())
	r := &record{
		key:      wire.NewKey(res.kind, namespace, name, uid),
		rv:       u.GetResourceVersion(),
		deleting: u.GetDeletionTimestamp() != nil,
	}
	// From Kubernetes 1.35 on, resourceVersions of one resource are comparable numbers, and etcd has always made them so.
	var err error
	if r.revision, err = strconv.ParseUint(r.rv, 10, 64); err != nil {
		return nil, fmt.Errorf("%s %s/%s: resourceVersion %q is not a number: this API server's storage cannot be used", res.kind, namespace, name, r.rv)
	}
	r.since = r.revision
	switch res.kind {
	case wire.KindNode:
		r.node = name
	case wire.KindPod, wire.KindDevice:
		r.node = text(child(u.Object, "spec"), "nodeName")
		r.links = res.kind == wire.KindPod && child(u.Object, "spec")["enableServiceLinks"] != false
	case wire.KindService:
		r.links = hasAddress(u.Object)
	case wire.KindPersistentVolume:
		if claim := child(child(u.Object, "spec"), "claimRef"); claim != nil {
			r.claim = wire.NewKey(wire.KindPersistentVolumeClaim, text(claim, "namespace"), text(claim, "name"), "")
		}
	}
	r.refs = references(res.kind, namespace, u.Object)
	r.traits, r.patience = traitsOf(res.kind, u.Object)

	body, status := trim(res, u.Object)
	if r.body, err = canon.FromValue(body); err != nil {
		return nil, fmt.Errorf("%s %s/%s: encode: %w", res.kind, namespace, name, err)
	}
	r.body = fit(r.body)
	if res.kind == wire.KindPod {
		uid = string(r.key[len(r.key)-len(uid):]) // one copy of the string
	}
	r.version = wire.BodyVersion(uid, r.body)
	switch res.kind {
	case wire.KindNode, wire.KindPod, wire.KindDevice:
		if status == nil {
			status = map[string]any{}
		}
		if r.status, err = canon.FromValue(canon.DropNulls(status)); err != nil {
			return nil, fmt.Errorf("%s %s/%s: encode status: %w", res.kind, namespace, name, err)
		}
		r.status = fit(r.status)
	}
	return r, nil
}

// fit gives back what the encoder took in reserve: records are kept for as long as their objects live.
func fit(b []byte) []byte {
	if cap(b)-len(b) < 16 {
		return b
	}
	return append(make([]byte, 0, len(b)), b...)
}

// inherit makes r share what it has in common with the older state of the same object.
func (r *record) inherit(old *record) {
	r.key, r.version, r.node = old.key, old.version, old.node
	r.body, r.refs = old.body, old.refs // one copy of the bytes, however often the status changes
	if bytes.Equal(r.status, old.status) {
		r.status = old.status
	}
}

// currentStatus decodes the status as the API last showed it; the caller owns the result.
func (r *record) currentStatus() map[string]any {
	v, err := canon.ToValue(r.status)
	if m, ok := v.(map[string]any); ok && err == nil {
		return m
	}
	return map[string]any{}
}

// sameBody reports whether both stand for the same bytes at the same node, so that nobody needs to hear of the change.
func (r *record) sameBody(o *record) bool {
	return r != nil && o != nil && r.version == o.version && r.node == o.node
}

// untouched reports whether no agent has written the pod's status yet: there is nothing that an older report could overwrite.
func (r *record) untouched() bool {
	if r.key.Kind() != wire.KindPod {
		return false
	}
	status := r.currentStatus()
	for _, name := range []string{"startTime", "message", "hostIP", "containerStatuses", "initContainerStatuses"} {
		if _, ok := status[name]; ok {
			return false
		}
	}
	have, _ := conditionsByType(status)
	for _, t := range kubeletConditions {
		if have[t] != nil {
			return false
		}
	}
	phase := text(status, "phase")
	return phase == "" || phase == string(corev1.PodPending)
}
