package pods

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
)

// capSysResource is CAP_SYS_RESOURCE (linux/capability.h).
const capSysResource = 24

// systemdRuns is there if systemd is the machine's first process (sd_booted(3)).
const systemdRuns = "/run/systemd/system"

// limits writes the limits of a pod that runs, or is to run. create makes the cgroup.
func (w *worker) limits(d *desiredPod, create, grow bool) error {
	m := w.m
	if !safeName(w.uid) {
		return nil
	}
	systemd := m.systemdGroups()
	groups := openCgroups(m.o.CgroupRoot)
	l := limitsOf(&d.pod.Spec, m.o.PodPids, groups.hugepageSizes(m.o.Sys))
	return groups.apply(groupPath(m.o.CgroupParent, w.uid, systemd), l, create && !systemd, grow) // systemd makes its slices itself
}

// systemdGroups reports whether cgroups are systemd's slices.
func (m *Manager) systemdGroups() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rt.systemd
}

// limitsAgain keeps the limits of a pod that runs; grow: raise only. What cannot be written now is tried at the next look.
func (w *worker) limitsAgain(d *desiredPod, obs *observation, grow bool) {
	if obs.sandbox() == nil {
		return
	}
	if err := w.limits(d, false, grow); err != nil {
		w.event(eventWarning, "FailedUpdatePodCgroup", "the limits of the pod as a whole are not in force (those of its containers are): "+err.Error())
	}
}

// cgroupDriver finds out who manages cgroups. Runtimes before CRI 1.28 do not answer RuntimeConfig; containerd tells it in its status, and CRI-O
// uses systemd where it runs, unless it was told otherwise.
func cgroupDriver(ctx context.Context, rt RuntimeInfo, runtime, systemdDir string) (systemd bool) {
	if c, err := rt.RuntimeConfig(ctx); err == nil && c.Linux != nil {
		return c.Linux.CgroupDriver == cri.CgroupDriverSystemd
	}
	if runtime == "cri-o" {
		_, err := os.Stat(systemdDir)
		return err == nil
	}
	s, err := rt.Status(ctx, true)
	if err != nil {
		return false
	}
	return systemdOf(s.Info["config"])
}

// systemdOf reads containerd's configuration as its CRI status has it.
func systemdOf(text string) bool {
	var c struct {
		SystemdCgroup bool `json:"systemdCgroup"`
		Containerd    struct {
			Default  string `json:"defaultRuntimeName"`
			Runtimes map[string]struct {
				Options struct {
					SystemdCgroup bool `json:"SystemdCgroup"`
				} `json:"options"`
			} `json:"runtimes"`
		} `json:"containerd"`
	}
	if json.Unmarshal([]byte(text), &c) != nil {
		return false
	}
	name := c.Containerd.Default
	if name == "" {
		name = "runc"
	}
	return c.SystemdCgroup || c.Containerd.Runtimes[name].Options.SystemdCgroup
}

// oomFloor is the lowest OOM score adjustment that the machine lets anybody set: without CAP_SYS_RESOURCE, that is what its first process
// has. A runtime that tried less could not start the container.
func oomFloor(proc string) int64 {
	const least = -1000
	text, err := os.ReadFile(filepath.Join(proc, "1", "status"))
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil || caps&(1<<capSysResource) != 0 {
			return least
		}
		b, err := os.ReadFile(filepath.Join(proc, "1", "oom_score_adj"))
		n, bad := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || bad != nil {
			return 0
		}
		return n
	}
	return least
}
