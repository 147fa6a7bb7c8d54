package pods

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// tree makes files with their content.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// The files of a new cgroup, as Linux 6.18 has them (version 1) and as 6.1 with version 2 has.
func freshV1(group string) map[string]string {
	return map[string]string{
		"cpu/" + group + "/cpu.shares": "1024\n", "cpu/" + group + "/cpu.cfs_period_us": "100000\n", "cpu/" + group + "/cpu.cfs_quota_us": "-1\n",
		"memory/" + group + "/memory.limit_in_bytes": "9223372036854771712\n", "memory/" + group + "/memory.usage_in_bytes": "0\n", "pids/" + group + "/pids.max": "max\n",
	}
}

func freshV2(group string) map[string]string {
	out := map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n", "cgroup.subtree_control": "memory pids\n"}
	for dir := filepath.Dir(group); dir != "."; dir = filepath.Dir(dir) {
		out[dir+"/cgroup.subtree_control"] = "\n"
	}
	maps.Copy(out, map[string]string{
		group + "/cpu.weight": "100\n", group + "/cpu.max": "max 100000\n", group + "/memory.max": "max\n", group + "/memory.current": "0\n", group + "/pids.max": "max\n",
		group + "/hugetlb.2MB.max": "max\n",
	})
	return out
}

func TestPodCgroupV1(t *testing.T) {
	const group = "skerry/podu1"
	root := tree(t, freshV1(group))
	c := openCgroups(root)
	if c.v2 {
		t.Fatal("version 1 was taken for version 2")
	}
	l := podLimits{cpuShares: 512, cpuQuota: 50000, memory: 64<<20 + 1, pids: 100}
	if err := c.apply(group, l, true, false); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpu/" + group + "/cpu.shares": "512", "cpu/" + group + "/cpu.cfs_quota_us": "50000", "memory/" + group + "/memory.limit_in_bytes": "67108864", "pids/" + group + "/pids.max": "100",
	} {
		if got := read(t, filepath.Join(root, file)); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	if err := c.apply(group, podLimits{cpuShares: 2}, true, false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, "memory/"+group+"/memory.limit_in_bytes")); got != "-1" {
		t.Errorf("without a limit: %s", got)
	}
	if got := read(t, filepath.Join(root, "cpu/"+group+"/cpu.cfs_quota_us")); got != "-1" {
		t.Errorf("without a quota: %s", got)
	}
}

func TestPodCgroupV2(t *testing.T) {
	const group = "skerry/podu1"
	root := tree(t, freshV2(group))
	c := openCgroups(root)
	if !c.v2 {
		t.Fatal("version 2 was not recognised")
	}
	l := podLimits{cpuShares: 1024, memory: 1 << 20, pids: 7, hugepages: map[string]int64{"2MB": 4 << 20}}
	if err := c.apply(group, l, true, false); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpu.weight": "39", "cpu.max": "max 100000", "memory.max": "1048576", "pids.max": "7", "hugetlb.2MB.max": "4194304"} {
		if got := read(t, filepath.Join(root, group, file)); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	// The kernel takes one controller after the other; the last one that was asked for stands in this tree.
	if got := read(t, filepath.Join(root, "cgroup.subtree_control")); got != "+hugetlb" {
		t.Errorf("controllers of the root: %s", got)
	}
	if got := read(t, filepath.Join(root, "skerry/cgroup.subtree_control")); got != "+pids" {
		t.Errorf("controllers of the pods' cgroup: %s", got)
	}
}

// TestPodCgroupResize: growing comes before the containers, shrinking after them, and not below what is in use.
func TestPodCgroupResize(t *testing.T) {
	const group = "skerry/podu1"
	for version, files := range map[string]map[string]string{"1": freshV1(group), "2": freshV2(group)} {
		root := tree(t, files)
		c := openCgroups(root)
		limit, usage := filepath.Join(root, "memory", group, "memory.limit_in_bytes"), filepath.Join(root, "memory", group, "memory.usage_in_bytes")
		if c.v2 {
			limit, usage = filepath.Join(root, group, "memory.max"), filepath.Join(root, group, "memory.current")
		}
		apply := func(memory int64, grow bool, want, refused string) {
			t.Helper()
			err := c.apply(group, podLimits{cpuShares: 2, memory: memory}, true, grow)
			if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
				t.Errorf("version %s: %v", version, err)
			}
			if got := read(t, limit); got != want {
				t.Errorf("version %s: limit %s, want %s", version, got, want)
			}
		}
		apply(8<<20, false, "8388608", "")
		apply(4<<20, true, "8388608", "")
		apply(16<<20, true, "16777216", "")
		if err := os.WriteFile(usage, []byte("9000000\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		apply(4<<20, false, "16777216", "uses more than 4194304 bytes now")
		apply(12<<20, false, "12582912", "")
		if err := c.apply("skerry/podgone", podLimits{cpuShares: 2, memory: 1 << 20}, false, false); err != nil {
			t.Errorf("version %s: a cgroup that is not there: %v", version, err)
		}
		if _, err := os.Stat(filepath.Join(root, "skerry/podgone")); !os.IsNotExist(err) {
			t.Errorf("version %s: a cgroup was made: %v", version, err)
		}
	}
}

func TestGroupPath(t *testing.T) {
	for _, c := range []struct {
		parent  string
		systemd bool
		want    string
	}{
		{"/skerry", false, "skerry/podu-1"}, {"/a/b", false, "a/b/podu-1"}, {"/skerry", true, "skerry.slice/skerry-podu_1.slice"}, {"/a/b", true, "a.slice/a-b.slice/a-b-podu_1.slice"},
	} {
		if got := groupPath(c.parent, "u-1", c.systemd); got != c.want {
			t.Errorf("%s: %s, want %s", c.parent, got, c.want)
		}
	}
}

func TestLimitsOf(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		want       podLimits
	}{
		{"nothing", `{"containers":[{"name":"a"}]}`, podLimits{cpuShares: 2}},
		{"sum", `{"containers":[{"name":"a","resources":{"limits":{"cpu":"100m","memory":"10Mi"}}},{"name":"b","resources":{"limits":{"cpu":"1","memory":"20Mi"}}}]}`,
			podLimits{cpuShares: 1126, cpuQuota: 110000, memory: 30 << 20}},
		{"little", `{"containers":[{"name":"a","resources":{"limits":{"memory":"1Mi"}}}]}`, podLimits{cpuShares: 2, memory: leastPodMemory}},
		{"one without", `{"containers":[{"name":"a","resources":{"limits":{"cpu":"100m","memory":"10Mi"}}},{"name":"b","resources":{"requests":{"cpu":"1"}}}]}`, podLimits{cpuShares: 1126}},
		{"init container larger", `{"initContainers":[{"name":"i","resources":{"limits":{"cpu":"2","memory":"50Mi"}}}],"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"10Mi"}}}]}`,
			podLimits{cpuShares: 2048, cpuQuota: 200000, memory: 50 << 20}},
		{"sidecar", `{"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"limits":{"cpu":"1","memory":"5Mi"}}},{"name":"i","resources":{"limits":{"cpu":"1","memory":"20Mi"}}}],
			"containers":[{"name":"a","resources":{"limits":{"cpu":"500m","memory":"10Mi"}}}]}`, podLimits{cpuShares: 2048, cpuQuota: 200000, memory: 25 << 20}},
		{"of the pod", `{"resources":{"requests":{"cpu":"250m"},"limits":{"cpu":"1","memory":"100Mi"}},"containers":[{"name":"a"},{"name":"b","resources":{"limits":{"memory":"10Mi"}}}]}`,
			podLimits{cpuShares: 256, cpuQuota: 100000, memory: 100 << 20}},
	} {
		d := decode(t, c.spec)
		got := limitsOf(&d.pod.Spec, 0, nil)
		got.hugepages = nil
		if got.cpuShares != c.want.cpuShares || got.cpuQuota != c.want.cpuQuota || got.memory != c.want.memory {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPodLevelResources(t *testing.T) {
	for spec, want := range map[string]string{
		`{"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"containers":[{"name":"a"}]}`:                                                                qosGuaranteed,
		`{"resources":{"requests":{"cpu":"1"},"limits":{"memory":"1Gi"}},"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}`: qosBurstable,
		`{"resources":{"limits":{"hugepages-2Mi":"4Mi"}},"containers":[{"name":"a"}]}`:                                                                   qosBestEffort,
	} {
		d := decode(t, spec)
		if got := qosClass(&d.pod.Spec); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	d := decode(t, `{"resources":{"requests":{"memory":"300Mi"}},"containers":[{"name":"a","resources":{"requests":{"memory":"100Mi"}}},{"name":"b"}]}`)
	if a, b := oomScore(&d.pod.Spec, &d.pod.Spec.Containers[0], 1000<<20), oomScore(&d.pod.Spec, &d.pod.Spec.Containers[1], 1000<<20); a != 800 || b != 900 {
		t.Errorf("scores %d and %d, want 800 and 900: what the pod has beyond its containers is shared out", a, b)
	}
}

func TestOOMScores(t *testing.T) {
	d := decode(t, `{"initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a","resources":{"requests":{"memory":"100Mi"}}}]}`)
	if got := oomScore(&d.pod.Spec, &d.pod.Spec.InitContainers[0], 1000<<20); got != 900 {
		t.Errorf("a sidecar has %d, its container 900", got)
	}
	critical := int32(nodeCritical)
	d.pod.Spec.Priority = &critical
	if got := oomScore(&d.pod.Spec, &d.pod.Spec.Containers[0], 1000<<20); got != oomGuaranteed {
		t.Errorf("a pod that the node needs has %d", got)
	}
	for what, c := range map[string]struct {
		status, score string
		want          int64
	}{
		"all capabilities":    {"Name:\tinit\nCapBnd:\t000001ffffffffff\n", "0", -1000},
		"no CAP_SYS_RESOURCE": {"Name:\tinit\nCapBnd:\t000001fffeffffff\n", "0", 0},
		"raised":              {"CapBnd:\t00000000a80425fb\n", "500\n", 500},
		"unknown":             {"Name: init\n", "0", -1000},
	} {
		proc := tree(t, map[string]string{"1/status": c.status, "1/oom_score_adj": c.score})
		if got := oomFloor(proc); got != c.want {
			t.Errorf("%s: floor %d, want %d", what, got, c.want)
		}
	}
	h := &host{memory: 1000 << 20, oomFloor: 0}
	d = decode(t, `{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"100Mi"}}}]}`)
	if got := containerResources(&d.pod.Spec, &d.pod.Spec.Containers[0], h).OOMScoreAdj; got != 0 {
		t.Errorf("a guaranteed container on a machine without CAP_SYS_RESOURCE: %d", got)
	}
}

func TestHugepages(t *testing.T) {
	sys := tree(t, map[string]string{"kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "3\n", "kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0\n", "kernel/mm/hugepages/hugepages-64kB/nr_hugepages": "x"})
	if got := hugePages(sys); len(got) != 2 || got[0] != (hugePage{2 << 20, 6 << 20}) || got[1] != (hugePage{1 << 30, 0}) {
		t.Errorf("pages %+v", got)
	}
	root := tree(t, freshV2("skerry/podu1"))
	sizes := openCgroups(root).hugepageSizes(sys)
	if strings.Join(sizes, " ") != "2MB 1GB" {
		t.Errorf("sizes %v", sizes)
	}
	if got := openCgroups(tree(t, freshV1("x"))).hugepageSizes(sys); got != nil {
		t.Errorf("without a controller: %v", got)
	}
	d := decode(t, `{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Mi","hugepages-2Mi":"4Mi"}}},{"name":"b"}]}`)
	h := &host{memory: 1 << 30, hugepages: sizes, cgroup2: true}
	r := containerResources(&d.pod.Spec, &d.pod.Spec.Containers[0], h)
	if len(r.HugepageLimits) != 2 || r.HugepageLimits[0] != (cri.HugepageLimit{PageSize: "1GB"}) || r.HugepageLimits[1] != (cri.HugepageLimit{PageSize: "2MB", Limit: 4 << 20}) || r.Unified["memory.oom.group"] != "1" {
		t.Errorf("resources %+v", r)
	}
	if l := limitsOf(&d.pod.Spec, 0, sizes); l.hugepages["2MB"] != 4<<20 || l.hugepages["1GB"] != 0 {
		t.Errorf("pod %+v", l)
	}
}

// statusRuntime answers as a runtime of some age does.
type statusRuntime struct {
	driver *cri.CgroupDriver
	info   string
}

func (s *statusRuntime) Version(context.Context) (*cri.VersionResponse, error) { return nil, nil }
func (s *statusRuntime) Status(context.Context, bool) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{Info: map[string]string{"config": s.info}}, nil
}

func (s *statusRuntime) RuntimeConfig(context.Context) (*cri.RuntimeConfigResponse, error) {
	if s.driver == nil {
		return nil, &cri.Error{Code: cri.ErrUnimplemented}
	}
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: *s.driver}}, nil
}

func TestCgroupDriver(t *testing.T) {
	systemd, fs := cri.CgroupDriverSystemd, cri.CgroupDriverCgroupfs
	booted := t.TempDir()
	for what, c := range map[string]struct {
		rt          statusRuntime
		name, where string
		want        bool
	}{
		"RuntimeConfig says systemd": {statusRuntime{driver: &systemd}, "containerd", "", true},
		"RuntimeConfig says fs":      {statusRuntime{driver: &fs, info: `{"systemdCgroup":true}`}, "containerd", "", false},
		"containerd 1.6, systemd":    {statusRuntime{info: `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"BinaryName":"","SystemdCgroup":true}}}}}`}, "containerd", "", true},
		"containerd 1.6, cgroupfs":   {statusRuntime{info: `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"kata":{"options":{"SystemdCgroup":true}},"runc":{"options":{"SystemdCgroup":false}}}}}`}, "containerd", "", false},
		"containerd, old key":        {statusRuntime{info: `{"systemdCgroup":true}`}, "containerd", "", true},
		"no word":                    {statusRuntime{info: `nonsense`}, "containerd", "", false},
		"CRI-O with systemd":         {statusRuntime{}, "cri-o", booted, true},
		"CRI-O without systemd":      {statusRuntime{}, "cri-o", booted + "/none", false},
	} {
		if got := cgroupDriver(t.Context(), &c.rt, c.name, c.where); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
