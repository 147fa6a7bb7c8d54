package pods

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// stubbornRuntime counts interrupted calls, and refuses to remove what still runs.
type stubbornRuntime struct {
	*fakeRuntime
	cut     atomic.Int32
	running atomic.Bool
	refusal string // default: that of a task that runs
}

func (r *stubbornRuntime) StartContainer(ctx context.Context, id string) error {
	err := r.fakeRuntime.StartContainer(ctx, id)
	if ctx.Err() != nil {
		r.cut.Add(1)
	}
	return err
}

func (r *stubbornRuntime) RunPodSandbox(ctx context.Context, c *cri.PodSandboxConfig, handler string) (string, error) {
	id, err := r.fakeRuntime.RunPodSandbox(ctx, c, handler)
	if ctx.Err() != nil {
		r.cut.Add(1)
	}
	return id, err
}

func (r *stubbornRuntime) RemovePodSandbox(ctx context.Context, id string) error {
	if r.running.Load() {
		return &cri.Error{Method: "RemovePodSandbox", Code: cri.ErrFailedPrecondition, Message: cmp.Or(r.refusal, "cannot delete running task")}
	}
	return r.fakeRuntime.RemovePodSandbox(ctx, id)
}

func (w *world) stubborn() *stubbornRuntime {
	w.stop()
	r := &stubbornRuntime{fakeRuntime: w.rt}
	w.o.Runtime = r
	w.start()
	return r
}

const deletedPod = `{"metadata":{"name":"web","namespace":"default","uid":"u1","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":1},"spec":{"containers":[{"name":"c","image":"app:1"}]}}`

// TestStartIsNotInterrupted: a pod that is deleted while its sandbox or container starts lets that end; a runtime that hangs holds it up for a while only.
func TestStartIsNotInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		cut   bool
	}{"slow": {3 * time.Second, false}, "hanging": {time.Hour, true}} {
		for after := range 2 {
			t.Run(name, func(t *testing.T) {
				simulate(t, func(w *world) {
					r := w.stubborn()
					w.rt.mu.Lock()
					w.rt.latency = func() time.Duration { return c.takes }
					w.rt.mu.Unlock()
					w.apply(simplePod)
					w.settle(time.Duration(after)*7*time.Second + time.Second) // in the sandbox, or in the start of the container
					w.rt.mu.Lock()
					w.rt.latency = nil // of later calls
					w.rt.mu.Unlock()
					w.apply(deletedPod)
					w.settle(callPatience + 10*time.Second)
					if got := r.cut.Load() > 0; got != c.cut {
						t.Errorf("%d calls were interrupted", r.cut.Load())
					}
					w.settle(time.Minute)
					if !w.report(podKey).Deleted || w.rt.boxCount() != 0 || len(w.rt.byName("c")) != 0 {
						t.Errorf("left: %d sandboxes, %d containers; log:\n%s", w.rt.boxCount(), len(w.rt.byName("c")), w.logText())
					}
				})
			})
		}
	}
}

// TestLostContainerIsKilled: what runs though the runtime takes it for ended is killed, and only that; a removal that is refused for another reason is not
// insisted on.
func TestLostContainerIsKilled(t *testing.T) {
	for _, runs := range []bool{true, false} {
		simulate(t, func(w *world) {
			var killed atomic.Int32
			var r *stubbornRuntime
			w.o.Kill = func(pid int) error {
				if pid != 4711 {
					return errors.New("not ours")
				}
				killed.Add(1)
				r.running.Store(false)
				return nil
			}
			r = w.stubborn()
			w.apply(simplePod)
			w.settle(time.Second)
			r.running.Store(true)
			if runs {
				group := filepath.Join(w.m.groupDirs("u1", "pids")[1], "ctr2")
				if err := os.MkdirAll(group, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("4711\n1\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.apply(deletedPod)
			w.settle(time.Minute)
			if gone := w.report(podKey).Deleted; gone != runs || runs != (killed.Load() == 1) {
				t.Errorf("runs %v: gone %v, %d killed", runs, gone, killed.Load())
			}
			if runs != strings.Contains(w.logText(), "killed what still ran") {
				t.Errorf("log:\n%s", w.logText())
			}
			r.running.Store(false)
		})
	}
}

// TestTaskOfAnEndedContainer: a task that containerd keeps though nothing runs is ended through containerd; other refusals, and runtimes that have no tasks,
// are left alone.
func TestTaskOfAnEndedContainer(t *testing.T) {
	for name, c := range map[string]struct {
		refusal string
		ends    []error // what EndTask says, one after the other
		gone    bool
	}{
		"at once":         {"failed to remove container \"ab12\": cannot delete running task ab12: failed precondition", []error{nil}, true},
		"after a while":   {"cannot delete running task ab12: failed precondition", []error{errors.New("task must be stopped before deletion"), nil}, true},
		"another runtime": {"cannot delete running task ab12", []error{&cri.Error{Code: cri.ErrUnimplemented}}, false},
		"another reason":  {"device or resource busy", nil, false},
		"another's task":  {"cannot delete running task ffff", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				var r *stubbornRuntime
				asked, container := 0, ""
				w.o.EndTask = func(_ context.Context, id string) error {
					if id != container {
						t.Errorf("task %s was to end", id)
					}
					err := c.ends[min(asked, len(c.ends)-1)]
					asked++
					r.running.Store(err != nil)
					return err
				}
				r = w.stubborn()
				w.apply(simplePod)
				w.settle(time.Second)
				list, err := r.ListContainers(t.Context(), nil)
				if err != nil || len(list) != 1 {
					t.Fatalf("%v, %v", list, err)
				}
				container = list[0].ID
				r.refusal = strings.ReplaceAll(c.refusal, "ab12", container)
				r.running.Store(true)
				w.apply(deletedPod)
				w.settle(time.Minute)
				if gone := w.report(podKey).Deleted; gone != c.gone || c.gone && asked != len(c.ends) || asked == 0 != (c.ends == nil) {
					t.Errorf("gone %v, asked %d times; log:\n%s", gone, asked, w.logText())
				}
				r.running.Store(false)
			})
		})
	}
}

// TestInterruptedStartIsKilled: what an interrupted start has left running is killed before the container is started again.
func TestInterruptedStartIsKilled(t *testing.T) {
	for _, reason := range []string{"StartError", "Error"} {
		simulate(t, func(w *world) {
			var killed []int
			w.o.Kill = func(pid int) error {
				killed = append(killed, pid)
				return nil
			}
			w.stop()
			w.rt.programs["c"] = func(n uint32) run {
				if n > 0 {
					return run{}
				}
				return run{lasts: time.Second, code: 128, why: reason}
			}
			w.start()
			group := filepath.Join(w.m.groupDirs("u1", "pids")[1], "ctr2")
			if err := os.MkdirAll(group, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("4711\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.apply(simplePod)
			w.settle(30 * time.Second)
			if w.status().Phase != phaseRunning || (len(killed) > 0) != (reason == "StartError") {
				t.Errorf("%s: %s, killed %v", reason, w.status().Phase, killed)
			}
		})
	}
}

// TestOldSandboxCostsNoContainer: a runtime that refuses to remove an old sandbox of a pod, as with a full disk, does not have what runs in the new one killed.
func TestOldSandboxCostsNoContainer(t *testing.T) {
	simulate(t, func(w *world) {
		var killed atomic.Int32
		w.o.Kill = func(int) error {
			killed.Add(1)
			return nil
		}
		r := w.stubborn()
		w.apply(simplePod)
		w.settle(time.Second)
		group := filepath.Join(w.m.groupDirs("u1", "pids")[1], "running")
		if err := os.MkdirAll(group, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("4711\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.running.Store(true)
		for range 2 { // the first one holds what lastState tells until the second one does
			w.rt.mu.Lock()
			for _, b := range w.rt.boxes {
				b.ready = false
			}
			w.rt.mu.Unlock()
			w.m.poke()
			w.settle(2 * time.Minute)
		}
		if n := killed.Load(); n != 0 || w.rt.boxCount() != 3 || w.status().Phase != phaseRunning {
			t.Errorf("%d processes killed, %d sandboxes, %s; log:\n%s", n, w.rt.boxCount(), w.status().Phase, w.logText())
		}
		before := w.status().ContainerStatuses[0].RestartCount
		w.rt.mu.Lock()
		for _, c := range w.rt.containers {
			if c.state == cri.ContainerRunning {
				c.state, c.finished, c.code, c.why = cri.ContainerExited, time.Now(), 1, "Error"
			}
		}
		w.rt.mu.Unlock()
		w.settle(10 * time.Minute)
		if c := w.status().ContainerStatuses[0]; c.State.Running == nil || c.RestartCount != before+1 {
			t.Errorf("a container that ended is not started again: %+v; log:\n%s", c, w.logText())
		}
		asked := w.rt.called("ListPodSandbox")
		w.settle(10 * time.Minute)
		if n := w.rt.called("ListPodSandbox") - asked; n > 400 { // as of a pod of which nothing is left: every 2 s
			t.Errorf("the runtime is asked %d times in 10 minutes", n)
		}
		if n := strings.Count(w.logText(), "does not remove what is left"); n > 3 {
			t.Errorf("it is said %d times", n)
		}
		r.running.Store(false)
		w.settle(2 * time.Minute)
		if n := w.rt.boxCount(); n != 1 {
			t.Errorf("%d sandboxes are left", n)
		}
	})
}
