//go:build integration

package pods_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// podFile reads a file of a pod's own cgroup. The build machine has cgroup version 1.
func (w *world) podFile(controller, uid, file string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, w.rt.CgroupParent(), "pod"+uid, file))
	if err != nil {
		w.t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

func (w *world) wantFiles(uid string, want map[string]string) {
	w.t.Helper()
	for path, value := range want {
		controller, file := filepath.Split(path)
		if got := w.podFile(controller, uid, file); got != value {
			w.t.Errorf("%s is %s, want %s", path, got, value)
		}
	}
}

// testPodLimits reads the limits of whole pods from the kernel: the sum of the containers', what the pod says of itself, and none.
func testPodLimits(t *testing.T, w *world) {
	const sum, own, none = wire.Key("pods/default/sum/lim-1"), wire.Key("pods/default/own/lim-2"), wire.Key("pods/default/none/lim-3")
	w.put(sum, pod(`{"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"resources":{"limits":{"cpu":"250m","memory":"32Mi"}}},
		{"name":"d","image":"IMAGE","args":["sleep"],"resources":{"limits":{"cpu":"250m","memory":"16Mi"}}}]}`))
	w.put(own, pod(`{"resources":{"requests":{"cpu":"100m","memory":"20Mi"},"limits":{"cpu":"1","memory":"40Mi"}},"restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE","args":["memhog","100"]}]}`))
	w.put(none, pod(`{"containers":[{"name":"c","image":"IMAGE","args":["sleep"]}]}`))
	if s := w.await(sum, "running", running); s.QOSClass != "Guaranteed" {
		t.Errorf("QoS class %s", s.QOSClass)
	}
	w.await(none, "running", running)
	w.wantFiles("lim-1", map[string]string{"cpu/cpu.shares": "512", "cpu/cpu.cfs_quota_us": "50000", "memory/memory.limit_in_bytes": strconv.Itoa(48 << 20), "pids/pids.max": strconv.Itoa(podPids)})
	w.wantFiles("lim-3", map[string]string{"cpu/cpu.shares": "2", "cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "9223372036854771712"})
	// The container of this one has no limit: it is the pod's that ends it.
	s := w.await(own, "killed", func(s *corev1.PodStatus) bool { return s.Phase == "Failed" })
	if c := s.ContainerStatuses[0].State.Terminated; c == nil || c.ExitCode != 137 || s.QOSClass != "Burstable" {
		t.Errorf("terminated %+v, QoS class %s", c, s.QOSClass)
	}
	for _, key := range []wire.Key{sum, own, none} {
		w.put(key, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
		w.gone(key, 15*time.Second)
	}
}

// testPidsLimit starts more processes than a pod may have.
func testPidsLimit(t *testing.T, w *world) {
	const key = wire.Key("pods/default/forks/pid-1")
	w.put(key, pod(`{"containers":[{"name":"c","image":"IMAGE","args":["procs","200"],"env":[{"name":"GOMAXPROCS","value":"1"}]}]}`))
	w.await(key, "running", running)
	w.logged(key, "c", "resource temporarily unavailable")
	b, err := os.ReadFile(filepath.Join(w.dir, "logs", "default_forks_pid-1", "c", "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(\d+) of 200 processes`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("log %s", b)
	}
	if n, err := strconv.Atoi(string(m[1])); err != nil || n < 10 || n >= podPids {
		t.Errorf("%s processes came up under a limit of %d", m[1], podPids)
	}
	w.put(key, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.gone(key, 15*time.Second)
}
