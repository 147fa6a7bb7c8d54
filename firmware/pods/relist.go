package pods

import (
	"context"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// askLimit is how long the manager waits for an answer of the runtime: one that hangs is as good as none.
const askLimit = 15 * time.Second

// fingerprints sums up what the runtime has of each pod, so that a change is noticed. The order of the lists does not matter.
func fingerprints(sandboxes []cri.PodSandbox, containers []cri.Container) map[string]uint64 {
	out := map[string]uint64{}
	add := func(labels map[string]string, id string, state int32) {
		out[labels[labelPodUID]] += fingerprint(id, state)
	}
	for i := range sandboxes {
		add(sandboxes[i].Labels, sandboxes[i].ID, int32(sandboxes[i].State))
	}
	for i := range containers {
		add(containers[i].Labels, containers[i].ID, int32(containers[i].State))
	}
	delete(out, "")
	return out
}

// fingerprint is what one sandbox or container adds to its pod's.
func fingerprint(id string, state int32) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id + strconv.Itoa(int(state))))
	return mixed(h.Sum64()) | 1
}

// mixed spreads every bit of a hash over all others (MurmurHash3's last step). FNV hashes of texts that differ in their last byte only differ by a
// few small numbers: of two containers that end at the same time the differences would cancel each other out in a sum, once in four times.
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// census finds, before any worker is there, which pods run already.
func (m *Manager) census(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	sandboxes, err := m.o.Runtime.ListPodSandbox(ask, &cri.PodSandboxFilter{LabelSelector: map[string]string{labelNode: m.o.Node}})
	if err != nil {
		m.runtimeLost(err)
		return
	}
	m.adopt(sandboxes)
	m.runtimeFound(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noteThere(sandboxes)
}

// adopt notes which pods run when the runtime answers for the first time, or again: they keep their host ports.
func (m *Manager) adopt(sandboxes []cri.PodSandbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rt.up {
		return
	}
	clear(m.adopted)
	for i := range sandboxes {
		uid := sandboxes[i].Labels[labelPodUID]
		if sandboxes[i].State != cri.SandboxReady {
			continue
		}
		m.adopted[uid] = true
		if w := m.workers[uid]; w != nil && w.shared.desired != nil {
			m.take(w, hostPorts(&w.shared.desired.pod))
		}
	}
}

// runtimeLost notes that the runtime does not answer, with one line in the log.
func (m *Manager) runtimeLost(err error) {
	m.mu.Lock()
	first := !m.rt.lost
	m.rt.up, m.rt.lost, m.rt.err = false, true, err
	m.mu.Unlock()
	if first {
		m.pokeNode()
		m.o.Log.Error("the container runtime does not answer: pods keep their state, and are looked after again as soon as it does",
			"socket", m.o.Socket, "error", err)
	}
}

// runtimeFound notes that the runtime answered, and asks who it is if it did not answer before. It returns whether it is back.
func (m *Manager) runtimeFound(ctx context.Context) (recovered bool) {
	m.mu.Lock()
	up := m.rt.up
	m.mu.Unlock()
	if up {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	v, err := m.o.Runtime.Version(ctx)
	if err != nil {
		m.runtimeLost(err)
		return false
	}
	systemd := cgroupDriver(ctx, m.o.Runtime, v.RuntimeName, systemdRuns)
	status, err := m.o.Runtime.Status(ctx, false)
	if err != nil { // what it can do must not be guessed: pods are refused by it
		m.runtimeLost(err)
		return false
	}
	m.mu.Lock()
	m.rt = runtimeState{up: true, can: abilitiesOf(v.RuntimeName, v.RuntimeVersion, status), name: v.RuntimeName, version: v.RuntimeVersion, systemd: systemd, strictGroups: status.Features != nil && status.Features.SupplementalGroupsPolicy}
	m.mu.Unlock()
	m.pokeNode()
	m.o.Log.Info("the container runtime answers", "socket", m.o.Socket, "runtime", v.RuntimeName, "version", v.RuntimeVersion, "systemd_cgroups", systemd)
	return true
}

// runtimeUp returns why the runtime cannot be used, nil if it can.
func (m *Manager) runtimeUp() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rt.up {
		return nil
	}
	return &downError{m.rt.err}
}

// downError is why the runtime cannot be used at the moment.
type downError struct{ error }

// Is matches cri.ErrUnavailable, whatever the error was that the runtime was found down by.
func (e *downError) Is(target error) bool { return target == cri.ErrUnavailable }

// pokeNode asks for a look at the node soon. It never blocks.
func (m *Manager) pokeNode() {
	select {
	case m.nodePoked <- struct{}{}:
	default:
	}
}

func (m *Manager) runtimeName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rt.name
}

// host returns what a pod's configuration needs to know about the node.
func (m *Manager) host() *host {
	groups := openCgroups(m.o.CgroupRoot)
	floor, sizes := oomFloor(m.o.Proc), groups.hugepageSizes(m.o.Sys)
	m.mu.Lock()
	defer m.mu.Unlock()
	return &host{
		oomFloor: floor, hugepages: sizes, cgroup2: groups.v2,
		node: m.o.Node, ips: m.ips, memory: m.memory, cgroup: m.o.CgroupParent, systemd: m.rt.systemd,
		resolvConf: m.o.ResolvConf, resolver: m.resolver, logDir: m.o.LogDir, domain: m.o.ClusterDomain, clusterDNS: m.o.ClusterDNS,
	}
}
