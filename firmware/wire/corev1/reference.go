package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// Service is what reaches the edge of a core/v1 Service: what containers' variables are made of.
type Service struct {
	Metadata ObjectMeta  `msg:"metadata"`
	Spec     ServiceSpec `msg:"spec"`
}

// ServiceSpec holds a Service's address and ports.
type ServiceSpec struct {
	ClusterIP string        `msg:"clusterIP,omitempty"`
	Ports     []ServicePort `msg:"ports,omitempty"`
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name     string `msg:"name,omitempty"`
	Port     int32  `msg:"port"`
	Protocol string `msg:"protocol,omitempty"`
}

// RuntimeClass is a node.k8s.io/v1 RuntimeClass. The API server has copied its overhead into the pods that use it.
type RuntimeClass struct {
	Handler  string     `msg:"handler"`
	Metadata ObjectMeta `msg:"metadata"`
}

// PersistentVolumeClaim is a core/v1 PersistentVolumeClaim; of its status the phase reaches the edge.
type PersistentVolumeClaim struct {
	Metadata ClaimMeta                   `msg:"metadata"`
	Spec     PersistentVolumeClaimSpec   `msg:"spec"`
	Status   PersistentVolumeClaimStatus `msg:"status"`
}

// ClaimMeta is the part of a claim's metadata that the agent uses.
type ClaimMeta struct {
	DeletionTimestamp *Time            `msg:"deletionTimestamp,omitempty"` // set: it is being deleted
	Name              string           `msg:"name"`
	Namespace         string           `msg:"namespace,omitempty"`
	OwnerReferences   []OwnerReference `msg:"ownerReferences,omitempty"`
	UID               string           `msg:"uid,omitempty"`
}

// OwnerReference names an object that another one belongs to.
type OwnerReference struct {
	Controller *bool  `msg:"controller,omitempty"`
	Kind       string `msg:"kind"`
	Name       string `msg:"name"`
	UID        string `msg:"uid"`
}

// PersistentVolumeClaimSpec says which volume a claim is bound to, and how it may be used.
type PersistentVolumeClaimSpec struct {
	AccessModes []string `msg:"accessModes,omitempty"`
	VolumeMode  string   `msg:"volumeMode,omitempty"`
	VolumeName  string   `msg:"volumeName,omitempty"`
}

// PersistentVolumeClaimStatus is Pending, Bound or Lost.
type PersistentVolumeClaimStatus struct {
	Phase string `msg:"phase,omitempty"`
}

// PersistentVolume is a core/v1 PersistentVolume.
type PersistentVolume struct {
	Metadata ObjectMeta           `msg:"metadata"`
	Spec     PersistentVolumeSpec `msg:"spec"`
}

// PersistentVolumeSpec holds the sources that the agent knows; any other leaves them all nil.
type PersistentVolumeSpec struct {
	AccessModes  []string             `msg:"accessModes,omitempty"`
	ClaimRef     *ClaimReference      `msg:"claimRef,omitempty"`
	CSI          *CSIPersistentVolume `msg:"csi,omitempty"`
	HostPath     *HostPathVolume      `msg:"hostPath,omitempty"`
	Local        *LocalVolume         `msg:"local,omitempty"`
	NodeAffinity *VolumeNodeAffinity  `msg:"nodeAffinity,omitempty"`
	VolumeMode   string               `msg:"volumeMode,omitempty"`
}

// ClaimReference names the claim that a volume is bound to.
type ClaimReference struct {
	Name      string `msg:"name,omitempty"`
	Namespace string `msg:"namespace,omitempty"`
	UID       string `msg:"uid,omitempty"`
}

// LocalVolume is a folder or block device of one node.
type LocalVolume struct {
	FSType string `msg:"fsType,omitempty"`
	Path   string `msg:"path"`
}

// CSIPersistentVolume is a volume of a CSI driver.
type CSIPersistentVolume struct {
	Driver       string `msg:"driver"`
	VolumeHandle string `msg:"volumeHandle,omitempty"`
}

// VolumeNodeAffinity says on which nodes a volume is.
type VolumeNodeAffinity struct {
	Required *NodeSelector `msg:"required,omitempty"`
}
