package config

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/skerry/skerry/firmware/cni"
	"github.com/skerry/skerry/firmware/pods"
)

// checkNetwork checks what pods' networks and resolvers are made of.
func (p *Pods) checkNetwork(bad func(key string, value any, allowed string)) {
	if len(p.ClusterDNS) > pods.MaxNameservers {
		bad("pods.clusterDNS", p.ClusterDNS, fmt.Sprintf("resolvers take at most %d addresses", pods.MaxNameservers))
	}
	for i, s := range p.ClusterDNS {
		if _, err := netip.ParseAddr(s); err != nil {
			bad(fmt.Sprintf("pods.clusterDNS[%d]", i), s, "the address of the cluster's DNS is needed, as 10.96.0.10 (kubectl -n kube-system get service kube-dns)")
		}
	}
	if p.ResolvConf != "" && !filepath.IsAbs(p.ResolvConf) {
		bad("pods.resolvConf", p.ResolvConf, "an absolute path is needed, or none: /etc/resolv.conf, or the file of systemd-resolved")
	}
	if _, err := cni.ParseRanges(p.Network.CIDRs, p.Max); err != nil {
		bad("pods.network.cidrs", p.Network.CIDRs, err.Error())
	}
	if m := p.Network.MTU; m != 0 && (m < 576 || m > 65535) {
		bad("pods.network.mtu", m, "allowed are 0 (the kernel's default) and 576 to 65535 bytes")
	}
	if p.Network.Dir != "" && !filepath.IsAbs(p.Network.Dir) {
		bad("pods.network.dir", p.Network.Dir, "an absolute path is needed, or none: where the runtime says that it looks, else "+cni.DefaultDir)
	}
}
