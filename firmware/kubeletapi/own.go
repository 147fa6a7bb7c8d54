package kubeletapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// served counts requests, by the pattern that they matched.
type served struct {
	mu    sync.Mutex
	open  int
	total map[string]uint64
}

func (c *served) begin() {
	c.mu.Lock()
	c.open++
	c.mu.Unlock()
}

// end notes a request that was answered. There are as many patterns as routes.
func (c *served) end(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.total == nil {
		c.total = map[string]uint64{}
	}
	c.total[r.Pattern]++
}

func (c *served) counts() (open int, total map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, maps.Clone(c.total)
}

// serveOwnMetrics answers /metrics: of the kubelet's own series those that dashboards and alerts of clusters look at.
func (s *Server) serveOwnMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
	defer cancel()
	m := newPage()
	m.family("kubelet_node_name", "gauge", "the node's name")
	m.value("kubelet_node_name", labels("node", s.o.Node), 1, time.Time{})
	m.family("kubernetes_build_info", "gauge", "what runs here")
	m.value("kubernetes_build_info", labels("compiler", runtime.Compiler, "git_version", s.o.Version, "go_version", runtime.Version(), "platform", runtime.GOOS+"/"+runtime.GOARCH), 1, time.Time{})
	if s.o.Expires != nil {
		if end := s.o.Expires(); !end.IsZero() {
			m.single("kubelet_certificate_manager_client_ttl_seconds", "gauge", "seconds until the agent's certificate ends; negative: since", float64(int64(time.Until(end)/time.Second)))
		}
	}
	pods := s.o.Pods.All()
	m.single("kubelet_desired_pods", "gauge", "pods that this node should run", float64(len(pods)))
	if err := s.runningMetrics(ctx, m); err != nil {
		s.log.Warn("kubelet API: the container runtime failed", "what", "containers and sandboxes", "error", err)
	}
	s.volumeMetrics(ctx, m, pods)
	s.requestMetrics(m)
	s.processMetrics(m)
	m.send(w)
}

// runningMetrics counts what the runtime runs for this node's pods. Nothing is written if it does not answer.
func (s *Server) runningMetrics(ctx context.Context, m metricPage) error {
	sandboxes, err := s.sandboxes(ctx)
	if err != nil {
		return err
	}
	list, err := s.o.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return err
	}
	states := map[cri.ContainerState]int{}
	for i := range list {
		states[list[i].State]++
	}
	m.single("kubelet_running_pods", "gauge", "pods whose sandbox is ready", float64(len(sandboxes)))
	m.family("kubelet_running_containers", "gauge", "containers by their state")
	for _, x := range []struct {
		state cri.ContainerState
		name  string
	}{{cri.ContainerCreated, "created"}, {cri.ContainerExited, "exited"}, {cri.ContainerRunning, "running"}, {cri.ContainerUnknown, "unknown"}} {
		m.value("kubelet_running_containers", labels("container_state", x.name), float64(states[x.state]), time.Time{})
	}
	return nil
}

// volumeMetrics tells how full claims are.
func (s *Server) volumeMetrics(ctx context.Context, m metricPage, pods []Pod) {
	g := &gatherer{s: s, now: time.Now(), round: s.usages.look()} // claims are file systems: nothing is walked through
	claims := map[[2]string]fsStats{}
	for _, p := range pods {
		if len(p.Claims) == 0 {
			continue
		}
		for _, v := range g.volumes(ctx, p) {
			if v.PVC != nil {
				claims[[2]string{v.PVC.Namespace, v.PVC.Name}] = v.fsStats
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(claims), func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	for _, f := range []struct {
		name, help string
		of         func(fsStats) *uint64
	}{
		{"kubelet_volume_stats_available_bytes", "bytes free in a claim's file system", func(f fsStats) *uint64 { return f.AvailableBytes }},
		{"kubelet_volume_stats_capacity_bytes", "size of a claim's file system", func(f fsStats) *uint64 { return f.CapacityBytes }},
		{"kubelet_volume_stats_used_bytes", "bytes used in a claim's file system", func(f fsStats) *uint64 { return f.UsedBytes }},
		{"kubelet_volume_stats_inodes", "inodes of a claim's file system", func(f fsStats) *uint64 { return f.Inodes }},
		{"kubelet_volume_stats_inodes_free", "inodes free in a claim's file system", func(f fsStats) *uint64 { return f.InodesFree }},
		{"kubelet_volume_stats_inodes_used", "inodes used in a claim's file system", func(f fsStats) *uint64 { return f.InodesUsed }},
	} {
		m.family(f.name, "gauge", f.help)
		for _, n := range names {
			if v := f.of(claims[n]); v != nil {
				m.value(f.name, labels("namespace", n[0], "persistentvolumeclaim", n[1]), float64(*v), time.Time{})
			}
		}
	}
}

// requestMetrics tells what this API has served.
func (s *Server) requestMetrics(m metricPage) {
	open, total := s.served.counts()
	m.single("kubelet_http_inflight_requests", "gauge", "requests that are being answered", float64(open))
	m.family("kubelet_http_requests_total", "counter", "requests that were answered")
	for _, pattern := range slices.Sorted(maps.Keys(total)) {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			method, path = "", "other"
		} else {
			path, _, _ = strings.Cut(strings.TrimSuffix(path, "/{$}"), "/{")
			path = strings.TrimPrefix(path, "/")
		}
		m.value("kubelet_http_requests_total", labels("method", method, "path", path, "route", pattern), float64(total[pattern]), time.Time{})
	}
}

// processMetrics tells what the agent itself takes. Their names are those of all programs that Prometheus looks at.
func (s *Server) processMetrics(m metricPage) {
	if p := s.process(); p.start != nil {
		m.single("process_cpu_seconds_total", "counter", "processor time used, in seconds", seconds(p.cpuNanos))
		m.single("process_resident_memory_bytes", "gauge", "memory resident", float64(p.resident))
		m.single("process_virtual_memory_bytes", "gauge", "address space", float64(p.virtual))
		m.single("process_open_fds", "gauge", "open files", float64(p.files))
		if p.maxFiles > 0 {
			m.single("process_max_fds", "gauge", "limit of open files", float64(p.maxFiles))
		}
		m.single("process_start_time_seconds", "gauge", "when it was started, seconds since 1970", float64(p.start.UnixNano())/1e9)
	}
	m.family("go_info", "gauge", "version of Go")
	m.value("go_info", labels("version", runtime.Version()), 1, time.Time{})
	m.single("go_goroutines", "gauge", "goroutines", float64(runtime.NumGoroutine()))
}

// serveProbeMetrics answers /metrics/probes.
func (s *Server) serveProbeMetrics(w http.ResponseWriter, _ *http.Request) {
	m := newPage()
	m.family("prober_probe_total", "counter", "results of probes since the agent was started")
	if s.o.Probes != nil {
		counts := s.o.Probes()
		slices.SortFunc(counts, func(a, b ProbeCount) int {
			return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod), strings.Compare(a.UID, b.UID),
				strings.Compare(a.Container, b.Container), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Result, b.Result))
		})
		for _, c := range counts {
			m.value("prober_probe_total", labels("container", c.Container, "namespace", c.Namespace, "pod", c.Pod, "pod_uid", c.UID, "probe_type", c.Kind, "result", c.Result),
				float64(c.Count), time.Time{})
		}
	}
	m.send(w)
}
