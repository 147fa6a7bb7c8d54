package pods

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sweepPeriod is how often cgroups of pods that are gone are looked for.
const sweepPeriod = 30 * time.Second

// sweepCgroups removes what cgroups pods have left that are gone, again and again until ctx ends: a runtime that was interrupted while it made a
// sandbox takes that back after the agent has removed the pod, and the pod's cgroup is not empty until then.
func (m *Manager) sweepCgroups(ctx context.Context) {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.sweepCgroupsOnce()
		}
	}
}

func (m *Manager) sweepCgroupsOnce() {
	if m.runtimeUp() != nil {
		return
	}
	for _, place := range m.hierarchies(m.o.CgroupParent) {
		groups, err := os.ReadDir(place)
		if err != nil {
			continue
		}
		for _, g := range groups {
			uid, ok := strings.CutPrefix(g.Name(), "pod")
			if ok && g.IsDir() && safeName(uid) && !m.hasWorker(uid) { // asked anew for each: the kernel may have kept us waiting
				removeEmpty(filepath.Join(place, g.Name()))
			}
		}
	}
}

// removeCgroups removes the empty cgroups that a pod leaves: the runtime makes a pod's cgroup, but only removes those of its
// containers. One that is not empty stays, for the sweep.
func (m *Manager) removeCgroups(uid string) {
	if !safeName(uid) {
		return
	}
	for _, dir := range m.hierarchies(groupPath(m.o.CgroupParent, uid, false)) {
		_ = os.Remove(dir)
	}
}

// hierarchies returns where a cgroup may be: in the one tree of version 2, and in each of version 1. There is none to remove if systemd makes
// them: it removes its slices itself.
func (m *Manager) hierarchies(group string) []string {
	if m.systemdGroups() {
		return nil
	}
	group = filepath.FromSlash(group)
	out := []string{filepath.Join(m.o.CgroupRoot, group)}
	entries, err := os.ReadDir(m.o.CgroupRoot)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Type().IsDir() { // not the links, such as cpu to cpu,cpuacct
			out = append(out, filepath.Join(m.o.CgroupRoot, e.Name(), group))
		}
	}
	return out
}

// hasWorker reports whether somebody looks after a pod.
func (m *Manager) hasWorker(uid string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers[uid] != nil
}

// removeEmpty removes a cgroup and those in it, the deepest first. The kernel keeps what holds a process.
func removeEmpty(top string) {
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		_ = os.Remove(dir)
	}
}
