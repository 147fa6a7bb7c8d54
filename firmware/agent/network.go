package agent

import (
	"fmt"

	"github.com/skerry/skerry/firmware/cni"
	"github.com/skerry/skerry/firmware/wire"
)

// newNetwork returns what gives pods a network where no other CNI does.
func (a *Agent) newNetwork() (*cni.Keeper, error) {
	n := a.cfg.Pods.Network
	ranges, err := cni.ParseRanges(n.CIDRs, a.cfg.Pods.Max)
	if err != nil {
		return nil, fmt.Errorf("pods.network.cidrs: %w", err)
	}
	return cni.New(cni.Options{
		Node: a.cfg.Node.Name, Desired: a.desired, Changed: a.desired.Watch(wire.KindNode).C(), Runtime: a.runtime,
		Log:      a.log.With("part", "network"),
		Disabled: !n.Enabled, Ranges: ranges, Masquerade: n.Masquerade, MTU: n.MTU, Dir: n.Dir,
		Warn: a.warnNode("PodNetwork"),
	}), nil
}
