package pods

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

func seconds(n int64) *int64 { return &n }

// TestFailPod: a pod that the node ends is stopped with the grace that was given, says why, and never runs again.
func TestFailPod(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: time.Hour} }
		w.apply(simplePod)
		w.settle(5 * time.Second)
		if !w.m.failPod("u1", evicted("The node was low on resource: memory.", seconds(5))) {
			t.Fatal("a running pod was not ended")
		}
		if w.m.failPod("nobody", failure{}) {
			t.Error("a pod that does not exist was ended")
		}
		w.settle(time.Second)
		if w.m.podEnded("u1") || w.status().Phase != phaseRunning {
			t.Errorf("said to have ended while its container still runs: %+v", w.status())
		}
		w.settle(10 * time.Second)
		check := func() {
			t.Helper()
			s := w.status()
			if s.Phase != phaseFailed || s.Reason != reasonEvicted || s.Message != "The node was low on resource: memory." {
				t.Errorf("status %+v", s)
			}
			if c := cond(s.Conditions, condDisruption); c.Status != "True" || c.Reason != reasonByNode || c.Message != s.Message || c.LastTransitionTime == nil || c.ObservedGeneration != 2 {
				t.Errorf("condition %+v", c)
			}
			if c := cond(s.Conditions, condReady); c.Status != "False" || c.Reason != "PodFailed" {
				t.Errorf("condition %+v", c)
			}
			if c := s.ContainerStatuses[0]; c.State.Terminated == nil || c.State.Terminated.ExitCode != 137 {
				t.Errorf("container %+v", c)
			}
			if list := w.rt.byName("c"); len(list) != 1 || list[0].state == cri.ContainerRunning {
				t.Errorf("containers %+v", list)
			}
		}
		check()
		if !w.m.podEnded("u1") || w.m.failPod("u1", failure{reason: "Other"}) {
			t.Error("it has ended")
		}
		if got := w.rt.stopped(); len(got) != 1 || got[0] != 5*time.Second {
			t.Errorf("stopped with %v", got)
		}
		if e := w.event(reasonEvicted); e == nil || !strings.HasPrefix(e.ref, "Pod/web") {
			t.Errorf("event %+v", e)
		}
		w.stop()
		w.Withdraw(podKey)
		w.start()
		w.settle(time.Minute)
		check()
	})
}

// TestFailedPodStaysFailed: the end is kept before the containers are stopped, so a restart in between does not undo it.
func TestFailedPodStaysFailed(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["c"] = func(uint32) run { return run{dies: 10 * time.Second} }
		w.apply(simplePod)
		w.settle(5 * time.Second)
		w.m.failPod("u1", evicted("The node was low on resource: memory.", nil))
		w.settle(time.Second)
		w.stop()
		w.start()
		w.settle(time.Minute)
		if s := w.status(); s.Phase != phaseFailed || s.Reason != reasonEvicted || cond(s.Conditions, condDisruption).Status != "True" {
			t.Errorf("status %+v", s)
		}
		if n := len(w.rt.byName("c")); n != 1 {
			t.Errorf("%d containers: it was started again", n)
		}
	})
}

// TestFailCutsShort: the end waits for a while only for what the worker is doing, and a pod of which nothing ran has no container statuses.
func TestFailCutsShort(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.mu.Lock()
		w.rt.latency = func() time.Duration { return time.Hour }
		w.rt.mu.Unlock()
		w.apply(simplePod)
		w.settle(time.Second)
		w.rt.mu.Lock()
		w.rt.latency = nil
		w.rt.mu.Unlock()
		w.m.failPod("u1", evicted("no room", nil))
		w.settle(callPatience + 5*time.Second)
		if s := w.status(); s.Phase != phaseFailed || s.Reason != reasonEvicted {
			t.Errorf("status %+v", s)
		}
	})
}

// TestEndIsKeptBeforeItIsTold: a pod that is evicted because the disk is full is told to have ended when the disk has taken it, so that no restart in
// between lets a pod run whose end the cluster knows.
func TestEndIsKeptBeforeItIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(5 * time.Second)
		folder := w.o.Dir + "/u1"
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder, nil, 0o600); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		w.m.failPod("u1", evicted("no room", nil))
		w.settle(10 * time.Second)
		if s := w.status(); terminalPhase(s) {
			t.Fatalf("told: %+v", s)
		}
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		w.settle(holdEnd - 15*time.Second)
		if s, kept := w.status(), loadStatus(folder); s.Phase != phaseFailed || !terminalPhase(kept) {
			t.Errorf("told %+v, kept %+v", s, kept)
		}
	})
}

// TestFailUnwritable: a disk that takes nothing does not keep a pod from being ended.
func TestFailUnwritable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/u1", nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	if err := syncStatus(dir+"/u1", nil); err == nil {
		t.Error("said to be kept")
	}
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(5 * time.Second)
		if err := os.RemoveAll(w.o.Dir + "/u1"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.o.Dir+"/u1", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.m.failPod("u1", evicted("no room", nil))
		w.settle(5 * time.Second)
		if s := w.status(); s.Phase != phaseRunning {
			t.Errorf("told before it is kept: %+v", s)
		}
		if n := len(w.rt.running()); n != 0 {
			t.Errorf("%d containers run", n)
		}
		w.settle(2 * holdEnd)
		if s := w.status(); s.Phase != phaseFailed {
			t.Errorf("status %+v", s)
		}
		if !strings.Contains(w.logText(), "the end of the pod is not kept") {
			t.Errorf("log:\n%s", w.logText())
		}
		if err := os.Remove(w.o.Dir + "/u1"); err != nil {
			t.Fatal(err)
		}
		w.settle(10 * time.Minute) // it is kept as soon as the disk takes it
		if s := loadStatus(w.o.Dir + "/u1"); !terminalPhase(s) {
			t.Errorf("kept: %+v", s)
		}
	})
}
