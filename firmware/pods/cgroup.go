package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroups writes the limits of whole pods: the runtime makes a cgroup for each container below the pod's, but sets no limit there.
// Version 1 is a folder for each controller, version 2 one tree (kernel documentation, admin-guide/cgroup-v1 and cgroup-v2).
type cgroups struct {
	root string
	v2   bool
}

// openCgroups looks which version is mounted at root.
func openCgroups(root string) cgroups {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return cgroups{root: root, v2: err == nil}
}

// slicePath is the folder of a systemd slice: a-b.slice lies in a.slice.
func slicePath(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	out := ""
	for i := 0; i < len(name); i++ {
		if name[i] == '-' {
			out = filepath.Join(out, name[:i]+".slice")
		}
	}
	return filepath.Join(out, slice)
}

// groupPath is the folder of a pod's cgroup below a hierarchy.
func groupPath(parent, uid string, systemd bool) string {
	group := podCgroup(parent, uid, systemd)
	if systemd {
		return slicePath(group)
	}
	return strings.TrimPrefix(group, "/")
}

// setting is one file of a cgroup and what it should hold.
type setting struct {
	controller, file, value string
	number                  int64 // of a limit; math.MaxInt64: none
	used                    string
}

func limitSetting(controller, file, none, used string, n int64) setting {
	if n <= 0 {
		return setting{controller: controller, file: file, value: none, number: math.MaxInt64, used: used}
	}
	return setting{controller: controller, file: file, value: itoa(n), number: n, used: used}
}

func (c cgroups) settings(l podLimits) []setting {
	var out []setting
	if c.v2 {
		quota := "max"
		if l.cpuQuota > 0 {
			quota = itoa(l.cpuQuota)
		}
		out = []setting{
			{controller: "cpu", file: "cpu.weight", value: itoa(cpuWeight(l.cpuShares))},
			{controller: "cpu", file: "cpu.max", value: quota + " " + itoa(quotaPeriod)},
			limitSetting("memory", "memory.max", "max", "memory.current", pages(l.memory)),
			limitSetting("pids", "pids.max", "max", "", l.pids),
		}
	} else {
		out = []setting{
			{controller: "cpu", file: "cpu.shares", value: itoa(l.cpuShares)},
			{controller: "cpu", file: "cpu.cfs_period_us", value: itoa(quotaPeriod)},
			limitSetting("cpu", "cpu.cfs_quota_us", "-1", "", l.cpuQuota), // the kernel refuses one below those of the containers
			limitSetting("memory", "memory.limit_in_bytes", "-1", "memory.usage_in_bytes", pages(l.memory)),
			limitSetting("pids", "pids.max", "max", "", l.pids),
		}
	}
	for size, n := range l.hugepages {
		file := "hugetlb." + size + ".limit_in_bytes"
		if c.v2 {
			file = "hugetlb." + size + ".max"
		}
		out = append(out, setting{controller: "hugetlb", file: file, value: itoa(n)})
	}
	return out
}

// pages rounds an amount of memory as the kernel does, so that what is read back can be compared.
func pages(bytes int64) int64 {
	page := int64(os.Getpagesize())
	if bytes > 0 && bytes < page {
		return page
	}
	return bytes / page * page
}

// cpuWeight converts shares to version 2's weight, as the runtimes do for containers.
func cpuWeight(shares int64) int64 {
	return 1 + (min(max(shares, minShares), maxShares)-minShares)*9999/(maxShares-minShares)
}

// apply brings a pod's cgroup to its limits. It writes only what differs, so it may be called often. With create, the cgroup is made
// first; without, one that is not there is no error. With grow, nothing is lowered: before the containers have been. Controllers that the
// machine lacks are left out.
func (c cgroups) apply(group string, l podLimits, create, grow bool) error {
	if c.v2 && create {
		if err := c.delegate(group); err != nil {
			return err
		}
	}
	var errs []error
	made := map[string]bool{}
	for _, s := range c.settings(l) {
		dir := filepath.Join(c.root, s.controller)
		if c.v2 {
			dir = c.root
		}
		if _, err := os.Stat(dir); err != nil {
			continue // version 1: the kernel has no such controller
		}
		dir = filepath.Join(dir, group)
		if create && !made[dir] {
			if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as the runtimes make them
				return fmt.Errorf("make the pod's cgroup: %w", err)
			}
			made[dir] = true
		}
		if err := s.write(dir, grow); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// write writes one setting, if it differs.
func (s *setting) write(dir string, grow bool) error {
	path := filepath.Join(dir, s.file)
	b, err := os.ReadFile(path) //nolint:gosec // below the cgroup root
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no such cgroup yet, or the controller is not enabled
	}
	if err != nil {
		return fmt.Errorf("read the pod's cgroup: %w", err)
	}
	have := strings.TrimSpace(string(b))
	if have == s.value {
		return nil
	}
	if s.number != 0 {
		is := limitOf(have)
		if is == s.number || grow && s.number < is {
			return nil
		}
		if s.used != "" && s.number < is {
			if b, err := os.ReadFile(filepath.Join(dir, s.used)); err == nil && limitOf(strings.TrimSpace(string(b))) > s.number { //nolint:gosec // below the cgroup root
				return fmt.Errorf("%s: the pod uses more than %d bytes now, so the limit is not lowered yet", path, s.number)
			}
		}
	}
	if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil { //nolint:gosec // a kernel file
		return fmt.Errorf("set %s to %s: %w", path, s.value, err)
	}
	return nil
}

// limitOf reads a limit; math.MaxInt64 is none. Version 1 has no word for it, but the largest number of whole pages.
func limitOf(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n >= math.MaxInt64-int64(os.Getpagesize()) {
		return math.MaxInt64
	}
	return n
}

// delegate makes the folders above a pod's cgroup and enables the controllers in them (version 2).
func (c cgroups) delegate(group string) error {
	b, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	dir := c.root
	for _, part := range append([]string{""}, strings.Split(filepath.Dir(group), "/")...) {
		if part == "." {
			continue
		}
		dir = filepath.Join(dir, part)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as the runtimes make them
			return fmt.Errorf("make the cgroup of all pods: %w", err)
		}
		control := filepath.Join(dir, "cgroup.subtree_control")
		on, err := os.ReadFile(control) //nolint:gosec // below the cgroup root
		if err != nil {
			return fmt.Errorf("read the cgroup controllers: %w", err)
		}
		for _, name := range strings.Fields(string(b)) {
			if !slices.Contains([]string{"cpu", "memory", "pids", "hugetlb", "cpuset", "io"}, name) || slices.Contains(strings.Fields(string(on)), name) {
				continue
			}
			if err := os.WriteFile(control, []byte("+"+name), 0o644); err != nil { //nolint:gosec // a kernel file
				return fmt.Errorf("enable cgroup controller %s in %s: %w", name, dir, err)
			}
		}
	}
	return nil
}

// hugepageSizes lists the sizes of huge pages that this machine can limit; nil if it cannot.
func (c cgroups) hugepageSizes(sys string) []string {
	if c.v2 {
		b, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
		if err != nil || !slices.Contains(strings.Fields(string(b)), "hugetlb") {
			return nil
		}
	} else if _, err := os.Stat(filepath.Join(c.root, "hugetlb")); err != nil {
		return nil
	}
	var out []string
	for _, p := range hugePages(sys) {
		out = append(out, pageSize(p.size))
	}
	return out
}

// hugePage is one size of huge pages, and how many bytes of it the kernel has set aside.
type hugePage struct{ size, total int64 }

// hugePages reads what the kernel has (Documentation/admin-guide/mm/hugetlbpage).
func hugePages(sys string) []hugePage {
	dirs, err := filepath.Glob(filepath.Join(sys, "kernel/mm/hugepages/hugepages-*kB"))
	if err != nil {
		return nil
	}
	var out []hugePage
	for _, dir := range dirs {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB")
		kib, err := strconv.ParseInt(text, 10, 64)
		if err != nil || kib <= 0 || kib > 1<<40 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "nr_hugepages")) //nolint:gosec // below /sys
		n, bad := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || bad != nil || n < 0 || n > math.MaxInt64/(kib<<10) {
			continue
		}
		out = append(out, hugePage{size: kib << 10, total: n * kib << 10})
	}
	slices.SortFunc(out, func(a, b hugePage) int { return int(min(max(a.size-b.size, -1), 1)) })
	return out
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
