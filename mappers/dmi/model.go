package dmi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Device is a device as a mapper gets it. It is immutable once it is given to a Registry. Cycles are milliseconds.
type Device struct {
	Namespace, Name string
	Model           string // in the same namespace
	Protocol        string
	Config          map[string]any // spec.protocol.configData, over the model's
	Properties      []Property
	Methods         []Method
}

// Property is one property of a Device.
type Property struct {
	Name                      string
	Desired                   string // "": nothing is wanted
	Visitor                   map[string]any
	CollectCycle, ReportCycle int64
	ReportToCloud             bool
}

// Method is one of a Device's methods.
type Method struct {
	Name, Description string
	Properties        []string
}

// Model is a device model as a mapper gets it.
type Model struct {
	Namespace, Name string
	Properties      []ModelProperty
}

// ModelProperty is one property of a Model.
type ModelProperty struct {
	Name, Type, AccessMode, Minimum, Maximum, Unit string
}

// Twin is what a mapper reports of one property.
type Twin struct {
	Property string
	Value    string
	Reported bool      // there is a value
	Source   time.Time // when the mapper read it; zero: it does not say
}

// Mapper makes calls to one mapper. A call returns an error that wraps ErrNoAnswer if the mapper was not reached or did not answer; any other
// error is the mapper's own. Calls obey their context.
type Mapper interface {
	// Put gives it a device: a new one, or another version of one that it knows.
	Put(ctx context.Context, d Device, known bool) error
	Remove(ctx context.Context, namespace, name string) error
	// PutModel gives it a device model, as Put.
	PutModel(ctx context.Context, m Model, known bool) error
	RemoveModel(ctx context.Context, namespace, name string) error
	// Has asks for a device by d's name (GetDevice), and tells whether the mapper's is the same as d. An error that is the mapper's own says that it has none.
	Has(ctx context.Context, d Device) (same bool, err error)
}

// Caller is the process at the other end of a socket, as the kernel knows it.
type Caller struct{ UID uint32 }

// Registration is a mapper that registers.
type Registration struct {
	Name, Version string
	Protocol      string // in any case
	Address       string // of its socket
	Caller        Caller
	Mapper        Mapper
	// Lost is signalled when the connection to the mapper has ended; nil: nobody notices.
	Lost <-chan struct{}
}

// Saved is what is kept of a mapper across restarts of the agent.
type Saved struct {
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	Protocol string   `json:"protocol"`
	Address  string   `json:"address"`
	UID      uint32   `json:"uid"`
	Devices  []string `json:"devices,omitempty"` // NAMESPACE/NAME
	Models   []string `json:"models,omitempty"`
}

// Status is one mapper, for people and metrics.
type Status struct {
	Name, Version, Protocol, Address string
	Devices                          int    // that it holds
	Reports, Refused                 uint64 // reports taken, and refused because there were too many
	Trouble                          string // why it cannot be used; empty if it can
}

// Kinds of errors. What wraps them says more.
var (
	ErrNoAnswer = errors.New("the mapper does not answer")
	ErrInvalid  = errors.New("invalid request")
	ErrTaken    = errors.New("already registered")
	ErrNoDevice = errors.New("no such device")
	ErrDenied   = errors.New("not allowed")
	ErrTooMany  = errors.New("too many")
	ErrStopped  = errors.New("the agent is not ready")
)

func keyOf(namespace, name string) string { return namespace + "/" + name }

type sum [sha256.Size]byte

// sumOf tells versions of a Device or Model apart. The verb writes maps in the order of their keys.
func sumOf(v any) sum { return sha256.Sum256(fmt.Appendf(nil, "%#v", v)) }
