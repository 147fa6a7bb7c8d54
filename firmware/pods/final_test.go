package pods

import (
	"unicode/utf8"

	"github.com/skerry/skerry/firmware/wire/corev1"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLastStatus: a pod that is deleted has Succeeded or Failed, whatever its restartPolicy, and says how its containers ended.
func TestLastStatus(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: time.Second} }
		w.apply(simplePod)
		w.settle(2 * time.Second)
		w.apply(deletingPod(simplePod, "30"))
		w.settle(10 * time.Second)
		r := w.report(podKey)
		if !r.Deleted || r.Status == nil || r.Status.Phase != phaseFailed {
			t.Fatalf("report %+v", r)
		}
		if c := r.Status.ContainerStatuses[0]; c.State.Terminated == nil || c.State.Terminated.ExitCode != 143 || c.Ready {
			t.Errorf("container %+v", c)
		}
		if c := cond(r.Status.Conditions, condReady); c.Status != "False" || c.Reason != "PodFailed" {
			t.Errorf("ready %+v", c)
		}
	})
	simulate(t, func(w *world) { // one that was never started
		doc := strings.Replace(simplePod, `"app:1"`, `"none:1"`, 1)
		w.apply(doc)
		w.settle(2 * time.Second)
		w.apply(deletingPod(doc, "1"))
		w.settle(10 * time.Second)
		r := w.report(podKey)
		if c := r.Status.ContainerStatuses[0]; !r.Deleted || r.Status.Phase != phaseFailed || c.State.Terminated == nil || c.State.Terminated.Reason != "ContainerStatusUnknown" {
			t.Errorf("report %+v", r.Status)
		}
	})
}

// TestEventsOfAStart holds the events of a pod's start, and of a sandbox that dies, to the kubelet's.
func TestEventsOfAStart(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"initContainers":[{"name":"first","image":"app:2"}],`, 1))
		w.settle(5 * time.Second)
		w.mu.Lock()
		var got []string
		for _, e := range w.events {
			got = append(got, strings.TrimPrefix(e.ref, "Pod/web ")+" "+e.reason+": "+strings.SplitN(e.message, " in ", 2)[0])
		}
		w.mu.Unlock()
		want := []string{
			`spec.initContainers{first} Pulling: Pulling image "app:2"`, `spec.initContainers{first} Pulled: Successfully pulled image "app:2"`,
			"spec.initContainers{first} Created: Container created", "spec.initContainers{first} Started: Container started",
			`spec.containers{c} Pulled: Container image "app:1" already present on machine and can be accessed by the pod`,
			"spec.containers{c} Created: Container created", "spec.containers{c} Started: Container started",
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s", strings.Join(got, "\n"))
		}
		w.rt.mu.Lock()
		for _, b := range w.rt.boxes {
			b.ready = false
		}
		w.rt.mu.Unlock()
		w.settle(20 * time.Second)
		if e := w.event("SandboxChanged"); e == nil || e.message != "Pod sandbox changed, it will be killed and re-created." {
			t.Errorf("event %+v", e)
		}
	})
}

// TestStatusDetails: mounts, and why there is no sandbox.
func TestStatusDetails(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(`{"metadata":{"name":"web","namespace":"default","uid":"u1","generation":4},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","image":"app:1",
			"volumeMounts":[{"name":"v","mountPath":"/a","readOnly":true},{"name":"v","mountPath":"/b"}]}]}}`)
		w.settle(2 * time.Second)
		s := w.status()
		m := s.ContainerStatuses[0].VolumeMounts
		if len(m) != 2 || m[0].MountPath != "/a" || !m[0].ReadOnly || m[0].RecursiveReadOnly == nil || *m[0].RecursiveReadOnly != "Disabled" || m[1].RecursiveReadOnly != nil {
			t.Errorf("mounts %+v", m)
		}
		if c := cond(s.Conditions, condReadyToStart); c.Status != "True" || c.ObservedGeneration != 4 || s.ObservedGeneration != 4 || s.QOSClass != "BestEffort" || s.HostIP == "" || s.StartTime == nil {
			t.Errorf("%+v, status %+v", c, s)
		}
	})
	in := &statusInput{obs: new(observation)}
	if c := in.sandboxCondition(); c.Status != "False" || c.Reason != "PodSandboxNotReady" || c.Message == "" {
		t.Errorf("condition %+v", c)
	}
}

// TestMessagesShareTheirRoom: the termination messages of a pod have 12 KiB together.
func TestMessagesShareTheirRoom(t *testing.T) {
	long := &corev1.StateTerminated{Message: strings.Repeat("ä", 2048)}
	s := &corev1.PodStatus{ContainerStatuses: make([]corev1.ContainerStatus, 5)}
	for i := range s.ContainerStatuses {
		s.ContainerStatuses[i].State.Terminated = long
	}
	shortenMessages(s)
	sum := 0
	for _, c := range s.ContainerStatuses {
		sum += len(c.State.Terminated.Message)
	}
	if sum > maxPodMessages || sum < maxPodMessages-20 || len(long.Message) != 4096 || !utf8.ValidString(s.ContainerStatuses[0].State.Terminated.Message) {
		t.Errorf("%d bytes in all", sum)
	}
}

// TestDeclaredFeatures: without them the cluster sends no pods that need them.
func TestDeclaredFeatures(t *testing.T) {
	simulate(t, func(w *world) {
		w.settle(2 * time.Second)
		if got := w.node().Status.DeclaredFeatures; !slices.Equal(got, declaredFeatures()) || !slices.IsSorted(got) || len(got) == 0 {
			t.Errorf("declared %v", got)
		}
	})
}
