package kubeletapi

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	maxGroupFile = 64 << 10
	maxDevices   = 16 // of a container, whose reads and writes are told
)

// figure is a number that a cgroup, or the runtime in its place, tells of a pod or container.
type figure uint8

const (
	cpuNanos figure = iota
	cpuPeriods
	cpuThrottled
	cpuThrottledNanos
	cpuQuota // µs in a period
	cpuPeriod
	cpuShares
	memUsage
	memWorkingSet
	memRSS
	memCache
	memMapped
	memSwap
	memLimit
	memPeak
	memFailures
	memFaults
	memMajorFaults
	oomKills
	taskCount
	taskLimit
	processCount
)

// figures are those that are known; bytes, nanoseconds and counts.
type figures map[figure]uint64

func (f figures) put(k figure, v *uint64) {
	if v != nil {
		f[k] = *v
	}
}

func (f figures) get(k figure) *uint64 {
	if v, ok := f[k]; ok {
		return &v
	}
	return nil
}

// cgroup is one control group, of either version: one tree, or a tree for each controller (kernel documentation, admin-guide/cgroup-v2 and
// cgroup-v1).
type cgroup struct {
	root string // where they are mounted
	path string // below the root, or below a controller's folder there
	v2   bool
}

// openGroup finds a group. ok is false if there is none.
func openGroup(root, path string) (g cgroup, ok bool) {
	if root == "" || path == "" {
		return g, false
	}
	if _, err := os.Stat(filepath.Join(root, path, "cgroup.controllers")); err == nil {
		return cgroup{root, path, true}, true
	}
	_, err := os.Stat(filepath.Join(root, "memory", path))
	return cgroup{root, path, false}, err == nil
}

func (g cgroup) dir(controller string) string {
	if g.v2 {
		return filepath.Join(g.root, g.path)
	}
	return filepath.Join(g.root, controller, g.path)
}

// child finds the group of a container in its pod's: the runtime calls it by the container's id, or makes it a scope with the id in its name.
func (g cgroup) child(id string) (cgroup, bool) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return g, false
	}
	list, err := os.ReadDir(g.dir("memory"))
	if err != nil {
		return g, false
	}
	for _, e := range list {
		if e.IsDir() && strings.Contains(e.Name(), id) && !strings.Contains(e.Name(), "conmon") {
			return cgroup{g.root, filepath.Join(g.path, e.Name()), g.v2}, true
		}
	}
	return g, false
}

func (g cgroup) read(controller, file string) string {
	return string(readSome(filepath.Join(g.dir(controller), file), maxGroupFile))
}

// readSome reads a file of the kernel's; nil if it cannot be read.
func readSome(path string, limit int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // read only
	b, _ := io.ReadAll(io.LimitReader(f, limit))
	return b
}

// figures reads what the group tells.
func (g cgroup) figures() figures {
	f := figures{}
	if g.v2 {
		g.second(f)
	} else {
		g.first(f)
	}
	if used, ok := f[memUsage]; ok {
		f[memWorkingSet] = used - min(used, f[memInactive])
	}
	delete(f, memInactive)
	if n := uint64(strings.Count(g.read("memory", "cgroup.procs"), "\n")); n > 0 {
		f[processCount] = n
	}
	return f
}

// memInactive is on the way to the working set only.
const memInactive figure = math.MaxUint8

// second reads version 2. Its CPU times are in µs.
func (g cgroup) second(f figures) {
	f.keyed(g.read("", "cpu.stat"), 1000, map[string]figure{"usage_usec": cpuNanos, "throttled_usec": cpuThrottledNanos})
	f.keyed(g.read("", "cpu.stat"), 1, map[string]figure{"nr_periods": cpuPeriods, "nr_throttled": cpuThrottled})
	f.keyed(g.read("", "memory.stat"), 1, map[string]figure{
		"anon": memRSS, "file": memCache, "file_mapped": memMapped, "inactive_file": memInactive, "pgfault": memFaults, "pgmajfault": memMajorFaults,
	})
	f.keyed(g.read("", "memory.events"), 1, map[string]figure{"oom_kill": oomKills, "max": memFailures})
	for file, k := range map[string]figure{
		"memory.current": memUsage, "memory.swap.current": memSwap, "memory.max": memLimit, "memory.peak": memPeak, "pids.current": taskCount, "pids.max": taskLimit,
	} {
		f.number(k, g.read("", file))
	}
	if quota, period, ok := strings.Cut(strings.TrimSpace(g.read("", "cpu.max")), " "); ok {
		f.number(cpuQuota, quota)
		f.number(cpuPeriod, period)
	}
	if weight, err := strconv.ParseUint(strings.TrimSpace(g.read("", "cpu.weight")), 10, 16); err == nil && weight > 0 {
		f[cpuShares] = 2 + (weight-1)*262142/9999 // the reverse of what runtimes do with shares (KEP 2254)
	}
}

// first reads version 1.
func (g cgroup) first(f figures) {
	f.keyed(g.read("cpu", "cpu.stat"), 1, map[string]figure{"nr_periods": cpuPeriods, "nr_throttled": cpuThrottled, "throttled_time": cpuThrottledNanos})
	f.keyed(g.read("memory", "memory.stat"), 1, map[string]figure{
		"total_rss": memRSS, "total_cache": memCache, "total_mapped_file": memMapped, "total_swap": memSwap, "total_inactive_file": memInactive,
		"total_pgfault": memFaults, "total_pgmajfault": memMajorFaults,
	})
	f.keyed(g.read("memory", "memory.oom_control"), 1, map[string]figure{"oom_kill": oomKills})
	for _, x := range []struct {
		controller, file string
		figure           figure
	}{
		{"cpuacct", "cpuacct.usage", cpuNanos}, {"cpu", "cpu.cfs_quota_us", cpuQuota}, {"cpu", "cpu.cfs_period_us", cpuPeriod}, {"cpu", "cpu.shares", cpuShares},
		{"memory", "memory.usage_in_bytes", memUsage}, {"memory", "memory.limit_in_bytes", memLimit}, {"memory", "memory.max_usage_in_bytes", memPeak},
		{"memory", "memory.failcnt", memFailures}, {"pids", "pids.current", taskCount}, {"pids", "pids.max", taskLimit},
	} {
		f.number(x.figure, g.read(x.controller, x.file))
	}
	if f[memLimit] > math.MaxInt64/2 { // the kernel's word for no limit
		delete(f, memLimit)
	}
}

// number takes a file that is one number; "max", -1 and what cannot be read is no figure.
func (f figures) number(k figure, text string) {
	if v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil {
		f[k] = v
	}
}

// keyed takes the lines "KEY NUMBER" of a file whose keys are wanted.
func (f figures) keyed(text string, times uint64, want map[string]figure) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		k, ok := want[name]
		if !ok {
			continue
		}
		if v, err := strconv.ParseUint(value, 10, 64); err == nil && v <= math.MaxUint64/times {
			f[k] = v * times
		}
	}
}

// firstProcess returns the id of a process in the group, 0 if there is none that this process can see.
func (g cgroup) firstProcess() int {
	for line := range strings.Lines(g.read("memory", "cgroup.procs")) {
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// psi is the pressure on one resource (kernel documentation, accounting/psi). Total is in ns.
type (
	psiStats struct {
		Full psiData `json:"full"`
		Some psiData `json:"some"`
	}
	psiData struct {
		Total  uint64  `json:"total"`
		Avg10  float64 `json:"avg10"`
		Avg60  float64 `json:"avg60"`
		Avg300 float64 `json:"avg300"`
	}
)

// pressure reads a resource's pressure; nil where the kernel or version 1 has none.
func (g cgroup) pressure(resource string) *psiStats {
	if !g.v2 {
		return nil
	}
	return parsePressure(g.read("", resource+".pressure"))
}

func parsePressure(text string) *psiStats {
	out, any := psiStats{}, false
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 5 || w[0] != "some" && w[0] != "full" {
			continue
		}
		d := &out.Some
		if w[0] == "full" {
			d = &out.Full
		}
		for _, field := range w[1:] {
			name, value, _ := strings.Cut(field, "=")
			if name == "total" {
				n, _ := strconv.ParseUint(value, 10, 64)
				d.Total = min(n, math.MaxUint64/1000) * 1000
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				v = 0
			}
			switch name {
			case "avg10":
				d.Avg10 = v
			case "avg60":
				d.Avg60 = v
			case "avg300":
				d.Avg300 = v
			}
		}
		any = true
	}
	if !any {
		return nil
	}
	return &out
}

// ioCount is what a group has read from and written to one device.
type ioCount struct {
	device                               string // MAJOR:MINOR
	reads, writes, readBytes, writeBytes uint64
}

// io returns the devices in order, at most maxDevices.
func (g cgroup) io() []ioCount {
	by := map[string]*ioCount{}
	at := func(device string) *ioCount {
		if by[device] == nil {
			by[device] = &ioCount{device: device}
		}
		return by[device]
	}
	if g.v2 {
		ioSecond(g.read("", "io.stat"), at)
	} else {
		ioFirst(g.read("blkio", "blkio.throttle.io_service_bytes"), func(d string) (r, w *uint64) { return &at(d).readBytes, &at(d).writeBytes })
		ioFirst(g.read("blkio", "blkio.throttle.io_serviced"), func(d string) (r, w *uint64) { return &at(d).reads, &at(d).writes })
	}
	out := make([]ioCount, 0, len(by))
	for _, c := range by {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b ioCount) int { return strings.Compare(a.device, b.device) })
	return out[:min(len(out), maxDevices)]
}

// ioSecond reads "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func ioSecond(text string, at func(string) *ioCount) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 || !strings.Contains(w[0], ":") {
			continue
		}
		c := at(w[0])
		for _, field := range w[1:] {
			name, value, _ := strings.Cut(field, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch name {
			case "rbytes":
				c.readBytes = n
			case "wbytes":
				c.writeBytes = n
			case "rios":
				c.reads = n
			case "wios":
				c.writes = n
			}
		}
	}
}

// ioFirst reads "8:0 Read 1", "8:0 Write 2" and so on.
func ioFirst(text string, at func(device string) (read, write *uint64)) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 3 || !strings.Contains(w[0], ":") {
			continue
		}
		n, err := strconv.ParseUint(w[2], 10, 64)
		if err != nil {
			continue
		}
		read, write := at(w[0])
		switch w[1] {
		case "Read":
			*read = n
		case "Write":
			*write = n
		}
	}
}
