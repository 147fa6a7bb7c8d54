package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeviceModel describes a kind of device: which properties it has, of which type, and how they may be accessed.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=devicemodels,scope=Namespaced,singular=devicemodel
// +kubebuilder:printcolumn:name="Protocol",type=string,JSONPath=`.spec.protocol`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type DeviceModel struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec DeviceModelSpec `json:"spec,omitempty"`
}

// DeviceModelList is a list of DeviceModels.
//
// +kubebuilder:object:root=true
type DeviceModelList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DeviceModel `json:"items"`
}

// DeviceModelSpec is what all devices of one kind have in common.
type DeviceModelSpec struct {
	// Properties of the device; names are unique.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10000
	Properties []ModelProperty `json:"properties,omitempty"`
	// Protocol that devices of this model speak, for example "modbus".
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// ProtocolConfigData holds defaults for the protocol's configData; a Device may override them.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ProtocolConfigData *runtime.RawExtension `json:"protocolConfigData,omitempty"`
}

// ModelProperty is one property that every device of the model has.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minimum) || !has(self.maximum) || !has(self.type) || !(self.type in ['INT', 'FLOAT', 'DOUBLE']) || !self.minimum.matches('^[-+]?[0-9]+([.][0-9]+)?$') || !self.maximum.matches('^[-+]?[0-9]+([.][0-9]+)?$') || double(self.minimum) <= double(self.maximum)",message="minimum must not be greater than maximum"
type ModelProperty struct {
	// Name of the property, unique in the model.
	// +required
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Description for people.
	// +optional
	Description string `json:"description,omitempty"`
	// Type of the value: INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES or STREAM.
	// +optional
	Type PropertyType `json:"type,omitempty"`
	// AccessMode is ReadWrite or ReadOnly.
	// +optional
	AccessMode PropertyAccessMode `json:"accessMode,omitempty"`
	// Minimum of a numeric property, as a decimal string. Desired values below it are refused at the edge.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Minimum string `json:"minimum,omitempty"`
	// Maximum of a numeric property, as a decimal string. Desired values above it are refused at the edge.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Maximum string `json:"maximum,omitempty"`
	// Unit of the value, for people: "Celsius", "bar".
	// +optional
	Unit string `json:"unit,omitempty"`
	// Visitors says how the property is read and written; a Device may override it.
	// +optional
	Visitors *VisitorConfig `json:"visitors,omitempty"`
}

// PropertyType is the type of a property's value.
//
// +kubebuilder:validation:Enum=INT;FLOAT;DOUBLE;STRING;BOOLEAN;BYTES;STREAM
type PropertyType string

// The types of a property's value.
const (
	TypeInt     PropertyType = "INT"
	TypeFloat   PropertyType = "FLOAT"
	TypeDouble  PropertyType = "DOUBLE"
	TypeString  PropertyType = "STRING"
	TypeBoolean PropertyType = "BOOLEAN"
	TypeBytes   PropertyType = "BYTES"
	TypeStream  PropertyType = "STREAM"
)

// PropertyAccessMode says whether a property may be written.
//
// +kubebuilder:validation:Enum=ReadWrite;ReadOnly
type PropertyAccessMode string

// The access modes.
const (
	ReadWrite PropertyAccessMode = "ReadWrite"
	ReadOnly  PropertyAccessMode = "ReadOnly"
)

// VisitorConfig says how a property is reached over its protocol. Its configData is free-form: each protocol's page in
// docs/ lists the keys.
type VisitorConfig struct {
	// ProtocolName of the driver that understands configData.
	// +optional
	ProtocolName string `json:"protocolName,omitempty"`
	// ConfigData is the driver's own, for Modbus register, offset, limit, scale, isSwap, isRegisterSwap.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ConfigData *runtime.RawExtension `json:"configData,omitempty"`
}
