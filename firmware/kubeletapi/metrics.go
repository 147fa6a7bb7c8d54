package kubeletapi

import (
	"net/http"
	"time"
)

// serveResourceMetrics answers /metrics/resource, which is what metrics-server reads. Names and labels are the kubelet's
// (Kubernetes' metrics reference, component kubelet, /metrics/resource); time stamps are when the runtime counted.
func (s *Server) serveResourceMetrics(w http.ResponseWriter, r *http.Request) {
	sum, err := s.gather(r.Context(), false)
	if err != nil {
		s.log.Warn("kubelet API: the container runtime failed", "what", "statistics of the containers", "error", err)
		sum = summary{Node: s.nodeStats(time.Now())}
	}
	m := newPage()
	m.pods(sum.Pods)
	m.node(sum.Node)
	m.single("resource_scrape_error", "gauge", "1 if the statistics of the containers could not be had", flag(err != nil))
	m.send(w)
}

func (m metricPage) cpu(name, labels string, c *cpuStats) {
	if c != nil && c.UsageCoreNanoSeconds != nil {
		m.value(name, labels, seconds(*c.UsageCoreNanoSeconds), c.Time)
	}
}

func (m metricPage) memory(name, labels string, c *memoryStats) {
	if c != nil && c.WorkingSetBytes != nil {
		m.value(name, labels, float64(*c.WorkingSetBytes), c.Time)
	}
}

func (m metricPage) swap(name, labels string, c *swapStats) {
	if c != nil && c.SwapUsageBytes != nil {
		m.value(name, labels, float64(*c.SwapUsageBytes), c.Time)
	}
}

func (m metricPage) pods(pods []podStats) {
	each := func(name, kind, help string, do func(set string, c containerStats)) {
		m.family(name, kind, help)
		for _, p := range pods {
			for _, c := range p.Containers {
				do(labels("container", c.Name, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name), c)
			}
		}
	}
	each("container_cpu_usage_seconds_total", "counter", "processor time that a container has used, in seconds", func(set string, c containerStats) {
		m.cpu("container_cpu_usage_seconds_total", set, c.CPU)
	})
	each("container_memory_working_set_bytes", "gauge", "memory in use by a container that cannot be taken from it", func(set string, c containerStats) {
		m.memory("container_memory_working_set_bytes", set, c.Memory)
	})
	each("container_swap_usage_bytes", "gauge", "swap in use by a container", func(set string, c containerStats) {
		m.swap("container_swap_usage_bytes", set, c.Swap)
	})
	each("container_start_time_seconds", "gauge", "when a container was started, seconds since 1970", func(set string, c containerStats) {
		if c.StartTime != nil {
			m.value("container_start_time_seconds", set, float64(c.StartTime.UnixNano())/1e9, time.Time{})
		}
	})
	pod := func(p podStats) string { return labels("namespace", p.PodRef.Namespace, "pod", p.PodRef.Name) }
	m.family("pod_cpu_usage_seconds_total", "counter", "processor time that a pod has used, in seconds")
	for _, p := range pods {
		m.cpu("pod_cpu_usage_seconds_total", pod(p), p.CPU)
	}
	m.family("pod_memory_working_set_bytes", "gauge", "memory in use by a pod that cannot be taken from it")
	for _, p := range pods {
		m.memory("pod_memory_working_set_bytes", pod(p), p.Memory)
	}
	m.family("pod_swap_usage_bytes", "gauge", "swap in use by a pod")
	for _, p := range pods {
		m.swap("pod_swap_usage_bytes", pod(p), p.Swap)
	}
}

func (m metricPage) node(n nodeStats) {
	m.family("node_cpu_usage_seconds_total", "counter", "processor time that the gateway has used, in seconds")
	m.cpu("node_cpu_usage_seconds_total", "", n.CPU)
	m.family("node_memory_working_set_bytes", "gauge", "memory in use on the gateway that cannot be had by dropping caches")
	m.memory("node_memory_working_set_bytes", "", n.Memory)
	if n.Swap != nil {
		m.family("node_swap_usage_bytes", "gauge", "swap in use on the gateway")
		m.swap("node_swap_usage_bytes", "", n.Swap)
	}
}
