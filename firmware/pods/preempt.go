package pods

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// What a pod is told that makes room for a critical one (the kubelet's, pkg/kubelet/preemption).
const (
	messagePreempted   = "Preempted in order to admit critical pod"
	conditionPreempted = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// preempt ends pods so that a critical one fits. It returns nil if enough is being freed: look again.
func (m *Manager) preempt(w *worker, d *desiredPod, why []rejection) error {
	m.mu.Lock()
	victims, err := m.victims(w, d, why)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, v := range victims {
		m.failPod(v.uid, failure{
			reason: reasonPreempting, message: messagePreempted, eventType: eventWarning,
			condition: &corev1.Condition{Type: condDisruption, Status: "True", Reason: reasonByNode, Message: conditionPreempted},
		})
	}
	return nil
}

// victims chooses the pods to end: by QoS class, then by priority, and no more than needed. m.mu is held.
func (m *Manager) victims(w *worker, d *desiredPod, why []rejection) ([]*worker, error) {
	short := map[string]int64{}
	for _, r := range why {
		short[r.resource] = r.short
	}
	var pool []*worker
	for _, other := range m.workers {
		switch {
		case other == w || !other.tenant():
		case other.shared.ending || other.shared.desired.terminating(): // on their way already
			free(short, other, 1)
		case preemptable(d, other.shared.desired):
			pool = append(pool, other)
		}
	}
	class := map[string]int{qosBestEffort: 0, qosBurstable: 1, qosGuaranteed: 2}
	slices.SortFunc(pool, func(a, b *worker) int {
		x, y := a.shared.desired, b.shared.desired
		return cmp.Or(cmp.Compare(class[qosClass(&x.pod.Spec)], class[qosClass(&y.pod.Spec)]), cmp.Compare(priorityOf(x), priorityOf(y)), cmp.Compare(a.uid, b.uid))
	})
	var out []*worker
	for _, v := range pool {
		if met(short) {
			break
		}
		if helps(short, v) {
			free(short, v, 1)
			out = append(out, v)
		}
	}
	if !met(short) {
		var text strings.Builder
		for _, r := range why {
			fmt.Fprintf(&text, "(res: %s, q: %d), ", r.resource, r.short)
		}
		return nil, fmt.Errorf("preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [%s]", text.String())
	}
	return slices.DeleteFunc(out, func(v *worker) bool { // what turned out not to be needed stays
		free(short, v, -1)
		if met(short) {
			return true
		}
		free(short, v, 1)
		return false
	}), nil
}

func met(short map[string]int64) bool {
	for _, n := range short {
		if n > 0 {
			return false
		}
	}
	return true
}

// free takes what a pod holds off what is short, times by.
func free(short map[string]int64, v *worker, by int64) {
	holds := v.holds()
	for name := range short {
		short[name] -= by * holds[name]
	}
}

func helps(short map[string]int64, v *worker) bool {
	holds := v.holds()
	for name, n := range short {
		if n > 0 && holds[name] > 0 {
			return true
		}
	}
	return false
}

func priorityOf(d *desiredPod) int32 {
	if p := d.pod.Spec.Priority; p != nil {
		return *p
	}
	return 0
}

// preemptable reports whether a critical pod may take another one's place.
func preemptable(d, other *desiredPod) bool {
	return !other.critical() || d.pod.Spec.Priority != nil && other.pod.Spec.Priority != nil && priorityOf(d) > priorityOf(other)
}
