package pods

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// critical reports whether a pod is spared when the node runs short: static pods, and those of the two system priorities.
func (d *desiredPod) critical() bool {
	p := d.pod.Spec.Priority
	return d.file || p != nil && *p >= eviction.CriticalPriority
}

// candidates measures the pods that run. What is measured depends on what is short: to walk through volumes is dear. images is where the images
// are. The error is that the runtime does not tell what containers use; the pods are returned all the same.
func (m *Manager) candidates(ctx context.Context, s eviction.Signal, images string) ([]eviction.Pod, error) {
	stats, err := m.podStats(ctx)
	sameDisk := true
	own, noDisk := m.o.FileSystem(m.o.Dir)
	if other, noImages := m.o.FileSystem(images); noDisk == nil && noImages == nil {
		sameDisk = own.Device == other.Device
	}
	var out []eviction.Pod
	for _, d := range m.activePods() {
		p := eviction.Pod{ID: d.pod.Metadata.UID, Critical: d.critical()}
		if d.pod.Spec.Priority != nil {
			p.Priority = *d.pod.Spec.Priority
		}
		containers := stats[p.ID]
		p.Measured = len(containers) > 0
		p.Memory.Request, p.Disk.Request = podRequests(&d.pod.Spec).memory, storageRequest(&d.pod.Spec)
		layers := sameDisk || onImages(s)
		for _, c := range containers {
			m.count(ctx, &p, d, c, s, layers)
		}
		if used := m.groupMemory(p.ID); p.Memory.Used == 0 && used > 0 {
			p.Memory.Used, p.Measured = used, true
		}
		if s == eviction.PIDs {
			p.Processes = m.groupValue(p.ID, "pids", "pids.current")
			p.Measured = p.Measured || p.Processes > 0
		}
		if s.Disk() && (sameDisk || !onImages(s)) {
			for _, dir := range []string{filepath.Join(m.podDir(p.ID), volumesFolder), podLogDir(m.o.LogDir, &d.pod.Metadata)} {
				if there, err := m.o.FileSystem(dir); err != nil || there.Device != own.Device {
					continue // nothing there, or on another disk
				}
				used, inodes := treeUsage(ctx, dir)
				p.Disk.Used += used
				p.Inodes += inodes
			}
		}
		out = append(out, p)
	}
	return out, err
}

// count adds what one container uses of what s is about. layers says whether its writable layer is on the disk that runs short.
func (m *Manager) count(ctx context.Context, p *eviction.Pod, d *desiredPod, c *cri.ContainerStats, s eviction.Signal, layers bool) {
	one := eviction.Container{Name: c.Attributes.Labels[labelContainer]}
	if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
		one.Memory.Used = int64(min(*c.Memory.WorkingSetBytes, 1<<62)) //nolint:gosec // bounded
	}
	if l := c.WritableLayer; l != nil && layers {
		if l.UsedBytes != nil {
			one.Disk.Used = int64(min(*l.UsedBytes, 1<<62)) //nolint:gosec // bounded
		}
		if l.InodesUsed != nil {
			p.Inodes += int64(min(*l.InodesUsed, 1<<62)) //nolint:gosec // bounded
		}
	}
	p.Memory.Used += one.Memory.Used
	p.Disk.Used += one.Disk.Used
	for _, spec := range allContainers(&d.pod.Spec) {
		if spec.Name == one.Name {
			one.Memory.Request = whole(request(&spec.Resources, "memory"))
			one.Disk.Request = whole(request(&spec.Resources, "ephemeral-storage"))
			if s.Disk() {
				logs, _ := treeUsage(ctx, filepath.Join(podLogDir(m.o.LogDir, &d.pod.Metadata), one.Name))
				one.Disk.Used += logs
			}
			p.Containers = append(p.Containers, one)
			return
		}
	}
}

// podStats returns what the node's containers use, by pod UID.
func (m *Manager) podStats(ctx context.Context) (map[string][]*cri.ContainerStats, error) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	list, err := m.o.Runtime.ListContainerStats(ask, &cri.ContainerStatsFilter{LabelSelector: map[string]string{labelNode: m.o.Node}})
	if err != nil {
		return nil, err
	}
	out := map[string][]*cri.ContainerStats{}
	for i := range list {
		if a := list[i].Attributes; a != nil {
			uid := a.Labels[labelPodUID]
			out[uid] = append(out[uid], &list[i])
		}
	}
	return out, nil
}

// storageRequest is how much of the disk a pod's containers have asked for.
func storageRequest(s *corev1.PodSpec) (sum int64) {
	for i := range s.Containers {
		sum += whole(request(&s.Containers[i].Resources, "ephemeral-storage"))
	}
	return sum
}

// groupValue reads a number from a pod's cgroup of either version, 0 if there is none. controller is version 1's.
func (m *Manager) groupValue(uid, controller, file string) int64 {
	for _, dir := range m.groupDirs(uid, controller) {
		if n, ok := groupNumber(dir, file); ok {
			return n
		}
	}
	return 0
}

// groupDirs returns where a pod's cgroup may be: version 2, version 1.
func (m *Manager) groupDirs(uid, controller string) []string {
	if !safeName(uid) {
		return nil
	}
	group := filepath.FromSlash(groupPath(m.o.CgroupParent, uid, m.systemdGroups()))
	return []string{filepath.Join(m.o.CgroupRoot, group), filepath.Join(m.o.CgroupRoot, controller, group)}
}

// groupMemory is the working set of a pod's cgroup, for runtimes that do not tell: what is used, less what the kernel can take back
// at once. It is 0 if there is no such cgroup.
func (m *Manager) groupMemory(uid string) int64 {
	for _, dir := range m.groupDirs(uid, "memory") {
		for _, file := range []string{"memory.current", "memory.usage_in_bytes"} {
			if used, ok := groupNumber(dir, file); ok && used > 0 {
				return workingSet(dir, used)
			}
		}
	}
	return 0
}

// treeUsage adds up what is below dir on dir's own file system: bytes on the disk, and inodes. What cannot be read counts nothing.
func treeUsage(ctx context.Context, dir string) (bytes, inodes int64) {
	root, err := os.Lstat(dir)
	if err != nil {
		return 0, 0
	}
	own, ok := root.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
		case st.Dev != own.Dev && e.IsDir():
			return fs.SkipDir // a tmpfs, or another disk
		case st.Dev == own.Dev:
			bytes += st.Blocks * 512 // stat(2): always units of 512
			inodes++
		}
		return nil
	})
	return bytes, inodes
}
