package pods

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// A pod that is deleted has a last status, as with a kubelet: all its containers have ended, and it has Succeeded or Failed. It goes to the
// relay with the word that the pod is gone, and outlives it where a finalizer keeps the pod, as those of Jobs do.

// messageNeverRan is about a container of which nothing is known when its pod is gone.
const messageNeverRan = "The container could not be located when the pod was terminated"

// lastWords stops what a pod still runs, and returns its last status; nil if nothing is known of it.
func (w *worker) lastWords(ctx context.Context, d *desiredPod, obs *observation) (*corev1.PodStatus, *observation, error) {
	if err := w.stopServing(ctx, d, obs); err != nil {
		return nil, obs, err
	}
	obs, err := w.obs.observe(ctx)
	if err != nil || w.status == nil && len(obs.containers) == 0 || d.unread {
		return nil, obs, err
	}
	return makeStatus(&statusInput{
		pod: &d.pod, obs: obs, before: w.status, alloc: &w.alloc, final: true, hostIPs: w.m.hostIPs(), runtime: w.m.runtimeName(), now: time.Now(),
	}), obs, nil
}

// stopServing stops all containers, and reports meanwhile which of them are still ready.
func (w *worker) stopServing(ctx context.Context, d *desiredPod, obs *observation) error {
	defer w.probes.stop()
	if w.status == nil || terminalPhase(w.status) || d.unread || d.refused != "" || !obs.running() {
		return w.stopAll(ctx, obs, d.grace())
	}
	w.probes.end(&d.pod, obs, w.m.hostIPs(), w.status)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("stopping the pod panicked: %v\n%s", p, debug.Stack())
			}
		}()
		err = w.stopAll(ctx, obs, d.grace())
	}()
	defer func() { cancel(); <-stopped }()
	for {
		select {
		case <-stopped:
			if err == nil || ctx.Err() != nil {
				w.poke() // what was taken here may have been meant for more than this
			}
			return err
		case <-w.wake:
			if now, err := w.obs.observe(ctx); err == nil && now.sandbox() != nil {
				w.probes.watch(&d.pod, now, w.m.hostIPs(), w.status)
				w.report(d, now)
			}
		}
	}
}

// conclude makes a status the last one of its pod.
func (in *statusInput) conclude(s *corev1.PodStatus) {
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated != nil {
				continue
			}
			if run := in.obs.newest(c.Name); run == nil || run.state != cri.ContainerExited {
				c.State = corev1.ContainerState{Terminated: &corev1.StateTerminated{
					ContainerID: c.ContainerID, ExitCode: exitKilled, Reason: "ContainerStatusUnknown", Message: messageNeverRan,
				}}
			}
			no := false
			c.Ready = false
			if c.Started != nil {
				c.Started = &no
			}
		}
	}
	s.Phase = phaseSucceeded
	for i := range s.ContainerStatuses {
		if t := s.ContainerStatuses[i].State.Terminated; t == nil || t.ExitCode != 0 {
			s.Phase = phaseFailed
		}
	}
}
