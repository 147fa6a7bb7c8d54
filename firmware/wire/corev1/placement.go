package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// Affinity is the part of a pod's affinity that a node decides by: which nodes the pod may be on.
type Affinity struct {
	NodeAffinity *NodeAffinity `msg:"nodeAffinity,omitempty"`
}

// NodeAffinity holds the rules that a node must match.
type NodeAffinity struct {
	Required *NodeSelector `msg:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// NodeSelector matches a node that any of its terms matches.
type NodeSelector struct {
	NodeSelectorTerms []NodeSelectorTerm `msg:"nodeSelectorTerms,omitempty"`
}

// NodeSelectorTerm matches a node that all of its requirements match. One without requirements matches none.
type NodeSelectorTerm struct {
	MatchExpressions []NodeSelectorRequirement `msg:"matchExpressions,omitempty"` // of labels
	MatchFields      []NodeSelectorRequirement `msg:"matchFields,omitempty"`      // of metadata.name
}

// NodeSelectorRequirement compares one label or field. Operator is In, NotIn, Exists, DoesNotExist, Gt or Lt.
type NodeSelectorRequirement struct {
	Key      string   `msg:"key"`
	Operator string   `msg:"operator"`
	Values   []string `msg:"values,omitempty"`
}

// Toleration lets a pod be on a node with certain taints. Operator is Equal (or none), Exists, Gt or Lt.
type Toleration struct {
	Effect            string `msg:"effect,omitempty"`
	Key               string `msg:"key,omitempty"`
	Operator          string `msg:"operator,omitempty"`
	TolerationSeconds *int64 `msg:"tolerationSeconds,omitempty"`
	Value             string `msg:"value,omitempty"`
}

// Taint keeps pods off a node that do not tolerate it. Effect is NoSchedule, PreferNoSchedule or NoExecute.
type Taint struct {
	Effect string `msg:"effect"`
	Key    string `msg:"key"`
	Value  string `msg:"value,omitempty"`
}
