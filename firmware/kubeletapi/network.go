package kubeletapi

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const maxInterfaces = 32 // of a pod or the node, that are told

// netCount is what one interface has carried, as /proc/net/dev counts it.
type netCount struct {
	name                                    string
	rxBytes, rxPackets, rxErrors, rxDropped uint64
	txBytes, txPackets, txErrors, txDropped uint64
}

// parseInterfaces reads /proc/PID/net/dev. The loopback interface and the host's ends of containers' interfaces are left out, as kubelets do.
func parseInterfaces(text []byte) []netCount {
	var out []netCount
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, ":")
		w := strings.Fields(rest)
		c := netCount{name: strings.TrimSpace(name)}
		if !ok || len(w) < 12 || ignored(c.name) || len(out) == maxInterfaces {
			continue
		}
		bad := false
		for column, to := range map[int]*uint64{
			0: &c.rxBytes, 1: &c.rxPackets, 2: &c.rxErrors, 3: &c.rxDropped, 8: &c.txBytes, 9: &c.txPackets, 10: &c.txErrors, 11: &c.txDropped,
		} {
			v, err := strconv.ParseUint(w[column], 10, 64)
			*to, bad = v, bad || err != nil
		}
		if !bad {
			out = append(out, c)
		}
	}
	return out
}

func ignored(name string) bool {
	return name == "lo" || strings.HasPrefix(name, "veth") || strings.HasPrefix(name, "docker") || strings.HasPrefix(name, "nerdctl")
}

// networkOf makes the document's form; main is the interface that stands for all.
func networkOf(list []netCount, main string, now time.Time) *networkStats {
	if len(list) == 0 {
		return nil
	}
	n := &networkStats{Time: now}
	for _, c := range list {
		i := interfaceStats{Name: c.name, RxBytes: &c.rxBytes, RxErrors: &c.rxErrors, TxBytes: &c.txBytes, TxErrors: &c.txErrors}
		n.Interfaces = append(n.Interfaces, i)
		if c.name == main {
			n.interfaceStats = i
		}
	}
	return n
}

// defaultInterface returns the interface of the default route in /proc/net/route, or in …/ipv6_route; "" if there is none.
func defaultInterface(v4, v6 []byte) string {
	for line := range strings.Lines(string(v4)) {
		if w := strings.Fields(line); len(w) > 7 && w[1] == "00000000" && w[7] == "00000000" {
			return w[0]
		}
	}
	for line := range strings.Lines(string(v6)) {
		w := strings.Fields(line)
		if len(w) == 10 && w[0] == strings.Repeat("0", 32) && w[1] == "00" && w[9] != "lo" {
			return w[9]
		}
	}
	return ""
}

// podNetwork reads the interfaces of the network namespace that a pod's sandbox holds, through a process in it.
func (s *Server) podNetwork(sandbox cgroup) []netCount {
	pid := sandbox.firstProcess()
	if pid == 0 {
		return nil
	}
	return parseInterfaces(s.proc(filepath.Join(strconv.Itoa(pid), "net", "dev")))
}
