package pods

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// What resolvers take (resolv.conf(5)), and with it the kubelet.
const (
	MaxNameservers = 3
	maxSearches    = 32
	maxSearchLine  = 2048
	maxSearchName  = 253
)

const (
	etcResolvConf     = "/etc/resolv.conf"
	resolvedConf      = "/run/systemd/resolve/resolv.conf"
	reasonNoDNS       = "MissingClusterDNS"
	reasonDNSLimit    = "DNSConfigForming"
	policyNone        = "None"
	policyCluster     = "ClusterFirst"
	policyClusterHost = "ClusterFirstWithHostNet"
)

// dnsNote is what a pod's owner should know of its resolver.
type dnsNote struct{ reason, message string }

// dnsConfig makes the pod's resolver configuration by dnsPolicy and dnsConfig, as a kubelet does; but where the node names no server now, those that it
// named last. nil leaves the file to the runtime, which
// copies the node's /etc/resolv.conf. Without a cluster DNS, ClusterFirst is the node's resolver.
func dnsConfig(pod *corev1.Pod, h *host) (*cri.DNSConfig, []dnsNote, error) {
	s := &pod.Spec
	cluster := s.DNSPolicy == policyClusterHost || (s.DNSPolicy == policyCluster || s.DNSPolicy == "") && !s.HostNetwork
	path := resolverFile(h.resolvConf, etcResolvConf, resolvedConf)
	var notes []dnsNote
	if cluster && len(h.clusterDNS) == 0 {
		cluster = false
		notes = append(notes, dnsNote{reasonNoDNS, "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. " +
			"Falling back to \"Default\" policy: names of Services do not resolve. Set pods.clusterDNS on the gateway, or dnsPolicy Default in the pod"})
	}
	out := &cri.DNSConfig{}
	if s.DNSPolicy != policyNone {
		text, remembered, err := h.resolver.read(path)
		if err != nil {
			return nil, notes, fmt.Errorf("read the node's resolver configuration: %w", err)
		}
		out = parseResolvConf(text)
		if !cluster && len(out.Servers) == 0 && (s.DNSConfig == nil || len(s.DNSConfig.Nameservers) == 0) {
			notes = append(notes, dnsNote{reasonDNSLimit, "The gateway has no name server, in " + path + ", and has never had one: the pod resolves no names until it is started anew " +
				"once the gateway has one. Connect the gateway's network, or name servers in the pod's dnsConfig"})
		}
		if s.DNSConfig == nil && !cluster && path == etcResolvConf && !remembered {
			return nil, notes, nil
		}
	}
	if cluster {
		out.Servers = slices.Clone(h.clusterDNS)
		zone := "svc." + h.domain
		out.Searches = append([]string{pod.Metadata.Namespace + "." + zone, zone, h.domain}, out.Searches...)
		out.Options = []string{"ndots:5"}
	}
	if d := s.DNSConfig; d != nil {
		out.Servers = append(out.Servers, d.Nameservers...)
		out.Searches = append(out.Searches, d.Searches...)
		for _, o := range d.Options {
			text := o.Name
			if o.Value != nil && *o.Value != "" {
				text += ":" + *o.Value
			}
			out.Options = append(out.Options, text)
		}
	}
	out.Servers, out.Searches, out.Options = once(out.Servers), once(out.Searches), lastOptions(out.Options)
	return out, append(notes, limitResolver(out)...), nil
}

// limitResolver takes away what resolvers would ignore, or break on, and says so.
func limitResolver(c *cri.DNSConfig) (notes []dnsNote) {
	if len(c.Servers) > MaxNameservers {
		c.Servers = c.Servers[:MaxNameservers]
		notes = append(notes, dnsNote{reasonDNSLimit, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(c.Servers, " ")})
	}
	kept := make([]string, 0, min(len(c.Searches), maxSearches))
	line := 0
	for _, name := range c.Searches {
		if len(kept) == maxSearches || line+len(name) > maxSearchLine {
			break
		}
		if len(name) <= maxSearchName {
			kept = append(kept, name)
			line += len(name) + 1
		}
	}
	if len(kept) < len(c.Searches) {
		notes = append(notes, dnsNote{reasonDNSLimit, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(kept, " ")})
	}
	c.Searches = kept
	return notes
}

// dnsEvents tells the pod's owner what its new sandbox resolves names with, if that is not what the pod asks for.
func (w *worker) dnsEvents(pod *corev1.Pod, h *host) {
	_, notes, err := dnsConfig(pod, h)
	if err != nil {
		return // the sandbox could not have been made
	}
	for _, n := range notes {
		if n.reason == reasonNoDNS {
			if !w.m.toldNoDNS.Swap(true) { // every event is written to the flash at once: the node's is told once, the pod's with each sandbox
				w.m.o.Events.Event(w.m.nodeRef(), eventWarning, n.reason, n.message)
			}
			n.message = fmt.Sprintf("pod: %q. %s", pod.Metadata.Name+"_"+pod.Metadata.Namespace+"("+pod.Metadata.UID+")", n.message)
		}
		w.event(eventWarning, n.reason, n.message)
	}
}

// resolverFile returns the file with the node's resolvers: the one that is configured, or etc. Where etc names nothing but a resolver on
// loopback, which a pod does not reach, and systemd-resolved keeps the real ones in resolved, that.
func resolverFile(configured, etc, resolved string) string {
	if configured != "" {
		return configured
	}
	text, err := os.ReadFile(etc) //nolint:gosec // a constant
	if err != nil {
		return etc
	}
	servers := parseResolvConf(text).Servers
	if len(servers) == 0 || slices.ContainsFunc(servers, func(s string) bool {
		at, err := netip.ParseAddr(s)
		return err != nil || !at.IsLoopback()
	}) {
		return etc
	}
	if _, err := os.Stat(resolved); err != nil {
		return etc
	}
	return resolved
}

// parseResolvConf reads resolv.conf(5).
func parseResolvConf(text []byte) *cri.DNSConfig {
	out := &cri.DNSConfig{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search", "domain": // the last one counts
			out.Searches = nil
			for _, name := range f[1:] {
				if name != "." {
					out.Searches = append(out.Searches, strings.TrimSuffix(name, "."))
				}
			}
		case "options":
			out.Options = append(out.Options, f[1:]...)
		}
	}
	return out
}

// once leaves the first of each.
func once(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// lastOptions leaves the last value of each option, in the place of the first.
func lastOptions(list []string) []string {
	var out []string
	for _, o := range list {
		name, _, _ := strings.Cut(o, ":")
		at := slices.IndexFunc(out, func(have string) bool { n, _, _ := strings.Cut(have, ":"); return n == name })
		if at < 0 {
			out = append(out, o)
		} else {
			out[at] = o
		}
	}
	return out
}
