package kubeletapi

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// statsTimeout bounds what the runtime may take to count: metrics collectors give up after 10 to 15 s.
const statsTimeout = 8 * time.Second

// serveSummary answers /stats/summary. With ?only_cpu_and_memory=true, as kubelets know it, nothing else is measured.
func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	sum, err := s.gather(r.Context(), r.URL.Query().Get("only_cpu_and_memory") != "true")
	if err != nil {
		s.runtimeFailed(w, "statistics of the containers", err)
		return
	}
	writeJSON(w, sum)
}

// gather counts what the node and its pods use. all measures disks and networks, too.
func (s *Server) gather(ctx context.Context, all bool) (summary, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	samples, err := s.sample(ctx, all)
	if err != nil {
		return summary{}, err
	}
	now := time.Now()
	g := &gatherer{s: s, now: now, seen: map[string]bool{nodeRate: true, agentRate: true, podsRate: true}}
	sum := summary{Node: s.nodeStats(now), Pods: make([]podStats, 0, len(samples))}
	if all {
		g.round = s.usages.newRound()
		defer g.round.end()
		s.nodeDetails(ctx, &sum.Node, now)
	}
	for i := range samples {
		sum.Pods = append(sum.Pods, g.pod(ctx, &samples[i]))
	}
	s.rates.keep(g.seen)
	return sum, nil
}

// gatherer makes one document.
type gatherer struct {
	s     *Server
	now   time.Time
	seen  map[string]bool // what rates are kept of
	round *usageRound     // nil: disks and networks are left out
}

func (g *gatherer) pod(ctx context.Context, x *podSample) podStats {
	p := x.pod
	out := podStats{PodRef: podRef{p.Name, p.Namespace, p.UID}, Containers: make([]containerStats, 0, len(x.containers))}
	if p.Status != nil && p.Status.StartTime != nil {
		out.StartTime = &p.Status.StartTime.Time
	}
	for i := range x.containers {
		out.Containers = append(out.Containers, g.container(ctx, x, &x.containers[i]))
	}
	out.sum()
	if x.grouped { // counts what has ended in the pod, too, and its sandbox
		g.group(x, &out)
	}
	if g.round == nil {
		return out
	}
	out.Network = networkOf(x.network, "eth0", g.now)
	out.Volumes = g.volumes(ctx, p)
	out.ephemeral(g.s, g.now)
	return out
}

// group tells what the pod's cgroup does, in place of the containers' sum.
func (g *gatherer) group(x *podSample, out *podStats) {
	f := x.figures
	if total := f.get(cpuNanos); total != nil {
		key := "pod/" + x.pod.UID
		g.seen[key] = true
		out.CPU = &cpuStats{Time: g.now, UsageCoreNanoSeconds: total, UsageNanoCores: g.s.rates.of(key, g.now, *total), PSI: x.group.pressure("cpu")}
	}
	if f.get(memUsage) != nil {
		out.Memory = &memoryStats{
			Time: g.now, UsageBytes: f.get(memUsage), WorkingSetBytes: f.get(memWorkingSet), RSSBytes: f.get(memRSS), AvailableBytes: f.available(),
			PageFaults: f.get(memFaults), MajorPageFaults: f.get(memMajorFaults), PSI: x.group.pressure("memory"),
		}
	}
	out.IO = g.io(x.group.pressure("io"))
	out.Swap = g.swap(f)
	if n := f.get(taskCount); n != nil && *n > 0 {
		out.Processes = &processStats{n}
	}
}

// available is what is left below the limit; nil without one.
func (f figures) available() *uint64 {
	limit, ok := f[memLimit]
	if !ok {
		return nil
	}
	left := limit - min(limit, f[memWorkingSet])
	return &left
}

func (g *gatherer) io(p *psiStats) *ioStats {
	if p == nil {
		return nil
	}
	return &ioStats{Time: g.now, PSI: p}
}

func (g *gatherer) swap(f figures) *swapStats {
	if f.get(memSwap) == nil {
		return nil
	}
	return &swapStats{Time: g.now, SwapUsageBytes: f.get(memSwap)}
}

func (g *gatherer) container(ctx context.Context, x *podSample, c *containerSample) containerStats {
	out := containerStats{Name: c.name, StartTime: c.started, Swap: g.swap(c.figures)}
	if u := c.stats.CPU; u != nil {
		at := stamp(u.Timestamp, g.now)
		out.CPU = &cpuStats{Time: at, UsageNanoCores: u.UsageNanoCores, UsageCoreNanoSeconds: u.UsageCoreNanoSeconds, PSI: pressureOf(u.PSI)}
		if u.UsageNanoCores == nil && u.UsageCoreNanoSeconds != nil {
			id := c.stats.Attributes.ID
			g.seen[id] = true
			out.CPU.UsageNanoCores = g.s.rates.of(id, at, *u.UsageCoreNanoSeconds)
		}
	}
	if m := c.stats.Memory; m != nil {
		out.Memory = &memoryStats{
			Time: stamp(m.Timestamp, g.now), AvailableBytes: m.AvailableBytes, UsageBytes: m.UsageBytes, WorkingSetBytes: m.WorkingSetBytes,
			RSSBytes: m.RSSBytes, PageFaults: m.PageFaults, MajorPageFaults: m.MajorPageFaults, PSI: pressureOf(m.PSI),
		}
	}
	if w := c.stats.IO; w != nil {
		out.IO = g.io(pressureOf(w.PSI))
	}
	if c.grouped {
		g.pressed(c, &out)
	}
	if g.round == nil {
		return out
	}
	if l := c.stats.WritableLayer; l != nil {
		out.Rootfs = &fsStats{Time: stamp(l.Timestamp, g.now), UsedBytes: l.UsedBytes, InodesUsed: l.InodesUsed}
		if l.FsID != nil {
			out.Rootfs.room(g.s.disk(l.FsID.Mountpoint, g.now))
		}
	}
	if used, inodes, ok := g.round.of(ctx, filepath.Join(g.s.podLogs(x.pod), c.name)); ok {
		out.Logs = &fsStats{Time: g.now, UsedBytes: &used, InodesUsed: &inodes}
		out.Logs.room(g.s.disk(g.s.o.LogDir, g.now))
	}
	return out
}

// pressed adds what the container's cgroup knows and the runtime has not told.
func (g *gatherer) pressed(c *containerSample, out *containerStats) {
	if out.CPU != nil && out.CPU.PSI == nil {
		out.CPU.PSI = c.group.pressure("cpu")
	}
	if m := out.Memory; m != nil {
		if m.PSI == nil {
			m.PSI = c.group.pressure("memory")
		}
		if m.AvailableBytes == nil {
			m.AvailableBytes = c.figures.available()
		}
		if m.RSSBytes == nil {
			m.RSSBytes = c.figures.get(memRSS)
		}
	}
	if out.IO == nil {
		out.IO = g.io(c.group.pressure("io"))
	}
}

func pressureOf(p *cri.PSIStats) *psiStats {
	if p == nil {
		return nil
	}
	out := &psiStats{}
	for from, to := range map[*cri.PSIData]*psiData{p.Full: &out.Full, p.Some: &out.Some} {
		if from != nil {
			*to = psiData{Total: from.Total, Avg10: from.Avg10, Avg60: from.Avg60, Avg300: from.Avg300}
		}
	}
	return out
}

// sum adds the containers up.
func (p *podStats) sum() {
	for _, c := range p.Containers {
		if c.CPU != nil {
			if p.CPU == nil {
				p.CPU = &cpuStats{}
			}
			p.CPU.Time = later(p.CPU.Time, c.CPU.Time)
			add(&p.CPU.UsageCoreNanoSeconds, c.CPU.UsageCoreNanoSeconds)
			add(&p.CPU.UsageNanoCores, c.CPU.UsageNanoCores)
		}
		if c.Memory != nil {
			if p.Memory == nil {
				p.Memory = &memoryStats{}
			}
			p.Memory.Time = later(p.Memory.Time, c.Memory.Time)
			add(&p.Memory.WorkingSetBytes, c.Memory.WorkingSetBytes)
			add(&p.Memory.UsageBytes, c.Memory.UsageBytes)
			add(&p.Memory.RSSBytes, c.Memory.RSSBytes)
			add(&p.Memory.PageFaults, c.Memory.PageFaults)
			add(&p.Memory.MajorPageFaults, c.Memory.MajorPageFaults)
		}
		if c.Swap != nil {
			if p.Swap == nil {
				p.Swap = &swapStats{Time: c.Swap.Time}
			}
			add(&p.Swap.SwapUsageBytes, c.Swap.SwapUsageBytes)
		}
	}
}

func add(to **uint64, v *uint64) {
	if v == nil {
		return
	}
	n := *v
	if *to != nil {
		n += **to
	}
	*to = &n
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func stamp(ns int64, now time.Time) time.Time {
	if ns == 0 {
		return now
	}
	return time.Unix(0, ns)
}
