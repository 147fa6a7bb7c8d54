package pods

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// QoS classes, and the OOM score adjustments that go with them (the kubelet's, pkg/kubelet/qos/policy.go).
const (
	qosGuaranteed = "Guaranteed"
	qosBurstable  = "Burstable"
	qosBestEffort = "BestEffort"

	oomGuaranteed = -997
	oomBestEffort = 1000
)

// qosClass classifies a pod by its cpu and memory resources, as k8s.io/kubernetes/pkg/apis/core/v1/helper/qos does.
func qosClass(spec *corev1.PodSpec) string {
	any, guaranteed := false, true
	count := func(r *corev1.ResourceRequirements) {
		for _, name := range []string{"cpu", "memory"} {
			limit, request := milli(r.Limits[name]), milli(request(r, name))
			if limit > 0 || request > 0 {
				any = true
			}
			if limit == 0 || request != limit {
				guaranteed = false
			}
		}
	}
	if own := podLevel(spec); own != nil {
		count(own)
		return classOf(any, guaranteed)
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			count(&list[i].Resources)
		}
	}
	return classOf(any, guaranteed)
}

func classOf(any, guaranteed bool) string {
	switch {
	case !any:
		return qosBestEffort
	case guaranteed:
		return qosGuaranteed
	default:
		return qosBurstable
	}
}

// request returns what a container requests; a limit without a request requests the limit.
func request(r *corev1.ResourceRequirements, name string) corev1.Quantity {
	if q, ok := r.Requests[name]; ok {
		return q
	}
	return r.Limits[name]
}

func milli(q corev1.Quantity) int64 {
	if q == "" {
		return 0
	}
	n, err := q.Milli()
	if err != nil {
		return 0 // decoding has checked it
	}
	return max(n, 0)
}

func whole(q corev1.Quantity) int64 {
	if q == "" {
		return 0
	}
	n, err := q.Value()
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// cgroup figures (kernel documentation, admin-guide/cgroup-v1 and scheduler/sched-bwc).
const (
	sharesPerCPU = 1024
	minShares    = 2
	maxShares    = 262144
	quotaPeriod  = 100000 // µs
	minQuota     = 1000   // µs
)

// cpuShares turns thousandths of a CPU into cgroup v1 shares; the runtime converts them to a weight for v2.
func cpuShares(milliCPU int64) int64 {
	return min(max(milliCPU*sharesPerCPU/1000, minShares), maxShares)
}

// cpuQuota returns the time in µs that a limit allows in each period; 0 is no limit.
func cpuQuota(milliCPU int64) int64 {
	if milliCPU <= 0 {
		return 0
	}
	return max(milliCPU*quotaPeriod/1000, minQuota)
}

// containerResources turns a container's requests and limits into cgroup settings.
func containerResources(spec *corev1.PodSpec, c *corev1.Container, h *host) *cri.LinuxContainerResources {
	out := &cri.LinuxContainerResources{
		CPUShares:          cpuShares(milli(request(&c.Resources, "cpu"))),
		MemoryLimitInBytes: whole(c.Resources.Limits["memory"]),
		OOMScoreAdj:        max(oomScore(spec, c, h.memory), h.oomFloor),
	}
	for _, size := range slices.Sorted(maps.Keys(hugepageLimits(&c.Resources, h.hugepages))) {
		out.HugepageLimits = append(out.HugepageLimits, cri.HugepageLimit{PageSize: size, Limit: uint64(hugepageLimits(&c.Resources, h.hugepages)[size])}) //nolint:gosec // not negative
	}
	if h.cgroup2 {
		out.Unified = map[string]string{"memory.oom.group": "1"} // a container that is over its limit is killed as a whole, not left without one of its processes
	}
	if quota := cpuQuota(milli(c.Resources.Limits["cpu"])); quota > 0 {
		out.CPUQuota, out.CPUPeriod = quota, quotaPeriod
	}
	return out
}

// oomScore makes the kernel kill best-effort containers first, then those that use most beyond their request.
func oomScore(spec *corev1.PodSpec, c *corev1.Container, memory int64) int64 {
	if spec.Priority != nil && *spec.Priority >= nodeCritical {
		return oomGuaranteed
	}
	switch qosClass(spec) {
	case qosGuaranteed:
		return oomGuaranteed
	case qosBestEffort:
		return oomBestEffort
	}
	if memory <= 0 {
		return oomBestEffort - 1
	}
	want := whole(request(&c.Resources, "memory"))
	if sidecar(c) && len(spec.Containers) > 0 { // no sidecar is killed before what it serves
		least := whole(request(&spec.Containers[0].Resources, "memory"))
		for i := range spec.Containers {
			least = min(least, whole(request(&spec.Containers[i].Resources, "memory")))
		}
		want = max(want, least)
	}
	want = min(want+shareOfPod(spec), memory)
	score := 1000 - 1000*want/memory
	// Between the classes: never as safe as a guaranteed container, never as exposed as a best-effort one.
	return min(max(score, 1000+oomGuaranteed), oomBestEffort-1)
}

// sandboxResources sums up a pod's containers, for runtimes that size a sandbox by it.
func sandboxResources(spec *corev1.PodSpec) *cri.LinuxContainerResources {
	var cpu, cpuLimit, mem int64
	limited := true
	for i := range spec.Containers {
		r := &spec.Containers[i].Resources
		cpu += milli(request(r, "cpu"))
		cpuLimit += milli(r.Limits["cpu"])
		m := whole(r.Limits["memory"])
		mem += m
		limited = limited && m > 0
	}
	out := &cri.LinuxContainerResources{CPUShares: cpuShares(cpu)}
	if quota := cpuQuota(cpuLimit); quota > 0 {
		out.CPUQuota, out.CPUPeriod = quota, quotaPeriod
	}
	if limited {
		out.MemoryLimitInBytes = mem
	}
	return out
}

// podCgroup returns the cgroup parent of a pod's containers in the form that the runtime's driver wants: a path for cgroupfs,
// a slice for systemd (whose names encode the path with dashes).
func podCgroup(parent, uid string, systemd bool) string {
	if !systemd {
		return path.Join("/", parent, "pod"+uid)
	}
	name := strings.ReplaceAll(strings.Trim(parent, "/"), "-", "_")
	name = strings.ReplaceAll(name, "/", "-")
	return name + "-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
}
