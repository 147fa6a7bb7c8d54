package device

import (
	"context"
	"fmt"
	"time"
)

// Subscriber is the optional ability of a Session to be told of changes by the device.
type Subscriber interface {
	// Subscribe calls notify, one call at a time, for every change until ctx ends; it blocks until then. notify does not block. The
	// first call for a point brings its current value as soon as it is known, and so does the first one after a gap. A gap (a lost
	// connection, values that the device dropped) is reported as an uncertain or bad value with the reason; an uncertain one without a
	// datum casts doubt on the last known one. The caller polls such a point until a good value comes. An error means that no point is watched any more: the caller polls them all, and subscribes
	// again later. A *NotSubscribableError says which points the device does not tell of by itself; nothing is watched then, and the
	// caller subscribes to the others at once.
	Subscribe(ctx context.Context, points []Point, notify func(i int, v Value)) error
}

// NotSubscribableError refuses a subscription because of some of its points.
type NotSubscribableError struct {
	Points []int // indexes of the points that can only be polled
	Reason string
}

func (e *NotSubscribableError) Error() string {
	return fmt.Sprintf("%d of the points can only be polled: %s", len(e.Points), e.Reason)
}

// Browser is the optional ability of a Session to list what the device offers.
type Browser interface {
	// Browse lists the children of a node, at most limit of them; an empty node means the root.
	Browse(ctx context.Context, node string, limit int) ([]BrowseEntry, error)
}

// BrowseEntry is one thing that a device offers.
type BrowseEntry struct {
	Node     string         // to browse further
	Name     string         // as the device calls it
	Visitor  map[string]any // configData that reads it; nil if it is only a folder
	Type     Type           // the model type that fits it
	Writable bool
}

// Caller is the optional ability of a Session to call a method of the device.
type Caller interface {
	// Call calls the method that p names; p was compiled from a visitor that names a method. It returns the method's
	// results in the device's order. A device that refuses is an error with the device's words.
	Call(ctx context.Context, p Point, args []Value) ([]Value, error)
}

// Method is the optional ability of a Point that stands for a method of the device: it is neither read nor written, but called.
type Method interface {
	// Arguments describes what the method takes and gives, in order; nil if only the device knows. Values are then named "0", "1" …,
	// arguments are texts, and the session converts them to what the device wants.
	Arguments() (in, out []Argument)
}

// Argument is one argument or result of a Method.
type Argument struct {
	Name string
	Type Type
}

// Planner is the optional ability of a Driver to say what reading points costs, without any I/O.
type Planner interface {
	// Plan describes one cycle that reads points; every point came from the same driver's Compile.
	Plan(cfg Config, points []Point, cycle time.Duration) (Plan, error)
}

// Plan is what one cycle sends.
type Plan struct {
	// Line names what the requests share with other devices, in the same words for the same line or endpoint; empty: nothing.
	Line     string
	Requests []PlannedRequest // per cycle, in the order in which they are sent
	Load     float64          // share of the line's or endpoint's time per cycle, 1 = full; 0: unknown
	Note     string           // e.g. "subscribed: 3 monitored-item batches, no polling"
}

// PlannedRequest is one request of a Plan.
type PlannedRequest struct {
	Text   string        // in the protocol's terms, e.g. "read 20 holding registers from 40"
	Points []int         // indexes of the points that it reads
	Bytes  int           // on the wire, both directions
	Time   time.Duration // on the wire, computed; 0: unknown
}

// Scanner is the optional ability of a Driver to find devices on a line or endpoint.
type Scanner interface {
	// Scan asks each address of req in turn until ctx ends. progress and found are called one at a time and do not
	// block; either may be nil. What ctx cut short is no error: found has had what was there.
	Scan(ctx context.Context, req ScanRequest, progress func(done, total int, what string), found func(ScanResult)) error
}

// ScanRequest says where to look. What is empty gets the protocol's usual values.
type ScanRequest struct {
	Protocol map[string]any // configData as far as it is known
	Units    [2]int         // first and last unit id
	Bauds    []int
	Parities []string
}

// ScanResult is a device that answered.
type ScanResult struct {
	Protocol map[string]any // configData that reaches it
	Name     string         // what it says of itself
}

// Truster is the optional ability of a Driver that keeps a list of trusted certificates.
type Truster interface {
	// Certificates lists the driver's own, the trusted and the rejected ones.
	Certificates() ([]Certificate, error)
	// Trust trusts a certificate that is in the list, Reject withdraws that. The fingerprint may be shortened as long as it is unique.
	Trust(fingerprint string) error
	Reject(fingerprint string) error
}

// Certificate is one certificate that a Truster knows.
type Certificate struct {
	Fingerprint     string // SHA-256 in hexadecimal
	Subject, Issuer string
	ApplicationURI  string
	NotBefore       time.Time
	NotAfter        time.Time
	State           string // trusted, rejected, own
	Path            string // the file that holds it
}

// Follower is the optional ability of a Session whose device another process runs, which is told of all that is wanted rather than of single writes.
type Follower interface {
	// Follow tells everything that is wanted of the device, what was applied before too. It is called after the session was opened and when the
	// manifest has changed, and does not block; Write is called beside it for what was not applied yet.
	Follow(wanted []Write)
}
