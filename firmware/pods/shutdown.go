package pods

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// What a pod that cannot run again here is told when the gateway shuts down (the kubelet's, pkg/kubelet/nodeshutdown).
const (
	reasonShutdown     = "Terminated"
	messageShutdown    = "Pod was terminated in response to imminent node shutdown."
	reasonNodeShutdown = "NodeShutdown"
	messageNodeGoes    = "node is shutting down: pods are stopped, and run again after the boot"
)

const (
	shutdownPoll   = 100 * time.Millisecond
	shutdownFlush  = time.Second // for the last reports to leave
	shutdownExtend = 3 * time.Second
)

// Shutdown stops the pods because the machine is about to go down: critical ones last, with critical of grace's time for them. Pods whose
// restartPolicy is Always run again after the boot, whether there is a network or not; the others, which cannot, end as Failed with the
// kubelet's reason, so that their Jobs replace them. It blocks until all have stopped, or the time is over, and may be called by any
// goroutine. Nothing is started any more until the agent is.
func (m *Manager) Shutdown(ctx context.Context, grace, critical time.Duration) error {
	m.mu.Lock()
	again := m.closing
	m.closing = true
	m.mu.Unlock()
	if !again {
		m.o.Log.Info("the gateway shuts down: pods are stopped", "grace", grace, "of_it_for_critical_pods", critical)
		m.o.Events.Event(m.nodeRef(), eventNormal, reasonNodeShutdown, "Shutdown manager detected shutdown event")
		m.pokeNode()
	}
	left := 0
	for _, group := range []struct {
		critical bool
		time     time.Duration
	}{{false, max(0, grace-critical)}, {true, critical}} {
		left = m.halt(ctx, group.critical, group.time)
	}
	select { // the link is another part's: what it has not sent by then the next boot reports
	case <-ctx.Done():
	case <-time.After(shutdownFlush):
	}
	if left > 0 {
		return fmt.Errorf("%d pods had not stopped when their time was over; the container runtime or systemd stops them", left)
	}
	return ctx.Err()
}

// halt stops one group of pods, and returns how many had not stopped in time.
func (m *Manager) halt(ctx context.Context, critical bool, grace time.Duration) (left int) {
	m.mu.Lock()
	seconds := int64(grace / time.Second)
	var group []*worker
	for _, w := range m.workers {
		if d := w.shared.desired; d != nil && d.critical() == critical && !w.shared.ended {
			w.shared.halt, w.shared.halted = &seconds, false
			if w.shared.cancel != nil {
				w.shared.cancel()
			}
			w.poke()
			group = append(group, w)
		}
	}
	m.mu.Unlock()
	limit := time.Now().Add(max(grace, minGrace*time.Second) + shutdownExtend)
	for {
		left = 0
		m.mu.Lock()
		for _, w := range group {
			if !w.shared.halted && !w.shared.ended && m.workers[w.uid] == w {
				left++
			}
		}
		m.mu.Unlock()
		if left == 0 || !time.Now().Before(limit) || ctx.Err() != nil {
			return left
		}
		select {
		case <-ctx.Done():
		case <-time.After(shutdownPoll):
		}
	}
}

// shutsDown reports whether the machine is about to go down.
func (m *Manager) shutsDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closing
}

// rest stops the pod if the machine goes down and its turn has come. It returns whether the pod is at rest, and is not driven any more.
func (w *worker) rest(ctx context.Context, d *desiredPod, obs *observation) (bool, error) {
	w.m.mu.Lock()
	grace, closing, admitted := w.shared.halt, w.m.closing, w.shared.admitted
	w.m.mu.Unlock()
	switch {
	case !closing, admitted && grace == nil: // critical, and not its turn yet
		return false, nil
	case grace == nil: // it came too late, and starts after the boot
		w.settled.Store(true)
		return true, nil
	}
	if d.pod.Spec.RestartPolicy != restartAlways {
		w.fail(d, failure{
			reason: reasonShutdown, message: messageShutdown, grace: grace,
			condition: &corev1.Condition{Type: condDisruption, Status: "True", Reason: reasonByNode, Message: messageShutdown},
		})
		return true, w.finish(ctx, d, obs)
	}
	w.probes.stop()
	if obs.running() || obs.sandbox() != nil {
		if err := w.stopAll(ctx, obs, min(*grace, d.grace())); err != nil {
			return true, err
		}
		var err error
		if obs, err = w.obs.observe(ctx); err != nil {
			return true, err
		}
	}
	w.report(d, obs)
	w.m.mu.Lock()
	w.shared.halted = true
	w.m.mu.Unlock()
	w.settled.Store(true)
	return true, nil
}
