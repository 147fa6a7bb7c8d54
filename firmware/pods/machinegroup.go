package pods

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Groups are the folders of the cgroups that may hold all pods: that of runtime.cgroupParent and those above it, by controller. Where an integrator has
// given such a group a limit (so that pods leave something for what else runs on the gateway), pods have no more than that, however much
// the machine has: the kernel would kill them at that limit. So the node's capacity is the limit, and what is available is counted below it.
type Groups struct{ Memory, PIDs []string }

// parentGroups returns the groups of a parent in cgroup version 2 and 1, with either driver.
func parentGroups(root, parent string) Groups {
	var g Groups
	parent = strings.Trim(filepath.Clean("/"+parent), "/")
	if parent == "" {
		return g
	}
	names := []string{parent}
	if !strings.HasSuffix(parent, ".slice") && !strings.Contains(parent, "/") {
		names = append(names, parent+".slice")
	}
	for _, name := range names {
		for at := name; at != "."; at = filepath.Dir(at) {
			g.Memory = append(g.Memory, filepath.Join(root, at), filepath.Join(root, "memory", at))
			g.PIDs = append(g.PIDs, filepath.Join(root, at), filepath.Join(root, "pids", at))
		}
	}
	return g
}

// narrow takes the limits into account. A group without a limit, or that is not there, says nothing.
func (g Groups) narrow(v *Measurement) {
	for _, dir := range g.Memory {
		for file, used := range map[string]string{"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"} {
			limit, ok := groupNumber(dir, file)
			if !ok || limit <= 0 || v.Memory > 0 && limit >= v.Memory {
				continue // version 1 has a very large number for none
			}
			now, _ := groupNumber(dir, used)
			v.Memory, v.MemoryAvailable = limit, max(0, min(v.MemoryAvailable, limit-workingSet(dir, now)))
		}
	}
	for _, dir := range g.PIDs {
		if limit, ok := groupNumber(dir, "pids.max"); ok && limit > 0 {
			now, _ := groupNumber(dir, "pids.current")
			if limit-now < v.PIDsMax-v.PIDs {
				v.PIDsMax, v.PIDs = limit, now
			}
		}
	}
}

// groupNumber reads a number of a cgroup; "max" is none.
func groupNumber(dir, file string) (int64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// workingSet is what a group uses less what the kernel can take back at once. used is all of it.
func workingSet(dir string, used int64) int64 {
	b, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return used
	}
	inactive := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			inactive[name], _ = strconv.ParseInt(text, 10, 64)
		}
	}
	n, ok := inactive["total_inactive_file"] // version 1: with all below
	if !ok {
		n = inactive["inactive_file"]
	}
	return max(0, used-n)
}
