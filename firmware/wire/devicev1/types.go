package devicev1

// A length is checked before memory is taken for it: a body comes from a peer.
//
//msgp:limit arrays:10000 maps:10000

// Device is what the agent uses of a Device.
type Device struct {
	Metadata Meta       `msg:"metadata"`
	Spec     DeviceSpec `msg:"spec"`
}

// Meta is what the agent uses of an object's metadata.
type Meta struct {
	Name       string `msg:"name"`
	Namespace  string `msg:"namespace"`
	UID        string `msg:"uid"`
	Generation int64  `msg:"generation"`
}

// DeviceSpec is what the agent uses of a Device's spec.
type DeviceSpec struct {
	DeviceModelRef *Ref             `msg:"deviceModelRef"`
	NodeName       string           `msg:"nodeName"`
	Protocol       ProtocolConfig   `msg:"protocol"`
	Properties     []DeviceProperty `msg:"properties"`
	StateReport    *StateReport     `msg:"stateReport"`
	Methods        []DeviceMethod   `msg:"methods"`
}

// DeviceMethod gives a group of properties a name by which they are written, or a method of the device is called.
type DeviceMethod struct {
	Name          string   `msg:"name"`
	Description   string   `msg:"description"`
	PropertyNames []string `msg:"propertyNames"`
}

// Ref names an object in the same namespace.
type Ref struct {
	Name string `msg:"name"`
}

// ProtocolConfig selects a driver and configures it; ConfigData is free-form.
type ProtocolConfig struct {
	ProtocolName string         `msg:"protocolName"`
	ConfigData   map[string]any `msg:"configData"`
}

// StateReport says how often the device's state is reported. Cycles are milliseconds.
type StateReport struct {
	ReportToCloud *bool `msg:"reportToCloud"`
	ReportCycle   int64 `msg:"reportCycle"`
}

// DeviceProperty is one property of a device. Cycles are milliseconds; 0 means the default.
type DeviceProperty struct {
	Name          string         `msg:"name"`
	Desired       Desired        `msg:"desired"`
	Visitors      ProtocolConfig `msg:"visitors"`
	CollectCycle  int64          `msg:"collectCycle"`
	ReportCycle   int64          `msg:"reportCycle"`
	ReportToCloud *bool          `msg:"reportToCloud"`
	PushMethod    map[string]any `msg:"pushMethod"` // package push
}

// Desired is the wanted value of a property; an empty Value means that nothing is wanted (KubeEdge's types cannot
// leave it out).
type Desired struct {
	Value string `msg:"value"`
}

// DeviceModel is what the agent uses of a DeviceModel.
type DeviceModel struct {
	Metadata Meta      `msg:"metadata"`
	Spec     ModelSpec `msg:"spec"`
}

// ModelSpec is what the agent uses of a DeviceModel's spec.
type ModelSpec struct {
	Protocol           string          `msg:"protocol"`
	ProtocolConfigData map[string]any  `msg:"protocolConfigData"`
	Properties         []ModelProperty `msg:"properties"`
}

// ModelProperty declares one property: its type, what may be done with it and its range.
type ModelProperty struct {
	Name       string          `msg:"name"`
	Type       string          `msg:"type"`
	AccessMode string          `msg:"accessMode"`
	Minimum    string          `msg:"minimum"`
	Maximum    string          `msg:"maximum"`
	Unit       string          `msg:"unit"`
	Visitors   *ProtocolConfig `msg:"visitors"`
}

// Report is the status document of key devices/NS/NAME: the relay writes Conditions to Device.status and DeviceStatus to
// the DeviceStatus object of the same name.
type Report struct {
	Conditions         []Condition  `msg:"conditions,omitempty"`
	DeviceStatus       DeviceStatus `msg:"deviceStatus"`
	ObservedGeneration int64        `msg:"observedGeneration"`
}

// Condition is a metav1.Condition.
type Condition struct {
	LastTransitionTime string `msg:"lastTransitionTime"` // RFC 3339
	Message            string `msg:"message"`
	ObservedGeneration int64  `msg:"observedGeneration"`
	Reason             string `msg:"reason"`
	Status             string `msg:"status"` // True, False, Unknown
	Type               string `msg:"type"`
}

// DeviceStatus is the status of a DeviceStatus object.
type DeviceStatus struct {
	Extensions     *StateExtensions `msg:"extensions,omitempty"`
	LastOnlineTime string           `msg:"lastOnlineTime,omitempty"` // RFC 3339
	State          string           `msg:"state,omitempty"`          // online, offline, unhealthy, unknown
	Twins          []Twin           `msg:"twins,omitempty"`
}

// StateExtensions says more of the state than KubeEdge's type has fields for.
type StateExtensions struct {
	Reason string `msg:"stateReason,omitempty"` // why the device is not online
	Since  string `msg:"stateSince,omitempty"`  // RFC 3339: since when it is in this state
}

// Twin is the state of one property.
type Twin struct {
	ObservedDesired *TwinProperty `msg:"observedDesired,omitempty"`
	PropertyName    string        `msg:"propertyName"`
	Reported        *TwinProperty `msg:"reported,omitempty"`
}

// TwinProperty is a value with what is known of it.
type TwinProperty struct {
	Metadata TwinMetadata `msg:"metadata"`
	Value    string       `msg:"value"`
}

// TwinMetadata is a map of strings in the API; here the keys that the agent writes.
type TwinMetadata struct {
	Generation      string `msg:"generation,omitempty"`      // Device generation that wanted the value; observedDesired only
	Origin          string `msg:"origin,omitempty"`          // "edge" if the value was written at the gateway; observedDesired only
	Outcome         string `msg:"outcome,omitempty"`         // pending, applied, verified, failed, refused; observedDesired only
	Quality         string `msg:"quality,omitempty"`         // good, uncertain, bad; reported only
	Reason          string `msg:"reason,omitempty"`          // why the quality is not good or the outcome is not verified
	SourceTimestamp string `msg:"sourceTimestamp,omitempty"` // when the device measured it, ms since 1970; if the device says so
	Timestamp       string `msg:"timestamp,omitempty"`       // when the agent received or tried it, ms since 1970
	Type            string `msg:"type,omitempty"`            // the model's type; reported only
	Unit            string `msg:"unit,omitempty"`            // the model's unit; reported only
}
