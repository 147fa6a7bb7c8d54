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
