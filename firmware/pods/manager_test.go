package pods

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const simplePod = `{"metadata":{"name":"web","namespace":"default","uid":"u1","generation":2},"spec":{"containers":[{"name":"c","image":"app:1"}]}}`

func TestPodRuns(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(10 * time.Millisecond)
		s := w.status()
		if s.Phase != phaseRunning || s.PodIP != "10.0.0.5" || s.HostIP != "192.0.2.7" || s.QOSClass != qosBestEffort || s.ObservedGeneration != 2 || s.StartTime == nil {
			t.Fatalf("status %+v", s)
		}
		for _, k := range []string{condReady, condContainersReady, condInitialized, condReadyToStart} {
			if c := cond(s.Conditions, k); c.Status != "True" || c.LastTransitionTime == nil || c.ObservedGeneration != 2 {
				t.Errorf("condition %s: %+v", k, c)
			}
		}
		c := s.ContainerStatuses[0]
		if !strings.HasPrefix(c.ContainerID, "fake://ctr") || !c.Ready || !*c.Started || c.RestartCount != 0 || c.State.Running == nil || c.Image != "app:1" {
			t.Errorf("container %+v", c)
		}
		if info, err := os.Stat(w.o.Dir); err != nil || info.Mode().Perm()&0o007 != 0 {
			t.Errorf("others may look into the pods' folders: %v %v", info, err)
		}
		before := w.count(podKey)
		w.settle(time.Minute)
		if w.count(podKey) != before {
			t.Errorf("reported %d times though nothing changed", w.count(podKey)-before)
		}
	})
}

func TestAdoption(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(attempt uint32) run {
			if attempt == 0 {
				return run{lasts: time.Second, code: 3, why: "Error"}
			}
			return run{}
		}
		w.apply(simplePod)
		w.settle(5 * time.Second)
		before := w.status()
		if got := before.ContainerStatuses[0]; got.RestartCount != 1 || got.LastState.Terminated.ExitCode != 3 || got.State.Running == nil {
			t.Fatalf("container %+v", got)
		}
		w.stop()
		w.settle(time.Hour) // nobody looks after the containers meanwhile
		created := w.rt.called("CreateContainer")
		w.Withdraw(podKey)
		w.start()
		w.settle(5 * time.Second)
		after := w.status()
		if after.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID || after.ContainerStatuses[0].RestartCount != 1 {
			t.Errorf("not adopted: %+v", after.ContainerStatuses[0])
		}
		if !after.StartTime.Equal(before.StartTime.Time) || !cond(after.Conditions, condReady).LastTransitionTime.Equal(cond(before.Conditions, condReady).LastTransitionTime.Time) {
			t.Error("times were not kept")
		}
		if w.rt.called("CreateContainer") != created {
			t.Error("containers were made anew")
		}
	})
}

func TestCrashLoop(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{lasts: 2 * time.Second, code: 1, why: "Error"} }
		w.apply(simplePod)
		w.settle(8 * time.Second) // two runs
		c := w.status().ContainerStatuses[0]
		if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.RestartCount != 1 || c.LastState.Terminated == nil {
			t.Fatalf("container %+v", c)
		}
		if want := "back-off 10s restarting failed container=c pod=web_default(u1)"; c.State.Waiting.Message != want {
			t.Errorf("message %q", c.State.Waiting.Message)
		}
		if w.status().Phase != phaseRunning || cond(w.status().Conditions, condReady).Status != "False" {
			t.Errorf("status %+v", w.status())
		}
		w.settle(20 * time.Minute)
		// 0 s, 10 s, 20 s, 40, 80, 160, then 300 s each: far from 400 runs.
		if n := w.status().ContainerStatuses[0].RestartCount; n < 8 || n > 10 {
			t.Errorf("%d restarts in 20 minutes", n)
		}
		if n := len(w.rt.byName("c")); n > 2 {
			t.Errorf("%d dead containers were kept", n)
		}
	})
}

func TestRestartPolicies(t *testing.T) {
	for _, c := range []struct {
		policy   string
		code     int32
		phase    string
		restarts bool
	}{
		{"Never", 0, phaseSucceeded, false}, {"Never", 1, phaseFailed, false}, {"OnFailure", 0, phaseSucceeded, false},
		{"OnFailure", 1, phaseRunning, true}, {"Always", 0, phaseRunning, true},
	} {
		t.Run(c.policy, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.rt.programs["c"] = func(uint32) run { return run{lasts: time.Second, code: c.code} }
				w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"restartPolicy":"`+c.policy+`",`, 1))
				w.settle(30 * time.Second)
				s := w.status()
				if s.Phase != c.phase || s.ContainerStatuses[0].RestartCount > 0 != c.restarts {
					t.Fatalf("phase %s, restarts %d", s.Phase, s.ContainerStatuses[0].RestartCount)
				}
				if !c.restarts {
					if term := s.ContainerStatuses[0].State.Terminated; term == nil || term.ExitCode != c.code || term.Reason == "" {
						t.Errorf("state %+v", s.ContainerStatuses[0].State)
					}
					for _, b := range w.rt.boxes {
						if b.ready {
							t.Error("the sandbox of a finished pod is still up")
						}
					}
					w.stop()
					w.start()
					w.settle(30 * time.Second)
					if again := w.status(); again.Phase != c.phase || len(w.rt.byName("c")) != 1 {
						t.Errorf("after a restart of the agent: %s, %d containers", again.Phase, len(w.rt.byName("c")))
					}
				}
			})
		})
	}
}

func TestGracefulDeletion(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: 3 * time.Second} }
		w.apply(simplePod)
		w.settle(time.Second)
		w.apply(strings.Replace(simplePod, `"generation":2`, `"generation":3,"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":20`, 1))
		w.settle(2 * time.Second)
		if w.report(podKey).Deleted {
			t.Fatal("reported as gone while its container was ending")
		}
		w.settle(2 * time.Second)
		if !w.report(podKey).Deleted {
			t.Fatalf("not reported as gone; log:\n%s", w.logText())
		}
		if w.rt.boxCount() != 0 || len(w.rt.byName("c")) != 0 || w.rt.stops[0] != 20*time.Second {
			t.Errorf("left: %d sandboxes, %d containers; grace %v", w.rt.boxCount(), len(w.rt.containers), w.rt.stops)
		}
		for _, dir := range []string{filepath.Join(w.o.Dir, "u1"), filepath.Join(w.o.LogDir, "default_web_u1")} {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s stays: %v", dir, err)
			}
		}
		w.desired.remove(podKey)
		w.settle(time.Second)
		if w.m.Status().Pods != 0 || len(w.body(podKey)) != 0 {
			t.Error("the worker or the report stays")
		}
	})
}

func TestDeletionIsHastened(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: time.Hour} }
		w.apply(simplePod)
		w.settle(time.Second)
		deleting := strings.Replace(simplePod, `"generation":2`, `"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":600`, 1)
		w.apply(deleting)
		w.settle(10 * time.Second)
		w.apply(strings.Replace(deleting, ":600", ":5", 1))
		w.settle(6 * time.Second)
		if !w.report(podKey).Deleted {
			t.Fatal("a shorter grace period does not end the longer one")
		}
	})
}

func TestOrphansAreRemoved(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		w.stop()
		w.desired.remove(podKey) // while the agent was not there
		var complete atomic.Bool
		w.o.Complete = complete.Load
		other := *w.rt.boxes["box1"].config
		other.Labels = map[string]string{labelPodUID: "else"} // not ours
		w.rt.boxes["foreign"] = &fakeBox{id: "foreign", config: &other, ready: true}
		w.start()
		w.settle(time.Minute)
		if len(w.rt.byName("c")) != 1 {
			t.Fatal("a pod was removed though the desired view is not whole")
		}
		complete.Store(true)
		w.settle(time.Minute)
		if len(w.rt.byName("c")) != 0 || !w.rt.hasBox("foreign") || w.rt.boxCount() != 1 {
			t.Fatalf("left: %v", w.rt.boxes)
		}
		if entries := w.leftovers(); len(entries) > 0 {
			t.Errorf("folders stay: %v", entries)
		}
	})
}

func TestStrayFolder(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		for _, dir := range []string{"gone/volumes", "photos/2024", "lost+found"} {
			if err := os.MkdirAll(filepath.Join(w.o.Dir, filepath.FromSlash(dir)), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.settle(time.Second)
		if _, err := os.Stat(filepath.Join(w.o.Dir, "gone")); !os.IsNotExist(err) {
			t.Errorf("folder of a pod that nobody wants stays: %v", err)
		}
		for _, dir := range []string{"photos/2024", "lost+found"} {
			if _, err := os.Stat(filepath.Join(w.o.Dir, filepath.FromSlash(dir))); err != nil {
				t.Errorf("a folder that is not the agent's was removed: %v", err)
			}
		}
	})
}

func TestInterruptedCreate(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		w.stop() // as if SIGKILL had come between CreateContainer and StartContainer
		c := w.rt.byName("c")[0]
		w.rt.containers[c.id].state = cri.ContainerCreated
		w.start()
		w.settle(5 * time.Second)
		got := w.rt.byName("c")
		if len(got) != 1 || got[0].state != cri.ContainerRunning || got[0].id == c.id {
			t.Fatalf("containers %+v", got)
		}
	})
}

func TestSandboxDies(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		w.rt.mu.Lock()
		w.rt.boxes["box1"].ready = false
		for _, c := range w.rt.containers {
			c.state, c.finished, c.code = cri.ContainerExited, time.Now(), 137
		}
		w.rt.mu.Unlock()
		w.settle(5 * time.Second)
		s := w.status()
		if s.Phase != phaseRunning || s.ContainerStatuses[0].RestartCount != 1 || s.ContainerStatuses[0].State.Running == nil {
			t.Fatalf("status %+v\n%s", s.ContainerStatuses[0], w.logText())
		}
	})
}

func TestInitContainers(t *testing.T) {
	pod := `{"metadata":{},"spec":{"initContainers":[{"name":"i1","image":"app:1"},{"name":"i2","image":"app:1"}],"containers":[{"name":"c","image":"app:1"}]}}`
	simulate(t, func(w *world) {
		w.rt.programs["i1"] = func(uint32) run { return run{lasts: 2 * time.Second} }
		w.rt.programs["i2"] = func(attempt uint32) run {
			if attempt == 0 {
				return run{lasts: time.Second, code: 1}
			}
			return run{lasts: time.Second}
		}
		w.apply(pod)
		w.settle(time.Second)
		s := w.status()
		if s.Phase != phasePending || s.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" || s.InitContainerStatuses[0].State.Running == nil {
			t.Fatalf("status %+v", s)
		}
		if c := cond(s.Conditions, condInitialized); c.Status != "False" || c.Message != "containers with incomplete status: [i1 i2]" {
			t.Errorf("condition %+v", c)
		}
		w.settle(10 * time.Second)
		s = w.status()
		if s.Phase != phaseRunning || cond(s.Conditions, condInitialized).Status != "True" || s.InitContainerStatuses[1].RestartCount != 1 {
			t.Fatalf("status %+v\n%s", s, w.logText())
		}
		if !s.InitContainerStatuses[0].Ready || s.InitContainerStatuses[0].State.Terminated == nil {
			t.Errorf("init status %+v", s.InitContainerStatuses[0])
		}
	})
}

func TestInitContainerFailsForGood(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["i"] = func(uint32) run { return run{lasts: time.Second, code: 9} }
		w.apply(`{"metadata":{},"spec":{"restartPolicy":"Never","initContainers":[{"name":"i","image":"app:1"}],"containers":[{"name":"c","image":"app:1"}]}}`)
		w.settle(10 * time.Second)
		if s := w.status(); s.Phase != phaseFailed || len(w.rt.byName("c")) != 0 || len(w.rt.byName("i")) != 1 {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestRuntimeDown(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		before := w.body(podKey)
		w.rt.setDown(errFakeDown)
		w.put("pods/default/late/u2", strings.ReplaceAll(simplePod, "web", "late"))
		w.settle(10 * time.Minute)
		if string(w.body(podKey)) != string(before) {
			t.Error("a pod's state changed though nobody could look")
		}
		late := w.report("pods/default/late/u2").Status
		if late == nil || late.Phase != phasePending || !strings.Contains(late.ContainerStatuses[0].State.Waiting.Message, "/run/fake.sock") {
			t.Errorf("new pod: %+v", late)
		}
		if c := cond(w.node().Status.Conditions, "Ready"); c.Status != "False" || c.Reason != "RuntimeNotReady" || !strings.Contains(c.Message, "/run/fake.sock") {
			t.Errorf("node condition %+v", c)
		}
		if n := strings.Count(w.logText(), "does not answer: pods keep their state"); n != 1 {
			t.Errorf("%d log lines", n)
		}
		if w.m.Status().RuntimeReady {
			t.Error("status says ready")
		}
		w.rt.setDown(nil)
		w.settle(15 * time.Second)
		if w.report("pods/default/late/u2").Status.Phase != phaseRunning || cond(w.node().Status.Conditions, "Ready").Status != "True" {
			t.Error("no recovery")
		}
	})
}

func TestOfflineStart(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.apply(simplePod)
		begin := time.Now()
		w.start()
		w.settle(time.Millisecond)
		if w.status().Phase != phaseRunning || time.Since(begin) > time.Second {
			t.Fatalf("status %+v", w.status())
		}
	})
}

func TestCreateFails(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.failCreate = &cri.Error{Method: "CreateContainer", Code: cri.ErrUnknown, Message: "memory limit too low"}
		w.apply(simplePod)
		w.settle(time.Second)
		got := w.status().ContainerStatuses[0].State.Waiting
		if got == nil || got.Reason != "CreateContainerError" || !strings.Contains(got.Message, "memory limit too low") {
			t.Fatalf("waiting %+v", got)
		}
		w.settle(10 * time.Minute)
		if n := w.rt.called("CreateContainer"); n > 30 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		w.rt.mu.Lock()
		w.rt.failCreate = nil
		w.rt.mu.Unlock()
		w.settle(2 * time.Minute)
		if w.status().Phase != phaseRunning {
			t.Error("no recovery")
		}
	})
}

func TestImageChange(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(time.Second)
		w.apply(strings.Replace(simplePod, "app:1", "app:2", 1))
		w.settle(5 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.Image != "app:2" || c.RestartCount != 1 || c.State.Running == nil {
			t.Fatalf("container %+v", c)
		}
	})
}

func TestDeadline(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"activeDeadlineSeconds":60,`, 1))
		w.settle(50 * time.Second)
		if w.status().Phase != phaseRunning {
			t.Fatal("ended too early")
		}
		w.settle(15 * time.Second)
		if s := w.status(); s.Phase != phaseFailed || s.Reason != "DeadlineExceeded" || s.ContainerStatuses[0].State.Running != nil {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestProbes(t *testing.T) {
	pod := `{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1",
		"startupProbe":{"exec":{"command":["started"]},"periodSeconds":1,"failureThreshold":30},
		"readinessProbe":{"exec":{"command":["ready"]},"periodSeconds":2},
		"livenessProbe":{"exec":{"command":["alive"]},"periodSeconds":5,"failureThreshold":2}}]}}`
	simulate(t, func(w *world) {
		codes := map[string]int32{"started": 1, "ready": 1}
		w.rt.exec = func(_ string, cmd []string) (int32, error) { return codes[cmd[0]], nil }
		set := func(name string, code int32) { w.rt.mu.Lock(); codes[name] = code; w.rt.mu.Unlock() }
		w.apply(pod)
		w.settle(5 * time.Second)
		if c := w.status().ContainerStatuses[0]; *c.Started || c.Ready {
			t.Fatalf("container %+v", c)
		}
		set("started", 0)
		w.settle(4 * time.Second)
		if c := w.status().ContainerStatuses[0]; !*c.Started || c.Ready || cond(w.status().Conditions, condReady).Status != "False" {
			t.Fatalf("container %+v", c)
		}
		set("ready", 0)
		w.settle(3 * time.Second)
		if !w.status().ContainerStatuses[0].Ready {
			t.Fatal("not ready")
		}
		w.stop()
		w.start()
		w.settle(100 * time.Millisecond)
		if !w.status().ContainerStatuses[0].Ready {
			t.Error("a restart of the agent took a ready pod out of service")
		}
		set("alive", 1)
		w.settle(13 * time.Second)
		if w.event("Unhealthy") == nil || w.event("Killing") == nil {
			t.Errorf("events %+v", w.events)
		}
		set("alive", 0)
		w.settle(10 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 1 || !c.Ready {
			t.Errorf("container %+v", c)
		}
	})
}
