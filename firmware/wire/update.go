package wire

// Annotations of a Node by which updates of its system are ordered and told of.
const (
	// AnnotationUpdate is what an operator wants: an UpdateOrder as JSON. Nodes may not write it.
	AnnotationUpdate = "node.skerry.dev/update"
	// AnnotationUpdateStatus is what the agent says of it, as JSON. It does not travel back to the agent.
	AnnotationUpdateStatus = "node.skerry.dev/update-status"
)

// UpdateOrder is an update that somebody wants.
type UpdateOrder struct {
	// ID tells orders apart: one that has ended, well or not, is not begun again.
	ID string `json:"id"`
	// Bundle is where it is: the https:// URL of an index. On the gateway itself also the path of a bundle.
	Bundle string `json:"bundle"`
	// Version that the bundle has to have; empty: any.
	Version string `json:"version,omitempty"`
	// AllowDowngrade accepts a version that is older than the one that runs.
	AllowDowngrade bool `json:"allowDowngrade,omitempty"`
	// Retry accepts a version that has failed on this gateway before.
	Retry bool `json:"retry,omitempty"`
}

// UpdateStatus is how far an update has come.
type UpdateStatus struct {
	Phase   string          `json:"phase"` // Idle: none is under way
	Message string          `json:"message,omitempty"`
	Percent int             `json:"percent,omitempty"` // of the download or the installation
	Slot    string          `json:"slot"`              // that runs
	Running string          `json:"running"`           // the version of the system that runs
	Version string          `json:"version,omitempty"` // that is on its way
	Order   string          `json:"order,omitempty"`   // under way, or the last one that has ended
	Result  string          `json:"result,omitempty"`  // of the last order that has ended
	Failed  []UpdateFailure `json:"failed,omitempty"`
}

// UpdateFailure is a version that a gateway has tried in vain, or a bundle that it has refused.
type UpdateFailure struct {
	Version string `json:"version,omitempty"`
	Bundle  string `json:"bundle,omitempty"`
	Reason  string `json:"reason"`
	At      string `json:"at"` // RFC 3339
	// Tried is set if the system was installed: such a version is not installed again unless it is asked for.
	Tried bool `json:"tried,omitempty"`
}
