package cri

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

func (m *RuntimeCondition) walk(f *fields) {
	f.str(1, &m.Type)
	f.boolean(2, &m.Status)
	f.str(3, &m.Reason)
	f.str(4, &m.Message)
}

// RuntimeStatus holds the runtime's conditions.
type RuntimeStatus struct{ Conditions []RuntimeCondition }

func (m *RuntimeStatus) walk(f *fields) { rep(f, 1, &m.Conditions) }

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

func (m *RuntimeHandler) walk(f *fields) {
	f.str(1, &m.Name)
	opt(f, 2, &m.Features)
}

// RuntimeHandlerFeatures says what a handler can do.
type RuntimeHandlerFeatures struct {
	RecursiveReadOnlyMounts bool
	UserNamespaces          bool
}

func (m *RuntimeHandlerFeatures) walk(f *fields) {
	f.boolean(1, &m.RecursiveReadOnlyMounts)
	f.boolean(2, &m.UserNamespaces)
}

// RuntimeFeatures says what the runtime can do whatever the handler.
type RuntimeFeatures struct {
	SupplementalGroupsPolicy  bool
	UserNamespacesHostNetwork bool
	MountOptions              bool
}

func (m *RuntimeFeatures) walk(f *fields) {
	f.boolean(1, &m.SupplementalGroupsPolicy)
	f.boolean(2, &m.UserNamespacesHostNetwork)
	f.boolean(3, &m.MountOptions)
}

// CgroupDriver is who manages cgroups; it decides the form of LinuxPodSandboxConfig.CgroupParent.
type CgroupDriver int32

const (
	CgroupDriverSystemd  CgroupDriver = 0
	CgroupDriverCgroupfs CgroupDriver = 1
)

// LinuxRuntimeConfiguration is the runtime's own configuration.
type LinuxRuntimeConfiguration struct{ CgroupDriver CgroupDriver }

func (m *LinuxRuntimeConfiguration) walk(f *fields) { num(f, 1, &m.CgroupDriver) }
