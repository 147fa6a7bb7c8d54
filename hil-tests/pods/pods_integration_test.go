//go:build integration

package pods_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
	"github.com/skerry/skerry/hil-tests/rig/containerd"
)

func TestPodsOnContainerd(t *testing.T) {
	runCases(t, newWorld(t, containerd.Options{}), nil)
}

// runCases runs all cases on one node, but those that its runtime cannot pass.
func runCases(t *testing.T, w *world, except map[string]string) {
	for _, c := range cases() {
		if why := except[c.name]; why != "" {
			t.Logf("left out: %s: %s", c.name, why)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			c.test(t, w)
		})
	}
	w.t = t
}

type podCase struct {
	name string
	test func(t *testing.T, w *world)
}

func cases() []podCase {
	return []podCase{
		{"adoption", testAdoption}, {"exit codes", testExitCodes}, {"memory limit", testMemoryLimit}, {"missing configMap", testMissingConfigMap},
		{"volumes", testVolumes}, {"graceful deletion", testGracefulDeletion}, {"hostPath missing", testHostPathMissing}, {"image not found", testImageNotFound},
		{"init container and message", testInit}, {"host network and probe", testHostNetwork}, {"memory limit too small", testTooSmall},
		{"logs rotate", testLogRotation}, {"sidecar and hooks", testSidecarAndHooks}, {"mount below a part of a volume", testMountBelowSubPath}, {"hook fails", testHookFails}, {"gRPC probe", testGRPCProbe},
		{"claim", testClaim}, {"unknown runtime handler", testUnknownHandler}, {"limit of the disk", testStorageLimit}, {"what the runtime cannot", testVolumeAbilities},
		{"ephemeral container", testDebug}, {"resize", testResize}, {"restart all", testRestartAll},
		{"images are collected", testImageCollection},
		{"images are imported", testImport},
		{"limits of the pod", testPodLimits},
		{"security", testSecurity},
		{"limit of processes", testPidsLimit},
		{"orphan", testOrphan}, {"containerd killed", testRuntimeKilled},
	}
}

func pod(spec string) string {
	return `{"metadata":{"labels":{"app":"it"}},"spec":` + spec + `}`
}

func deleting(spec, grace string) string {
	return `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":` + grace + `},"spec":` + spec + `}`
}

func get(t *testing.T, url string) string {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url) //nolint:gosec // a pod's address
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			return string(b)
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

func testAdoption(t *testing.T, w *world) {
	const key = wire.Key("pods/default/adopt/ad-1")
	spec := `{"containers":[{"name":"c","image":"IMAGE","ports":[{"containerPort":8080,"hostPort":18080}],"env":[{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}]}]}`
	w.put(key, pod(spec))
	before := w.await(key, "running", running)
	if before.PodIP == "" || !strings.Contains(get(t, "http://"+before.PodIP+":8080/env"), "NODE=gw-1\n") {
		t.Errorf("pod at %q does not serve its environment", before.PodIP)
	}
	if !strings.HasPrefix(before.ContainerStatuses[0].ContainerID, w.runtime+"://") || !strings.Contains(before.ContainerStatuses[0].ImageID, "@sha256:") {
		t.Errorf("container %+v", before.ContainerStatuses[0])
	}
	w.stop()
	w.Withdraw(key)
	begin := time.Now()
	w.start()
	after := w.await(key, "adopted", running)
	t.Logf("adopted %v after the start", time.Since(begin).Round(time.Millisecond))
	if b, a := before.ContainerStatuses[0], after.ContainerStatuses[0]; a.ContainerID != b.ContainerID || a.RestartCount != b.RestartCount || !a.State.Running.StartedAt.Equal(b.State.Running.StartedAt.Time) {
		t.Errorf("before %+v, after %+v", b, a)
	}
	logs, err := os.ReadFile(filepath.Join(w.dir, "logs", "default_adopt_ad-1", "c", "0.log"))
	if err != nil || !strings.Contains(string(logs), "stdout F sample: line 0") {
		t.Errorf("log %.100s, %v", logs, err)
	}
	w.put(key, deleting(spec, "10"))
	w.gone(key, 15*time.Second)
}

func testExitCodes(t *testing.T, w *world) {
	const never, always = wire.Key("pods/default/never/ex-1"), wire.Key("pods/default/always/ex-2")
	w.put(never, pod(`{"restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE","args":["exit","7"]}]}`))
	w.put(always, pod(`{"containers":[{"name":"c","image":"IMAGE","args":["exit","3"]}]}`))
	s := w.await(never, "failed", func(s *corev1.PodStatus) bool { return s.Phase == "Failed" })
	if term := s.ContainerStatuses[0].State.Terminated; term == nil || term.ExitCode != 7 || term.Reason != "Error" || term.StartedAt == nil || term.FinishedAt == nil {
		t.Errorf("terminated %+v", term)
	}
	s = w.await(always, "crash loop", waits("CrashLoopBackOff", "back-off 10s restarting failed container=c pod=always_default(ex-2)"))
	if c := s.ContainerStatuses[0]; c.RestartCount != 1 || c.LastState.Terminated == nil || c.LastState.Terminated.ExitCode != 3 {
		t.Errorf("container %+v", c)
	}
	w.put(never, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.put(always, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.gone(never, 10*time.Second)
	w.gone(always, 10*time.Second)
}

func testMemoryLimit(t *testing.T, w *world) {
	const key = wire.Key("pods/default/hog/oom-1")
	w.put(key, pod(`{"restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE","args":["memhog","100"],"resources":{"limits":{"memory":"32Mi","cpu":"500m"}}}]}`))
	s := w.await(key, "killed", func(s *corev1.PodStatus) bool { return s.Phase == "Failed" })
	if term := s.ContainerStatuses[0].State.Terminated; term == nil || term.ExitCode != 137 || term.Reason != "OOMKilled" {
		t.Errorf("terminated %+v", term)
	}
	if s.QOSClass != "Guaranteed" {
		t.Errorf("QoS class %s", s.QOSClass)
	}
	w.put(key, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.gone(key, 10*time.Second)
}

func testMissingConfigMap(t *testing.T, w *world) {
	const key, cfg = wire.Key("pods/default/waits/cm-1"), wire.Key("configmaps/default/later")
	spec := `{"containers":[{"name":"c","image":"IMAGE","envFrom":[{"configMapRef":{"name":"later"}}]}]}`
	w.set(cfg, &wire.Object{Key: cfg, Absent: true, Revision: 77})
	w.put(key, pod(spec))
	w.await(key, "waiting", waits("CreateContainerConfigError", `configmap "later" not found as of revision 77`))
	w.put(cfg, `{"data":{"COLOUR":"blue"}}`)
	s := w.await(key, "running", running)
	if !strings.Contains(get(t, "http://"+s.PodIP+":8080/env"), "COLOUR=blue\n") {
		t.Error("the variable is missing")
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testVolumes(t *testing.T, w *world) {
	const key, cfg, secret = wire.Key("pods/default/vols/vol-1"), wire.Key("configmaps/default/files"), wire.Key("secrets/default/sec")
	spec := `{"securityContext":{"runAsUser":1000,"fsGroup":2000},"containers":[{"name":"c","image":"IMAGE","volumeMounts":[{"name":"all","mountPath":"/config","readOnly":true},{"name":"ram","mountPath":"/ram"},{"name":"disk","mountPath":"/disk"}]}],
	"volumes":[{"name":"all","projected":{"sources":[{"configMap":{"name":"files"}},{"secret":{"name":"sec"}}]}},{"name":"ram","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},{"name":"disk","emptyDir":{}}]}`
	w.put(cfg, `{"data":{"a":"one"}}`)
	w.put(secret, `{"data":{"s":"cHc="}}`)
	w.put(key, pod(spec))
	s := w.await(key, "running", running)
	url := "http://" + s.PodIP + ":8080/config/"
	if a, b := get(t, url+"a"), get(t, url+"s"); a != "one" || b != "pw" {
		t.Errorf("files %q %q", a, b)
	}
	w.put(cfg, `{"data":{"a":"two"}}`)
	for begin := time.Now(); get(t, url+"a") != "two"; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the running pod does not see the new configMap")
		}
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testGracefulDeletion(t *testing.T, w *world) {
	const key = wire.Key("pods/default/bye/del-1")
	spec := `{"containers":[{"name":"c","image":"IMAGE"},{"name":"d","image":"IMAGE","args":["sleep"]}]}`
	w.put(key, pod(spec))
	s := w.await(key, "running", running)
	// The kernel drops a SIGTERM for a container's first process that has no handler yet (pid_namespaces(7)): both must have come so far.
	get(t, "http://"+s.PodIP+":8080/healthz")
	w.logged(key, "d", "sample: sleeping")
	begin := time.Now()
	w.put(key, deleting(spec, "30"))
	w.gone(key, 10*time.Second) // both obey SIGTERM
	t.Logf("gone after %v", time.Since(begin).Round(time.Millisecond))
	left, err := w.rt.Client().ListPodSandbox(t.Context(), &cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": "del-1"}})
	if err != nil || len(left) != 0 {
		t.Errorf("sandboxes left: %+v, %v", left, err)
	}
}

func testHostPathMissing(t *testing.T, w *world) {
	const key = wire.Key("pods/default/hp/hp-1")
	dir := filepath.Join(t.TempDir(), "dev")
	spec := `{"containers":[{"name":"c","image":"IMAGE","volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","hostPath":{"path":"` + dir + `","type":"Directory"}}]}`
	w.put(key, pod(spec))
	w.await(key, "waiting", waits("ContainerCreating", `volume "v": hostPath `+dir+`: no such path on this gateway`))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.await(key, "running", running)
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testImageNotFound(t *testing.T, w *world) {
	const key = wire.Key("pods/default/img/img-1")
	spec := `{"containers":[{"name":"c","image":"` + w.reg.Ref("missing:1") + `"}]}`
	w.put(key, pod(spec))
	w.await(key, "back-off", waits("ImagePullBackOff", "missing:1"))
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testInit(t *testing.T, w *world) {
	const key = wire.Key("pods/default/ini/ini-1")
	spec := `{"restartPolicy":"Never","initContainers":[{"name":"i","image":"IMAGE","args":["exit","0","500"]}],
	"containers":[{"name":"c","image":"IMAGE","args":["exit","4"],"terminationMessagePolicy":"FallbackToLogsOnError"}]}`
	w.put(key, pod(spec))
	w.await(key, "initialising", func(s *corev1.PodStatus) bool {
		return s.Phase == "Pending" && s.InitContainerStatuses[0].State.Running != nil
	})
	s := w.await(key, "failed", func(s *corev1.PodStatus) bool { return s.Phase == "Failed" })
	if s.InitContainerStatuses[0].State.Terminated.Reason != "Completed" || !strings.Contains(s.ContainerStatuses[0].State.Terminated.Message, "exiting with status 4") {
		t.Errorf("init %+v, container %+v", s.InitContainerStatuses[0].State.Terminated, s.ContainerStatuses[0].State.Terminated)
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testHostNetwork(t *testing.T, w *world) {
	const key = wire.Key("pods/default/hn/hn-1")
	spec := `{"hostNetwork":true,"containers":[{"name":"c","image":"IMAGE","env":[{"name":"PORT","value":"18091"}],
	"readinessProbe":{"httpGet":{"path":"/healthz","port":18091},"periodSeconds":1},"livenessProbe":{"exec":{"command":["/sample","env"]},"periodSeconds":1,"timeoutSeconds":5},"startupProbe":{"tcpSocket":{"port":18091},"periodSeconds":1}}]}`
	w.put(key, pod(spec))
	s := w.await(key, "ready", func(s *corev1.PodStatus) bool { return running(s) && s.ContainerStatuses[0].Ready })
	if s.PodIP != "127.0.0.1" {
		t.Errorf("pod IP %s", s.PodIP)
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testTooSmall(t *testing.T, w *world) {
	const key = wire.Key("pods/default/small/sm-1")
	spec := `{"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"resources":{"limits":{"memory":"4Ki"}}}]}`
	w.put(key, pod(spec))
	s := w.await(key, "an error", func(s *corev1.PodStatus) bool {
		st := s.ContainerStatuses[0].State.Waiting
		return st != nil && (strings.HasPrefix(st.Reason, "RunContainerError") || strings.HasPrefix(st.Reason, "CreateContainerError") || st.Reason == "CrashLoopBackOff")
	})
	t.Logf("waiting: %+v, last %+v", s.ContainerStatuses[0].State.Waiting, s.ContainerStatuses[0].LastState.Terminated)
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

func testOrphan(t *testing.T, w *world) {
	const key = wire.Key("pods/default/orphan/or-1")
	w.put(key, pod(`{"terminationGracePeriodSeconds":2,"containers":[{"name":"c","image":"IMAGE"}]}`))
	w.await(key, "running", running)
	w.stop()
	w.set(key, nil)
	w.start()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		left, err := w.rt.Client().ListPodSandbox(t.Context(), &cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": "or-1"}})
		if err == nil && len(left) == 0 {
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("left: %+v, %v", left, err)
		}
	}
}

func testRuntimeKilled(t *testing.T, w *world) {
	const key, late = wire.Key("pods/default/stays/rk-1"), wire.Key("pods/default/late/rk-2")
	spec := `{"containers":[{"name":"c","image":"IMAGE"}]}`
	w.put(key, pod(spec))
	before := w.await(key, "running", running)
	if err := w.rt.Kill(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); w.nodeReady().Reason != "RuntimeNotReady"; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 15*time.Second {
			t.Fatalf("node condition %+v", w.nodeReady())
		}
	}
	if c := w.nodeReady(); c.Status != "False" || !strings.Contains(c.Message, w.rt.Socket()) {
		t.Errorf("node condition %+v", c)
	}
	w.put(late, pod(spec))
	w.await(late, "waiting", waits("ContainerCreating", w.rt.Socket()))
	if s := w.report(key).Status; !running(s) {
		t.Errorf("status changed though nobody could look: %+v", s)
	}
	if err := w.rt.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await(late, "running", running)
	after := w.await(key, "still running", running)
	if after.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID {
		t.Error("the container was replaced")
	}
	for _, k := range []wire.Key{key, late} {
		w.put(k, deleting(spec, "5"))
		w.gone(k, 15*time.Second)
	}
}

// testLogRotation lets a container write until its log has been rotated several times: nothing of what the files still span is
// missing, and they are no more and no larger than they may be.
func testLogRotation(t *testing.T, w *world) {
	const key = wire.Key("pods/default/chatty/log-1")
	spec := `{"restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE","args":["chat","1500","1000000"]}]}`
	w.put(key, pod(spec))
	dir := filepath.Join(w.dir, "logs", "default_chatty_log-1", "c")
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(dir, "0.log.2")); err == nil && !strings.Contains(string(b), "sample: line 0 of") {
			break // the first lines have been dropped
		}
		if time.Since(begin) > 2*time.Minute {
			t.Fatal("the log was not rotated three times in two minutes")
		}
	}
	w.stop() // so that nothing moves while the files are read; the container goes on
	numbers := regexp.MustCompile(`sample: line (\d+) of`)
	first, next := -1, -1
	for _, name := range []string{"0.log.2", "0.log.1", "0.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 40*logSize { // the first look comes after ten seconds
			t.Errorf("%s has %d bytes; logs are rotated at %d", name, len(b), logSize)
		}
		for _, m := range numbers.FindAllStringSubmatch(string(b), -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			if first < 0 {
				first, next = n, n
			}
			if n != next {
				t.Fatalf("%s: line %d comes after line %d", name, n, next-1)
			}
			next = n + 1
		}
	}
	if first <= 0 || next-first < 100 {
		t.Errorf("lines %d to %d are left", first, next-1)
	}
	if all, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(all) != 3 {
		t.Errorf("files %v, %v: want 3", all, err)
	}
	w.start()
	w.put(key, deleting(spec, "1"))
	w.gone(key, 15*time.Second)
}
