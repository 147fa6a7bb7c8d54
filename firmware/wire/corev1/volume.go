package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// VolumeMount puts a volume into a container.
type VolumeMount struct {
	MountPath         string  `msg:"mountPath"`
	MountPropagation  *string `msg:"mountPropagation,omitempty"`
	Name              string  `msg:"name"`
	ReadOnly          bool    `msg:"readOnly,omitempty"`
	RecursiveReadOnly *string `msg:"recursiveReadOnly,omitempty"`
	SubPath           string  `msg:"subPath,omitempty"`
	SubPathExpr       string  `msg:"subPathExpr,omitempty"`
}

// Volume is one of a pod's volumes. Exactly one source is set.
type Volume struct {
	ConfigMap             *ConfigMapVolume `msg:"configMap,omitempty"`
	CSI                   *CSIVolume       `msg:"csi,omitempty"`
	Downward              *DownwardVolume  `msg:"downwardAPI,omitempty"`
	EmptyDir              *EmptyDirVolume  `msg:"emptyDir,omitempty"`
	Ephemeral             *EphemeralVolume `msg:"ephemeral,omitempty"`
	HostPath              *HostPathVolume  `msg:"hostPath,omitempty"`
	Image                 *ImageVolume     `msg:"image,omitempty"`
	Name                  string           `msg:"name"`
	PersistentVolumeClaim *ClaimVolume     `msg:"persistentVolumeClaim,omitempty"`
	Projected             *ProjectedVolume `msg:"projected,omitempty"`
	Secret                *SecretVolume    `msg:"secret,omitempty"`
}

// ClaimVolume is the persistentVolume of a claim.
type ClaimVolume struct {
	ClaimName string `msg:"claimName"`
	ReadOnly  bool   `msg:"readOnly,omitempty"`
}

// EphemeralVolume is a claim that was made for the pod, with the name POD-VOLUME.
type EphemeralVolume struct {
	VolumeClaimTemplate *ClaimTemplate `msg:"volumeClaimTemplate,omitempty"`
}

// ClaimTemplate is what such a claim was made from.
type ClaimTemplate struct {
	Spec PersistentVolumeClaimSpec `msg:"spec"`
}

// CSIVolume is a volume that a CSI driver makes for the pod.
type CSIVolume struct {
	Driver   string `msg:"driver"`
	ReadOnly *bool  `msg:"readOnly,omitempty"`
}

// ImageVolume shows the files of an OCI image or artifact.
type ImageVolume struct {
	PullPolicy string `msg:"pullPolicy,omitempty"`
	Reference  string `msg:"reference,omitempty"`
}

// KeyToPath maps a key to a file inside a volume. Mode is the file's permission bits.
type KeyToPath struct {
	Key  string `msg:"key"`
	Mode *int32 `msg:"mode,omitempty"`
	Path string `msg:"path"`
}

// ConfigMapVolume shows a configMap's keys as files.
type ConfigMapVolume struct {
	DefaultMode *int32      `msg:"defaultMode,omitempty"`
	Items       []KeyToPath `msg:"items,omitempty"`
	Name        string      `msg:"name,omitempty"`
	Optional    *bool       `msg:"optional,omitempty"`
}

// SecretVolume shows a secret's keys as files.
type SecretVolume struct {
	DefaultMode *int32      `msg:"defaultMode,omitempty"`
	Items       []KeyToPath `msg:"items,omitempty"`
	Optional    *bool       `msg:"optional,omitempty"`
	SecretName  string      `msg:"secretName,omitempty"`
}

// EmptyDirVolume is a folder that lives as long as the pod. Medium "Memory" asks for a tmpfs.
type EmptyDirVolume struct {
	Medium    string    `msg:"medium,omitempty"`
	SizeLimit *Quantity `msg:"sizeLimit,omitempty"`
}

// HostPathVolume is a file or folder of the gateway itself.
type HostPathVolume struct {
	Path string  `msg:"path"`
	Type *string `msg:"type,omitempty"`
}

// ProjectedVolume puts several sources into one folder.
type ProjectedVolume struct {
	DefaultMode *int32             `msg:"defaultMode,omitempty"`
	Sources     []VolumeProjection `msg:"sources,omitempty"`
}

// VolumeProjection is one source of a projected volume.
type VolumeProjection struct {
	ConfigMap           *ObjectProjection   `msg:"configMap,omitempty"`
	Downward            *DownwardProjection `msg:"downwardAPI,omitempty"`
	Secret              *ObjectProjection   `msg:"secret,omitempty"`
	ServiceAccountToken *TokenProjection    `msg:"serviceAccountToken,omitempty"`
}

// ObjectProjection shows a configMap's or secret's keys as files.
type ObjectProjection struct {
	Items    []KeyToPath `msg:"items,omitempty"`
	Name     string      `msg:"name,omitempty"`
	Optional *bool       `msg:"optional,omitempty"`
}

// TokenProjection is a token of the pod's service account, and where it is put. Without an audience it is for the API server.
type TokenProjection struct {
	Audience          string `msg:"audience,omitempty"`
	ExpirationSeconds *int64 `msg:"expirationSeconds,omitempty"`
	Path              string `msg:"path"`
}

// DownwardVolume shows fields of the pod as files.
type DownwardVolume struct {
	DefaultMode *int32         `msg:"defaultMode,omitempty"`
	Items       []DownwardFile `msg:"items,omitempty"`
}

// DownwardProjection shows fields of the pod as files.
type DownwardProjection struct {
	Items []DownwardFile `msg:"items,omitempty"`
}

// DownwardFile is one field of the pod as a file.
type DownwardFile struct {
	FieldRef         *ObjectFieldSelector   `msg:"fieldRef,omitempty"`
	Mode             *int32                 `msg:"mode,omitempty"`
	Path             string                 `msg:"path"`
	ResourceFieldRef *ResourceFieldSelector `msg:"resourceFieldRef,omitempty"`
}
