package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// PodReport is the document that the agent reports about a pod: its status, or that it is gone.
type PodReport struct {
	Deleted bool       `msg:"deleted,omitempty"` // the terminating pod's containers are gone: the object may be deleted
	Status  *PodStatus `msg:"status,omitempty"`
}

// PodStatus is a pod's status as the kubelet would write it.
type PodStatus struct {
	Conditions            []Condition       `msg:"conditions,omitempty"`
	ContainerStatuses     []ContainerStatus `msg:"containerStatuses,omitempty"`
	EphemeralStatuses     []ContainerStatus `msg:"ephemeralContainerStatuses,omitempty"`
	HostIP                string            `msg:"hostIP,omitempty"`
	HostIPs               []IP              `msg:"hostIPs,omitempty"`
	InitContainerStatuses []ContainerStatus `msg:"initContainerStatuses,omitempty"`
	Message               string            `msg:"message,omitempty"`
	ObservedGeneration    int64             `msg:"observedGeneration,omitempty"`
	Phase                 string            `msg:"phase,omitempty"`
	PodIP                 string            `msg:"podIP,omitempty"`
	PodIPs                []IP              `msg:"podIPs,omitempty"`
	QOSClass              string            `msg:"qosClass,omitempty"`
	Reason                string            `msg:"reason,omitempty"`
	StartTime             *Time             `msg:"startTime,omitempty"`
}

// IP is an element of hostIPs and podIPs.
type IP struct {
	IP string `msg:"ip"`
}

// Condition is a condition of a pod or a node.
type Condition struct {
	LastHeartbeatTime  *Time  `msg:"lastHeartbeatTime,omitempty"` // nodes only
	LastTransitionTime *Time  `msg:"lastTransitionTime,omitempty"`
	Message            string `msg:"message,omitempty"`
	ObservedGeneration int64  `msg:"observedGeneration,omitempty"` // pods only
	Reason             string `msg:"reason,omitempty"`
	Status             string `msg:"status"`
	Type               string `msg:"type"`
}

// ContainerStatus is the status of one container.
type ContainerStatus struct {
	AllocatedResources ResourceList          `msg:"allocatedResources,omitzero"` // requests that the node has granted
	ContainerID        string                `msg:"containerID,omitempty"`       // runtime://id
	Image              string                `msg:"image"`
	ImageID            string                `msg:"imageID"`
	LastState          ContainerState        `msg:"lastState"`
	Name               string                `msg:"name"`
	Ready              bool                  `msg:"ready"`
	Resources          *ResourceRequirements `msg:"resources,omitempty"` // in force
	RestartCount       int32                 `msg:"restartCount"`
	Started            *bool                 `msg:"started,omitempty"`
	State              ContainerState        `msg:"state"`
	StopSignal         string                `msg:"stopSignal,omitempty"`
	User               *ContainerUser        `msg:"user,omitempty"`
	VolumeMounts       []VolumeMountStatus   `msg:"volumeMounts,omitempty"`
}

// VolumeMountStatus is one mount of a container as it is.
type VolumeMountStatus struct {
	MountPath         string  `msg:"mountPath"`
	Name              string  `msg:"name"`
	ReadOnly          bool    `msg:"readOnly,omitempty"`
	RecursiveReadOnly *string `msg:"recursiveReadOnly,omitempty"`
}

// ContainerUser is who a container's first process was started as.
type ContainerUser struct {
	Linux *LinuxUser `msg:"linux,omitempty"`
}

// LinuxUser is a user, its group and its supplementary groups.
type LinuxUser struct {
	GID                int64   `msg:"gid"`
	SupplementalGroups []int64 `msg:"supplementalGroups,omitempty"`
	UID                int64   `msg:"uid"`
}

// ContainerState is one of waiting, running and terminated; none of them means unknown.
type ContainerState struct {
	Running    *StateRunning    `msg:"running,omitempty"`
	Terminated *StateTerminated `msg:"terminated,omitempty"`
	Waiting    *StateWaiting    `msg:"waiting,omitempty"`
}

// StateRunning is the state of a running container.
type StateRunning struct {
	StartedAt *Time `msg:"startedAt,omitempty"`
}

// StateWaiting is the state of a container that has not started yet, and why.
type StateWaiting struct {
	Message string `msg:"message,omitempty"`
	Reason  string `msg:"reason,omitempty"`
}

// StateTerminated is the state of a container that has ended.
type StateTerminated struct {
	ContainerID string `msg:"containerID,omitempty"`
	ExitCode    int32  `msg:"exitCode"`
	FinishedAt  *Time  `msg:"finishedAt,omitempty"`
	Message     string `msg:"message,omitempty"`
	Reason      string `msg:"reason,omitempty"`
	Signal      int32  `msg:"signal,omitempty"`
	StartedAt   *Time  `msg:"startedAt,omitempty"`
}
