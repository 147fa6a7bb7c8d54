package kubeletapi

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is what /proc tells of the agent itself.
type process struct {
	cpuNanos uint64
	resident uint64 // bytes
	virtual  uint64 // bytes
	files    int    // open
	maxFiles uint64
	start    *time.Time // nil: nothing is known
}

func (s *Server) process() process {
	p := parseProcess(s.proc("self/stat"), s.proc("stat"))
	if list, err := os.ReadDir(filepath.Join(s.o.Proc, "self", "fd")); err == nil {
		p.files = len(list)
	}
	for line := range strings.Lines(string(s.proc("self/limits"))) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if w := strings.Fields(rest); len(w) > 0 {
				p.maxFiles, _ = strconv.ParseUint(w[0], 10, 64)
			}
		}
	}
	return p
}

// parseProcess reads /proc/PID/stat (proc_pid_stat(5)) and the time of boot in /proc/stat.
func parseProcess(own, machine []byte) (p process) {
	_, rest, ok := strings.Cut(string(own), ") ") // a name in parentheses may hold anything
	w := strings.Fields(rest)
	if !ok || len(w) < 22 {
		return p
	}
	var v [5]uint64
	for i, field := range []int{11, 12, 19, 20, 21} { // utime, stime, starttime, vsize, rss
		n, err := strconv.ParseUint(w[field], 10, 64)
		if err != nil {
			return process{}
		}
		v[i] = n
	}
	boot, _, ok := procStat(machine)
	if !ok || boot.IsZero() {
		return p
	}
	tick := uint64(time.Second / userHZ)
	start := boot.Add(time.Duration(min(v[2], 1<<50)) * (time.Second / userHZ))                                             //nolint:gosec // bounded
	return process{cpuNanos: (v[0] + v[1]) * tick, virtual: v[3], resident: v[4] * uint64(os.Getpagesize()), start: &start} //nolint:gosec // a page has a size
}
