package pods

import (
	"maps"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// hostPort is a port of the gateway that a pod publishes. CNI's portmap does not notice that two pods publish the same one:
// the first silently wins. So the manager does.
type hostPort struct {
	port     int32
	protocol string
	ip       string
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	for _, c := range longRunning(&pod.Spec) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				out = append(out, hostPort{port: p.HostPort, protocol: p.Protocol, ip: p.HostIP})
			}
		}
	}
	return out
}

// anyAddress reports whether a host IP stands for all of them.
func anyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }

// clashes reports whether two pods cannot have these two.
func (p hostPort) clashes(other hostPort) bool {
	return p.port == other.port && p.protocol == other.protocol && (p.ip == other.ip || anyAddress(p.ip) || anyAddress(other.ip))
}

// claimPorts gives a pod its host ports, or says which pod has one of them.
func (m *Manager) claimPorts(w *worker, pod *corev1.Pod) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := hostPorts(pod)
	for _, want := range wanted {
		for have, owner := range m.ports {
			if owner != w && want.clashes(have) {
				name := "another pod"
				if d := owner.shared.desired; d != nil {
					name = "pod " + d.pod.Metadata.Namespace + "/" + d.pod.Metadata.Name
				}
				return waitFor("ContainerCreating", "host port %d/%s is in use by %s: the pod starts as soon as it is free", want.port, want.protocol, name)
			}
		}
	}
	m.take(w, wanted)
	return nil
}

// holdPorts records the host ports of a pod that runs already.
func (m *Manager) holdPorts(w *worker, pod *corev1.Pod) {
	if wanted := hostPorts(pod); len(wanted) > 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.take(w, wanted)
	}
}

func (m *Manager) take(w *worker, ports []hostPort) {
	for _, p := range ports {
		if m.ports[p] == nil {
			m.ports[p] = w
		}
	}
}

// releasePorts takes a pod's host ports back, and lets those try again that may be waiting for them.
func (m *Manager) releasePorts(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releaseLocked(w)
}

func (m *Manager) releaseLocked(w *worker) {
	before := len(m.ports)
	maps.DeleteFunc(m.ports, func(_ hostPort, owner *worker) bool { return owner == w })
	if len(m.ports) == before {
		return
	}
	m.changed = time.Now() // back-offs need not be waited for
	for _, other := range m.workers {
		if d := other.shared.desired; other != w && d != nil && len(hostPorts(&d.pod)) > 0 {
			other.poke()
		}
	}
}
