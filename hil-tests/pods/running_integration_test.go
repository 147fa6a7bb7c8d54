//go:build integration

package pods_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// testDebug adds an ephemeral container that sees its target's processes, and ends; the pod is not disturbed.
func testDebug(t *testing.T, w *world) {
	const key = wire.Key("pods/default/debugged/db-1")
	spec := `{"containers":[{"name":"c","image":"IMAGE","args":["sleep"]}]}`
	w.put(key, pod(spec))
	before := w.await(key, "running", running)
	w.put(key, pod(strings.Replace(spec, `{"containers"`, `{"ephemeralContainers":[{"name":"debugger","image":"IMAGE","args":["cat","/proc/1/cmdline"],"targetContainerName":"c"}],"containers"`, 1)))
	s := w.await(key, "the debugger has ended", func(s *corev1.PodStatus) bool {
		return len(s.EphemeralStatuses) == 1 && s.EphemeralStatuses[0].State.Terminated != nil
	})
	w.logged(key, "debugger", "/sample\x00sleep")
	if e := s.EphemeralStatuses[0]; e.State.Terminated.ExitCode != 0 || e.State.Terminated.Reason != "Completed" || e.RestartCount != 0 || e.Ready {
		t.Errorf("ephemeral container %+v", e)
	}
	time.Sleep(3 * time.Second)
	s = w.report(key).Status
	if s.Phase != "Running" || s.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID || s.EphemeralStatuses[0].RestartCount != 0 {
		t.Errorf("status %+v", s)
	}
	w.put(key, deleting(spec, "1"))
	w.gone(key, 15*time.Second)
}

// testResize changes CPU and memory of a running container: its cgroup says so, and it is the same process.
func testResize(t *testing.T, w *world) {
	const key = wire.Key("pods/default/resized/re-1")
	spec := func(cpu, memory string) string {
		return `{"containers":[{"name":"c","image":"IMAGE","args":["memhog","20"],"resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"},{"resourceName":"memory","restartPolicy":"NotRequired"}],
		"resources":{"requests":{"cpu":"` + cpu + `","memory":"` + memory + `"},"limits":{"cpu":"` + cpu + `","memory":"` + memory + `"}}}]}`
	}
	w.put(key, pod(spec("100m", "64Mi")))
	before := w.await(key, "running", running)
	_, id, _ := strings.Cut(before.ContainerStatuses[0].ContainerID, "://")
	limits := func() (memory, cpu string) {
		for file, to := range map[string]*string{"memory.limit_in_bytes": &memory, "memory.max": &memory, "cpu.cfs_quota_us": &cpu, "cpu.max": &cpu} {
			for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
				found, err := filepath.Glob(pattern + w.rt.CgroupParent() + "/podre-1/*" + id + "/" + file)
				if err != nil {
					t.Fatal(err)
				}
				for _, path := range found {
					if b, err := os.ReadFile(path); err == nil {
						*to = strings.TrimSpace(string(b))
					}
				}
			}
		}
		return memory, cpu
	}
	if memory, cpu := limits(); memory != "67108864" || !strings.HasPrefix(cpu, "10000") {
		t.Fatalf("limits before: memory %q, cpu %q", memory, cpu)
	}
	for _, size := range []struct{ cpu, memory, quota, bytes string }{{"200m", "128Mi", "20000", "134217728"}, {"150m", "96Mi", "15000", "100663296"}} {
		w.put(key, pod(spec(size.cpu, size.memory)))
		s := w.await(key, "resized to "+size.memory, func(s *corev1.PodStatus) bool {
			r := s.ContainerStatuses[0].Resources
			return r != nil && string(r.Limits["memory"]) == size.memory && string(r.Limits["cpu"]) == size.cpu
		})
		if memory, cpu := limits(); memory != size.bytes || !strings.HasPrefix(cpu, size.quota) {
			t.Errorf("limits: memory %q, cpu %q, want %s and %s", memory, cpu, size.bytes, size.quota)
		}
		if c := s.ContainerStatuses[0]; c.ContainerID != before.ContainerStatuses[0].ContainerID || c.RestartCount != 0 {
			t.Errorf("container %+v", c)
		}
	}
	w.put(key, pod(spec("150m", "8Mi"))) // less than it holds
	s := w.await(key, "a resize that cannot be", func(s *corev1.PodStatus) bool {
		for _, c := range s.Conditions {
			if c.Type == "PodResizeInProgress" && c.Reason == "Error" {
				return strings.Contains(c.Message, "below current usage")
			}
		}
		return false
	})
	if s.ContainerStatuses[0].State.Running == nil || string(s.ContainerStatuses[0].Resources.Limits["memory"]) != "96Mi" {
		t.Errorf("container %+v", s.ContainerStatuses[0])
	}
	w.put(key, deleting(spec("150m", "8Mi"), "1"))
	w.gone(key, 15*time.Second)
}

// testRestartAll ends a container whose rule restarts its whole pod: all its containers are new, its sandbox and its address are not.
func testRestartAll(t *testing.T, w *world) {
	const key = wire.Key("pods/default/again/ra-1")
	spec := `{"restartPolicy":"Never","initContainers":[{"name":"first","image":"IMAGE","args":["exit","0"]}],"containers":[
		{"name":"worker","image":"IMAGE","args":["exit","88","2000"],"restartPolicy":"Never","restartPolicyRules":[{"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[88]}}]},
		{"name":"helper","image":"IMAGE","args":["sleep"]}]}`
	w.put(key, pod(spec))
	before := w.await(key, "running", running)
	s := w.await(key, "started anew", func(s *corev1.PodStatus) bool {
		return running(s) && s.ContainerStatuses[0].RestartCount == 1 && s.ContainerStatuses[1].State.Running != nil
	})
	if s.PodIP != before.PodIP || s.PodIP == "" {
		t.Errorf("address %s, before %s", s.PodIP, before.PodIP)
	}
	if c := s.ContainerStatuses[1]; c.RestartCount != 1 || c.ContainerID == before.ContainerStatuses[1].ContainerID || c.LastState.Terminated == nil || c.LastState.Terminated.Reason != "RestartingAllContainers" {
		t.Errorf("helper %+v", c)
	}
	if c := s.InitContainerStatuses[0]; c.RestartCount != 1 || c.State.Terminated == nil {
		t.Errorf("init container %+v", c)
	}
	if c := s.ContainerStatuses[0]; c.LastState.Terminated == nil || c.LastState.Terminated.ExitCode != 88 {
		t.Errorf("worker %+v", c)
	}
	w.put(key, deleting(spec, "1"))
	w.gone(key, 15*time.Second)
}
