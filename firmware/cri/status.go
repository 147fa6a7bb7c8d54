package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// Condition types that every runtime reports (k8s.io/cri-api constants.go).
const (
	RuntimeReady = "RuntimeReady"
	NetworkReady = "NetworkReady"
)

// RuntimeCondition is one condition of the runtime.
type RuntimeCondition struct {
	Type    string // RuntimeReady, NetworkReady or the runtime's own
	Status  bool
	Reason  string
	Message string
}

func (m *RuntimeCondition) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Type)
	f.Bool(2, &m.Status)
	f.Str(3, &m.Reason)
	f.Str(4, &m.Message)
}

// RuntimeStatus holds the runtime's conditions.
type RuntimeStatus struct{ Conditions []RuntimeCondition }

func (m *RuntimeStatus) Walk(f *grpcwire.Fields) { grpcwire.Rep(f, 1, &m.Conditions) }

// Condition returns the condition of type t, or one with status false that says the runtime has none.
func (m *RuntimeStatus) Condition(t string) RuntimeCondition {
	if m != nil {
		for _, c := range m.Conditions {
			if c.Type == t {
				return c
			}
		}
	}
	return RuntimeCondition{Type: t, Reason: "NotReported", Message: "the container runtime reports no condition " + t}
}

// RuntimeHandler is a configured handler and what it can do.
type RuntimeHandler struct {
	Name     string
	Features *RuntimeHandlerFeatures
}

func (m *RuntimeHandler) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Features)
}

// RuntimeHandlerFeatures says what a handler can do.
type RuntimeHandlerFeatures struct {
	RecursiveReadOnlyMounts bool
	UserNamespaces          bool
}

func (m *RuntimeHandlerFeatures) Walk(f *grpcwire.Fields) {
	f.Bool(1, &m.RecursiveReadOnlyMounts)
	f.Bool(2, &m.UserNamespaces)
}

// RuntimeFeatures says what the runtime can do whatever the handler.
type RuntimeFeatures struct {
	SupplementalGroupsPolicy  bool
	UserNamespacesHostNetwork bool
	MountOptions              bool
}

func (m *RuntimeFeatures) Walk(f *grpcwire.Fields) {
	f.Bool(1, &m.SupplementalGroupsPolicy)
	f.Bool(2, &m.UserNamespacesHostNetwork)
	f.Bool(3, &m.MountOptions)
}

// CgroupDriver is who manages cgroups; it decides the form of LinuxPodSandboxConfig.CgroupParent.
type CgroupDriver int32

const (
	CgroupDriverSystemd  CgroupDriver = 0
	CgroupDriverCgroupfs CgroupDriver = 1
)

// LinuxRuntimeConfiguration is the runtime's own configuration.
type LinuxRuntimeConfiguration struct{ CgroupDriver CgroupDriver }

func (m *LinuxRuntimeConfiguration) Walk(f *grpcwire.Fields) { grpcwire.Num(f, 1, &m.CgroupDriver) }
