package cni

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// The ranges to choose from where neither cluster nor configuration has one: the first that the gateway is not connected to. Each
// has room for the most pods that a node may have, and they are not those that Docker, podman, k3s or flannel begin with.
var defaults = []netip.Prefix{netip.MustParsePrefix("10.254.0.0/22"), netip.MustParsePrefix("172.30.252.0/22"), netip.MustParsePrefix("192.168.252.0/22")}

// Network is a network that the gateway is connected to.
type Network struct {
	Interface string
	Prefix    netip.Prefix
}

// ParseRanges reads the ranges of pods' addresses, at most one of each family, with room for so many pods.
func ParseRanges(texts []string, pods int) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("%q: a range of addresses is needed, as 10.20.3.0/24", t)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%q: has bits set beyond its prefix: %s is meant", t, p.Masked())
		}
		if slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			return nil, fmt.Errorf("%q: at most one range of IPv4 and one of IPv6 addresses", t)
		}
		// host-local keeps the network's address, the gateway's and the last one.
		if host := p.Addr().BitLen() - p.Bits(); host < 16 && 1<<host-3 < pods {
			return nil, fmt.Errorf("%q: has room for %d pods, and there may be %d: take a larger range, or lower pods.max", t, max(0, 1<<host-3), pods)
		}
		out = append(out, p)
	}
	return out, nil
}

// ranges chooses the pods' addresses: the cluster's, what the file has, what is configured, a default. None and a reason if there are none yet.
func (k *Keeper) ranges(before []netip.Prefix) (ranges []netip.Prefix, problem string, wait time.Duration) {
	given, err := k.given()
	if err != nil {
		return before, err.Error(), 0
	}
	switch {
	case len(given) > 0:
		ranges = given
	case len(before) > 0 && (len(k.o.Ranges) == 0 || slices.Equal(before, k.o.Ranges)):
		if !k.covers(before) {
			return before, k.overlap(before, given), 0
		}
	default:
		if left := k.o.Wait - time.Since(k.started); left > 0 {
			return before, fmt.Sprintf("waiting up to %v for the cluster to give this node addresses for pods (spec.podCIDR)", k.o.Wait), left
		}
		ranges = k.o.Ranges
	}
	if len(ranges) > 0 && slices.Equal(ranges, before) {
		return before, k.overlap(before, given), 0 // the gateway may have been connected to that network since
	}
	networks, err := k.o.Networks()
	if err != nil {
		return before, fmt.Sprintf("look at the gateway's own networks: %v", err), 0
	}
	if len(ranges) == 0 {
		for _, r := range defaults {
			if clash(r, networks) == nil {
				return []netip.Prefix{r}, "", 0
			}
		}
		return before, fmt.Sprintf("the gateway is connected to networks with all of the addresses that pods could have (%s): set pods.network.cidrs", list(defaults)), 0
	}
	if why := k.clashing(ranges, given, networks); why != "" {
		return before, why, 0
	}
	return ranges, "", 0
}

// overlap says that the gateway is connected to a network with addresses that pods have; "" if it is to none, or that cannot be seen.
func (k *Keeper) overlap(ranges, given []netip.Prefix) string {
	networks, err := k.o.Networks()
	if err != nil {
		return ""
	}
	return k.clashing(ranges, given, networks)
}

// clashing says for a technician which network overlaps the ranges, and where these come from; "" if none does.
func (k *Keeper) clashing(ranges, given []netip.Prefix, networks []Network) string {
	for _, r := range ranges {
		if n := clash(r, networks); n != nil {
			from := FileName
			switch {
			case len(given) > 0:
				from = "the cluster (the node's spec.podCIDR)"
			case len(k.o.Ranges) > 0:
				from = "pods.network.cidrs"
			}
			return fmt.Sprintf("the pods' addresses %s, from %s, overlap the network %s of interface %s: nothing there could be reached. Give the node other addresses",
				r, from, n.Prefix, n.Interface)
		}
	}
	return ""
}

// covers reports whether ranges are a default that a network overlaps which the gateway was not connected to when it was chosen: a gateway may be
// started before it has any.
func (k *Keeper) covers(ranges []netip.Prefix) bool {
	if len(k.o.Ranges) > 0 || len(ranges) != 1 || !slices.Contains(defaults, ranges[0]) {
		return false
	}
	networks, err := k.o.Networks()
	return err == nil && clash(ranges[0], networks) != nil
}

// given returns what the cluster gave to this node; none if it gives nothing, or has not said yet.
func (k *Keeper) given() ([]netip.Prefix, error) {
	o, ok := k.o.Desired.Get(wire.NewKey(wire.KindNode, "", k.o.Node, ""))
	if !ok || o.Absent || len(o.Body) == 0 {
		return nil, nil
	}
	var n corev1.Node
	if _, err := n.UnmarshalMsg(o.Body); err != nil {
		return nil, fmt.Errorf("read the node's own object: %w", err)
	}
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 && n.Spec.PodCIDR != "" {
		texts = []string{n.Spec.PodCIDR}
	}
	ranges, err := ParseRanges(texts, 1)
	if err != nil {
		return nil, fmt.Errorf("the node's spec.podCIDRs: %w", err)
	}
	return ranges, nil
}

// connected returns the networks of the machine's interfaces. Addresses of a single host are no networks: pods' own links have such.
func connected() ([]Network, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var out []Network
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it is gone
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() {
				out = append(out, Network{i.Name, p.Masked()})
			}
		}
	}
	return out, nil
}

func clash(r netip.Prefix, networks []Network) *Network {
	for i := range networks {
		if networks[i].Prefix.Overlaps(r) {
			return &networks[i]
		}
	}
	return nil
}

func list(ranges []netip.Prefix) string {
	var s []string
	for _, r := range ranges {
		s = append(s, r.String())
	}
	return strings.Join(s, ", ")
}
