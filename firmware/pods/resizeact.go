package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// annoResources holds, as JSON, the resources that a container was made with.
const annoResources = "io.skerry.resources"

// ResourceUpdater changes the resources of a container that runs. *cri.Client implements it.
type ResourceUpdater interface {
	UpdateContainerResources(ctx context.Context, id string, linux *cri.LinuxContainerResources) error
	ContainerStats(ctx context.Context, id string) (*cri.ContainerStats, error)
}

func encodeResources(r *corev1.ResourceRequirements) string {
	text, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return string(text)
}

// decodeResources returns nil for a container that was made by an agent which did not say.
func decodeResources(text string) *corev1.ResourceRequirements {
	r := new(corev1.ResourceRequirements)
	if text == "" || json.Unmarshal([]byte(text), r) != nil {
		return nil
	}
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for _, q := range list {
			if _, err := q.Milli(); err != nil {
				return nil
			}
		}
	}
	return r
}

// inForce returns the resources of a running container, nil if nobody knows them.
func (a *allocation) inForce(c *containerState) *corev1.ResourceRequirements {
	if r, ok := a.actual[c.id]; ok {
		return &r
	}
	return c.resources
}

// planResize finds the running containers whose resources are not what was granted: those that have to be restarted for it are added to the
// plan, the others returned.
func (a *allocation) planResize(spec *corev1.PodSpec, obs *observation, p *plan) (update []*corev1.Container) {
	if p.stopAll {
		return nil
	}
	for _, c := range resizable(spec) {
		run := obs.newest(c.Name)
		if run == nil || run.state != cri.ContainerRunning || slices.ContainsFunc(p.kills, func(k kill) bool { return k.container.id == run.id }) {
			continue
		}
		have := a.inForce(run)
		if have == nil {
			continue
		}
		is, want := computeOf(have), computeOf(&c.Resources)
		if is == want {
			continue
		}
		if restartsFor(c, "cpu", is.cpuRequest != want.cpuRequest || is.cpuLimit != want.cpuLimit) ||
			restartsFor(c, "memory", is.memoryRequest != want.memoryRequest || is.memoryLimit != want.memoryLimit) {
			p.kills = append(p.kills, kill{container: run, force: true, why: fmt.Sprintf("Container %s resize requires restart", c.Name)})
			continue
		}
		update = append(update, c)
	}
	return update
}

func restartsFor(c *corev1.Container, resource string, changed bool) bool {
	return changed && slices.ContainsFunc(c.ResizePolicy, func(p corev1.ResizePolicy) bool {
		return p.ResourceName == resource && p.RestartPolicy == "RestartContainer"
	})
}

// resize brings the resources of running containers to what was granted, and returns whether it has to be tried again.
func (w *worker) resize(ctx context.Context, d *desiredPod, obs *observation, update []*corev1.Container) (again bool, err error) {
	a := &w.alloc
	for id := range a.actual {
		if !slices.ContainsFunc(obs.containers, func(c containerState) bool { return c.id == id }) {
			delete(a.actual, id)
		}
	}
	var failures []string
	for _, c := range update {
		run := obs.newest(c.Name)
		err := w.resizeOne(ctx, d, c, run)
		switch {
		case err == nil:
			if a.actual == nil {
				a.actual = map[string]corev1.ResourceRequirements{}
			}
			a.actual[run.id] = c.Resources
			w.log.Info("resources of a running container changed", "container", c.Name, "resources", encodeResources(&c.Resources))
		case runtimeGone(err) || ctx.Err() != nil:
			return false, err
		case errors.Is(err, cri.ErrNotFound): // it ended just now, and is made anew from what was granted
		default:
			failures = append(failures, fmt.Sprintf("container %s: %v", c.Name, err))
		}
	}
	a.failure = strings.Join(failures, "; ")
	if a.failure != "" {
		a.inProgress = true
		w.event(eventWarning, "ResizeError", resizeMessage("Pod resize error", d, a.failure))
		return true, nil
	}
	return false, nil
}

// resized notes that what was granted is in force.
func (w *worker) resized(d *desiredPod) {
	if w.alloc.inProgress {
		w.alloc.inProgress, w.alloc.failure = false, ""
		w.event(eventNormal, "ResizeCompleted", resizeMessage("Pod resize completed", d, ""))
	}
}

// resizeOne changes the cgroup of one container. A memory limit below what the container uses now is not tried: the kernel would refuse it, or
// kill the container.
func (w *worker) resizeOne(ctx context.Context, d *desiredPod, c *corev1.Container, run *containerState) error {
	is, want := computeOf(w.alloc.inForce(run)), computeOf(&c.Resources)
	if is.memoryLimit != want.memoryLimit && want.memoryLimit > 0 && (is.memoryLimit == 0 || want.memoryLimit < is.memoryLimit) {
		if used, err := w.memoryOf(ctx, run.id); err != nil {
			return err
		} else if used >= want.memoryLimit {
			return fmt.Errorf("attempting to set container memory limit (%d) below current usage (%d): it is tried again, or raise resources.limits.memory", want.memoryLimit, used)
		}
	}
	r := containerResources(&d.pod.Spec, c, w.m.host())
	r.OOMScoreAdj = 0 // stays as it was made
	if is.cpuLimit > 0 && want.cpuLimit == 0 {
		r.CPUQuota, r.CPUPeriod = -1, quotaPeriod
	}
	if is.memoryLimit > 0 && want.memoryLimit == 0 {
		r.MemoryLimitInBytes = -1
	}
	return w.m.o.Runtime.UpdateContainerResources(ctx, run.id, r)
}

// memoryOf returns the working set of a container in bytes, 0 if the runtime does not tell.
func (w *worker) memoryOf(ctx context.Context, id string) (int64, error) {
	s, err := w.m.o.Runtime.ContainerStats(ctx, id)
	if err != nil || s == nil || s.Memory == nil || s.Memory.WorkingSetBytes == nil {
		return 0, err
	}
	return int64(min(*s.Memory.WorkingSetBytes, 1<<62)), nil //nolint:gosec // bounded
}
