package kubeletapi

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const (
	volumesFolder = "volumes" // in a pod's folder: PLUGIN/NAME
	localVolume   = "kubernetes.io~local-volume"
	maxVolumes    = 256
)

// podLogs is the folder of a pod's logs.
func (s *Server) podLogs(p Pod) string {
	return filepath.Join(s.o.LogDir, p.Namespace+"_"+p.Name+"_"+p.UID)
}

// disk measures a file system by one of its folders; nil if that is not possible.
func (s *Server) disk(dir string, now time.Time) *fsStats {
	if dir == "" {
		return nil
	}
	return diskStats(dir, now)
}

// room takes a file system's size and what is free in it.
func (f *fsStats) room(of *fsStats) {
	if of != nil {
		f.AvailableBytes, f.CapacityBytes, f.InodesFree, f.Inodes = of.AvailableBytes, of.CapacityBytes, of.InodesFree, of.Inodes
	}
}

// volumes measures the volumes that the agent has made for a pod, and the local volumes behind its claims. hostPath volumes and those of CSI
// drivers are not measured, as by a kubelet.
func (g *gatherer) volumes(ctx context.Context, p Pod) []volumeStats {
	if p.Dir == "" {
		return nil
	}
	plugins, _ := os.ReadDir(filepath.Join(p.Dir, volumesFolder))
	var out []volumeStats
	for _, plugin := range plugins {
		list, _ := os.ReadDir(filepath.Join(p.Dir, volumesFolder, plugin.Name()))
		for _, e := range list {
			if len(out) == maxVolumes {
				break
			}
			dir := filepath.Join(p.Dir, volumesFolder, plugin.Name(), e.Name())
			v, ok := g.volume(ctx, dir, plugin.Name() == localVolume)
			if !ok {
				continue
			}
			v.Name = e.Name()
			if claim := p.Claims[v.Name]; claim != "" {
				v.PVC = &pvcRef{Name: claim, Namespace: p.Namespace}
			}
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b volumeStats) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// volume measures one. Of a claim's, the file system is what counts; of others what is in the folder.
func (g *gatherer) volume(ctx context.Context, dir string, claimed bool) (v volumeStats, ok bool) {
	if claimed { // a link to where it is
		of := diskStats(dir, g.now)
		if of == nil {
			return v, false
		}
		return volumeStats{fsStats: *of, apart: true}, true
	}
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return v, false
	}
	used, inodes, ok := g.round.of(ctx, dir)
	if !ok {
		return v, false
	}
	v = volumeStats{fsStats: fsStats{Time: g.now, UsedBytes: &used, InodesUsed: &inodes}, apart: inMemory(dir)}
	v.room(diskStats(dir, g.now))
	return v, true
}

// ephemeral adds up what the pod takes of the node's disk: writable layers, logs, and volumes on it.
func (p *podStats) ephemeral(s *Server, now time.Time) {
	e := &fsStats{Time: now}
	for _, c := range p.Containers {
		for _, f := range []*fsStats{c.Rootfs, c.Logs} {
			if f != nil {
				add(&e.UsedBytes, f.UsedBytes)
				add(&e.InodesUsed, f.InodesUsed)
			}
		}
	}
	for _, v := range p.Volumes {
		if !v.apart {
			add(&e.UsedBytes, v.UsedBytes)
			add(&e.InodesUsed, v.InodesUsed)
		}
	}
	if e.UsedBytes == nil {
		return
	}
	e.room(s.disk(s.o.Dir, now))
	p.Ephemeral = e
}

// nodeDetails adds to the node what not everybody wants to know.
func (s *Server) nodeDetails(ctx context.Context, n *nodeStats, now time.Time) {
	list := parseInterfaces(s.proc("net/dev"))
	n.Network = networkOf(list, cmp.Or(defaultInterface(s.proc("net/route"), s.proc("net/ipv6_route")), firstName(list)), now)
	n.Fs = s.disk(s.o.Dir, now)
	n.Runtime = s.runtimeDisks(ctx, now)
	n.SystemContainers = s.systemContainers(now)
}

func firstName(list []netCount) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].name
}

// runtimeDisks tells what images and containers take. Where the runtime knows no file system of the containers, they are on the images'.
func (s *Server) runtimeDisks(ctx context.Context, now time.Time) *runtimeStats {
	info, err := s.o.Runtime.ImageFsInfo(ctx)
	if err != nil || len(info.ImageFilesystems) == 0 {
		return nil
	}
	out := &runtimeStats{}
	for _, x := range []struct {
		from []cri.FilesystemUsage
		to   **fsStats
	}{{info.ImageFilesystems, &out.ImageFs}, {info.ContainerFilesystems, &out.ContainerFs}} {
		if len(x.from) == 0 {
			continue
		}
		f := &x.from[0]
		*x.to = &fsStats{Time: stamp(f.Timestamp, now), UsedBytes: f.UsedBytes, InodesUsed: f.InodesUsed}
		if f.FsID != nil {
			(*x.to).room(s.disk(f.FsID.Mountpoint, now))
		}
	}
	if out.ContainerFs == nil {
		out.ContainerFs = out.ImageFs
	}
	return out
}

// systemContainers are the agent itself, called kubelet as tools expect, and all pods.
func (s *Server) systemContainers(now time.Time) []containerStats {
	var out []containerStats
	if p := s.process(); p.start != nil {
		cpu, rss := p.cpuNanos, p.resident
		out = append(out, containerStats{
			Name: "kubelet", StartTime: p.start, CPU: &cpuStats{Time: now, UsageCoreNanoSeconds: &cpu, UsageNanoCores: s.rates.of(agentRate, now, cpu)},
			Memory: &memoryStats{Time: now, WorkingSetBytes: &rss, UsageBytes: &rss, RSSBytes: &rss},
		})
	}
	if s.o.Group == nil {
		return out
	}
	root, group := s.o.Group("")
	if g, ok := openGroup(root, group); ok {
		f := g.figures()
		c := containerStats{Name: "pods", Swap: nil}
		if total := f.get(cpuNanos); total != nil {
			c.CPU = &cpuStats{Time: now, UsageCoreNanoSeconds: total, UsageNanoCores: s.rates.of(podsRate, now, *total), PSI: g.pressure("cpu")}
		}
		if f.get(memUsage) != nil {
			c.Memory = &memoryStats{
				Time: now, UsageBytes: f.get(memUsage), WorkingSetBytes: f.get(memWorkingSet), RSSBytes: f.get(memRSS),
				PageFaults: f.get(memFaults), MajorPageFaults: f.get(memMajorFaults), PSI: g.pressure("memory"),
			}
		}
		out = append(out, c)
	}
	return out
}
