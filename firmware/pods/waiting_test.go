package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

func TestImages(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(strings.Replace(simplePod, "app:1", "nowhere:1", 1))
		w.settle(100 * time.Millisecond)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != "ErrImagePull" && got.Reason != "ImagePullBackOff" || !strings.Contains(got.Message, "not found in the registry") {
			t.Fatalf("waiting %+v", got)
		}
		w.settle(3 * time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != "ImagePullBackOff" {
			t.Fatalf("waiting %+v", got)
		}
		w.settle(10 * time.Minute)
		if n := w.rt.called("PullImage"); n < 4 || n > 8 {
			t.Errorf("%d pulls in 10 minutes", n)
		}
		w.rt.mu.Lock()
		w.rt.remote["nowhere:1"] = true
		w.rt.mu.Unlock()
		w.settle(6 * time.Minute)
		if w.status().Phase != phaseRunning {
			t.Errorf("not running once the image is there: %+v", w.status())
		}
		if w.event("Failed") == nil || w.event("Pulled") == nil {
			t.Errorf("events %+v", w.events)
		}
	})
}

func TestPullNever(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(`{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:2","imagePullPolicy":"Never"}]}}`)
		w.settle(time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != "ErrImageNeverPull" {
			t.Fatalf("waiting %+v", got)
		}
	})
}

// TestRestartWithoutRegistry: policy Always must not keep a gateway that is cut off from restarting what it was running.
func TestRestartWithoutRegistry(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(attempt uint32) run {
			if attempt == 0 {
				return run{lasts: 10 * time.Second}
			}
			return run{}
		}
		w.apply(`{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:2","imagePullPolicy":"Always"}]}}`)
		w.settle(time.Second)
		w.rt.mu.Lock()
		delete(w.rt.remote, "app:2")
		w.rt.mu.Unlock()
		w.settle(30 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.State.Running == nil || c.RestartCount != 1 {
			t.Fatalf("container %+v", c)
		}
	})
}

func TestMissingConfigMap(t *testing.T) {
	const key = wire.Key("configmaps/default/cfg")
	pod := `{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1","env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"cfg","key":"a"}}},{"name":"B","value":"<$(A)>"}],"command":["run","$(B)"]}]}}`
	simulate(t, func(w *world) {
		w.apply(pod)
		w.settle(time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != reasonConfigError || !strings.Contains(got.Message, `configmap "cfg" has not arrived`) {
			t.Fatalf("waiting %+v", got)
		}
		w.desired.put(wire.Object{Key: key, Absent: true, Revision: 41})
		w.settle(2 * time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Message != `configmap "cfg" not found as of revision 41` {
			t.Fatalf("waiting %+v", got)
		}
		w.settle(10 * time.Minute)
		w.put(key, `{"data":{"a":"one"}}`)
		w.settle(100 * time.Millisecond) // no back-off is waited for
		if w.status().Phase != phaseRunning {
			t.Fatalf("status %+v", w.status())
		}
		if c := w.rt.byName("c")[0].config; c.Command[1] != "<one>" {
			t.Errorf("command %v", c.Command)
		}
	})
}

func TestOptionalNeedsAbsent(t *testing.T) {
	pod := `{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1","envFrom":[{"secretRef":{"name":"s","optional":true}}]}]}}`
	simulate(t, func(w *world) {
		w.apply(pod)
		w.settle(5 * time.Second)
		if w.status().Phase != phasePending {
			t.Fatal("started before it was known whether the secret exists")
		}
		w.desired.put(wire.Object{Key: "secrets/default/s", Absent: true, Revision: 9})
		w.settle(time.Second)
		if w.status().Phase != phaseRunning {
			t.Fatalf("status %+v", w.status())
		}
	})
}

func TestVolumeFollowsConfigMap(t *testing.T) {
	const key = wire.Key("configmaps/default/cfg")
	pod := `{"metadata":{},"spec":{"volumes":[{"name":"v","configMap":{"name":"cfg"}}],"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}`
	simulate(t, func(w *world) {
		w.apply(pod)
		w.desired.put(wire.Object{Key: key, Absent: true, Revision: 3})
		w.settle(time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got.Reason != "ContainerCreating" || !strings.Contains(got.Message, `configmap "cfg" not found as of revision 3`) {
			t.Fatalf("waiting %+v", got)
		}
		if w.event("FailedMount") == nil || w.rt.boxCount() != 0 {
			t.Error("no event, or a sandbox without volumes")
		}
		w.put(key, `{"data":{"a":"one"}}`)
		w.settle(time.Second)
		mount := w.rt.byName("c")[0].config.Mounts[0]
		if b, err := os.ReadFile(filepath.Join(mount.HostPath, "a")); err != nil || string(b) != "one" {
			t.Fatalf("%q, %v", b, err)
		}
		w.put(key, `{"data":{"b":"two"}}`)
		w.settle(time.Second)
		if b, err := os.ReadFile(filepath.Join(mount.HostPath, "b")); err != nil || string(b) != "two" {
			t.Fatalf("%q, %v", b, err)
		}
		if _, err := os.Lstat(filepath.Join(mount.HostPath, "a")); !os.IsNotExist(err) {
			t.Error("a key that is gone stays")
		}
		w.desired.put(wire.Object{Key: key, Absent: true, Revision: 5})
		w.settle(time.Second)
		if w.status().Phase != phaseRunning {
			t.Error("a running pod was disturbed by a configMap that is gone")
		}
	})
}

func TestUnsupported(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(`{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1","lifecycle":{"preStop":{"tcpSocket":{"port":1}}}}]}}`)
		w.settle(time.Second)
		s := w.status()
		if s.Phase != phasePending || s.Reason != reasonUnsupported || !strings.Contains(s.Message, "spec.containers[0].lifecycle.preStop.tcpSocket: ") {
			t.Fatalf("status %+v", s)
		}
		if c := cond(s.Conditions, condReady); c.Status != "False" || c.Reason != reasonUnsupported || c.Message != s.Message {
			t.Errorf("condition %+v", c)
		}
		if st := s.ContainerStatuses[0].State.Waiting; st == nil || st.Reason != reasonUnsupported {
			t.Errorf("container %+v", s.ContainerStatuses[0])
		}
		if e := w.event(reasonUnsupported); e == nil || w.rt.boxCount() != 0 {
			t.Error("no event, or something was started")
		}
		w.apply(simplePod) // as if a newer agent supported it
		w.settle(time.Second)
		if s := w.status(); s.Phase != phaseRunning || s.Reason != "" {
			t.Errorf("status %+v", s)
		}
	})
}
