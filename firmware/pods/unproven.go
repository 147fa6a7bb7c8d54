package pods

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// This file holds the one exception from the rule that every TLS peer has to prove itself (docs/adr/0011): httpGet probes and hooks of scheme HTTPS, whose
// manifests have no field that says which certificate to expect. TLS shows such a request nothing that plain HTTP would not, so it may go only
// where plain HTTP is as good: to the pod itself, or to this node. Anywhere else its headers, which may be secret, could be read by somebody who only says
// that he is the peer. A test of the whole tree holds the setting to this file, and its one user to httpget.go.

// schemeHTTPS is the value of httpGet.scheme.
const schemeHTTPS = "HTTPS"

// localhost is the one name that HTTPS requests may go to.
const localhost = "localhost"

// reachRetry is how soon a pod is looked at again whose HTTPS requests name an address that is not the node's now.
const reachRetry = 10 * time.Second

// dialUnproven opens a TLS connection (1.2 or newer) to the pod or this node, and takes any certificate, as a kubelet does: expired, self-signed, or of
// another name. The address is checked as it is dialled, after names have been resolved. No certificate of the agent's is shown.
func (a *caller) dialUnproven(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{ControlContext: func(_ context.Context, _, to string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		if err != nil || !a.own(at.Addr()) {
			return fmt.Errorf("%s is neither the pod's address nor this node's: HTTPS requests go nowhere else", to)
		}
		return nil
	}}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr) //nolint:errcheck // it was dialled
	// #nosec G402 -- the exception that this file is about
	return tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true}), nil
}

// own reports whether an address is the pod's or this node's.
func (a *caller) own(ip netip.Addr) bool {
	ip = ip.Unmap()
	if pod, err := netip.ParseAddr(a.ip); err == nil && pod.Unmap() == ip {
		return true
	}
	return ip.IsLoopback() || ownAddresses()[ip]
}

// near reports whether HTTPS requests may go to a host.
func (a *caller) near(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == localhost || err == nil && a.own(ip)
}

// ownAddresses returns the addresses of the machine's interfaces.
func ownAddresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	list, _ := net.InterfaceAddrs() //nolint:errcheck // as good as none
	for _, a := range list {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			out[prefix.Addr().Unmap()] = true
		}
	}
	return out
}

// farRemedy says why an HTTPS request is refused.
const farRemedy = "HTTPS requests go only to the pod or to this node, because nothing says which certificate to expect of another machine: leave host out, or use HTTP, tcpSocket or exec"

// namedElsewhere refuses HTTPS requests to other machines' names.
func namedElsewhere(s *corev1.PodSpec) []string {
	return farHosts(s, func(_ netip.Addr, isAddress bool) bool { return !isAddress })
}

// withinReach refuses a pod of which nothing runs if its HTTPS requests name an address that is not this node's, and says when to look
// again: the node's address may change. A node that has none yet, because it has just booted without a network, knows no better than the pod.
func (m *Manager) withinReach(d *desiredPod, obs *observation) (*desiredPod, time.Duration) {
	if d.refused != "" || obs.sandbox() != nil {
		return d, 0
	}
	refused := farHosts(&d.pod.Spec, func(ip netip.Addr, isAddress bool) bool { return isAddress && !ip.IsLoopback() && m.elsewhere(ip) })
	if len(refused) == 0 {
		return d, 0
	}
	far := *d
	far.refused = joinSome(refused)
	return &far, reachRetry
}

// elsewhere reports whether an address is known not to be this node's.
func (m *Manager) elsewhere(ip netip.Addr) bool {
	own := ownAddresses()
	for _, text := range m.hostIPs() {
		if addr, err := netip.ParseAddr(text); err == nil {
			own[addr.Unmap()] = true
		}
	}
	for addr := range own {
		if addr.IsGlobalUnicast() {
			return !own[ip]
		}
	}
	return false
}

// farHosts refuses the HTTPS requests of a pod whose host is too far, in order of their paths.
func farHosts(s *corev1.PodSpec, far func(ip netip.Addr, isAddress bool) bool) (refused []string) {
	eachHTTPSHost(s, func(path, host string) {
		ip, err := netip.ParseAddr(host)
		if host != localhost && far(ip.Unmap(), err == nil) {
			refused = append(refused, path+": "+farRemedy)
		}
	})
	slices.Sort(refused)
	return refused
}

// eachHTTPSHost visits each host that an HTTPS request of a pod names, with the path of the field.
func eachHTTPSHost(s *corev1.PodSpec, visit func(path, host string)) {
	look := func(path string, get *corev1.HTTPGetAction) {
		if get != nil && get.Scheme == schemeHTTPS && get.Host != "" {
			visit(path+".httpGet.host", get.Host)
		}
	}
	for list, containers := range map[string][]corev1.Container{"spec.initContainers": s.InitContainers, "spec.containers": s.Containers} {
		for i := range containers {
			c, path := &containers[i], fmt.Sprintf("%s[%d]", list, i)
			for kind, probe := range map[string]*corev1.Probe{".livenessProbe": c.LivenessProbe, ".readinessProbe": c.ReadinessProbe, ".startupProbe": c.StartupProbe} {
				if probe != nil {
					look(path+kind, probe.HTTPGet)
				}
			}
			if c.Lifecycle == nil {
				continue
			}
			for kind, hook := range map[string]*corev1.LifecycleHandler{".lifecycle.postStart": c.Lifecycle.PostStart, ".lifecycle.preStop": c.Lifecycle.PreStop} {
				if hook != nil {
					look(path+kind, hook.HTTPGet)
				}
			}
		}
	}
}
