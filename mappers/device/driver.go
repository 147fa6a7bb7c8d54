package device

import (
	"context"
	"errors"
	"time"
)

// Driver speaks one protocol. It is created once for an agent and is safe for concurrent use. What sessions share
// (a TCP connection, a serial line) belongs to the Driver instance and goes away with the last session that uses it.
type Driver interface {
	// Protocols are the names by which a Device's spec.protocol.protocolName selects this driver, in lower case; the
	// comparison ignores case. The first one is the name that logs and metrics use.
	Protocols() []string
	// Describe lists the configData fields that the driver understands.
	Describe() Description
	// Check judges a device's protocol configData without any I/O. Its error joins one *FieldError for each wrong field.
	Check(cfg Config) error
	// Compile judges one property's visitor configData without any I/O and turns it into a Point for Read and Write.
	// Its error joins one *FieldError for each wrong field.
	Compile(cfg PointConfig) (Point, error)
	// Open starts a session with one device. It need not connect: a device that is switched off is a Read error, and
	// the session connects by itself once the device is back. It refuses what Check refuses.
	Open(ctx context.Context, cfg Config) (Session, error)
}

// Session is one opened device. All methods may be called concurrently, and the caller of Open closes it.
type Session interface {
	// Read fills values[i] for points[i]; both have the same length, and every point came from the same driver's
	// Compile. A point that could not be read gets a bad value with the reason, and the others are still read. The
	// error is not nil when the device as a whole could not be asked (it wraps ErrUnreachable), the context ended or
	// the session is closed; values are filled even then.
	Read(ctx context.Context, points []Point, values []Value) error
	// Write writes each value and reads it back where the device allows that. It returns one result for each write, in
	// order; a failure of one does not stop the others.
	Write(ctx context.Context, writes []Write) []WriteResult
	// Close ends the session, interrupts calls that are under way and waits for what the session started. It may be
	// called more than once.
	Close() error
}

// Config is the configuration of one device.
type Config struct {
	// Device is "namespace/name", for messages.
	Device string
	// Protocol is spec.protocol.configData, over the model's protocolConfigData.
	Protocol map[string]any
}

// PointConfig is the configuration of one property.
type PointConfig struct {
	// Property is the property's name, for messages.
	Property string
	// Path is where Visitor stands in the manifest, for messages, e.g. "spec.properties[temperature].visitors.configData".
	Path string
	// Type is what the model declares. The driver delivers values that convert to it.
	Type Type
	// Writable tells that the model allows writes; a driver refuses it for what can only be read.
	Writable bool
	// Cycle is how often the property is read; 0: not known.
	Cycle time.Duration
	// Visitor is visitors.configData.
	Visitor map[string]any
}

// Point is a compiled property: immutable, comparable only by the driver that made it.
type Point interface {
	// String describes where the value lives, in the protocol's terms, e.g. "holding register 40 (int32)".
	String() string
}

// ValueChecker is the optional ability of a Point to judge a value before any I/O. What it refuses can never be written
// to the point, so it is not tried again until the manifest changes.
type ValueChecker interface {
	CheckValue(v Value) error
}

// Write is one value to write.
type Write struct {
	Point Point
	Value Value
}

// WriteResult is the outcome of one write.
type WriteResult struct {
	// Err is nil if the device accepted the value and, where it could be read back, showed it. It wraps
	// ErrNotVerified if the device accepted another value than it then showed.
	Err error
	// Verified tells that Readback was read from the device after the write and equals what was written.
	Verified bool
	// Readback is what the device showed after the write; its quality is bad if it could not be read.
	Readback Value
}

// ErrUnreachable is wrapped by errors that mean that the device as a whole did not answer: nothing is wrong with the
// configuration, and trying again later may help.
var ErrUnreachable = errors.New("device unreachable")

// ErrNotVerified is wrapped by the result of a write that the device accepted and then did not show.
var ErrNotVerified = errors.New("read-back differs")

// ErrClosed is returned by the methods of a session after Close.
var ErrClosed = errors.New("session closed")

// Description is the reference of a driver's configData, for documentation and tools.
type Description struct {
	Device  []FieldDoc // spec.protocol.configData
	Visitor []FieldDoc // properties[].visitors.configData
}

// FieldDoc describes one configData field.
type FieldDoc struct {
	Name    string   // our spelling
	Aliases []string // other accepted spellings
	Meaning string   // one line, with the unit
	Default string   // what a missing field means; "required" if it must be given
	Allowed string   // range or list of values
}
