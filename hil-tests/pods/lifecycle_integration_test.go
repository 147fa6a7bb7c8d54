//go:build integration

package pods_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// testSidecarAndHooks runs a sidecar that serves, a container with hooks and with parts of volumes, and deletes them: the real runtime
// runs the hooks, mounts the parts, and the sidecar ends last.
func testSidecarAndHooks(t *testing.T, w *world) {
	const key = wire.Key("pods/default/side/si-1")
	w.put("configmaps/default/parts", `{"metadata":{"name":"parts"},"data":{"a.conf":"alpha","b.conf":"beta"}}`)
	hooks := filepath.Join(w.dir, "hooks")
	spec := `{"terminationGracePeriodSeconds":20,
	"initContainers":[{"name":"proxy","image":"IMAGE","restartPolicy":"Always","env":[{"name":"PORT","value":"8095"}],
		"startupProbe":{"httpGet":{"path":"/healthz","port":8095},"periodSeconds":1,"failureThreshold":20}}],
	"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"env":[{"name":"WHO","value":"me"}],
		"lifecycle":{"postStart":{"exec":{"command":["/sample","cat","/etc/a.conf"]}},"preStop":{"httpGet":{"path":"/env","port":8095}}},
		"volumeMounts":[{"name":"cfg","mountPath":"/etc/a.conf","subPath":"a.conf"},{"name":"data","mountPath":"/data","subPathExpr":"of/$(WHO)"},{"name":"hooks","mountPath":"/hooks"}]}],
	"volumes":[{"name":"cfg","configMap":{"name":"parts"}},{"name":"data","emptyDir":{}},{"name":"hooks","hostPath":{"path":"` + hooks + `","type":"DirectoryOrCreate"}}]}`
	w.put(key, pod(spec))
	s := w.await(key, "running and ready", func(s *corev1.PodStatus) bool {
		return running(s) && s.ContainerStatuses[0].Ready && s.InitContainerStatuses[0].Ready
	})
	if side := s.InitContainerStatuses[0]; side.State.Running == nil || side.Started == nil || !*side.Started || side.State.Running.StartedAt.After(s.ContainerStatuses[0].State.Running.StartedAt.Time) {
		t.Errorf("the sidecar %+v did not start before the container", side)
	}
	for _, e := range w.recorded("side") {
		if strings.Contains(e, "FailedPostStartHook") {
			t.Error(e)
		}
	}
	dir := filepath.Join(w.dir, "pods", "si-1")
	if info, err := os.Stat(filepath.Join(dir, "volumes", "kubernetes.io~empty-dir", "data", "of", "me")); err != nil || !info.IsDir() {
		t.Errorf("the part of the volume: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "subpaths", "c", "0")); err != nil || string(b) != "alpha" {
		t.Errorf("the mounted file holds %q, %v", b, err)
	}
	w.put(key, deleting(spec, "20"))
	w.gone(key, 30*time.Second)
	for _, e := range w.recorded("side") {
		if strings.Contains(e, "FailedPreStopHook") { // the sidecar that it asks must be there still
			t.Error(e)
		}
	}
}

// testMountBelowSubPath mounts a file system on the gateway below a part of a volume that a pod shows: the pod can be removed all the same, and what
// was mounted stays.
func testMountBelowSubPath(t *testing.T, w *world) {
	const key = wire.Key("pods/default/below/be-1")
	volume := filepath.Join(w.dir, "below")
	part := filepath.Join(volume, "part", "disk")
	if err := os.MkdirAll(part, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		source, kind string
		flags        uintptr
	}{{volume, "", unix.MS_BIND}, {"", "", unix.MS_SHARED}} { // as systemd has all that is mounted
		if err := unix.Mount(m.source, volume, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Unmount(volume, unix.MNT_DETACH) //nolint:errcheck // the test has failed then
	spec := `{"terminationGracePeriodSeconds":2,"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"volumeMounts":[{"name":"v","mountPath":"/v","subPath":"part"}]}],
		"volumes":[{"name":"v","hostPath":{"path":"` + volume + `"}}]}`
	w.put(key, pod(spec))
	w.await(key, "running", running)
	if err := unix.Mount("tmpfs", part, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(part, unix.MNT_DETACH) //nolint:errcheck // likewise
	kept := filepath.Join(part, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.put(key, deleting(spec, "1"))
	w.gone(key, 20*time.Second)
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// testHookFails: a postStart command that fails stops its container, and the pod shows why.
func testHookFails(t *testing.T, w *world) {
	const key = wire.Key("pods/default/hookfail/hf-1")
	spec := `{"terminationGracePeriodSeconds":2,"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"lifecycle":{"postStart":{"exec":{"command":["/sample","cat","/missing"]}}}}]}`
	w.put(key, pod(spec))
	w.await(key, "crash loop", func(s *corev1.PodStatus) bool {
		c := s.ContainerStatuses[0]
		return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" && c.LastState.Terminated != nil
	})
	found := false
	for _, e := range w.recorded("hookfail") {
		found = found || strings.Contains(e, "FailedPostStartHook") && strings.Contains(e, "/missing")
	}
	if !found {
		t.Errorf("no event tells what the hook said: %v", w.recorded("hookfail"))
	}
	w.put(key, deleting(spec, "1"))
	w.gone(key, 15*time.Second)
}

// testGRPCProbe asks the health service of containerd, a gRPC server that was not written here, through a TCP port: for the whole server,
// which is healthy, and for a service that it does not have.
func testGRPCProbe(t *testing.T, w *world) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go forward(conn, w.rt.Socket())
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const well, ill = wire.Key("pods/default/grpc-well/gr-1"), wire.Key("pods/default/grpc-ill/gr-2")
	spec := func(grpc string) string {
		return `{"hostNetwork":true,"containers":[{"name":"c","image":"IMAGE","args":["sleep"],"readinessProbe":{"periodSeconds":1,"timeoutSeconds":5,"grpc":` + grpc + `}}]}`
	}
	w.put(well, pod(spec(`{"port":`+port+`}`)))
	w.put(ill, pod(spec(`{"port":`+port+`,"service":"no.such.Service"}`)))
	w.await(well, "ready", func(s *corev1.PodStatus) bool { return running(s) && s.ContainerStatuses[0].Ready })
	w.await(ill, "running", running)
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if list := strings.Join(w.recorded("grpc-ill"), "\n"); strings.Contains(list, "Unhealthy: Readiness probe failed") {
			if !strings.Contains(list, "unknown service") {
				t.Errorf("the event does not say what the server answered: %s", list)
			}
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("no event of a failed probe: %v", w.recorded("grpc-ill"))
		}
	}
	if w.report(ill).Status.ContainerStatuses[0].Ready {
		t.Error("ready, though its service does not exist")
	}
	for _, key := range []wire.Key{well, ill} {
		w.put(key, deleting(spec(`{"port":`+port+`}`), "1"))
		w.gone(key, 15*time.Second)
	}
}

// forward joins a connection with a Unix socket.
func forward(conn net.Conn, socket string) {
	defer conn.Close() //nolint:errcheck // a test's
	up, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer up.Close() //nolint:errcheck // a test's
	go func() {
		_, _ = io.Copy(up, conn)
		_ = up.Close()
	}()
	_, _ = io.Copy(conn, up)
}

// testImageCollection fills the disk: the image of a pod that is gone goes, the one of a pod that runs stays, and so do those that
// somebody else has pulled.
func testImageCollection(t *testing.T, w *world) {
	const one, two = wire.Key("pods/default/keeps/im-1"), wire.Key("pods/default/leaves/im-2")
	spec := `{"containers":[{"name":"c","image":"IMAGE","args":["sleep"]}]}`
	other := strings.ReplaceAll(spec, "IMAGE", w.reg.Ref("sample:2"))
	has := func(ref string) bool {
		t.Helper()
		s, err := w.rt.Client().ImageStatus(t.Context(), &cri.ImageSpec{Image: ref}, false)
		if err != nil {
			t.Fatal(err)
		}
		return s.Image != nil
	}
	w.put(one, pod(spec))
	w.put(two, pod(other))
	w.await(one, "running", running)
	w.await(two, "running", running)
	w.put(two, deleting(other, "1"))
	w.gone(two, 15*time.Second)
	if !has(w.reg.Ref("sample:2")) {
		t.Fatal("an image was removed though the disk is not full")
	}
	w.full.Store(true)
	defer w.full.Store(false)
	for begin := time.Now(); has(w.reg.Ref("sample:2")); time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("the image that no pod uses is still there")
		}
	}
	if !has(w.reg.Ref("sample:1")) || !has(w.reg.PauseImage()) {
		t.Error("an image that is in use, or that the agent has not pulled, was removed")
	}
	w.full.Store(false)
	w.put(two, pod(other)) // it is pulled again
	w.await(two, "running again", running)
	for _, key := range []wire.Key{one, two} {
		w.put(key, deleting(spec, "1"))
		w.gone(key, 15*time.Second)
	}
}
