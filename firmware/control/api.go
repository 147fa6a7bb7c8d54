package control

import "time"

// Device is one device of the gateway.
type Device struct {
	Namespace  string     `json:"namespace"`
	Name       string     `json:"name"`
	Protocol   string     `json:"protocol"`
	State      string     `json:"state"` // online, offline, unhealthy, unknown
	Ready      bool       `json:"ready"`
	Reason     string     `json:"reason,omitempty"` // why it is not ready
	Message    string     `json:"message,omitempty"`
	LastOnline time.Time  `json:"lastOnline,omitzero"`
	Properties []Property `json:"properties"`
}

// Property is one property with its value.
type Property struct {
	Name    string    `json:"name"`
	Value   string    `json:"value"`
	Unit    string    `json:"unit,omitempty"`
	Quality string    `json:"quality"`          // good, uncertain, bad
	Reason  string    `json:"reason,omitempty"` // why the quality is not good
	At      time.Time `json:"at,omitzero"`      // when the agent received it
	Desired string    `json:"desired,omitempty"`
	Outcome string    `json:"outcome,omitempty"` // of the desired value: pending, applied, verified, failed, refused
	Origin  string    `json:"origin,omitempty"`  // who wants it: cloud or edge
}

// Change is one line of a watch: a value of a device, or how many were lost because nobody took them.
type Change struct {
	Namespace string `json:"namespace,omitempty"`
	Device    string `json:"device,omitempty"`
	Property
	Source  time.Time `json:"source,omitzero"`   // when the device says it measured
	Initial bool      `json:"initial,omitempty"` // it is what was known when the watch began
	Missed  int       `json:"missed,omitempty"`  // changes that this client was too slow for
	End     string    `json:"end,omitempty"`     // why the stream ends
}

// ReadRequest names the properties to read; none means all.
type ReadRequest struct {
	Properties []string `json:"properties,omitempty"`
}

// WriteRequest is a value for a property, as text of the model's type.
type WriteRequest struct {
	Property string `json:"property"`
	Value    string `json:"value"`
}

// WriteAnswer is what became of a write.
type WriteAnswer struct {
	Outcome  string   `json:"outcome"`          // verified, applied, pending, failed
	Reason   string   `json:"reason,omitempty"` // why it failed
	Readback Property `json:"readback"`         // what the device showed afterwards
}

// CallRequest is a call of a device's method.
type CallRequest struct {
	Method    string            `json:"method"`
	Arguments map[string]string `json:"arguments,omitempty"`
}

// CallAnswer is what the method returned.
type CallAnswer struct {
	Results map[string]string `json:"results"`
}

// BrowseRequest asks for what lies below a node.
type BrowseRequest struct {
	Node  string `json:"node,omitempty"`  // empty: the root
	Depth int    `json:"depth,omitempty"` // how many levels; 0 is 1
	Limit int    `json:"limit,omitempty"` // how many entries in all; 0 is 1000
}

// Entry is one line of a browse.
type Entry struct {
	Path     []string       `json:"path,omitempty"` // names from the node where the browse began
	Node     string         `json:"node,omitempty"`
	Visitor  map[string]any `json:"visitor,omitempty"` // configData that reads it; none: only a folder
	Type     string         `json:"type,omitempty"`    // for a DeviceModel; empty: a method
	Writable bool           `json:"writable,omitempty"`
	End      string         `json:"end,omitempty"`   // why there is no more, if it is not all
	Error    *Error         `json:"error,omitempty"` // of this part; the others go on
}

// HistoryRequest asks for what was kept.
type HistoryRequest struct {
	Property string    `json:"property,omitempty"` // empty: all
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
	Limit    int       `json:"limit,omitempty"` // the newest so many; 0 is 1000
}

// HistoryStats says what is kept of a device, what is not, and how far those are who want it. The device's counters are since the agent's start.
type HistoryStats struct {
	Values      int64           `json:"values"`
	Bytes       int64           `json:"bytes"`
	Overwritten uint64          `json:"overwritten"` // values that made room for newer ones
	Dropped     uint64          `json:"dropped"`     // values that came while too many waited for the disk
	TooLarge    uint64          `json:"tooLarge"`    // values that are too large to be kept
	Error       string          `json:"error,omitempty"`
	Targets     []HistoryTarget `json:"targets,omitempty"` // of all devices
}

// HistoryTarget is one who gets the history of all devices.
type HistoryTarget struct {
	Name    string `json:"name"`
	Pending uint64 `json:"pending"` // values that it has not acknowledged
	Lost    uint64 `json:"lost"`    // values that it will never get
}

// Cycle is what reading the properties of one collectCycle costs.
type Cycle struct {
	Every    time.Duration `json:"every"`
	Line     string        `json:"line,omitempty"`
	Load     float64       `json:"load"` // share of the line's time; 0: not known
	Note     string        `json:"note,omitempty"`
	Requests []Request     `json:"requests"`
}

// Request is one request of a cycle.
type Request struct {
	Text       string        `json:"text"`
	Properties []string      `json:"properties"`
	Bytes      int           `json:"bytes"`          // in both directions
	Time       time.Duration `json:"time,omitempty"` // on the line, computed; 0: not known
}

// DevicePlan is what polling one device costs.
type DevicePlan struct {
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Cycles    []Cycle `json:"cycles"`
	Problem   string  `json:"problem,omitempty"` // why nothing can be said
}

// Load is the share of the line that the device needs, as far as it can be computed.
func (p DevicePlan) Load() (load float64) {
	for _, c := range p.Cycles {
		load += c.Load
	}
	return load
}

// LinePlan is a line, or an endpoint, with the devices that share it.
type LinePlan struct {
	Line    string       `json:"line,omitempty"`
	Load    float64      `json:"load"` // 1: it is never idle
	Devices []DevicePlan `json:"devices"`
}

// ScanRequest asks for the devices on a line or behind an endpoint.
type ScanRequest struct {
	Protocol string         `json:"protocol"` // protocolName
	Config   map[string]any `json:"config"`   // configData as far as it is known
	Units    [2]int         `json:"units,omitzero"`
	Bauds    []int          `json:"bauds,omitempty"`
	Parities []string       `json:"parities,omitempty"`
	First    bool           `json:"first,omitempty"` // stop once all units have been asked with settings that found one
}

// ScanLine is one line of a scan: how far it is, what was found, or how it ended.
type ScanLine struct {
	Done  int           `json:"done"`
	Total int           `json:"total"`
	What  string        `json:"what,omitempty"`
	Left  time.Duration `json:"left,omitempty"` // about, at the pace so far
	Found *Found        `json:"found,omitempty"`
	Error *Error        `json:"error,omitempty"`
	Ended bool          `json:"ended,omitempty"`
}

// Found is one device that answered.
type Found struct {
	Config map[string]any `json:"config"` // configData that reaches it
	Name   string         `json:"name,omitempty"`
}

// Certificate is one certificate of a driver's trust list.
type Certificate struct {
	Protocol       string    `json:"protocol"`
	Fingerprint    string    `json:"fingerprint"`
	Subject        string    `json:"subject"`
	Issuer         string    `json:"issuer,omitempty"`
	ApplicationURI string    `json:"applicationURI,omitempty"`
	NotBefore      time.Time `json:"notBefore,omitzero"`
	NotAfter       time.Time `json:"notAfter,omitzero"`
	State          string    `json:"state"` // trusted, rejected, own
	Path           string    `json:"path,omitempty"`
}

// Codes of errors.
const (
	CodeNotFound    = "NotFound"    // no such device, property, method, certificate
	CodeInvalid     = "Invalid"     // the request cannot be right
	CodeUnsupported = "Unsupported" // the device's protocol cannot do it
	CodeUnreachable = "Unreachable" // the device did not answer
	CodeFailed      = "Failed"      // the device refused, or something else went wrong
	CodeBusy        = "Busy"        // too much at a time
	CodeForbidden   = "Forbidden"   // not root
)

// Error is how a request ended if not well.
type Error struct {
	Text string `json:"error"`
	Code string `json:"code"`
}

func (e *Error) Error() string { return e.Text }
