package kubeletapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// serveResourceMetrics answers /metrics/resource, which is what metrics-server reads. Names and labels are the kubelet's
// (Kubernetes' metrics reference, component kubelet, /metrics/resource); time stamps are when the runtime counted.
func (s *Server) serveResourceMetrics(w http.ResponseWriter, r *http.Request) {
	sum, err := s.gather(r.Context())
	var b bytes.Buffer
	if err != nil {
		s.log.Warn("kubelet API: the container runtime failed", "what", "statistics of the containers", "error", err)
		sum = summary{Node: s.nodeStats(time.Now())}
	}
	m := metricPage{&b}
	m.pods(sum.Pods)
	m.node(sum.Node)
	failed := 0.0
	if err != nil {
		failed = 1
	}
	m.family("resource_scrape_error", "gauge", "1 if the statistics of the containers could not be had")
	m.value("resource_scrape_error", "", failed, time.Time{})
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

type metricPage struct{ b *bytes.Buffer }

func (m metricPage) family(name, kind, help string) {
	fmt.Fprintf(m.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (m metricPage) value(name, labels string, v float64, at time.Time) {
	m.b.WriteString(name)
	m.b.WriteString(labels)
	m.b.WriteByte(' ')
	m.b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	if !at.IsZero() {
		m.b.WriteByte(' ')
		m.b.WriteString(strconv.FormatInt(at.UnixMilli(), 10))
	}
	m.b.WriteByte('\n')
}

func (m metricPage) cpu(name, labels string, c *cpuStats) {
	if c != nil && c.UsageCoreNanoSeconds != nil {
		m.value(name, labels, float64(*c.UsageCoreNanoSeconds)/1e9, c.Time)
	}
}

func (m metricPage) memory(name, labels string, c *memoryStats) {
	if c != nil && c.WorkingSetBytes != nil {
		m.value(name, labels, float64(*c.WorkingSetBytes), c.Time)
	}
}

func (m metricPage) pods(pods []podStats) {
	container := func(p podStats, c containerStats) string {
		return fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", c.Name, p.PodRef.Namespace, p.PodRef.Name)
	}
	each := func(do func(p podStats, c containerStats)) {
		for _, p := range pods {
			for _, c := range p.Containers {
				do(p, c)
			}
		}
	}
	m.family("container_cpu_usage_seconds_total", "counter", "processor time that a container has used, in seconds")
	each(func(p podStats, c containerStats) { m.cpu("container_cpu_usage_seconds_total", container(p, c), c.CPU) })
	m.family("container_memory_working_set_bytes", "gauge", "memory in use by a container that cannot be taken from it")
	each(func(p podStats, c containerStats) {
		m.memory("container_memory_working_set_bytes", container(p, c), c.Memory)
	})
	m.family("container_start_time_seconds", "gauge", "when a container was started, seconds since 1970")
	each(func(p podStats, c containerStats) {
		if c.StartTime != nil {
			m.value("container_start_time_seconds", container(p, c), float64(c.StartTime.UnixNano())/1e9, time.Time{})
		}
	})
	pod := func(p podStats) string {
		return fmt.Sprintf("{namespace=%q,pod=%q}", p.PodRef.Namespace, p.PodRef.Name)
	}
	m.family("pod_cpu_usage_seconds_total", "counter", "processor time that a pod's containers have used, in seconds")
	for _, p := range pods {
		m.cpu("pod_cpu_usage_seconds_total", pod(p), p.CPU)
	}
	m.family("pod_memory_working_set_bytes", "gauge", "memory in use by a pod's containers that cannot be taken from them")
	for _, p := range pods {
		m.memory("pod_memory_working_set_bytes", pod(p), p.Memory)
	}
}

func (m metricPage) node(n nodeStats) {
	m.family("node_cpu_usage_seconds_total", "counter", "processor time that the gateway has used, in seconds")
	m.cpu("node_cpu_usage_seconds_total", "", n.CPU)
	m.family("node_memory_working_set_bytes", "gauge", "memory in use on the gateway that cannot be had by dropping caches")
	m.memory("node_memory_working_set_bytes", "", n.Memory)
}
