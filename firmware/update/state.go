package update

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/firmware/wire"
)

// Phase is how far an update has come.
type Phase string

// The phases, in their order.
const (
	Idle        Phase = "Idle"
	Downloading Phase = "Downloading"
	Inspecting  Phase = "Inspecting" // the bundle's signature and manifest
	Installing  Phase = "Installing" // into the slot that does not run
	Draining    Phase = "Draining"   // until the machine may be restarted
	Rebooting   Phase = "Rebooting"
	Trying      Phase = "Trying" // the new system runs and is watched
	RollingBack Phase = "RollingBack"
)

// Order is an update that somebody wants. Its bundle is an https:// URL of an index, or the path of a bundle on this machine.
type Order = wire.UpdateOrder

// Failure is a version that this gateway has tried in vain, or a bundle that it has refused.
type Failure struct {
	Version string    `json:"version,omitempty"`
	Bundle  string    `json:"bundle,omitempty"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	// Tried is set if the system was installed: such a version is not installed again unless it is asked for.
	Tried bool `json:"tried,omitempty"`
}

const maxFailures = 16

// Baseline is what worked before the machine was restarted: pods and devices as NAMESPACE/NAME.
type Baseline struct {
	Pods    []string `json:"pods,omitempty"`
	Devices []string `json:"devices,omitempty"`
}

// State is what an update must not forget. It is saved as JSON; a State that was read is any State.
type State struct {
	Phase       Phase        `json:"phase"`
	Order       Order        `json:"order"`
	Version     string       `json:"version,omitempty"` // of the bundle
	Path        string       `json:"path,omitempty"`    // of the bundle on this machine
	From        bootenv.Slot `json:"from,omitempty"`
	To          bootenv.Slot `json:"to,omitempty"`
	FromVersion string       `json:"fromVersion,omitempty"`
	BootID      string       `json:"bootID,omitempty"` // in which the restart was asked for
	Attempts    int          `json:"attempts,omitempty"`
	Reason      string       `json:"reason,omitempty"` // of a roll-back
	Baseline    Baseline     `json:"baseline"`
	Here        bool         `json:"here,omitempty"` // the order was given on the gateway
	// Done is the last order that has ended, and Result how. DoneCloud is the last one of the cloud: the Node's annotation stays, whatever was ordered here since.
	Done      string       `json:"done,omitempty"`
	DoneCloud string       `json:"doneCloud,omitempty"`
	Result    string       `json:"result,omitempty"`
	Confirmed bootenv.Slot `json:"confirmed,omitempty"`
	Failed    []Failure    `json:"failed,omitempty"` // the newest last
}

func (s State) clone() State {
	s.Failed = slices.Clone(s.Failed)
	s.Baseline = Baseline{slices.Clone(s.Baseline.Pods), slices.Clone(s.Baseline.Devices)}
	return s
}

// encode returns the state as it is saved: at most maxState bytes, which is what is read again. One that is longer loses its oldest failures, and the names beyond the
// first hundreds of what worked before. An error says that no more can be left out, and nothing must be saved then.
func (s State) encode() ([]byte, error) {
	s = s.clone()
	for i := range s.Failed {
		s.Failed[i].Reason = shorten(s.Failed[i].Reason)
	}
	s.Reason, s.Result = shorten(s.Reason), shorten(s.Result)
	for {
		b, err := json.Marshal(s)
		if err != nil || len(b) <= maxState {
			return b, err
		}
		switch p, d := len(s.Baseline.Pods), len(s.Baseline.Devices); {
		case len(s.Failed) > 1:
			s.Failed = s.Failed[1:]
		case p+d > 0:
			s.Baseline = Baseline{Pods: s.Baseline.Pods[:p/2], Devices: s.Baseline.Devices[:d/2]}
		default:
			return nil, fmt.Errorf("the state has %d bytes, and at most %d are kept", len(b), maxState)
		}
	}
}

// maxReason is how much is kept of a text that comes from elsewhere: from RAUC, or from a server.
const maxReason = 4 << 10

func shorten(text string) string {
	if len(text) <= maxReason {
		return text
	}
	return strings.ToValidUTF8(text[:maxReason], "") + "…"
}

// failed returns why a version was given up before, or "".
func (s State) failed(version string) string {
	for _, f := range slices.Backward(s.Failed) {
		if f.Tried && f.Version == version && version != "" {
			return f.Reason
		}
	}
	return ""
}

// forget takes a version that now works off the list.
func (s *State) forget(version string) {
	s.Failed = slices.DeleteFunc(s.Failed, func(f Failure) bool { return f.Version == version })
}

// Policy is what the configuration says of updates.
type Policy struct {
	Compatible string // of bundles for this board

	Stable        time.Duration // how long a system has to be well before it is confirmed
	HealthTimeout time.Duration // from the boot on, until a system that is not is left
	WithoutCloud  time.Duration // after which a new system may be confirmed that has reached no relay
	DrainTimeout  time.Duration // how long pods that must not be interrupted are waited for
	InstallTries  int           // how often an installation is begun that the power interrupts
}

// DefaultPolicy returns the defaults of the configuration.
func DefaultPolicy() Policy {
	return Policy{Stable: time.Minute, HealthTimeout: 15 * time.Minute, WithoutCloud: 5 * time.Minute, DrainTimeout: time.Hour, InstallTries: 3}
}

// Facts are what the machine looks at, at each tick.
type Facts struct {
	Want      *Order        // what is wanted; nil: nothing
	Here      bool          // Want was ordered on the gateway, not by the cloud
	Up        time.Duration // since the machine was booted
	Power     string        // why an installation must wait, as "runs on battery"; empty: it need not
	Window    bool          // the machine may be restarted now
	Busy      []string      // pods that must not be interrupted
	Unhealthy []string      // what is wrong with the agent and the node; empty: nothing
	Linked    bool          // a relay has been reached since the boot
	Working   Baseline      // pods that run, devices that answer
	Desired   Baseline      // what there should be: what somebody has removed is not missed
}
