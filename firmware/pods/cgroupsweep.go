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
	m.mu.Lock()
	systemd, up := m.rt.systemd, m.rt.up
	m.mu.Unlock()
	if systemd || !up {
		return // systemd removes its slices itself
	}
	const level = "pod"
	parent := filepath.FromSlash(m.o.CgroupParent)
	places := []string{filepath.Join(m.o.CgroupRoot, parent)} // version 2
	hierarchies, err := os.ReadDir(m.o.CgroupRoot)
	if err != nil {
		return
	}
	for _, h := range hierarchies {
		if h.Type().IsDir() { // not the links, such as cpu to cpu,cpuacct
			places = append(places, filepath.Join(m.o.CgroupRoot, h.Name(), parent)) // version 1
		}
	}
	for _, place := range places {
		groups, err := os.ReadDir(place)
		if err != nil {
			continue
		}
		for _, g := range groups {
			uid, ok := strings.CutPrefix(g.Name(), level)
			if ok && g.IsDir() && safeName(uid) && !m.hasWorker(uid) { // asked anew for each: the kernel may have kept us waiting
				removeEmpty(filepath.Join(place, g.Name()))
			}
		}
	}
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
