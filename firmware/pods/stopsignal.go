package pods

import (
	"context"
	"fmt"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// stopSignal returns the signal that a container wants to be stopped by, "" for that of its image.
func stopSignal(c *corev1.Container) string {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return ""
	}
	return *c.Lifecycle.StopSignal
}

// checkSignals refuses stop signals that there are not.
func checkSignals(s *corev1.PodSpec) (refused []string) {
	for _, c := range allContainers(s) {
		if name := stopSignal(c); name != "" && cri.SignalOf(name) == 0 {
			refused = append(refused, fmt.Sprintf("container %q: lifecycle.stopSignal: %q is no signal: use SIGTERM, SIGQUIT, SIGUSR1, SIGRTMIN+3 or the like", c.Name, name))
		}
	}
	return refused
}

// noSignals says that the runtime sends no other signal than the image's, with the first container that wants one; "" if it does, or if that is
// not known before it is tried.
func noSignals(s *corev1.PodSpec, rt *runtimeState) string {
	if !rt.can.imageSignalsOnly {
		return ""
	}
	for _, c := range allContainers(s) {
		if stopSignal(c) != "" {
			return unsent(c, rt)
		}
	}
	return ""
}

func unsent(c *corev1.Container, rt *runtimeState) string {
	return fmt.Sprintf("container %q: lifecycle.stopSignal: the container runtime %s %s sends the stop signal of the image, and no other (containerd can from 2.3 on): upgrade it, or set STOPSIGNAL in the image",
		c.Name, rt.name, rt.version)
}

// signalTaken checks that the runtime has taken the stop signal of a container that it has made: one that does not know the field ignores it.
// That container is removed.
func (s *starter) signalTaken(ctx context.Context, c *corev1.Container, id string, want cri.Signal) error {
	if want == 0 {
		return nil
	}
	resp, err := s.w.m.o.Runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		return s.refusedBy(c, "CreateContainerError", err)
	}
	if resp.Status != nil && resp.Status.StopSignal == want {
		return nil
	}
	if err := s.w.removeContainer(ctx, id); err != nil {
		return err
	}
	s.w.m.mu.Lock()
	rt := s.w.m.rt
	s.w.m.mu.Unlock()
	return s.failed(c, waitFor(reasonConfigError, "%s", unsent(c, &rt)))
}
