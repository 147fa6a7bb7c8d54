package kubeletapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const (
	mainID    = "0123456789abcdef"
	sandboxID = "fedcba9876543210"
)

// tree writes files below dir.
func tree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// secondTree is a machine with cgroups of version 2 and the systemd driver.
func secondTree() map[string]string {
	pod := "cg/skerry.slice/skerry-podu_1.slice/"
	main := pod + "cri-containerd-" + mainID + ".scope/"
	files := map[string]string{
		pod + "cgroup.controllers": "cpu memory pids io\n", pod + "cgroup.procs": "", pod + "cpu.stat": "usage_usec 5000000\nuser_usec 1\n",
		pod + "memory.current": "9000000\n", pod + "memory.stat": "anon 4000000\nfile 3000000\ninactive_file 1000000\npgfault 12\npgmajfault 3\n", pod + "memory.max": "max\n",
		pod + "pids.current": "7\n", pod + "memory.swap.current": "4096\n",
		pod + "cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
		pod + "cri-containerd-" + sandboxID + ".scope/cgroup.procs": "42\n",
		pod + "crio-conmon-" + mainID + ".scope/memory.current":     "1\n",
		main + "cgroup.procs": "43\n44\n", main + "cpu.stat": "usage_usec 4000000\nnr_periods 100\nnr_throttled 20\nthrottled_usec 1500000\n",
		main + "cpu.max": "50000 100000\n", main + "cpu.weight": "4\n",
		main + "memory.current": "8000000\n", main + "memory.stat": "anon 4000000\nfile 2000000\nfile_mapped 1000\ninactive_file 500000\n", main + "memory.max": "16000000\n",
		main + "memory.peak": "8500000\n", main + "memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\n", main + "pids.current": "6\n", main + "pids.max": "max\n",
		main + "io.stat": "8:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n254:1 rbytes=1 wbytes=2 rios=3 wios=4\n",
	}
	maps.Copy(files, machineTree())
	return files
}

// firstTree is a machine with cgroups of version 1 and the cgroupfs driver.
func firstTree() map[string]string {
	files := map[string]string{}
	for path, text := range map[string]string{
		"cpu/POD/x": "", "cpuacct/POD/cpuacct.usage": "5000000000\n", "memory/POD/memory.usage_in_bytes": "9000000\n",
		"memory/POD/memory.stat":           "cache 1\ntotal_rss 4000000\ntotal_cache 3000000\ntotal_swap 4096\ntotal_inactive_file 1000000\ntotal_pgfault 12\ntotal_pgmajfault 3\n",
		"memory/POD/memory.limit_in_bytes": "9223372036854771712\n", "pids/POD/pids.current": "7\n",
		"memory/POD/" + sandboxID + "/cgroup.procs": "42\n",
		"memory/MAIN/cgroup.procs":                  "43\n44\n", "cpuacct/MAIN/cpuacct.usage": "4000000000\n", "cpu/MAIN/cpu.stat": "nr_periods 100\nnr_throttled 20\nthrottled_time 1500000000\n",
		"cpu/MAIN/cpu.cfs_quota_us": "50000\n", "cpu/MAIN/cpu.cfs_period_us": "100000\n", "cpu/MAIN/cpu.shares": "80\n",
		"memory/MAIN/memory.usage_in_bytes": "8000000\n", "memory/MAIN/memory.stat": "total_rss 4000000\ntotal_cache 2000000\ntotal_mapped_file 1000\ntotal_inactive_file 500000\n",
		"memory/MAIN/memory.limit_in_bytes": "16000000\n", "memory/MAIN/memory.max_usage_in_bytes": "8500000\n", "memory/MAIN/memory.failcnt": "5\n",
		"memory/MAIN/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "pids/MAIN/pids.current": "6\n", "pids/MAIN/pids.max": "max\n",
		"blkio/MAIN/blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\n254:1 Read 1\n254:1 Write 2\nTotal 303\n",
		"blkio/MAIN/blkio.throttle.io_serviced":      "8:0 Read 3\n8:0 Write 4\n254:1 Read 3\n254:1 Write 4\nTotal 14\n",
	} {
		path = strings.NewReplacer("MAIN", "skerry/podu-1/"+mainID, "POD", "skerry/podu-1").Replace(path)
		files["cg/"+path] = text
	}
	maps.Copy(files, machineTree())
	return files
}

// machineTree is what /proc tells.
func machineTree() map[string]string {
	head := "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	return map[string]string{
		"proc/42/net/dev": head + "    lo: 7 7 0 0 0 0 0 0 7 7 0 0 0 0 0 0\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n",
		"proc/net/dev":    head + "veth12: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  wwan0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n  eth0: 500 5 0 0 0 0 0 0 600 6 0 0 0 0 0 0\n",
		"proc/net/route":  "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\neth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\neth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
		"proc/meminfo":    "MemTotal:        1000 kB\nMemFree:          400 kB\nInactive(file):   100 kB\nAnonPages:  300 kB\nSwapTotal: 64 kB\nSwapFree: 60 kB\n",
		"proc/stat":       "cpu  100 0 100 1000 50 0 0 0 0 0\nbtime 1700000000\n", "proc/vmstat": "pgfault 77\npgmajfault 8\n",
		"proc/self/stat": "9 (sker ryd) S 1 9 9 0 -1 0 0 0 0 0 150 50 0 0 20 0 8 0 1000 2000000 300 0\n", "proc/self/fd/0": "", "proc/self/limits": "Max open files            1024                 4096                 files     \n",
		"sys/x": "",
	}
}

// counted is a bench whose machine has one pod with figures.
func counted(t *testing.T, files map[string]string, edit ...func(*Options)) *bench {
	t.Helper()
	dir := t.TempDir()
	tree(t, dir, files)
	if err := os.MkdirAll(filepath.Join(dir, "sys/dev/block"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/virtual/block/sda", filepath.Join(dir, "sys/dev/block/8:0")); err != nil {
		t.Fatal(err)
	}
	path := "/skerry/podu-1"
	if _, second := files["cg/skerry.slice/skerry-podu_1.slice/cpu.stat"]; second {
		path = "/skerry.slice/skerry-podu_1.slice"
	}
	b := newBench(t, append([]func(*Options){func(o *Options) {
		p := o.Pods.(fakePods)
		p[0].Dir, p[0].Claims = filepath.Join(dir, "pod"), map[string]string{"data": "claim"}
		o.Proc, o.Sys, o.Dir, o.Version = filepath.Join(dir, "proc"), filepath.Join(dir, "sys"), dir, "v1.2.3"
		o.Group = func(uid string) (string, string) {
			if uid == "" {
				return filepath.Join(dir, "cg"), filepath.Dir(path)
			}
			return filepath.Join(dir, "cg"), path
		}
	}}, edit...)...)
	if err := os.MkdirAll(filepath.Join(dir, "pod/volumes/kubernetes.io~empty-dir/cache"), 0o750); err != nil {
		t.Fatal(err)
	}
	tree(t, dir, map[string]string{"pod/volumes/kubernetes.io~empty-dir/cache/file": strings.Repeat("x", 100_000), "disk/file": "x"})
	if err := os.MkdirAll(filepath.Join(dir, "pod/volumes", localVolume), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "disk"), filepath.Join(dir, "pod/volumes", localVolume, "data")); err != nil {
		t.Fatal(err)
	}
	b.write("0.log", strings.Repeat("y", 50_000))
	attributes := func(id string, attempt uint32) *cri.ContainerAttributes {
		return &cri.ContainerAttributes{ID: id, Metadata: &cri.ContainerMetadata{Name: "main", Attempt: attempt}, Labels: map[string]string{labelPodUID: "u-1", labelContainer: "main"}}
	}
	b.rt.stats = []cri.ContainerStats{
		{Attributes: attributes("old", 0), WritableLayer: &cri.FilesystemUsage{UsedBytes: new(uint64(1))}}, // has ended
		{
			Attributes: attributes(mainID, 1), CPU: &cri.CPUUsage{UsageCoreNanoSeconds: new(uint64(4e9))},
			Memory:        &cri.MemoryUsage{WorkingSetBytes: new(uint64(7_500_000))},
			WritableLayer: &cri.FilesystemUsage{UsedBytes: new(uint64(30_000)), InodesUsed: new(uint64(3)), FsID: &cri.FilesystemIdentifier{Mountpoint: dir}},
		},
		{Attributes: &cri.ContainerAttributes{ID: "x", Labels: map[string]string{labelPodUID: "another's"}}, CPU: &cri.CPUUsage{}},
	}
	b.rt.sandboxes = []cri.PodSandbox{{ID: sandboxID, Labels: map[string]string{labelPodUID: "u-1"}, Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default", UID: "u-1"}}}
	b.rt.containers = []cri.Container{{ID: mainID, State: cri.ContainerRunning, ImageRef: "sha256:1", Labels: map[string]string{labelPodUID: "u-1", labelContainer: "main"}}}
	return b
}

// TestSummary holds /stats/summary to what the machine says, with cgroups of both versions.
func TestSummary(t *testing.T) {
	for version, files := range map[string]map[string]string{"version 1": firstTree(), "version 2": secondTree()} {
		t.Run(version, func(t *testing.T) {
			b := counted(t, files)
			var sum struct {
				Node, Pod map[string]any
				Pods      []map[string]any
			}
			status, body := b.get("/stats/summary")
			if err := json.Unmarshal([]byte(body), &sum); status != 200 || err != nil || len(sum.Pods) != 1 {
				t.Fatalf("%d %v %s", status, err, body)
			}
			sum.Pod = sum.Pods[0]
			want := map[string]any{
				"cpu.usageCoreNanoSeconds": 5e9, "memory.usageBytes": 9e6, "memory.workingSetBytes": 8e6, "memory.rssBytes": 4e6, "memory.pageFaults": 12.0, "memory.majorPageFaults": 3.0,
				"swap.swapUsageBytes": 4096.0, "process_stats.process_count": 7.0,
				"network.name": "eth0", "network.rxBytes": 1000.0, "network.txBytes": 2000.0, "network.rxErrors": 1.0, "network.txErrors": 3.0, "network.interfaces.0.name": "eth0",
				"containers.0.name": "main", "containers.0.cpu.usageCoreNanoSeconds": 4e9, "containers.0.memory.workingSetBytes": 7.5e6, "containers.0.memory.availableBytes": 8.5e6,
				"containers.0.memory.rssBytes": 4e6, "containers.0.rootfs.usedBytes": 3e4, "containers.1": nil,
				"volume.0.name": "cache", "volume.1.name": "data", "volume.1.pvcRef.name": "claim", "volume.1.pvcRef.namespace": "default", "volume.2": nil,
			}
			for path, v := range want {
				if got := dig(sum.Pod, path); got != v {
					t.Errorf("pod's %s: %v, want %v", path, got, v)
				}
			}
			for path, v := range map[string]any{
				"network.name": "eth0", "network.rxBytes": 500.0, "network.interfaces.0.name": "wwan0", "network.interfaces.2": nil, "swap.swapUsageBytes": 4096.0, "swap.swapAvailableBytes": 61440.0,
				"memory.workingSetBytes": 512000.0, "memory.majorPageFaults": 8.0, "systemContainers.0.name": "kubelet", "systemContainers.0.cpu.usageCoreNanoSeconds": 2e9,
			} {
				if got := dig(sum.Node, path); got != v {
					t.Errorf("node's %s: %v, want %v", path, got, v)
				}
			}
			// What is on a disk takes whole blocks.
			for path, least := range map[string]float64{
				"volume.0.usedBytes": 1e5, "volume.0.inodesUsed": 2, "volume.0.capacityBytes": 1, "volume.1.capacityBytes": 1, "volume.1.usedBytes": 1, "containers.0.logs.usedBytes": 5e4,
				"ephemeral-storage.usedBytes": 1.8e5, "ephemeral-storage.capacityBytes": 1, "containers.0.rootfs.capacityBytes": 1,
			} {
				if got, _ := dig(sum.Pod, path).(float64); got < least {
					t.Errorf("pod's %s: %v, want at least %v", path, got, least)
				}
			}
			if got, _ := dig(sum.Pod, "ephemeral-storage.usedBytes").(float64); got > 1e6 {
				t.Errorf("a claim's file system counts as the pod's: %v", got)
			}
			pressure := any(nil)
			if version == "version 2" {
				pressure = 2e9
			}
			if got := dig(sum.Pod, "cpu.psi.some.total"); got != pressure {
				t.Errorf("pressure %v, want %v", got, pressure)
			}
			if _, body := b.get("/stats/summary?only_cpu_and_memory=true"); strings.Contains(body, "rootfs") || strings.Contains(body, "network") || !strings.Contains(body, `"usageCoreNanoSeconds":4000000000`) {
				t.Errorf("only CPU and memory: %s", body)
			}
		})
	}
}

// dig follows a path of names and indices.
func dig(doc any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch at := doc.(type) {
		case map[string]any:
			doc = at[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(at) {
				return nil
			}
			doc = at[i]
		default:
			return nil
		}
	}
	return doc
}

// series are the lines of a page, by name and labels, checked as Prometheus checks them: each family has one head before its lines, which
// stand together, and no line is there twice.
func series(t *testing.T, page string) map[string]float64 {
	t.Helper()
	out, heads, family := map[string]float64{}, map[string]bool{}, ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			family, _, _ = strings.Cut(rest, " ")
			if heads[family] {
				t.Errorf("%s has two heads", family)
			}
			heads[family] = true
			continue
		}
		if strings.HasPrefix(line, "# TYPE ") {
			if !strings.HasPrefix(line, "# TYPE "+family+" ") {
				t.Errorf("%q follows the help of %s", line, family)
			}
			continue
		}
		end := strings.LastIndexByte(line, '}') + 1
		if end == 0 {
			end = strings.IndexByte(line, ' ')
		}
		name, _, _ := strings.Cut(line[:end], "{")
		if name != family {
			t.Errorf("%q is among the lines of %s", line, family)
		}
		if _, twice := out[line[:end]]; twice {
			t.Errorf("%q is there twice", line[:end])
		}
		var v float64
		if _, err := fmt.Sscan(line[end:], &v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		out[line[:end]] = v
	}
	return out
}

// TestContainerMetrics holds /metrics/cadvisor to the series and labels that dashboards know.
func TestContainerMetrics(t *testing.T) {
	for version, files := range map[string]map[string]string{"version 1": firstTree(), "version 2": secondTree()} {
		t.Run(version, func(t *testing.T) {
			b := counted(t, files)
			b.pod.Status.ContainerStatuses[0].Image = "example.org/app:1"
			_, page := b.get("/metrics/cadvisor")
			got := series(t, page)
			group := "/skerry/podu-1"
			own := group + "/" + mainID
			if version == "version 2" {
				group = "/skerry.slice/skerry-podu_1.slice"
				own = group + "/cri-containerd-" + mainID + ".scope"
			}
			main := fmt.Sprintf(`container="main",id="%s",image="example.org/app:1",name="%s",namespace="default",pod="web"`, own, mainID)
			pod := fmt.Sprintf(`container="",id="%s",image="",name="",namespace="default",pod="web"`, group)
			node := `container="",id="/",image="",name="",namespace="",pod=""`
			want := map[string]float64{
				"container_cpu_usage_seconds_total{" + main + `,cpu="total"}`: 4, "container_cpu_usage_seconds_total{" + pod + `,cpu="total"}`: 5, "container_cpu_usage_seconds_total{" + node + `,cpu="total"}`: 2,
				"container_cpu_cfs_periods_total{" + main + "}": 100, "container_cpu_cfs_throttled_periods_total{" + main + "}": 20, "container_cpu_cfs_throttled_seconds_total{" + main + "}": 1.5,
				"container_spec_cpu_quota{" + main + "}": 50000, "container_spec_cpu_period{" + main + "}": 100000, "container_spec_cpu_shares{" + main + "}": 80,
				"container_memory_usage_bytes{" + main + "}": 8e6, "container_memory_working_set_bytes{" + main + "}": 7.5e6, "container_memory_rss{" + main + "}": 4e6,
				"container_memory_cache{" + main + "}": 2e6, "container_memory_mapped_file{" + main + "}": 1000, "container_memory_swap{" + pod + "}": 4096, "container_memory_max_usage_bytes{" + main + "}": 8.5e6,
				"container_memory_failcnt{" + main + "}": 5, "container_spec_memory_limit_bytes{" + main + "}": 16e6, "container_oom_events_total{" + main + "}": 1,
				"container_processes{" + main + "}": 2, "container_threads{" + main + "}": 6, "container_fs_usage_bytes{" + main + `,device=""}`: 30000,
				"container_fs_reads_total{" + main + `,device="/dev/sda"}`: 3, "container_fs_writes_bytes_total{" + main + `,device="/dev/sda"}`: 200, "container_fs_reads_bytes_total{" + main + `,device="254:1"}`: 1,
				"container_network_receive_bytes_total{" + pod + `,interface="eth0"}`: 1000, "container_network_transmit_packets_dropped_total{" + pod + `,interface="eth0"}`: 4, "container_network_receive_errors_total{" + pod + `,interface="eth0"}`: 1,
				"container_network_transmit_bytes_total{" + node + `,interface="eth0"}`: 600, "machine_memory_bytes": 1024000, "machine_swap_bytes": 65536, "container_scrape_error": 0, "machine_scrape_error": 0,
			}
			if version == "version 2" {
				want["container_pressure_cpu_waiting_seconds_total{"+pod+"}"], want["container_pressure_cpu_stalled_seconds_total{"+pod+"}"] = 2, 1
			}
			for name, v := range want {
				if g, ok := got[name]; !ok || g != v {
					t.Errorf("%s: %v (%v), want %v", name, g, ok, v)
				}
			}
			if _, limited := got["container_threads_max{"+main+"}"]; limited {
				t.Error("no limit is a limit")
			}
			if t.Failed() {
				t.Log(page)
			}
			b.rt.err = cri.ErrUnavailable
			if got := series(t, second(b.get("/metrics/cadvisor"))); got["container_scrape_error"] != 1 || got["machine_memory_bytes"] != 1024000 {
				t.Errorf("without a runtime: %v", got)
			}
		})
	}
}

func second(_ int, s string) string { return s }

// TestOtherPages: the rest of what monitoring asks a kubelet for.
func TestOtherPages(t *testing.T) {
	b := counted(t, firstTree(), func(o *Options) {
		o.Probes = func() []ProbeCount {
			return []ProbeCount{{"default", "web", "u-1", "main", "Readiness", "successful", 3}, {"default", "web", "u-1", "main", "Liveness", "failed", 1}}
		}
		o.Expires = func() time.Time { return time.Now().Add(100 * time.Hour) }
		o.Config = func() map[string]any { return map[string]any{"maxPods": 7} }
	})
	resource := series(t, second(b.get("/metrics/resource")))
	for name, v := range map[string]float64{
		`container_cpu_usage_seconds_total{container="main",namespace="default",pod="web"}`: 4, `pod_cpu_usage_seconds_total{namespace="default",pod="web"}`: 5,
		`pod_memory_working_set_bytes{namespace="default",pod="web"}`: 8e6, "node_memory_working_set_bytes": 512000, "node_swap_usage_bytes": 4096, "resource_scrape_error": 0,
	} {
		if resource[name] != v {
			t.Errorf("%s: %v, want %v", name, resource[name], v)
		}
	}
	own := series(t, second(b.get("/metrics")))
	for name, v := range map[string]float64{
		`kubelet_node_name{node="gw-1"}`: 1, "kubelet_running_pods": 1, `kubelet_running_containers{container_state="running"}`: 1, `kubelet_running_containers{container_state="exited"}`: 0, "kubelet_desired_pods": 1,
		"process_cpu_seconds_total": 2, "process_virtual_memory_bytes": 2e6, "process_open_fds": 1, "process_max_fds": 1024, "process_start_time_seconds": 1700000010,
		`kubelet_http_requests_total{method="GET",path="metrics/resource",route="GET /metrics/resource"}`: 1, "kubelet_http_inflight_requests": 1,
	} {
		if own[name] != v {
			t.Errorf("%s: %v, want %v", name, own[name], v)
		}
	}
	if own[`kubelet_volume_stats_capacity_bytes{namespace="default",persistentvolumeclaim="claim"}`] == 0 {
		t.Errorf("no size of the claim: %v", slices.Sorted(maps.Keys(own)))
	}
	if left := own["kubelet_certificate_manager_client_ttl_seconds"]; left < 359000 || left > 360000 {
		t.Errorf("the certificate ends in %v s", left)
	}
	probes := series(t, second(b.get("/metrics/probes")))
	if n := probes[`prober_probe_total{container="main",namespace="default",pod="web",pod_uid="u-1",probe_type="Readiness",result="successful"}`]; n != 3 || len(probes) != 2 {
		t.Errorf("%v", probes)
	}
	for path, want := range map[string]string{
		"/runningpods/": `"items":[{"metadata":{"name":"web","namespace":"default","uid":"u-1"},"spec":{"containers":[{"name":"main","image":"sha256:1","resources":{}}]},"status":{}}]`,
		"/configz":      `"maxPods":7`, "/healthz": "ok", "/healthz/syncloop": "ok",
	} {
		if status, body := b.get(path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	b.rt.err = cri.ErrUnavailable
	if got := series(t, second(b.get("/metrics/resource"))); got["resource_scrape_error"] != 1 || got["node_memory_working_set_bytes"] != 512000 {
		t.Errorf("without a runtime: %v", got)
	}
	if got := series(t, second(b.get("/metrics"))); got[`kubelet_node_name{node="gw-1"}`] != 1 {
		t.Errorf("without a runtime: %v", got)
	}
	for _, path := range []string{"/stats/summary", "/runningpods/"} {
		if status, body := b.get(path); status < 500 {
			t.Errorf("%s without a runtime: %d %s", path, status, body)
		}
	}
}

// TestNoHostNetwork: what the gateway's interfaces carry is not a pod's that uses them.
func TestNoHostNetwork(t *testing.T) {
	b := counted(t, firstTree(), func(o *Options) { o.Pods.(fakePods)[0].HostNetwork = true })
	if _, body := b.get("/stats/summary"); strings.Contains(body, `"rxBytes":1000`) {
		t.Error(body)
	}
	if _, page := b.get("/metrics/cadvisor"); strings.Contains(page, `namespace="default",pod="web",interface=`) {
		t.Error(page)
	}
}

// TestLabels: what Prometheus cannot read bare is escaped.
func TestLabels(t *testing.T) {
	if got, want := with(labels("a", "x\\y", "b", "\"\n"), "c", "é\xff"), `{a="x\\y",b="\"\n",c="é`+"\ufffd"+`"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzMachine: whatever the files of a machine hold, its figures are in order and their pages can be read.
func FuzzMachine(f *testing.F) {
	for _, files := range []map[string]string{firstTree(), secondTree()} {
		for _, text := range files {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if list := parseInterfaces([]byte(text)); len(list) > maxInterfaces {
			t.Errorf("%d interfaces", len(list))
		}
		if p := parsePressure(text); p != nil {
			if _, err := json.Marshal(p); err != nil {
				t.Error(err) // no number that is none
			}
		}
		by := map[string]*ioCount{}
		at := func(device string) *ioCount {
			by[device] = new(ioCount)
			return by[device]
		}
		ioSecond(text, at)
		ioFirst(text, func(d string) (r, w *uint64) { c := at(d); return &c.reads, &c.writes })
		figures{}.keyed(text, 1000, map[string]figure{"usage_usec": cpuNanos})
		defaultInterface([]byte(text), []byte(text))
		memInfo([]byte(text))
		parseProcess([]byte(text), []byte(text))
		if set := with(labels("a", text), "b", text); strings.Count(set, "\n") != 0 {
			t.Errorf("%q", set)
		}
	})
}
