package pods

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// stopAll stops all containers, then all sandboxes. Sidecars end after the containers that they serve, the last one first, in what is
// left of the grace period.
func (w *worker) stopAll(ctx context.Context, obs *observation, grace int64) error {
	begin := time.Now()
	var sidecars [][]containerState // by their order in the pod
	rest := slices.Clone(obs.containers)
	if w.pod != nil {
		for i := range w.pod.pod.Spec.InitContainers {
			spec := &w.pod.pod.Spec.InitContainers[i]
			if !sidecar(spec) {
				continue
			}
			named := func(c containerState) bool { return c.name == spec.Name }
			var own []containerState
			for _, c := range rest {
				if named(c) {
					own = append(own, c)
				}
			}
			sidecars, rest = append(sidecars, own), slices.DeleteFunc(rest, named)
		}
	}
	if err := w.stopContainers(ctx, rest, grace); err != nil {
		return err
	}
	for _, list := range slices.Backward(sidecars) {
		left := max(0, grace-int64(time.Since(begin)/time.Second))
		if err := w.stopContainers(ctx, list, left); err != nil {
			return err
		}
	}
	for _, s := range obs.sandboxes {
		if err := ignoreMissing(w.m.o.Runtime.StopPodSandbox(ctx, s.id)); err != nil {
			return err
		}
	}
	return nil
}

// stopContainers stops those that may be running, all at once, and waits for them.
func (w *worker) stopContainers(ctx context.Context, list []containerState, grace int64) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i := range list {
		if s := list[i].state; s == cri.ContainerRunning || s == cri.ContainerUnknown {
			hook := w.preStop(&list[i], grace)
			wg.Go(func() {
				timeout := max(time.Duration(grace)*time.Second-hook(ctx), minGrace*time.Second)
				errs[i] = ignoreMissing(w.m.o.Runtime.StopContainer(ctx, list[i].id, timeout))
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// preStop returns a function that runs a container's preStop hook, if it has one that has not run yet, and returns how long that took:
// it is part of the grace period. A hook that fails does not keep the container from being stopped.
func (w *worker) preStop(c *containerState, grace int64) func(context.Context) time.Duration {
	spec := w.specOf(c.name)
	if spec == nil || spec.Lifecycle == nil || spec.Lifecycle.PreStop == nil || c.state != cri.ContainerRunning || grace <= 0 || w.hooked[c.id] {
		return func(context.Context) time.Duration { return 0 }
	}
	w.hooked[c.id] = true // a stop that was cut short by one with less grace does not run it again
	warn := func(reason, message string) { w.event(eventWarning, reason, message) }
	call := &caller{rt: w.m.o.Runtime, spec: spec, id: c.id, ip: w.podIP(w.obs.ips), warn: warn}
	return func(ctx context.Context) time.Duration {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(ctx, time.Duration(grace)*time.Second)
		defer cancel()
		if err := call.hook(ctx, spec.Lifecycle.PreStop); err != nil {
			w.eventFor(c.name, eventWarning, "FailedPreStopHook", "PreStopHook failed: "+err.Error())
			w.log.Warn("a preStop hook failed; the container is stopped all the same", "container", c.name, "error", err)
		}
		return time.Since(begin)
	}
}

// specOf returns the definition of a container of the pod, nil if there is none.
func (w *worker) specOf(name string) *corev1.Container {
	if w.pod == nil {
		return nil
	}
	for _, c := range allContainers(&w.pod.pod.Spec) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// podIP returns the pod's first address: the node's, if it is on the node's network.
func (w *worker) podIP(ips []string) string {
	if w.pod != nil && w.pod.pod.Spec.HostNetwork {
		return first(w.m.hostIPs())
	}
	return first(ips)
}
