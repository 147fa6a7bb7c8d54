package pods

import "time"

const reasonNoNetwork = "NetworkNotReady"

// networkProblem is what is known about the network beside what the runtime says.
func (m *Manager) networkProblem() string {
	if m.o.Network == nil {
		return ""
	}
	return m.o.Network()
}

// setNetwork notes why pods have no network. Those that wait for one are started as soon as it is there.
func (m *Manager) setNetwork(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.offline != "" && why == "" {
		m.changed = time.Now()
		for _, w := range m.workers {
			w.poke()
		}
	}
	m.offline = why
}

// withoutNetwork says why a pod cannot have a network of its own now, "" if it can.
func (m *Manager) withoutNetwork() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offline
}
