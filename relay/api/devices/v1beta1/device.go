package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ConditionReady is the condition of a Device that says whether the edge can work with it as it is declared.
// Its reason and message name what is wrong and what to do.
const ConditionReady = "Ready"

// Device is one device, attached to one node.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=devices,scope=Namespaced,singular=device
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.spec.deviceModelRef.name`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Protocol",type=string,JSONPath=`.spec.protocol.protocolName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Device struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec DeviceSpec `json:"spec,omitempty"`
	// Status is written by the relay. Fields of KubeEdge's older Device.status are accepted and ignored.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Status DeviceState `json:"status,omitempty"`
}

// DeviceList is a list of Devices.
//
// +kubebuilder:object:root=true
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Device `json:"items"`
}

// DeviceSpec is what the cloud wants of a device. The edge never changes it.
type DeviceSpec struct {
	// DeviceModelRef names the DeviceModel, in the Device's own namespace.
	// +optional
	DeviceModelRef *corev1.LocalObjectReference `json:"deviceModelRef,omitempty"`
	// NodeName is the node whose gateway the device is attached to.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`
	NodeName string `json:"nodeName,omitempty"`
	// Properties of this device that are collected, written or pushed; names are unique and those of the model.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10000
	Properties []DeviceProperty `json:"properties,omitempty"`
	// Protocol says how to reach the device.
	// +optional
	Protocol ProtocolConfig `json:"protocol,omitempty"`
	// Methods group properties under a name; names are unique.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1000
	Methods []DeviceMethod `json:"methods,omitempty"`
	// StateReport configures how the device's state (online, offline, …) is reported.
	// +optional
	StateReport *StateReportConfig `json:"stateReport,omitempty"`
}

// DeviceState is the status of a Device: whether the edge could do what its spec says. Values are in DeviceStatus.
type DeviceState struct {
	// ReportToCloud is KubeEdge's older spelling of spec.stateReport.reportToCloud. It has no effect here.
	// +optional
	ReportToCloud bool `json:"reportToCloud,omitempty"`
	// ReportCycle is KubeEdge's older spelling of spec.stateReport.reportCycle. It has no effect here.
	// +optional
	ReportCycle int64 `json:"reportCycle,omitempty"`
	// ObservedGeneration is the generation of the Device that the conditions are about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions as the node's agent reported them; Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ProtocolConfig says how to reach the device. Its configData is free-form: each protocol's page in docs/ lists the keys.
type ProtocolConfig struct {
	// ProtocolName of the driver, for example "modbus".
	// +optional
	ProtocolName string `json:"protocolName,omitempty"`
	// ConfigData is the driver's own, for Modbus TCP ip, port and slaveID.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ConfigData *runtime.RawExtension `json:"configData,omitempty"`
}

// StateReportConfig configures how the device's state is reported.
type StateReportConfig struct {
	// ReportToCloud says whether the state is reported to Kubernetes.
	// +optional
	ReportToCloud bool `json:"reportToCloud,omitempty"`
	// ReportCycle in milliseconds; 0 reports on change only.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReportCycle int64 `json:"reportCycle,omitempty"`
}

// DeviceMethod gives a group of properties a name by which apps at the edge can write them.
type DeviceMethod struct {
	// Name of the method, unique in the device.
	// +required
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Description for people.
	// +optional
	Description string `json:"description,omitempty"`
	// PropertyNames that the method writes.
	// +optional
	PropertyNames []string `json:"propertyNames,omitempty"`
}

// DeviceProperty is one property as this device uses it.
type DeviceProperty struct {
	// Name of the property, unique in the device, and one of the model's.
	// +required
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Desired is the value that the device shall take.
	// +optional
	Desired *TwinProperty `json:"desired,omitempty"`
	// Visitors says how the property is read and written, and overrides the model's.
	// +optional
	Visitors *VisitorConfig `json:"visitors,omitempty"`
	// ReportCycle in milliseconds; 0 reports on change only.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReportCycle int64 `json:"reportCycle,omitempty"`
	// CollectCycle in milliseconds between two reads of the device; 0 takes the agent's default.
	// +optional
	// +kubebuilder:validation:Minimum=0
	CollectCycle int64 `json:"collectCycle,omitempty"`
	// ReportToCloud says whether the value is reported to Kubernetes.
	// +optional
	ReportToCloud bool `json:"reportToCloud,omitempty"`
	// PushMethod sends the value somewhere else besides.
	// +optional
	PushMethod *PushMethod `json:"pushMethod,omitempty"`
}

// TwinProperty is a value with what is known about it.
type TwinProperty struct {
	// Value as a string, whatever the property's type.
	// +required
	Value string `json:"value"`
	// Metadata about the value; the agent writes timestamp (milliseconds), type and quality.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
