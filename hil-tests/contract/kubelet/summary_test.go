package kubelet_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/kubeletapi"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// leftOut are the fields that an agent never sends, and why. docs/kubelet.md says the same.
func leftOut() map[string]string {
	const (
		custom = "custom metrics of cAdvisor, which containers on CRI have not"
		gpu    = "deprecated in favour of the metrics of device plugins"
		system = "the agent and all pods have no disk, log or processes of their own here"
		swap   = "the runtime does not tell a container's share"
	)
	return map[string]string{
		"pods.containers.accelerators": gpu, "pods.containers.userDefinedMetrics": custom,
		"pods.containers.swap.swapAvailableBytes": swap, "pods.swap.swapAvailableBytes": swap,
		"node.systemContainers.accelerators": gpu, "node.systemContainers.userDefinedMetrics": custom, "node.systemContainers.rootfs": system, "node.systemContainers.logs": system,
		"node.systemContainers.io": system, "node.systemContainers.swap": system, "node.systemContainers.memory.availableBytes": system,
	}
}

type runtime struct{ kubeletapi.Streams }

func (runtime) ListContainers(context.Context, *cri.ContainerFilter) ([]cri.Container, error) {
	return nil, nil
}

func (runtime) ListPodSandbox(context.Context, *cri.PodSandboxFilter) ([]cri.PodSandbox, error) {
	return []cri.PodSandbox{{ID: "sandbox", Labels: map[string]string{"io.kubernetes.pod.uid": "u"}}}, nil
}

func (runtime) ImageFsInfo(context.Context) (*cri.ImageFsInfoResponse, error) {
	return &cri.ImageFsInfoResponse{ImageFilesystems: []cri.FilesystemUsage{{UsedBytes: new(uint64(1)), InodesUsed: new(uint64(1)), FsID: &cri.FilesystemIdentifier{Mountpoint: os.TempDir()}}}}, nil
}

func (runtime) ListContainerStats(context.Context, *cri.ContainerStatsFilter) ([]cri.ContainerStats, error) {
	n := new(uint64(1))
	psi := &cri.PSIStats{Full: &cri.PSIData{Total: 1, Avg10: 1, Avg60: 1, Avg300: 1}, Some: &cri.PSIData{Total: 1, Avg10: 1, Avg60: 1, Avg300: 1}}
	return []cri.ContainerStats{{
		Attributes: &cri.ContainerAttributes{ID: "container", Labels: map[string]string{"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "main"}},
		CPU:        &cri.CPUUsage{UsageCoreNanoSeconds: n, UsageNanoCores: n, PSI: psi},
		Memory:     &cri.MemoryUsage{WorkingSetBytes: n, AvailableBytes: n, UsageBytes: n, RSSBytes: n, PageFaults: n, MajorPageFaults: n, PSI: psi},
		Swap:       &cri.SwapUsage{SwapUsageBytes: n}, IO: &cri.IOUsage{PSI: psi},
		WritableLayer: &cri.FilesystemUsage{UsedBytes: n, InodesUsed: n, FsID: &cri.FilesystemIdentifier{Mountpoint: os.TempDir()}},
	}}, nil
}

type pods []kubeletapi.Pod

func (p pods) All() []kubeletapi.Pod                     { return p }
func (p pods) Pod(string, string) (kubeletapi.Pod, bool) { return p[0], true }

// TestSummary decodes what an agent sends on a machine that has everything.
func TestSummary(t *testing.T) {
	dir := t.TempDir()
	pressure := "some avg10=1 avg60=1 avg300=1 total=1\nfull avg10=1 avg60=1 avg300=1 total=1\n"
	group := map[string]string{
		"cgroup.controllers": "", "cgroup.procs": "1\n", "cpu.stat": "usage_usec 1\n", "memory.current": "1\n", "memory.max": "9\n", "memory.swap.current": "1\n", "pids.current": "1\n",
		"memory.stat": "anon 1\npgfault 1\npgmajfault 1\n", "cpu.pressure": pressure, "memory.pressure": pressure, "io.pressure": pressure,
	}
	network := "x\ny\n eth0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
	files := map[string]string{
		"proc/stat": "cpu 1 1 1 1 1 1 1 1 1 1\nbtime 1\n", "proc/meminfo": "MemTotal: 9 kB\nMemFree: 1 kB\nAnonPages: 1 kB\nSwapTotal: 9 kB\nSwapFree: 1 kB\n", "proc/vmstat": "pgfault 1\npgmajfault 1\n",
		"proc/loadavg": "0 0 0 1/1 1\n", "proc/sys/kernel/pid_max": "9\n", "proc/net/dev": network, "proc/1/net/dev": network,
		"proc/net/route": "h\neth0 00000000 1 1 1 1 1 00000000 1 1 1\n", "proc/self/stat": "9 (x) S 1 9 9 0 -1 0 0 0 0 0 150 50 0 0 20 0 8 0 1000 2000000 300 0\n",
		"proc/pressure/cpu": pressure, "proc/pressure/memory": pressure, "proc/pressure/io": pressure,
		"pod/volumes/kubernetes.io~empty-dir/v/file": "x", "logs/ns_pod_u/main/0.log": "x",
	}
	for name, text := range group {
		for _, at := range []string{"cg/pods", "cg/pods/u", "cg/pods/u/container", "cg/pods/u/sandbox"} {
			files[at+"/"+name] = text
		}
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	started := corev1.Time{Time: time.Unix(1, 0)}
	s, err := kubeletapi.New(kubeletapi.Options{
		Node: "gw-1", Runtime: runtime{}, LogDir: filepath.Join(dir, "logs"), Dir: dir, Proc: filepath.Join(dir, "proc"),
		Pods: pods{{Namespace: "ns", Name: "pod", UID: "u", Dir: filepath.Join(dir, "pod"), Claims: map[string]string{"v": "claim"}, Status: &corev1.PodStatus{
			StartTime: &started, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.StateRunning{StartedAt: &started}}}},
		}}},
		Group: func(uid string) (string, string) { return filepath.Join(dir, "cg"), "/pods/" + uid },
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() string {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/stats/summary", nil))
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return w.Body.String()
	}
	ask()
	time.Sleep(1100 * time.Millisecond) // rates are of two looks
	text := ask()
	var sum stats.Summary
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&sum); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var sent any
	if err := json.Unmarshal([]byte(text), &sent); err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	compare(reflect.TypeFor[stats.Summary](), []any{sent}, "", missing)
	want := leftOut()
	for _, path := range slices.Sorted(maps.Keys(missing)) {
		if want[path] == "" {
			t.Errorf("%s is not sent, and no reason is given", path)
		}
	}
	for path := range want {
		if !missing[path] {
			t.Errorf("%s is said to be left out, and is sent", path)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// compare finds the fields of a type that none of the values has.
func compare(of reflect.Type, values []any, path string, missing map[string]bool) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of.Kind() == reflect.Slice:
		var all []any
		for _, v := range values {
			list, _ := v.([]any)
			all = append(all, list...)
		}
		compare(of.Elem(), all, path, missing)
	case of.Kind() == reflect.Struct && of.PkgPath() == reflect.TypeFor[stats.Summary]().PkgPath():
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && name == "" {
				compare(f.Type, values, path, missing)
				continue
			}
			var has []any
			for _, v := range values {
				if m, ok := v.(map[string]any); ok && m[name] != nil {
					has = append(has, m[name])
				}
			}
			below := strings.TrimPrefix(path+"."+name, ".")
			if len(has) == 0 {
				missing[below] = true
				continue
			}
			compare(f.Type, has, below, missing)
		}
	}
}
