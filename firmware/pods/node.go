package pods

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Machine measures the gateway. Zero figures are unknown, and cause no pressure.
type Machine interface {
	Measure() (Measurement, error)
}

// Measurement is the state of the gateway. Sizes are in bytes.
type Measurement struct {
	CPUs                    int64
	Memory, MemoryAvailable int64
	Disk, DiskAvailable     int64 // of the file system that holds the pods' folders
	Inodes, InodesFree      int64
	PIDs, PIDsMax           int64
}

// nodeReporter reports the node's status: on change, and now and then unchanged. It belongs to one goroutine after sample.
type nodeReporter struct {
	m        *Manager
	before   map[string]corev1.Condition
	blind    bool // it was said in the log that the machine cannot be measured
	reported []byte
	at       time.Time
	offline  time.Time // since when pods have no network; zero: they have one
	has      inventory
}

// networkSoon is how long a network that is missing is looked for every second. There are gateways that never have one, because all their pods are on the
// host's.
const networkSoon = 2 * time.Minute

func newNodeReporter(m *Manager) *nodeReporter {
	return &nodeReporter{m: m, before: map[string]corev1.Condition{}}
}

// run samples and reports until ctx ends.
func (n *nodeReporter) run(ctx context.Context) {
	ticker := time.NewTicker(n.m.o.NodePeriod)
	defer ticker.Stop()
	n.report(n.sample(ctx))
	for {
		var soon <-chan time.Time
		switch now := time.Now(); {
		case n.before["Ready"].Reason != reasonNoNetwork:
			n.offline = time.Time{}
		case n.offline.IsZero():
			n.offline = now
			fallthrough
		case now.Sub(n.offline) < networkSoon: // nothing tells when the runtime has read a new configuration
			soon = time.After(min(time.Second, n.m.o.NodePeriod))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-soon:
		case <-n.m.nodePoked:
		}
		n.report(n.sample(ctx))
	}
}

// sample looks at the machine and the runtime and makes the node's document.
func (n *nodeReporter) sample(ctx context.Context) *corev1.NodeReport {
	m := n.m
	measured, err := m.o.Machine.Measure()
	if err != nil && !n.blind {
		m.o.Log.Warn("the machine cannot be measured: the node's capacity may be wrong", "error", err)
	}
	n.blind = err != nil
	capacity := corev1.ResourceList{
		"cpu": corev1.NewQuantity(measured.CPUs), "memory": corev1.Quantity(strconv.FormatInt(measured.Memory>>10, 10) + "Ki"),
		"ephemeral-storage": corev1.Quantity(strconv.FormatInt(measured.Disk>>10, 10) + "Ki"), "pods": corev1.NewQuantity(m.o.MaxPods),
	}
	n.has.look(ctx, m)
	maps.Copy(capacity, n.has.pages)
	alloc := allocatable(capacity, m.o.Reserved)
	keepThresholds(alloc, m.o.Eviction.Thresholds, &measured)
	ips := m.findIPs(ctx)
	m.rememberResolver()
	m.mu.Lock()
	moved := !slices.Equal(m.ips, ips)
	m.resource, m.memory, m.ips = alloc, measured.Memory, ips
	if moved {
		for _, w := range m.workers {
			w.poke() // hostIP is part of every pod's status
		}
	}
	m.mu.Unlock()

	info := m.o.NodeInfo
	setDefault(&info.Architecture, runtime.GOARCH)
	setDefault(&info.OperatingSystem, "linux")
	setDefault(&info.KubeletVersion, m.o.Version)
	doc := &corev1.NodeReport{Labels: m.ownLabels(), Taints: m.o.Taints}
	doc.Status.DeclaredFeatures = declaredFeatures()
	if m.o.Annotations != nil {
		doc.Annotations = m.o.Annotations()
	}
	s := &doc.Status
	s.Capacity, s.Allocatable = capacity, alloc
	for _, ip := range ips {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Address: ip, Type: "InternalIP"})
	}
	ready, runtimeSays := n.ready(ctx)
	if ready.Reason == reasonNoNetwork {
		m.setNetwork(ready.Message)
	} else if runtimeSays != nil {
		m.setNetwork("")
	}
	s.Conditions = append(pressure(m.pressures(), m.o.Dir), ready)
	if m.o.Conditions != nil {
		s.Conditions = append(s.Conditions, m.o.Conditions()...)
	}
	s.Images = n.has.images
	s.RuntimeHandlers, s.Features = runtimeHandlers(runtimeSays)
	m.mu.Lock()
	if m.rt.version != "" {
		info.ContainerRuntimeVersion = m.rt.name + "://" + m.rt.version
	}
	m.mu.Unlock()
	s.NodeInfo = info
	n.transitions(s.Conditions)
	return doc
}

// ownLabels are the labels that the node gives itself.
func (m *Manager) ownLabels() corev1.StringMap {
	info := m.o.NodeInfo
	setDefault(&info.Architecture, runtime.GOARCH)
	setDefault(&info.OperatingSystem, "linux")
	labels := corev1.StringMap{
		"kubernetes.io/hostname": m.o.Node, "kubernetes.io/os": info.OperatingSystem, "kubernetes.io/arch": info.Architecture,
		// As a kubelet's: where they are missing, the node controller reads and patches every Node to add them.
		"beta.kubernetes.io/os": info.OperatingSystem, "beta.kubernetes.io/arch": info.Architecture,
	}
	maps.Copy(labels, m.o.Labels)
	return labels
}

// ready asks the runtime how it is. It returns what the runtime said, nil if nothing.
func (n *nodeReporter) ready(ctx context.Context) (corev1.Condition, *cri.StatusResponse) {
	c := corev1.Condition{Type: "Ready", Status: "False", Reason: "RuntimeNotReady"}
	m := n.m
	ctx, cancel := context.WithTimeout(ctx, max(m.o.NodePeriod, time.Second))
	defer cancel()
	resp, err := m.o.Runtime.Status(ctx, false)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) {
			m.runtimeLost(err) // the next look at the pods may be half a minute away
			m.poke()
		}
		c.Message = fmt.Sprintf("the container runtime at %s does not answer: %v. Start it (systemctl start containerd) or correct the agent's runtime socket; "+
			"pods are looked after again as soon as it answers", m.o.Socket, err)
		return c, nil
	}
	status := resp.Status
	if status == nil {
		status = &cri.RuntimeStatus{}
	}
	for _, name := range []string{cri.RuntimeReady, cri.NetworkReady} {
		if rc := status.Condition(name); !rc.Status {
			c.Message = fmt.Sprintf("the container runtime at %s reports %s=false (%s): %s", m.o.Socket, name, rc.Reason, rc.Message)
			if name == cri.NetworkReady {
				c.Reason = reasonNoNetwork
				c.Message += ". " + cmp.Or(m.networkProblem(), "Install a CNI configuration where the runtime looks for it") + "; pods with hostNetwork run without"
			}
			return c, resp
		}
	}
	if problem := m.networkProblem(); problem != "" {
		c.Reason, c.Message = reasonNoNetwork, problem+"; pods with hostNetwork run without"
		return c, resp
	}
	if m.shutsDown() {
		c.Reason, c.Message = reasonNodeShutdown, messageNodeGoes
		return c, resp
	}
	c.Status, c.Reason, c.Message = "True", "KubeletReady", "skerryd is posting ready status"
	return c, resp
}

// pressure makes the pressure conditions. dir is where the pods' folders are.
func pressure(on map[string]eviction.Threshold, dir string) []corev1.Condition {
	var list []corev1.Condition
	for _, kind := range eviction.Conditions() {
		c := corev1.Condition{Type: kind, Status: "False"}
		t, is := on[kind]
		if is {
			c.Status = "True"
		}
		switch {
		case kind == eviction.MemoryPressure && is:
			c.Reason = "KubeletHasInsufficientMemory"
			c.Message = fmt.Sprintf("%s is or was just now below %s: lower the limits of pods, or move some", t.Signal, t.Least)
		case kind == eviction.MemoryPressure:
			c.Reason, c.Message = "KubeletHasSufficientMemory", "kubelet has sufficient memory available"
		case kind == eviction.DiskPressure && is:
			c.Reason = "KubeletHasDiskPressure"
			holds := dir
			if onImages(t.Signal) {
				holds = "the images"
			}
			c.Message = fmt.Sprintf("%s is or was just now below %s of the disk that holds %s: remove what is not needed there, images and logs first", t.Signal, t.Least, holds)
		case kind == eviction.DiskPressure:
			c.Reason, c.Message = "KubeletHasNoDiskPressure", "kubelet has no disk pressure"
		case is:
			c.Reason = "KubeletHasInsufficientPID"
			c.Message = fmt.Sprintf("%s is or was just now below %s: find the pod that forks", t.Signal, t.Least)
		default:
			c.Reason, c.Message = "KubeletHasSufficientPID", "kubelet has sufficient PID available"
		}
		list = append(list, c)
	}
	return list
}

// pressures returns the pressure conditions that are true. The map is not changed afterwards.
func (m *Manager) pressures() map[string]eviction.Threshold {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pressure
}

// transitions keeps the times at which conditions changed.
func (n *nodeReporter) transitions(list []corev1.Condition) {
	for i := range list {
		c := &list[i]
		old, ok := n.before[c.Type]
		now := time.Now()
		if ok && old.Status == c.Status && believable(old.LastTransitionTime, nil, now) {
			c.LastTransitionTime = old.LastTransitionTime
		} else {
			c.LastTransitionTime = corev1.NewTime(now)
		}
		n.before[c.Type] = *c
	}
}

// report reports the document if it changed or was not reported for long. Heartbeats are the Lease's; lastHeartbeatTime says
// when the document was made.
func (n *nodeReporter) report(doc *corev1.NodeReport) {
	b, err := doc.MarshalMsg(nil)
	if err != nil {
		n.m.o.Log.Error("node status cannot be encoded", "error", err)
		return
	}
	now := time.Now()
	if bytes.Equal(b, n.reported) && now.Sub(n.at) < n.m.o.NodeRefresh {
		return
	}
	for i := range doc.Status.Conditions {
		doc.Status.Conditions[i].LastHeartbeatTime = corev1.NewTime(now)
	}
	body, err := corev1.Canonical(doc)
	if err != nil {
		n.m.o.Log.Error("node status cannot be encoded", "error", err)
		return
	}
	n.reported, n.at = b, now
	n.m.o.Reports.Report(wire.NewKey(wire.KindNode, "", n.m.o.Node, ""), body)
}

// allocatable is the capacity without what is reserved.
func allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	out := maps.Clone(capacity)
	for name, r := range reserved {
		if q, ok := capacity[name]; ok {
			if name == "cpu" {
				out[name] = corev1.NewMilli(max(0, milli(q)-milli(r)))
			} else {
				out[name] = corev1.NewQuantity(max(0, whole(q)-whole(r)))
			}
		}
	}
	return out
}

// keepThresholds takes off what pods cannot have because they would be evicted: the hard thresholds of memory and disk.
func keepThresholds(alloc corev1.ResourceList, rules []eviction.Threshold, v *Measurement) {
	for i := range rules {
		name, all := "memory", v.Memory
		if rules[i].Signal == eviction.NodeDisk {
			name, all = "ephemeral-storage", v.Disk
		} else if rules[i].Signal != eviction.Memory {
			continue
		}
		if rules[i].Grace == 0 {
			alloc[name] = corev1.NewQuantity(max(0, whole(alloc[name])-rules[i].Least.Of(all)))
		}
	}
}

func (m *Manager) allocatable() corev1.ResourceList {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resource
}

func (m *Manager) hostIPs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ips
}

// findIPs returns the node's addresses: the one that is configured, or the one from which the kernel would reach a relay. A UDP
// socket that is only connected sends nothing. If no relay has a route, the last address stays.
func (m *Manager) findIPs(ctx context.Context) []string {
	if m.o.NodeIP != "" {
		return []string{m.o.NodeIP}
	}
	for _, to := range m.o.RouteTo {
		host, port, err := net.SplitHostPort(to)
		if err != nil || net.ParseIP(host) == nil {
			continue // a name would need a resolver, which may hang when the node is cut off
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(host, port))
		if err != nil {
			continue
		}
		local, ok := conn.LocalAddr().(*net.UDPAddr)
		_ = conn.Close()
		if ok && !local.IP.IsUnspecified() {
			return []string{local.IP.String()}
		}
	}
	if ips := m.hostIPs(); len(ips) > 0 {
		return ips
	}
	return interfaceIPs()
}

// interfaceIPs returns the first global address of the machine, for nodes whose relay has only a name.
func interfaceIPs() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return []string{n.IP.String()}
		}
	}
	return nil
}
