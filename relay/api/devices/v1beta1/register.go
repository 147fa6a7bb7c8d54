package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group, KubeEdge's own.
const GroupName = "devices.kubeedge.io"

// Version is the version of the group that these types describe.
const Version = "v1beta1"

// GroupVersion returns devices.kubeedge.io/v1beta1.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// Resource returns the group, version and plural resource name, as the dynamic client wants it: "devices",
// "devicemodels" or "devicestatuses".
func Resource(plural string) schema.GroupVersionResource {
	return GroupVersion().WithResource(plural)
}

// AddToScheme registers the types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(),
		&Device{}, &DeviceList{},
		&DeviceModel{}, &DeviceModelList{},
		&DeviceStatus{}, &DeviceStatusList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
