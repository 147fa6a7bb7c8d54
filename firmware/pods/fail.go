package pods

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// failure is why a pod ends for good though its containers might go on: the deadline is over, the node needs its memory, it does
// not belong here. The pod becomes Failed with this reason and message once its containers have ended, and never runs again.
type failure struct {
	reason, message string
	eventType       string            // "": the caller tells in an event of its own, or nobody
	grace           *int64            // s for the containers to end; nil: the pod's own. A shorter one is kept, a longer one is not
	condition       *corev1.Condition // added to the pod's; nil: none
}

// Conditions and reasons of pods that the node ends (the kubelet's, k8s.io/api/core/v1 types.go).
const (
	condDisruption      = "DisruptionTarget"
	reasonByNode        = "TerminationByKubelet"
	reasonEvicted       = "Evicted"
	reasonDeadline      = "DeadlineExceeded"
	hardEvictionGrace   = 1 // s; the runtime is asked for minGrace all the same
	messageDeadlineOver = "Pod was active on the node longer than the specified deadline"
)

// evicted is the failure of a pod that the node cannot afford any longer. grace as in failure.
func evicted(message string, grace *int64) failure {
	return failure{
		reason: reasonEvicted, message: message, eventType: eventWarning, grace: grace,
		condition: &corev1.Condition{Type: condDisruption, Status: "True", Reason: reasonByNode, Message: message},
	}
}

// failPod ends a pod, and cuts short what its worker is doing. It returns false if there is nothing to end: the pod is not there, is being
// deleted, or has a final phase. It may be called by any goroutine but the pod's worker (which calls fail), and does not wait:
// podEnded tells when it is done.
func (m *Manager) failPod(uid string, f failure) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[uid]
	if w == nil || w.shared.desired == nil || w.shared.desired.terminating() || w.shared.state != nil && terminal(w.shared.state.Phase) {
		return false
	}
	if w.shared.failure == nil {
		w.shared.failure, w.shared.ending = &f, true
		if w.shared.cancel != nil {
			w.shared.cancel()
		}
	}
	w.poke()
	return true
}

// podEnded reports whether nothing of a pod that was failed runs any more, or the pod is gone.
func (m *Manager) podEnded(uid string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[uid]
	return w == nil || w.shared.ended
}

// obey takes over what failPod has left for the worker.
func (w *worker) obey(d *desiredPod) {
	w.m.mu.Lock()
	f := w.shared.failure
	w.shared.failure = nil
	w.m.mu.Unlock()
	if f != nil {
		w.fail(d, *f)
	}
}

// fail ends the pod from now on: the next finish stops its containers, and reports it. The end is on the disk when fail returns, so
// that neither a restart of the agent nor a power cut lets the pod run again: its owner may have replaced it by then. It is called
// by the worker's own goroutine. The first reason stays.
func (w *worker) fail(d *desiredPod, f failure) {
	if w.endGrace == nil || f.grace != nil && *f.grace < *w.endGrace {
		w.endGrace = f.grace
	}
	if terminalPhase(w.status) {
		return
	}
	w.m.mu.Lock()
	w.shared.ending = true
	w.m.mu.Unlock()
	now := time.Now()
	s := &corev1.PodStatus{StartTime: startOf(w.status, d.pod.Metadata.CreationTimestamp, now)}
	if w.status != nil {
		*s = *w.status
		s.Conditions = append([]corev1.Condition(nil), w.status.Conditions...)
	}
	s.Phase, s.Reason, s.Message = phaseFailed, f.reason, f.message
	if f.condition != nil {
		c := *f.condition
		c.LastTransitionTime, c.ObservedGeneration = corev1.NewTime(now), d.pod.Metadata.Generation
		s.Conditions = append(s.Conditions, c)
	}
	w.status = s
	if err := syncStatus(w.m.podDir(w.uid), s); err != nil {
		w.log.Warn("the end of the pod is not kept: it may run again after a restart of the agent", "reason", f.reason, "error", err)
	}
	if f.eventType != "" {
		w.event(f.eventType, f.reason, f.message)
	}
}

// holdEnd is how long the end of a pod is not told while it cannot be kept.
const holdEnd = time.Minute

// unkept is the end of a pod that the disk does not take.
type unkept struct {
	since time.Time
	err   error
}

// keepEnd puts the end of the pod on the disk, and reports whether it may be told. What the cluster knows to have ended, and its gateway does not
// after a restart, would run on for ever: the API lets no pod come back from its end. So nobody is told before it is kept, unless the disk takes
// nothing for holdEnd: it may never do so again. finish tries until it does.
func (w *worker) keepEnd() bool {
	err := syncStatus(w.m.podDir(w.uid), w.status)
	if err == nil {
		w.unkept = nil
		return true
	}
	if w.unkept == nil {
		w.unkept = &unkept{since: time.Now()}
	}
	w.unkept.err = fmt.Errorf("the pod has ended, and that cannot be kept: after a restart of the agent it may run again: %w", err)
	return time.Since(w.unkept.since) >= holdEnd
}

// graceToFail returns how many seconds the containers of a pod have that is not to run any longer. After a restart of the agent it is
// the pod's own grace period.
func (w *worker) graceToFail(d *desiredPod) int64 {
	if w.endGrace != nil {
		return min(*w.endGrace, d.grace())
	}
	return d.grace()
}

// ended tells podEnded that nothing of the pod runs any more.
func (w *worker) ended() {
	w.m.mu.Lock()
	w.shared.ended = true
	w.m.mu.Unlock()
}

// keptConditions returns the conditions of a status that ended the pod, which a status made from its containers would lose.
func keptConditions(before *corev1.PodStatus, made []corev1.Condition) []corev1.Condition {
	if !terminalPhase(before) {
		return nil
	}
	var kept []corev1.Condition
	for _, c := range before.Conditions {
		if cond := findCondition(made, c.Type); cond == nil {
			kept = append(kept, c)
		}
	}
	return kept
}

func findCondition(list []corev1.Condition, kind string) *corev1.Condition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}
