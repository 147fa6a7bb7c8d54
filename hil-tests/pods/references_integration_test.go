//go:build integration

package pods_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// testClaim: a pod of a runtime class waits for its claim, runs with the handler, owns the volume by its fsGroup, knows its Services, and
// leaves what it wrote behind.
func testClaim(t *testing.T, w *world) {
	const key, claim, volume = wire.Key("pods/default/pvc/pvc-1"), wire.Key("persistentvolumeclaims/default/data"), wire.Key("persistentvolumes//disk")
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the pod's user must get through
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("from the disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := `{"runtimeClassName":"plain","securityContext":{"runAsUser":1000,"fsGroup":2000},"containers":[{"name":"c","image":"IMAGE","env":[{"name":"DB","value":"$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)"}],
		"volumeMounts":[{"name":"data","mountPath":"/config"}]}],"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}`
	w.put("runtimeclasses//plain", `{"metadata":{"name":"plain"},"handler":"runc"}`)
	w.put("services/default/db", `{"spec":{"clusterIP":"10.96.0.7","ports":[{"name":"sql","port":5432}]}}`)
	w.put("services/default/kubernetes", `{"spec":{"clusterIP":"10.96.0.1","ports":[{"name":"https","port":443}]}}`)
	w.put(claim, `{"metadata":{"name":"data","uid":"c-1"},"spec":{},"status":{"phase":"Pending"}}`)
	w.put(key, pod(spec))
	w.await(key, "waiting for the claim", waits("ContainerCreating", "error processing PVC default/data: PVC is not bound"))
	w.put(volume, fmt.Sprintf(`{"metadata":{"name":"disk"},"spec":{"claimRef":{"namespace":"default","name":"data","uid":"c-1"},"local":{"path":%q}}}`, dir))
	w.put(claim, `{"metadata":{"name":"data","uid":"c-1"},"spec":{"volumeName":"disk"},"status":{"phase":"Bound"}}`)
	s := w.await(key, "running", running)
	if text := get(t, "http://"+s.PodIP+":8080/config/hello"); text != "from the disk" {
		t.Errorf("the volume shows %q to user 1000 of group 2000", text)
	}
	env := get(t, "http://"+s.PodIP+":8080/env")
	for _, want := range []string{"DB=10.96.0.7:5432\n", "DB_SERVICE_PORT_SQL=5432\n", "DB_PORT_5432_TCP_ADDR=10.96.0.7\n", "KUBERNETES_SERVICE_HOST=10.96.0.1\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %q:\n%s", want, env)
		}
	}
	boxes, err := w.rt.Client().ListPodSandbox(t.Context(), &cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": "pvc-1"}})
	if err != nil || len(boxes) != 1 || w.runtime == "containerd" && boxes[0].RuntimeHandler != "runc" { // CRI-O does not tell
		t.Errorf("sandboxes %+v, %v", boxes, err)
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
	if _, err := os.Stat(filepath.Join(dir, "hello")); err != nil {
		t.Errorf("the volume's content went with the pod: %v", err)
	}
	for _, k := range []wire.Key{"runtimeclasses//plain", "services/default/db", "services/default/kubernetes", claim, volume} {
		w.set(k, nil)
	}
}

// testUnknownHandler: the runtime's own words say that it has no such handler.
func testUnknownHandler(t *testing.T, w *world) {
	const key = wire.Key("pods/default/handler/rc-1")
	spec := `{"runtimeClassName":"odd","containers":[{"name":"c","image":"IMAGE"}]}`
	w.put("runtimeclasses//odd", `{"metadata":{"name":"odd"},"handler":"no-such-handler"}`)
	w.put(key, pod(spec))
	w.await(key, "refused", waits("ContainerCreating", "no-such-handler"))
	if e := strings.Join(w.recorded("handler"), "\n"); !strings.Contains(e, "FailedCreatePodSandBox") {
		t.Errorf("events %s", e)
	}
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
	w.set("runtimeclasses//odd", nil)
}

// testStorageLimit: a pod whose emptyDir has grown over its limit is evicted, and its containers end.
func testStorageLimit(t *testing.T, w *world) {
	const key = wire.Key("pods/default/full/full-1")
	spec := `{"containers":[{"name":"c","image":"IMAGE","resources":{"limits":{"ephemeral-storage":"64Mi"}},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}}]}`
	w.put(key, pod(spec))
	w.await(key, "running", running)
	file := filepath.Join(w.dir, "pods", key.UID(), "volumes", "kubernetes.io~empty-dir", "v", "file")
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	w.await(key, "evicted", func(s *corev1.PodStatus) bool {
		return s.Phase == "Failed" && s.Reason == "Evicted" && s.Message == `Usage of EmptyDir volume "v" exceeds the limit "1Mi".` && s.ContainerStatuses[0].State.Terminated != nil
	})
	w.put(key, deleting(spec, "5"))
	w.gone(key, 15*time.Second)
}

// testVolumeAbilities: containerd 1.6 can neither mount images nor mount read-only with all that is below, and the pod says so.
func testVolumeAbilities(t *testing.T, w *world) {
	v, err := w.rt.Client().Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(v.RuntimeVersion, "1.") {
		t.Fatalf("containerd is %s: this test is about what 1.6 cannot do", v.RuntimeVersion)
	}
	for name, c := range map[string]struct{ mount, volume, want string }{
		"image":     {`"mountPath":"/v"`, `"image":{"reference":"IMAGE"}`, `volume "v": the container runtime cannot mount images`},
		"recursive": {`"mountPath":"/v","readOnly":true,"recursiveReadOnly":"Enabled"`, `"hostPath":{"path":"/tmp"}`, "requested recursive read-only mode, but it is not supported by the runtime"},
	} {
		key := wire.Key("pods/default/" + name + "/" + name + "-1")
		spec := `{"containers":[{"name":"c","image":"IMAGE","volumeMounts":[{"name":"v",` + c.mount + `}]}],"volumes":[{"name":"v",` + c.volume + `}]}`
		w.put(key, pod(spec))
		w.await(key, "refused", waits("CreateContainerConfigError", c.want))
		w.put(key, deleting(spec, "5"))
		w.gone(key, 15*time.Second)
	}
}
