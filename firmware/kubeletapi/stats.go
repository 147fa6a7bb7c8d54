package kubeletapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// statsTimeout bounds what the runtime may take to count: metrics collectors give up after 10 to 15 s.
const statsTimeout = 8 * time.Second

// The document of /stats/summary (k8s.io/kubelet pkg/apis/stats/v1alpha1), as far as an agent has the figures.
type (
	summary struct {
		Node nodeStats  `json:"node"`
		Pods []podStats `json:"pods"`
	}
	nodeStats struct {
		NodeName  string        `json:"nodeName"`
		StartTime *time.Time    `json:"startTime,omitempty"`
		CPU       *cpuStats     `json:"cpu,omitempty"`
		Memory    *memoryStats  `json:"memory,omitempty"`
		Network   *networkStats `json:"network,omitempty"`
		Fs        *fsStats      `json:"fs,omitempty"`
		Runtime   *runtimeStats `json:"runtime,omitempty"`
		Rlimit    *rlimitStats  `json:"rlimit,omitempty"`
	}
	runtimeStats struct {
		ImageFs *fsStats `json:"imageFs,omitempty"`
	}
	podStats struct {
		PodRef     podRef           `json:"podRef"`
		StartTime  *time.Time       `json:"startTime,omitempty"`
		Containers []containerStats `json:"containers"`
		CPU        *cpuStats        `json:"cpu,omitempty"`
		Memory     *memoryStats     `json:"memory,omitempty"`
		Ephemeral  *fsStats         `json:"ephemeral-storage,omitempty"`
	}
	podRef struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	containerStats struct {
		Name      string       `json:"name"`
		StartTime *time.Time   `json:"startTime,omitempty"`
		CPU       *cpuStats    `json:"cpu,omitempty"`
		Memory    *memoryStats `json:"memory,omitempty"`
		Rootfs    *fsStats     `json:"rootfs,omitempty"`
	}
	cpuStats struct {
		Time                 time.Time `json:"time"`
		UsageNanoCores       *uint64   `json:"usageNanoCores,omitempty"`
		UsageCoreNanoSeconds *uint64   `json:"usageCoreNanoSeconds,omitempty"`
	}
	memoryStats struct {
		Time            time.Time `json:"time"`
		AvailableBytes  *uint64   `json:"availableBytes,omitempty"`
		UsageBytes      *uint64   `json:"usageBytes,omitempty"`
		WorkingSetBytes *uint64   `json:"workingSetBytes,omitempty"`
		RSSBytes        *uint64   `json:"rssBytes,omitempty"`
		PageFaults      *uint64   `json:"pageFaults,omitempty"`
		MajorPageFaults *uint64   `json:"majorPageFaults,omitempty"`
	}
	fsStats struct {
		Time           time.Time `json:"time"`
		AvailableBytes *uint64   `json:"availableBytes,omitempty"`
		CapacityBytes  *uint64   `json:"capacityBytes,omitempty"`
		UsedBytes      *uint64   `json:"usedBytes,omitempty"`
		InodesFree     *uint64   `json:"inodesFree,omitempty"`
		Inodes         *uint64   `json:"inodes,omitempty"`
		InodesUsed     *uint64   `json:"inodesUsed,omitempty"`
	}
	networkStats struct {
		Time       time.Time        `json:"time"`
		Interfaces []interfaceStats `json:"interfaces,omitempty"`
	}
	interfaceStats struct {
		Name     string  `json:"name"`
		RxBytes  *uint64 `json:"rxBytes,omitempty"`
		RxErrors *uint64 `json:"rxErrors,omitempty"`
		TxBytes  *uint64 `json:"txBytes,omitempty"`
		TxErrors *uint64 `json:"txErrors,omitempty"`
	}
	rlimitStats struct {
		Time    time.Time `json:"time"`
		MaxPID  *int64    `json:"maxpid,omitempty"`
		CurProc *int64    `json:"curproc,omitempty"`
	}
)

func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	sum, err := s.gather(r.Context())
	if err != nil {
		s.runtimeFailed(w, "statistics of the containers", err)
		return
	}
	b, err := json.Marshal(sum)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// gather counts what the node and its pods use.
func (s *Server) gather(ctx context.Context) (summary, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	now := time.Now()
	list, err := s.o.Runtime.ListContainerStats(ctx, nil)
	if err != nil {
		return summary{}, err
	}
	sum := summary{Node: s.nodeStats(now), Pods: []podStats{}}
	if info, err := s.o.Runtime.ImageFsInfo(ctx); err == nil && len(info.ImageFilesystems) > 0 {
		f := info.ImageFilesystems[0]
		sum.Node.Runtime = &runtimeStats{ImageFs: &fsStats{Time: stamp(f.Timestamp, now), UsedBytes: f.UsedBytes, InodesUsed: f.InodesUsed}}
	}
	byPod := map[string][]*cri.ContainerStats{}
	for i := range list {
		if a := list[i].Attributes; a != nil {
			uid := a.Labels[labelPodUID]
			byPod[uid] = append(byPod[uid], &list[i])
		}
	}
	seen := map[string]bool{nodeRate: true}
	pods := s.o.Pods.All()
	slices.SortFunc(pods, func(a, b Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	for _, p := range pods {
		if stats := byPod[p.UID]; len(stats) > 0 {
			sum.Pods = append(sum.Pods, s.podStats(p, stats, now, seen))
		}
	}
	s.rates.keep(seen)
	return sum, nil
}

func (s *Server) podStats(p Pod, list []*cri.ContainerStats, now time.Time, seen map[string]bool) podStats {
	out := podStats{PodRef: podRef{p.Name, p.Namespace, p.UID}, Containers: []containerStats{}}
	if p.Status != nil && p.Status.StartTime != nil {
		out.StartTime = &p.Status.StartTime.Time
	}
	for _, c := range list {
		name := c.Attributes.Labels[labelContainer]
		cs := containerStats{Name: name}
		if st := statusOf(p.Status, name); st != nil && st.State.Running != nil && st.State.Running.StartedAt != nil {
			cs.StartTime = &st.State.Running.StartedAt.Time
		}
		if u := c.CPU; u != nil {
			at := stamp(u.Timestamp, now)
			cs.CPU = &cpuStats{Time: at, UsageNanoCores: u.UsageNanoCores, UsageCoreNanoSeconds: u.UsageCoreNanoSeconds}
			if u.UsageNanoCores == nil && u.UsageCoreNanoSeconds != nil {
				seen[c.Attributes.ID] = true
				cs.CPU.UsageNanoCores = s.rates.of(c.Attributes.ID, at, *u.UsageCoreNanoSeconds)
			}
		}
		if m := c.Memory; m != nil {
			cs.Memory = &memoryStats{
				Time: stamp(m.Timestamp, now), AvailableBytes: m.AvailableBytes, UsageBytes: m.UsageBytes, WorkingSetBytes: m.WorkingSetBytes,
				RSSBytes: m.RSSBytes, PageFaults: m.PageFaults, MajorPageFaults: m.MajorPageFaults,
			}
		}
		if l := c.WritableLayer; l != nil {
			cs.Rootfs = &fsStats{Time: stamp(l.Timestamp, now), UsedBytes: l.UsedBytes, InodesUsed: l.InodesUsed}
		}
		out.Containers = append(out.Containers, cs)
	}
	slices.SortFunc(out.Containers, func(a, b containerStats) int { return strings.Compare(a.Name, b.Name) })
	out.sum()
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
		if c.Rootfs != nil {
			if p.Ephemeral == nil {
				p.Ephemeral = &fsStats{}
			}
			p.Ephemeral.Time = later(p.Ephemeral.Time, c.Rootfs.Time)
			add(&p.Ephemeral.UsedBytes, c.Rootfs.UsedBytes)
			add(&p.Ephemeral.InodesUsed, c.Rootfs.InodesUsed)
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

// rates computes the present use of processors from counters, of which some runtimes give nothing else.
type rates struct {
	mu   sync.Mutex
	last map[string]sample
}

type sample struct {
	at    time.Time
	total uint64
	rate  *uint64
}

const (
	nodeRate  = ""          // the key of the node's own sample
	rateLeast = time.Second // between two samples that a rate is made of
)

// of returns the rate since the sample before, in billionths of a core; nil for a first one.
func (r *rates) of(key string, at time.Time, total uint64) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]sample{}
	}
	was, ok := r.last[key]
	passed := at.Sub(was.at)
	switch {
	case ok && total >= was.total && passed >= 0 && passed < rateLeast:
		return was.rate
	case !ok || total < was.total || passed < 0: // another container, or the clock was set
		r.last[key] = sample{at: at, total: total}
		return nil
	}
	rate := uint64(float64(total-was.total) / passed.Seconds())
	r.last[key] = sample{at: at, total: total, rate: &rate}
	return &rate
}

// keep forgets all but the keys given.
func (r *rates) keep(keys map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.last {
		if !keys[k] {
			delete(r.last, k)
		}
	}
}
