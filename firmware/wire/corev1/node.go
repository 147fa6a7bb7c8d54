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
	Unschedulable bool     `msg:"unschedulable,omitempty"`
}

// NodeReport is the document that the agent reports about its node.
type NodeReport struct {
	Annotations StringMap  `msg:"annotations,omitzero"`
	Labels      StringMap  `msg:"labels,omitzero"`
	Status      NodeStatus `msg:"status"`
}

// NodeStatus is the node's status as the kubelet would write it.
type NodeStatus struct {
	Addresses   []NodeAddress  `msg:"addresses,omitempty"`
	Allocatable ResourceList   `msg:"allocatable,omitzero"`
	Capacity    ResourceList   `msg:"capacity,omitzero"`
	Conditions  []Condition    `msg:"conditions,omitempty"`
	NodeInfo    NodeSystemInfo `msg:"nodeInfo"`
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
