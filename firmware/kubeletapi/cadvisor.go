package kubeletapi

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// group is a line of /metrics/cadvisor: the node (id "/"), a pod, or a container.
type group struct {
	labels  string
	figures figures
	started *time.Time
	io      []ioCount
	net     []netCount
	netSet  string // labels of the network's series
	cg      *cgroup
	used    *uint64 // of the disk
	limit   *uint64
	inodes  *uint64
}

// containerFamily is a family of /metrics/cadvisor that is one figure. Names and labels are cAdvisor's, docs/storage/prometheus.md there.
type containerFamily struct {
	name, kind, help string
	of               figure
	times            float64
	cpu              bool // has the label cpu="total"
}

func containerFamilies() []containerFamily {
	const second = 1e-9
	return []containerFamily{
		{"container_cpu_usage_seconds_total", "counter", "processor time used, in seconds", cpuNanos, second, true},
		{"container_cpu_cfs_periods_total", "counter", "periods of the processor's quota", cpuPeriods, 1, false},
		{"container_cpu_cfs_throttled_periods_total", "counter", "periods in which the quota was used up", cpuThrottled, 1, false},
		{"container_cpu_cfs_throttled_seconds_total", "counter", "time spent waiting for the next period, in seconds", cpuThrottledNanos, second, false},
		{"container_spec_cpu_quota", "gauge", "processor time in a period that may be used, in microseconds", cpuQuota, 1, false},
		{"container_spec_cpu_period", "gauge", "length of a period, in microseconds", cpuPeriod, 1, false},
		{"container_spec_cpu_shares", "gauge", "weight among others", cpuShares, 1, false},
		{"container_memory_usage_bytes", "gauge", "memory in use, caches included", memUsage, 1, false},
		{"container_memory_working_set_bytes", "gauge", "memory in use that cannot be taken away", memWorkingSet, 1, false},
		{"container_memory_rss", "gauge", "anonymous memory, in bytes", memRSS, 1, false},
		{"container_memory_cache", "gauge", "files in memory, in bytes", memCache, 1, false},
		{"container_memory_mapped_file", "gauge", "files that are mapped, in bytes", memMapped, 1, false},
		{"container_memory_swap", "gauge", "swap in use, in bytes", memSwap, 1, false},
		{"container_memory_max_usage_bytes", "gauge", "the most memory that was in use", memPeak, 1, false},
		{"container_memory_failcnt", "counter", "how often the limit of memory was reached", memFailures, 1, false},
		{"container_spec_memory_limit_bytes", "gauge", "limit of memory; 0: none", memLimit, 1, false},
		{"container_oom_events_total", "counter", "processes that were killed because memory ran out", oomKills, 1, false},
		{"container_processes", "gauge", "processes", processCount, 1, false},
		{"container_threads", "gauge", "threads", taskCount, 1, false},
		{"container_threads_max", "gauge", "limit of threads", taskLimit, 1, false},
	}
}

// serveContainerMetrics answers /metrics/cadvisor, which Prometheus' dashboards of containers are made of.
func (s *Server) serveContainerMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
	defer cancel()
	samples, err := s.sample(ctx, true)
	if err != nil {
		s.log.Warn("kubelet API: the container runtime failed", "what", "statistics of the containers", "error", err)
	}
	now := time.Now()
	groups := []group{s.nodeGroup(now)}
	for i := range samples {
		groups = append(groups, podGroups(&samples[i])...)
	}
	m := newPage()
	for _, f := range containerFamilies() {
		m.family(f.name, f.kind, f.help)
		for i := range groups {
			v, ok := groups[i].figures[f.of]
			if !ok {
				continue
			}
			set := groups[i].labels
			if f.cpu {
				set = with(set, "cpu", "total")
			}
			m.value(f.name, set, float64(v)*f.times, time.Time{})
		}
	}
	m.times(groups, now)
	m.disks(groups, s.deviceNames(groups))
	m.networks(groups)
	m.pressures(groups, s)
	s.machineMetrics(m)
	m.single("container_scrape_error", "gauge", "1 if the statistics of the containers could not be had", flag(err != nil))
	m.send(w)
}

// identity are the labels of a group. Names of containers and images are empty for pods and the node.
func identity(container, id, image, name, namespace, pod string) string {
	return labels("container", container, "id", id, "image", image, "name", name, "namespace", namespace, "pod", pod)
}

// nodeGroup is the gateway itself.
func (s *Server) nodeGroup(now time.Time) group {
	n := s.nodeStats(now)
	g := group{labels: identity("", "/", "", "", "", ""), figures: figures{}, started: n.StartTime, net: parseInterfaces(s.proc("net/dev"))}
	g.netSet = g.labels
	if n.CPU != nil {
		g.figures.put(cpuNanos, n.CPU.UsageCoreNanoSeconds)
	}
	if n.Memory != nil {
		g.figures.put(memUsage, n.Memory.UsageBytes)
		g.figures.put(memWorkingSet, n.Memory.WorkingSetBytes)
		g.figures.put(memRSS, n.Memory.RSSBytes)
	}
	if n.Swap != nil {
		g.figures.put(memSwap, n.Swap.SwapUsageBytes)
	}
	if d := s.disk(s.o.Dir, now); d != nil {
		g.used, g.limit, g.inodes = d.UsedBytes, d.CapacityBytes, d.InodesUsed
	}
	return g
}

// podGroups are a pod and its containers.
func podGroups(x *podSample) []group {
	p := x.pod
	path := "/" + p.UID // where there is no cgroup to be seen, ids must still tell pods apart
	if x.grouped {
		path = x.group.path
	}
	own := group{labels: identity("", path, "", "", p.Namespace, p.Name), figures: x.figures, net: x.network}
	own.netSet = own.labels
	if x.grouped {
		own.cg = &x.group
	}
	out := []group{own}
	for i := range x.containers {
		c := &x.containers[i]
		id := c.stats.Attributes.ID
		g := group{figures: c.figures, started: c.started}
		at := path + "/" + id
		if c.grouped {
			at, g.cg, g.io = c.group.path, &c.group, c.group.io()
			if _, limited := c.figures[memLimit]; !limited {
				c.figures[memLimit] = 0
			}
		}
		g.labels = identity(c.name, at, c.image, id, p.Namespace, p.Name)
		if l := c.stats.WritableLayer; l != nil {
			g.used, g.inodes = l.UsedBytes, l.InodesUsed
		}
		out = append(out, g)
	}
	return out
}

// times tells when groups were started and last seen.
func (m metricPage) times(groups []group, now time.Time) {
	m.family("container_start_time_seconds", "gauge", "when it was started, seconds since 1970")
	for _, g := range groups {
		if g.started != nil {
			m.value("container_start_time_seconds", g.labels, float64(g.started.UnixNano())/1e9, time.Time{})
		}
	}
	m.family("container_last_seen", "gauge", "when it was looked at, seconds since 1970")
	for _, g := range groups {
		m.value("container_last_seen", g.labels, float64(now.Unix()), time.Time{})
	}
}

// disks tells what is on disks, and what has been read and written.
func (m metricPage) disks(groups []group, devices map[string]string) {
	for _, f := range []struct {
		name, help string
		of         func(*group) *uint64
	}{
		{"container_fs_usage_bytes", "what is on the disk: a container's own layer, or of the node the file system with its pods", func(g *group) *uint64 { return g.used }},
		{"container_fs_limit_bytes", "size of the file system with the pods", func(g *group) *uint64 { return g.limit }},
		{"container_fs_inodes_total", "inodes in use", func(g *group) *uint64 { return g.inodes }},
	} {
		m.family(f.name, "gauge", f.help)
		for i := range groups {
			if v := f.of(&groups[i]); v != nil {
				m.value(f.name, with(groups[i].labels, "device", ""), float64(*v), time.Time{})
			}
		}
	}
	for _, f := range []struct {
		name, help string
		of         func(*ioCount) uint64
	}{
		{"container_fs_reads_total", "reads from a device", func(c *ioCount) uint64 { return c.reads }},
		{"container_fs_writes_total", "writes to a device", func(c *ioCount) uint64 { return c.writes }},
		{"container_fs_reads_bytes_total", "bytes read from a device", func(c *ioCount) uint64 { return c.readBytes }},
		{"container_fs_writes_bytes_total", "bytes written to a device", func(c *ioCount) uint64 { return c.writeBytes }},
	} {
		m.family(f.name, "counter", f.help)
		for i := range groups {
			for j := range groups[i].io {
				c := &groups[i].io[j]
				m.value(f.name, with(groups[i].labels, "device", devices[c.device]), float64(f.of(c)), time.Time{})
			}
		}
	}
}

// deviceNames finds the names of the devices MAJOR:MINOR that groups have used.
func (s *Server) deviceNames(groups []group) map[string]string {
	out := map[string]string{}
	for _, g := range groups {
		for _, c := range g.io {
			if _, known := out[c.device]; known {
				continue
			}
			out[c.device] = c.device
			if to, err := os.Readlink(filepath.Join(s.o.Sys, "dev", "block", c.device)); err == nil {
				out[c.device] = "/dev/" + filepath.Base(to)
			}
		}
	}
	return out
}

// networks tells what interfaces have carried.
func (m metricPage) networks(groups []group) {
	for _, f := range []struct {
		name, help string
		of         func(*netCount) uint64
	}{
		{"container_network_receive_bytes_total", "bytes received", func(c *netCount) uint64 { return c.rxBytes }},
		{"container_network_receive_packets_total", "packets received", func(c *netCount) uint64 { return c.rxPackets }},
		{"container_network_receive_packets_dropped_total", "received packets dropped", func(c *netCount) uint64 { return c.rxDropped }},
		{"container_network_receive_errors_total", "errors while receiving", func(c *netCount) uint64 { return c.rxErrors }},
		{"container_network_transmit_bytes_total", "bytes sent", func(c *netCount) uint64 { return c.txBytes }},
		{"container_network_transmit_packets_total", "packets sent", func(c *netCount) uint64 { return c.txPackets }},
		{"container_network_transmit_packets_dropped_total", "packets dropped while sending", func(c *netCount) uint64 { return c.txDropped }},
		{"container_network_transmit_errors_total", "errors while sending", func(c *netCount) uint64 { return c.txErrors }},
	} {
		m.family(f.name, "counter", f.help)
		for i := range groups {
			for j := range groups[i].net {
				c := &groups[i].net[j]
				m.value(f.name, with(groups[i].netSet, "interface", c.name), float64(f.of(c)), time.Time{})
			}
		}
	}
}

// pressures tells how long groups have waited for what they needed, where the kernel knows.
func (m metricPage) pressures(groups []group, s *Server) {
	for _, resource := range []string{"cpu", "memory", "io"} {
		waiting, stalled := "container_pressure_"+resource+"_waiting_seconds_total", "container_pressure_"+resource+"_stalled_seconds_total"
		var full bytes.Buffer
		m.family(waiting, "counter", "time in which some of its tasks waited, in seconds")
		late := metricPage{&full}
		late.family(stalled, "counter", "time in which all of its tasks waited, in seconds")
		for i := range groups {
			g := &groups[i]
			p := parsePressure(string(s.proc("pressure/" + resource)))
			if i > 0 {
				if p = nil; g.cg != nil {
					p = g.cg.pressure(resource)
				}
			}
			if p != nil {
				m.value(waiting, g.labels, seconds(p.Some.Total), time.Time{})
				late.value(stalled, g.labels, seconds(p.Full.Total), time.Time{})
			}
		}
		m.b.Write(full.Bytes())
	}
}

// machineMetrics tells what the gateway has.
func (s *Server) machineMetrics(m metricPage) {
	m.single("machine_cpu_cores", "gauge", "processors", float64(runtime.NumCPU()))
	v := memInfo(s.proc("meminfo"))
	for _, x := range []struct{ name, help, of string }{{"machine_memory_bytes", "memory", "MemTotal"}, {"machine_swap_bytes", "swap", "SwapTotal"}} {
		if n, ok := v[x.of]; ok {
			m.single(x.name, "gauge", x.help, float64(n))
		}
	}
	m.single("machine_scrape_error", "gauge", "1 if the machine's figures could not be had", flag(len(v) == 0))
}
