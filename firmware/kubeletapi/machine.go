package kubeletapi

import (
	"bufio"
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	userHZ      = 100 // jiffies a second that /proc shows, on every architecture that the agent runs on (proc(5), sysconf(_SC_CLK_TCK))
	maxProcFile = 256 << 10
)

// nodeStats measures the machine. What cannot be read is left out.
func (s *Server) nodeStats(now time.Time) nodeStats {
	n := nodeStats{NodeName: s.o.Node}
	if boot, cpu, ok := procStat(s.proc("stat")); ok {
		n.StartTime = &boot
		n.CPU = &cpuStats{Time: now, UsageCoreNanoSeconds: &cpu, UsageNanoCores: s.rates.of(nodeRate, now, cpu)}
	}
	n.Memory, n.Swap = procMemory(s.proc("meminfo"), now)
	if n.Memory != nil {
		f := figures{}
		f.keyed(string(s.proc("vmstat")), 1, map[string]figure{"pgfault": memFaults, "pgmajfault": memMajorFaults})
		n.Memory.PageFaults, n.Memory.MajorPageFaults = f.get(memFaults), f.get(memMajorFaults)
		n.Memory.PSI = parsePressure(string(s.proc("pressure/memory")))
	}
	if n.CPU != nil {
		n.CPU.PSI = parsePressure(string(s.proc("pressure/cpu")))
	}
	if p := parsePressure(string(s.proc("pressure/io"))); p != nil {
		n.IO = &ioStats{Time: now, PSI: p}
	}
	n.Rlimit = procLimits(s.proc("loadavg"), s.proc("sys/kernel/pid_max"), s.proc("sys/kernel/threads-max"), now)
	return n
}

func (s *Server) proc(name string) []byte {
	return readSome(filepath.Join(s.o.Proc, filepath.FromSlash(name)), maxProcFile)
}

// procStat reads the time of boot and the processors' busy time in ns from /proc/stat.
func procStat(text []byte) (boot time.Time, cpu uint64, ok bool) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxProcFile) // the line of interrupts is long
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		switch {
		case len(w) > 8 && w[0] == "cpu":
			var busy uint64
			for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal; not idle and iowait
				v, err := strconv.ParseUint(w[i], 10, 64)
				if err != nil {
					return boot, 0, false
				}
				busy += v
			}
			cpu, ok = busy*uint64(time.Second/userHZ), true
		case len(w) > 1 && w[0] == "btime":
			if v, err := strconv.ParseInt(w[1], 10, 64); err == nil {
				boot = time.Unix(v, 0)
			}
		}
	}
	return boot, cpu, ok
}

// memInfo reads /proc/meminfo; bytes.
func memInfo(text []byte) map[string]uint64 {
	v := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(w[1], 10, 54); err == nil {
			v[strings.TrimSuffix(w[0], ":")] = n << 10
		}
	}
	return v
}

// procMemory counts as a kubelet does: what is in use less what was read from files and not used lately. There are no figures of swap on a
// machine that has none.
func procMemory(text []byte, now time.Time) (*memoryStats, *swapStats) {
	v := memInfo(text)
	total, free := v["MemTotal"], v["MemFree"]
	if total == 0 || free > total {
		return nil, nil
	}
	var swap *swapStats
	if total, free := v["SwapTotal"], v["SwapFree"]; total > 0 && free <= total {
		used := total - free
		swap = &swapStats{Time: now, SwapAvailableBytes: &free, SwapUsageBytes: &used}
	}
	used := total - free
	working := used - min(used, v["Inactive(file)"])
	available, rss := total-working, v["AnonPages"]
	return &memoryStats{Time: now, AvailableBytes: &available, UsageBytes: &used, WorkingSetBytes: &working, RSSBytes: &rss}, swap
}

// procLimits counts as eviction does (firmware/pods): what a small gateway runs out of first is the kernel's limit of threads.
func procLimits(loadavg, pidMax, threadsMax []byte, now time.Time) *rlimitStats {
	f := strings.Fields(string(loadavg)) // "0.1 0.1 0.1 running/all last"
	if len(f) < 4 {
		return nil
	}
	_, all, _ := strings.Cut(f[3], "/")
	tasks, err1 := strconv.ParseInt(all, 10, 64)
	limit, err2 := procNumber(pidMax)
	if err1 != nil || err2 != nil {
		return nil
	}
	if n, err := procNumber(threadsMax); err == nil && n > 0 {
		limit = min(limit, n)
	}
	return &rlimitStats{Time: now, MaxPID: &limit, CurProc: &tasks}
}

// procNumber reads a file that is one number.
func procNumber(text []byte) (int64, error) {
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
