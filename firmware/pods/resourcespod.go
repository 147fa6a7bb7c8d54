package pods

import (
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// nodeCritical is the priority of system-node-critical, whose pods the kernel kills last.
const nodeCritical = 2000001000

// leastPodMemory is what a pod has room for at least: its sandbox is started within its limit. Its containers' own limits hold all the same.
const leastPodMemory = 16 << 20

// podLevel returns the pod's own resources (spec.resources), nil if it has none that count.
func podLevel(spec *corev1.PodSpec) *corev1.ResourceRequirements {
	if r := spec.Resources; r != nil && len(r.Limits)+len(r.Requests) > 0 {
		return r
	}
	return nil
}

// podLimits are the cgroup settings of a pod as a whole. Zero is no limit.
type podLimits struct {
	cpuShares int64
	cpuQuota  int64 // µs in each quotaPeriod
	memory    int64 // bytes
	pids      int64
	hugepages map[string]int64 // bytes, by page size as cgroup files have it ("2MB"); nil: the machine has no such cgroups
}

// limitsOf sums up a pod: what it requests, and its limits where every container has one, or what the pod says of itself.
// pages are the sizes of huge pages that the machine can limit.
func limitsOf(spec *corev1.PodSpec, pids int64, pages []string) podLimits {
	out := podLimits{cpuShares: cpuShares(podRequests(spec).cpu), pids: pids}
	own := podLevel(spec)
	sum := func(name string, amount func(corev1.Quantity) int64) int64 {
		n, all := limitSum(spec, name, amount)
		if own != nil && amount(own.Limits[name]) > 0 {
			n, all = amount(own.Limits[name]), true
		}
		if !all {
			return 0
		}
		return n + amount(spec.Overhead[name])
	}
	out.cpuQuota = cpuQuota(sum("cpu", milli))
	out.memory = sum("memory", whole)
	if out.memory > 0 && (own == nil || own.Limits["memory"] == "") {
		out.memory = max(out.memory, leastPodMemory)
	}
	if pages != nil {
		out.hugepages = map[string]int64{}
		for _, size := range pages {
			out.hugepages[size] = 0 // no request, no pages
		}
		for i := range spec.InitContainers {
			out.addHugepages(&spec.InitContainers[i].Resources, pages, sidecar(&spec.InitContainers[i]))
		}
		for i := range spec.Containers {
			out.addHugepages(&spec.Containers[i].Resources, pages, true)
		}
		if own != nil {
			for size, n := range hugepageLimits(own, pages) {
				out.hugepages[size] = max(out.hugepages[size], n)
			}
		}
	}
	return out
}

func (l *podLimits) addHugepages(r *corev1.ResourceRequirements, pages []string, stays bool) {
	for size, n := range hugepageLimits(r, pages) {
		if stays {
			l.hugepages[size] += n
		} else {
			l.hugepages[size] = max(l.hugepages[size], n)
		}
	}
}

// limitSum returns what the containers may use together at a time, and whether each of them has a limit.
func limitSum(spec *corev1.PodSpec, name string, amount func(corev1.Quantity) int64) (n int64, all bool) {
	var sidecars, most int64
	all = true
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		v := amount(c.Resources.Limits[name])
		all = all && v > 0
		if sidecar(c) {
			sidecars += v
			v = 0
		}
		most = max(most, sidecars+v)
	}
	sum := sidecars
	for i := range spec.Containers {
		v := amount(spec.Containers[i].Resources.Limits[name])
		all = all && v > 0
		sum += v
	}
	return max(most, sum), all
}

// hugepagesPrefix begins the names of the resources of huge pages: hugepages-2Mi.
const hugepagesPrefix = "hugepages-"

// hugepageLimits returns a container's limits of the sizes that the machine can limit. Without a limit a container gets none.
func hugepageLimits(r *corev1.ResourceRequirements, pages []string) map[string]int64 {
	out := map[string]int64{}
	for _, size := range pages {
		out[size] = 0
	}
	for name, q := range r.Limits {
		size, ok := strings.CutPrefix(name, hugepagesPrefix)
		if !ok {
			continue
		}
		bytes, err := corev1.Quantity(size).Value()
		if err != nil {
			continue
		}
		if _, ok := out[pageSize(bytes)]; ok {
			out[pageSize(bytes)] = whole(q)
		}
	}
	return out
}

// pageSize writes a size as the files of the hugetlb cgroup do.
func pageSize(bytes int64) string {
	unit := "KB"
	n := bytes >> 10
	for _, next := range []string{"MB", "GB"} {
		if n >= 1024 && n%1024 == 0 {
			n, unit = n>>10, next
		}
	}
	return itoa(n) + unit
}

// shareOfPod is what each container gets of the memory that the pod requests beyond its containers' requests.
func shareOfPod(spec *corev1.PodSpec) int64 {
	own := podLevel(spec)
	if own == nil {
		return 0
	}
	var have, n int64
	count := func(c *corev1.Container) {
		have += whole(request(&c.Resources, "memory"))
		n++
	}
	for i := range spec.InitContainers {
		if sidecar(&spec.InitContainers[i]) {
			count(&spec.InitContainers[i])
		}
	}
	for i := range spec.Containers {
		count(&spec.Containers[i])
	}
	if rest := whole(request(own, "memory")) - have; rest > 0 && n > 0 {
		return rest / n
	}
	return 0
}
