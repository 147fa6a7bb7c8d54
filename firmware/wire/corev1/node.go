package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// Node is the part of the node's own object that the agent reads.
type Node struct {
	Metadata ObjectMeta `msg:"metadata"`
	Spec     NodeSpec   `msg:"spec"`
}

// NodeSpec is the part of a node's spec that the agent reads.
type NodeSpec struct {
	PodCIDR       string   `msg:"podCIDR,omitempty"`
	PodCIDRs      []string `msg:"podCIDRs,omitempty"`
	Taints        []Taint  `msg:"taints,omitempty"`
	Unschedulable bool     `msg:"unschedulable,omitempty"`
}

// NodeReport is the document that the agent reports about its node. Taints are those that the node registers with: they count
// when the Node is made, not after.
type NodeReport struct {
	Annotations StringMap  `msg:"annotations,omitzero"`
	Labels      StringMap  `msg:"labels,omitzero"`
	Status      NodeStatus `msg:"status"`
	Taints      []Taint    `msg:"taints,omitempty"`
}

// NodeStatus is the node's status as the kubelet would write it.
type NodeStatus struct {
	Addresses   []NodeAddress `msg:"addresses,omitempty"`
	Allocatable ResourceList  `msg:"allocatable,omitzero"`
	Capacity    ResourceList  `msg:"capacity,omitzero"`
	Conditions  []Condition   `msg:"conditions,omitempty"`

	DeclaredFeatures []string `msg:"declaredFeatures,omitempty"` // what pods of newer kinds need of a node

	Features        *NodeFeatures    `msg:"features,omitempty"`
	Images          []ContainerImage `msg:"images,omitempty"`
	NodeInfo        NodeSystemInfo   `msg:"nodeInfo"`
	RuntimeHandlers []RuntimeHandler `msg:"runtimeHandlers,omitempty"`
}

// NodeFeatures says what the node's runtime can do.
type NodeFeatures struct {
	SupplementalGroupsPolicy *bool `msg:"supplementalGroupsPolicy,omitempty"`
}

// ContainerImage is an image that the node has. SizeBytes is what it takes on the disk.
type ContainerImage struct {
	Names     []string `msg:"names,omitempty"`
	SizeBytes int64    `msg:"sizeBytes,omitempty"`
}

// RuntimeHandler is a handler of the runtime. The default one has no name.
type RuntimeHandler struct {
	Features *RuntimeHandlerFeatures `msg:"features,omitempty"`
	Name     string                  `msg:"name"`
}

// RuntimeHandlerFeatures says what a handler can do.
type RuntimeHandlerFeatures struct {
	RecursiveReadOnlyMounts *bool `msg:"recursiveReadOnlyMounts,omitempty"`
	UserNamespaces          *bool `msg:"userNamespaces,omitempty"`
}

// NodeAddress is one address of the node. Type is InternalIP, ExternalIP or Hostname.
type NodeAddress struct {
	Address string `msg:"address"`
	Type    string `msg:"type"`
}

// NodeSystemInfo says what the gateway is made of. The API requires every field to be present, so none is omitted.
type NodeSystemInfo struct {
	Architecture            string `msg:"architecture"`
	BootID                  string `msg:"bootID"`
	ContainerRuntimeVersion string `msg:"containerRuntimeVersion"`
	KernelVersion           string `msg:"kernelVersion"`
	KubeProxyVersion        string `msg:"kubeProxyVersion"`
	KubeletVersion          string `msg:"kubeletVersion"`
	MachineID               string `msg:"machineID"`
	OperatingSystem         string `msg:"operatingSystem"`
	OSImage                 string `msg:"osImage"`
	SystemUUID              string `msg:"systemUUID"`
}
