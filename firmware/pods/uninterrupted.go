package pods

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// A call that makes something is not interrupted, even if the pod has to go meanwhile. containerd 1.6 (seen with 1.6.20) that is interrupted while it starts
// a container takes it for ended although it runs: it does not stop it then, and can never remove it ("cannot delete running task"). An agent that is
// killed interrupts all the same, so what such a container runs is looked for in its cgroup, and killed there. If nothing runs there, and containerd keeps the
// container's task nevertheless, containerd's own API is asked to delete it: CRI cannot, and a restart of containerd would be the only other way.

const (
	reasonStartError = "StartError" // containerd's, of a container whose start failed

	callPatience = 15 * time.Second // that a call gets once nobody wants its result; a runtime that hangs must not hold up the end of the agent
	killSettles  = 200 * time.Millisecond
	killLooks    = 10
)

// uninterrupted returns a context for one call, which ends callPatience after ctx does. done must be called.
func uninterrupted(ctx context.Context) (call context.Context, done func()) {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		timer := time.NewTimer(callPatience)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			cancel()
		}
	})
	return call, func() {
		close(ended)
		wg.Wait()
		cancel()
	}
}

// runSandbox, createContainer and startContainer are the runtime's, uninterrupted.
func (w *worker) runSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (string, error) {
	call, done := uninterrupted(ctx)
	defer done()
	id, err := w.m.o.Runtime.RunPodSandbox(call, config, handler)
	if err == nil {
		w.m.flusher.used(ctx, "of sandboxes "+handler)
	}
	return id, err
}

func (w *worker) createContainer(ctx context.Context, sandbox string, config *cri.ContainerConfig, box *cri.PodSandboxConfig) (string, error) {
	call, done := uninterrupted(ctx)
	defer done()
	id, err := w.m.o.Runtime.CreateContainer(call, sandbox, config, box)
	if err == nil {
		w.m.flusher.used(ctx, config.Image.Image)
	}
	return id, err
}

func (w *worker) startContainer(ctx context.Context, id string) error {
	call, done := uninterrupted(ctx)
	defer done()
	return w.m.o.Runtime.StartContainer(call, id)
}

// removeSandbox removes a sandbox that was stopped, with all its containers. within is what may be killed for it: the id of a container or a sandbox,
// or "" if nothing of the pod is to run any more.
func (w *worker) removeSandbox(ctx context.Context, id, within string) error {
	return w.insist(ctx, within, func() error { return ignoreMissing(w.m.o.Runtime.RemovePodSandbox(ctx, id)) }, func(task string) bool {
		if task == id {
			return true
		}
		list, err := w.m.o.Runtime.ListContainers(ctx, &cri.ContainerFilter{ID: task, PodSandboxID: id})
		return err == nil && slices.ContainsFunc(list, func(c cri.Container) bool { return c.ID == task && c.PodSandboxID == id })
	})
}

// removeContainer removes a container that has ended.
func (w *worker) removeContainer(ctx context.Context, id string) error {
	return w.insist(ctx, id, func() error { return ignoreMissing(w.m.o.Runtime.RemoveContainer(ctx, id)) }, func(task string) bool { return task == id })
}

// insist repeats a removal that the runtime refuses as long as something runs in the cgroup of what has ended: a container's or a sandbox's, or the pod's
// if id is "". It also does if the runtime has a task that has ended, or is told to end. ours tells whether a task is part of what is removed.
func (w *worker) insist(ctx context.Context, id string, remove func() error, ours func(task string) bool) error {
	err := remove()
	for range killLooks {
		if err == nil || ctx.Err() != nil || runtimeGone(err) {
			return err
		}
		if w.m.killGroup(w.uid, id) > 0 {
			w.log.Warn("killed what still ran of a container that the runtime takes for ended", "container", id, "error", err)
		} else if !w.endTask(ctx, err, ours) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(killSettles):
		}
		err = remove()
	}
	return err
}

// runningTask is how containerd refuses to remove a container whose task it has.
var runningTask = regexp.MustCompile(`cannot delete running task ([0-9a-zA-Z][0-9a-zA-Z._-]*)`)

// endTask ends the task for which containerd refuses to remove a container, if this is why. It reports whether it is worth to try again. The task's name comes
// from an error's text, so it is ended only if it is one of those that are to go.
func (w *worker) endTask(ctx context.Context, refusal error, ours func(task string) bool) bool {
	task := runningTask.FindStringSubmatch(refusal.Error())
	if task == nil || w.m.o.EndTask == nil {
		return false
	}
	if !ours(task[1]) {
		w.log.Warn("the runtime refuses a removal for a task that is no part of it; the task is left alone", "task", task[1], "refusal", refusal)
		return false
	}
	err := w.m.o.EndTask(ctx, task[1])
	if errors.Is(err, cri.ErrUnimplemented) {
		return false // not containerd
	}
	if err != nil { // the refusal is told by whoever wanted the removal
		w.log.Debug("cannot end the task of a container that the runtime does not remove, will try again", "container", task[1], "error", err)
		return true
	}
	w.log.Warn("ended the task of a container that the runtime takes for ended and did not remove", "container", task[1], "refusal", refusal)
	return true
}

// killGroup kills what runs in a pod's cgroup, or in that of one of its containers, and returns how many processes there were.
func (m *Manager) killGroup(uid, id string) int {
	killed := 0
	for _, top := range m.groupDirs(uid, "pids") {
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() || !strings.Contains(strings.TrimPrefix(path, top), id) {
				return nil //nolint:nilerr // it is gone
			}
			b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			if err != nil {
				return nil //nolint:nilerr // it is gone
			}
			for line := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(line); err == nil && pid > 1 && m.o.Kill(pid) == nil {
					killed++
				}
			}
			return nil
		})
	}
	return killed
}

func killProcess(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }
