package pods

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// storagePeriod is how often the disk that pods use is compared with their limits: the kubelet's housekeeping interval.
const storagePeriod = 10 * time.Second

// resourceStorage is the disk that a container takes with its writable layer and logs.
const resourceStorage = "ephemeral-storage"

// limitStorage evicts pods that use more of the disk than they may, until ctx ends: emptyDir.sizeLimit, and limits of
// ephemeral-storage. The disk is not measured for pods without such limits. A pod can exceed a limit by what it writes in a period.
func (m *Manager) limitStorage(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(storagePeriod):
		}
		if m.runtimeUp() == nil {
			m.checkStorage(ctx)
		}
	}
}

func (m *Manager) checkStorage(ctx context.Context) {
	for _, d := range m.activePods() {
		limits := storageLimits(&d.pod.Spec)
		if !limits.any() || ctx.Err() != nil {
			continue
		}
		if why := m.overStorage(ctx, d, limits); why != "" {
			m.failPod(d.pod.Metadata.UID, evicted(why, new(int64(hardEvictionGrace))))
		}
	}
}

// storageLimit is what a pod may use of the disk, in bytes. 0 is no limit, as in Kubernetes.
type storageLimit struct {
	emptyDirs  map[string]corev1.Quantity // by volume
	containers map[string]corev1.Quantity // by container
	pod        int64                      // the sum of the containers'
}

func (l *storageLimit) any() bool { return len(l.emptyDirs)+len(l.containers) > 0 }

func storageLimits(s *corev1.PodSpec) *storageLimit {
	l := &storageLimit{emptyDirs: map[string]corev1.Quantity{}, containers: map[string]corev1.Quantity{}}
	for i := range s.Volumes {
		// In memory the file system itself holds the limit.
		if e := s.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && e.Medium != "Memory" && whole(*e.SizeLimit) > 0 {
			l.emptyDirs[s.Volumes[i].Name] = *e.SizeLimit
		}
	}
	for i := range s.Containers {
		if q := s.Containers[i].Resources.Limits[resourceStorage]; whole(q) > 0 {
			l.containers[s.Containers[i].Name] = q
			l.pod += whole(q)
		}
	}
	return l
}

// overStorage says which limit a pod exceeds, in the kubelet's words; "" if none.
func (m *Manager) overStorage(ctx context.Context, d *desiredPod, limits *storageLimit) string {
	folder := filepath.Join(m.podDir(d.pod.Metadata.UID), volumesFolder)
	for i := range d.pod.Spec.Volumes {
		name := d.pod.Spec.Volumes[i].Name
		q, limited := limits.emptyDirs[name]
		if !limited {
			continue
		}
		if used, _ := treeUsage(ctx, filepath.Join(folder, pluginEmptyDir, name)); used > whole(q) {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q.", name, q)
		}
	}
	if len(limits.containers) == 0 {
		return ""
	}
	layers, err := m.writableLayers(ctx, d.pod.Metadata.UID)
	if err != nil {
		m.o.Log.Warn("what a pod's containers have written is not known: their limits of ephemeral-storage are not held", "pod", d.pod.Metadata.Namespace+"/"+d.pod.Metadata.Name, "error", err)
		return ""
	}
	total, _ := treeUsage(ctx, folder)
	for i := range d.pod.Spec.Containers {
		name := d.pod.Spec.Containers[i].Name
		logs, _ := treeUsage(ctx, filepath.Join(podLogDir(m.o.LogDir, &d.pod.Metadata), name))
		used := layers[name] + logs
		if q, limited := limits.containers[name]; limited && used > whole(q) {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q.", name, q)
		}
		total += used
	}
	if total > limits.pod {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %d.", limits.pod)
	}
	return ""
}

// writableLayers returns what a pod's containers have written outside of volumes, in bytes.
func (m *Manager) writableLayers(ctx context.Context, uid string) (map[string]int64, error) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	list, err := m.o.Runtime.ListContainerStats(ask, &cri.ContainerStatsFilter{LabelSelector: map[string]string{labelNode: m.o.Node, labelPodUID: uid}})
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for i := range list {
		if a, l := list[i].Attributes, list[i].WritableLayer; a != nil && l != nil && l.UsedBytes != nil {
			out[a.Labels[labelContainer]] += int64(min(*l.UsedBytes, 1<<62)) //nolint:gosec // bounded
		}
	}
	return out, nil
}
