package kube

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry/skerry/firmware/wire"
)

// resource ties a kind of the link to the API resource behind it.
type resource struct {
	kind     wire.Kind
	gvr      schema.GroupVersionResource
	apiKind  string // the object's own "kind" field
	selector string // field selector of the watch, empty for all objects
}

func (r resource) apiVersion() string { return r.gvr.GroupVersion().String() }

const (
	devicesGroup   = "devices.kubeedge.io"
	devicesVersion = "v1beta1"
)

var (
	leasesGVR         = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	eventsGVR         = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	deviceStatusesGVR = schema.GroupVersionResource{Group: devicesGroup, Version: devicesVersion, Resource: "devicestatuses"}
)

// resources is the table of everything that the relay watches, in wire.Kinds' order.
var resources = []resource{
	{kind: wire.KindNode, gvr: core("nodes"), apiKind: "Node"},
	{kind: wire.KindConfigMap, gvr: core("configmaps"), apiKind: "ConfigMap"},
	{kind: wire.KindSecret, gvr: core("secrets"), apiKind: "Secret"},
	{kind: wire.KindDeviceModel, gvr: devices("devicemodels"), apiKind: "DeviceModel"},
	{kind: wire.KindRuntimeClass, gvr: schema.GroupVersionResource{Group: "node.k8s.io", Version: "v1", Resource: "runtimeclasses"}, apiKind: "RuntimeClass"},
	{kind: wire.KindService, gvr: core("services"), apiKind: "Service"},
	{kind: wire.KindPersistentVolume, gvr: core("persistentvolumes"), apiKind: "PersistentVolume"},
	{kind: wire.KindPersistentVolumeClaim, gvr: core("persistentvolumeclaims"), apiKind: "PersistentVolumeClaim"},
	{kind: wire.KindPod, gvr: core("pods"), apiKind: "Pod", selector: "spec.nodeName!="},
	{kind: wire.KindDevice, gvr: devices("devices"), apiKind: "Device"},
}

func core(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: name}
}

func devices(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: devicesGroup, Version: devicesVersion, Resource: name}
}

func resourceOf(kind wire.Kind) (resource, bool) {
	for _, r := range resources {
		if r.kind == kind {
			return r, true
		}
	}
	return resource{}, false
}
