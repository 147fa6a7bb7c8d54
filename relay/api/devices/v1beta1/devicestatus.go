package v1beta1

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeviceStatus holds the values of the Device of the same name. It belongs to the Device by an owner reference and goes
// with it. It has no status subresource (KubeEdge's has none): write it with Create, Update and Patch, not UpdateStatus.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=devicestatuses,scope=Namespaced,singular=devicestatus
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Last Online",type=date,JSONPath=`.status.lastOnlineTime`
// +kubebuilder:printcolumn:name="Values",type=string,JSONPath=`.status.extensions.summary`
// +kubebuilder:printcolumn:name="Twins",type=string,priority=1,JSONPath=`.status.twins`
type DeviceStatus struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec DeviceStatusSpec `json:"spec,omitempty"`
	// +optional
	Status DeviceStatusStatus `json:"status,omitempty"`
}

// DeviceStatusList is a list of DeviceStatuses.
//
// +kubebuilder:object:root=true
type DeviceStatusList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DeviceStatus `json:"items"`
}

// DeviceStatusSpec is empty: the device is the one of the same name.
type DeviceStatusSpec struct{}

// DeviceStatusStatus is what the edge last reported of a device.
type DeviceStatusStatus struct {
	// Twins are the values, one entry for each property.
	// +optional
	Twins []Twin `json:"twins,omitempty"`
	// State of the device: online, offline, ok, unknown or unhealthy; a mapper may have words of its own.
	// +optional
	State string `json:"state,omitempty"`
	// LastOnlineTime is when the device last answered, RFC 3339, by the gateway's clock.
	// +optional
	LastOnlineTime string `json:"lastOnlineTime,omitempty"`
	// Extensions is free-form. The relay writes "summary", the values in one line; the agent "stateSince" and "stateReason".
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Extensions *runtime.RawExtension `json:"extensions,omitempty"`
}

// Twin is one property's value: what the device reported, and which desired value it was last given.
type Twin struct {
	// PropertyName of the device and its model.
	// +optional
	PropertyName string `json:"propertyName,omitempty"`
	// Reported is the value that was read from the device. Absent until a read has succeeded.
	// +optional
	Reported *TwinProperty `json:"reported,omitempty"`
	// ObservedDesired is the desired value that the agent has seen and acted on. Absent when none is desired.
	// +optional
	ObservedDesired *TwinProperty `json:"observedDesired,omitempty"`
}

// Summary renders reported values in one line for a printer column, "temp=21.5 level=3", in the order of twins and cut
// after about limit bytes with the number of values left out ("… +12"). An unknown value reads "?".
func Summary(twins []Twin, limit int) string {
	var b strings.Builder
	for i, t := range twins {
		value := "?"
		if t.Reported != nil {
			value = t.Reported.Value
			if q := t.Reported.Metadata["quality"]; q != "" && q != "good" {
				value += "(" + q + ")"
			}
		}
		item := t.PropertyName + "=" + value
		if i > 0 && b.Len()+1+len(item) > limit {
			b.WriteString(" … +" + strconv.Itoa(len(twins)-i))
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(item)
	}
	return b.String()
}
