package pods

import (
	"fmt"
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// reasonGates is why a pod whose containers are ready is not.
const reasonGates = "ReadinessGatesNotReady"

// gated holds a pod back from being ready until the conditions that its readinessGates name are True. They are set by others, in the
// cluster, and reach the agent with the pod.
func gated(pod *corev1.Pod, ready corev1.Condition) corev1.Condition {
	if ready.Status != "True" {
		return ready
	}
	var have []corev1.GateCondition
	if pod.Status != nil {
		have = pod.Status.Conditions
	}
	var missing []string
	for _, g := range pod.Spec.ReadinessGates {
		status := ""
		for i := range have {
			if have[i].Type == g.ConditionType {
				status = have[i].Status
			}
		}
		switch status {
		case "True":
		case "":
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		default:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", g.ConditionType, status))
		}
	}
	if len(missing) > 0 {
		ready.Status, ready.Reason, ready.Message = "False", reasonGates, strings.Join(missing, ", ")
	}
	return ready
}
