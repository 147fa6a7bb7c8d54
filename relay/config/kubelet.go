package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Kubelet is about the port to which the API server sends `kubectl logs`, `exec` and the like for all gateways.
type Kubelet struct {
	Listen       string        `yaml:"listen"`       // HOST:PORT; empty: there is no such port
	Address      string        `yaml:"address"`      // IP address under which the API server reaches the relays: the nodes' InternalIP
	Port         int           `yaml:"port"`         // at that address
	PeerAddress  string        `yaml:"peerAddress"`  // HOST:PORT under which other relays reach this replica
	Domain       string        `yaml:"domain"`       // nodes are NAME.DOMAIN; empty: they have no names
	NodePorts    string        `yaml:"nodePorts"`    // FIRST-LAST; empty: nodes have no ports of their own
	ClientCAFile string        `yaml:"clientCAFile"` // of the API server's client certificates; empty: what the cluster publishes
	CertFile     string        `yaml:"certFile"`     // serving certificate; empty: one of Skerry's CA
	KeyFile      string        `yaml:"keyFile"`
	IdleTimeout  time.Duration `yaml:"idleTimeout"` // after which a connection without traffic is closed
}

// DefaultKubelet is switched off.
func DefaultKubelet() Kubelet { return Kubelet{Port: 10250, IdleTimeout: 4 * time.Hour} }

// On says whether the relay has a kubelet port.
func (k Kubelet) On() bool { return k.Listen != "" }

// Range returns the range of nodes' own ports; ok is false if there is none.
func (k Kubelet) Range() (first, last int, ok bool) {
	a, b, found := strings.Cut(k.NodePorts, "-")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if !found || err1 != nil || err2 != nil || x < 1 || y < x {
		return 0, 0, false
	}
	return int(x), int(y), true
}

func (k Kubelet) check(bad func(key, format string, args ...any)) {
	if k.IdleTimeout < time.Minute || k.IdleTimeout > 7*24*time.Hour {
		bad("kubelet.idleTimeout", "%v is not between 1m and 168h", k.IdleTimeout)
	}
	if k.Port < 1 || k.Port > 65535 {
		bad("kubelet.port", "%d is not a port number", k.Port)
	}
	if (k.CertFile == "") != (k.KeyFile == "") {
		bad("kubelet.certFile", "kubelet.certFile and kubelet.keyFile belong together")
	}
	if k.NodePorts != "" {
		first, last, ok := k.Range()
		switch {
		case !ok:
			bad("kubelet.nodePorts", "%q is not FIRST-LAST, such as 20000-29999", k.NodePorts)
		case k.Port >= first && k.Port <= last:
			bad("kubelet.nodePorts", "%q contains kubelet.port (%d), which is that of all nodes", k.NodePorts, k.Port)
		}
	}
	if k.Domain != "" && (!validName(k.Domain) || strings.ToLower(k.Domain) != k.Domain) {
		bad("kubelet.domain", "%q is not a DNS name in lower case", k.Domain)
	}
	if !k.On() {
		for key, value := range map[string]string{
			"address": k.Address, "peerAddress": k.PeerAddress, "domain": k.Domain, "nodePorts": k.NodePorts, "clientCAFile": k.ClientCAFile, "certFile": k.CertFile,
		} {
			if value != "" {
				bad("kubelet."+key, "it is set, and kubelet.listen is not: there is no kubelet port")
			}
		}
		return
	}
	if err := checkAddress(k.Listen); err != nil {
		bad("kubelet.listen", "%w", err)
	}
	if ip, err := netip.ParseAddr(k.Address); err != nil || ip.IsUnspecified() {
		bad("kubelet.address", "%q is not an IP address at which the API server reaches the relays: it becomes the nodes' InternalIP", k.Address)
	}
	if k.PeerAddress != "" {
		if err := checkAddress(k.PeerAddress); err != nil {
			bad("kubelet.peerAddress", "%w", err)
		} else if strings.HasPrefix(k.PeerAddress, ":") || len(k.PeerAddress) > 255 {
			bad("kubelet.peerAddress", "%q has no host, or more than 255 characters: give what other relays can dial", k.PeerAddress)
		}
	}
}

// String is for logs.
func (k Kubelet) String() string {
	return fmt.Sprintf("%s (nodes' address %s:%d)", k.Listen, k.Address, k.Port)
}
