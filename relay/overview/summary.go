package overview

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Summary counts what there is, and what of it is well.
type Summary struct {
	Relays  Count `json:"relays"`
	Nodes   Count `json:"nodes"`
	Devices Count `json:"devices"`
}

// Count is of one kind.
type Count struct {
	Well    int `json:"well"`
	Not     int `json:"not"`
	Unknown int `json:"unknown"` // devices whose gateway has not said anything about them, or has not for long
}

// String is one line for a terminal.
func (s Summary) String() string {
	devices := fmt.Sprintf("devices: %d ready, %d not", s.Devices.Well, s.Devices.Not)
	if s.Devices.Unknown > 0 {
		devices += fmt.Sprintf(", %d unknown", s.Devices.Unknown)
	}
	return fmt.Sprintf("relays: %d running, %d not; nodes: %d ready, %d not; %s", s.Relays.Well, s.Relays.Not, s.Nodes.Well, s.Nodes.Not, devices)
}

func (o *Overview) count() (s Summary) {
	for _, r := range o.Relays {
		s.Relays.add(r.well())
	}
	for _, n := range o.Nodes {
		s.Nodes.add(n.well())
	}
	for _, d := range o.Devices {
		if d.Ready == string(metav1.ConditionUnknown) {
			s.Devices.Unknown++
		} else {
			s.Devices.add(d.well())
		}
	}
	return s
}

func (c *Count) add(well bool) {
	if well {
		c.Well++
	} else {
		c.Not++
	}
}

// A relay that drains is about to go.
func (r Relay) well() bool { return r.Alive && !r.Draining }

// A node may still be Ready when no relay renews its Lease any more: Kubernetes notices later.
func (n Node) well() bool { return n.Ready && n.Connected }

func (d Device) well() bool { return d.Ready == string(metav1.ConditionTrue) }

// Problems is the same without relays, nodes and devices that are well. Warnings and counts stay.
func (o *Overview) Problems() *Overview {
	return &Overview{
		Warnings: o.Warnings, Summary: o.Summary, problems: true,
		Relays:  ill(o.Relays, Relay.well),
		Nodes:   ill(o.Nodes, Node.well),
		Devices: ill(o.Devices, Device.well),
	}
}

func ill[T any](all []T, well func(T) bool) []T {
	return slices.DeleteFunc(append([]T{}, all...), well)
}
