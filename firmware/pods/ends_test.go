package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// TestLastStateStays holds that the end of the run before stays in the status when the newest run has ended, too.
func TestLastStateStays(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(attempt uint32) run {
			return run{lasts: 3 * time.Second, code: int32(1-min(attempt, 1)) * 5}
		}
		w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"restartPolicy":"OnFailure",`, 1))
		w.settle(time.Minute)
		s := w.status()
		if c := s.ContainerStatuses[0]; s.Phase != phaseSucceeded || c.RestartCount != 1 || c.State.Terminated == nil || c.LastState.Terminated == nil || c.LastState.Terminated.ExitCode != 5 {
			t.Fatalf("phase %s, container %+v", s.Phase, c)
		}
		w.stop()
		w.start()
		w.settle(time.Minute)
		if c := w.status().ContainerStatuses[0]; c.LastState.Terminated == nil || c.LastState.Terminated.ExitCode != 5 {
			t.Errorf("after a restart of the agent: %+v", c)
		}
	})
}

// TestNeverStarted holds that a pod whose container could not be started, and is not started again, has failed.
func TestNeverStarted(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: restartNever, Containers: []corev1.Container{{Name: "c", Image: "app:1"}}}}
	for _, c := range []struct{ policy, phase string }{{restartNever, phaseFailed}, {restartAlways, phaseRunning}} {
		pod.Spec.RestartPolicy = c.policy
		s := makeStatus(&statusInput{
			pod: pod, runtime: "containerd", now: time.Unix(1e9, 0), waiting: map[string]waiting{"c": {"RunContainerError", "no such program"}},
			obs: &observation{sandboxes: []sandboxState{{id: "s", ready: true}}, containers: []containerState{{id: "1", name: "c", sandbox: "s", state: cri.ContainerExited, exitCode: 128, reason: "StartError"}}},
		})
		if state := s.ContainerStatuses[0].State; s.Phase != c.phase || (state.Terminated != nil) != (c.policy == restartNever) || (state.Waiting != nil) != (c.policy == restartAlways) {
			t.Errorf("restartPolicy %s: phase %s, %+v", c.policy, s.Phase, state)
		}
	}
}

// TestInitializingIsSaid holds that all that waits in a pod with init containers waits for its initialization.
func TestInitializingIsSaid(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "c"}}}}
	s := makeStatus(&statusInput{pod: pod, now: time.Unix(1e9, 0), obs: &observation{}})
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		if c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing" {
			t.Errorf("%s: %+v", c.Name, c.State)
		}
	}
}

// TestEndedPodGivesVolumesBack: what a pod that has ended had in its volumes goes at once, and what is mounted there; its status and logs stay. Where that
// fails the pod has ended all the same, and nothing is deleted through a mount.
func TestEndedPodGivesVolumesBack(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		simulate(t, func(w *world) {
			w.rt.programs["c"] = func(uint32) run { return run{lasts: time.Minute} }
			w.apply(`{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"app:1",
				"volumeMounts":[{"name":"d","mountPath":"/d"},{"name":"m","mountPath":"/m"}]}],
				"volumes":[{"name":"d","emptyDir":{}},{"name":"m","emptyDir":{"medium":"Memory"}}]}}`)
			w.settle(time.Second)
			volumes := filepath.Join(w.m.podDir("u1"), volumesFolder)
			file := filepath.Join(volumes, pluginEmptyDir, "d", "data")
			if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if stuck {
				mounts := w.o.Mount.(*fakeMounter) //nolint:forcetypeassert // it is
				mounts.mu.Lock()
				mounts.busy = filepath.Join(volumes, pluginEmptyDir, "m")
				mounts.mu.Unlock()
			}
			w.settle(2 * time.Minute)
			if s := w.status(); s.Phase != phaseSucceeded {
				t.Fatalf("status %+v", s)
			}
			_, err := os.Lstat(file)
			if stuck != (err == nil) {
				t.Errorf("stuck %v: %v", stuck, err)
			}
			if left, _ := w.o.Mount.Below(w.m.podDir("u1")); !stuck && len(left) > 0 {
				t.Errorf("mounts stay: %v", left)
			}
			if stuck != strings.Contains(w.logText(), "volumes of a pod that has ended stay until it is deleted") {
				t.Errorf("log:\n%s", w.logText())
			}
			if _, err := os.Lstat(filepath.Join(w.m.podDir("u1"), statusFile)); err != nil {
				t.Errorf("its status is gone: %v", err)
			}
		})
	}
}
