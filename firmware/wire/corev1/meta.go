package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// ObjectMeta is the part of an object's metadata that the agent uses.
type ObjectMeta struct {
	Annotations                StringMap `msg:"annotations,omitzero"`
	CreationTimestamp          *Time     `msg:"creationTimestamp,omitempty"`
	DeletionGracePeriodSeconds *int64    `msg:"deletionGracePeriodSeconds,omitempty"` // seconds that a terminating pod's containers have left
	DeletionTimestamp          *Time     `msg:"deletionTimestamp,omitempty"`          // set: the object is being deleted
	Generation                 int64     `msg:"generation,omitempty"`
	Labels                     StringMap `msg:"labels,omitzero"`
	Name                       string    `msg:"name"`
	Namespace                  string    `msg:"namespace,omitempty"`
	UID                        string    `msg:"uid,omitempty"`
}

// ConfigMap is a core/v1 ConfigMap.
type ConfigMap struct {
	BinaryData BytesMap   `msg:"binaryData,omitzero"`
	Data       StringMap  `msg:"data,omitzero"`
	Metadata   ObjectMeta `msg:"metadata"`
}

// Secret is a core/v1 Secret.
type Secret struct {
	Data     BytesMap   `msg:"data,omitzero"`
	Metadata ObjectMeta `msg:"metadata"`
	Type     string     `msg:"type,omitempty"`
}

// LocalObjectReference names an object in the same namespace.
type LocalObjectReference struct {
	Name string `msg:"name"`
}
