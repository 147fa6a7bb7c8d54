package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

func rulesOf(policy string, rules ...corev1.RestartRule) *corev1.Container {
	return &corev1.Container{Name: "c", RestartPolicy: policy, RestartPolicyRules: rules}
}

func onCodes(action, operator string, codes ...int32) corev1.RestartRule {
	return corev1.RestartRule{Action: action, ExitCodes: &corev1.RestartExitCodes{Operator: operator, Values: codes}}
}

func TestMayRestart(t *testing.T) {
	for _, c := range []struct {
		pod  string
		c    *corev1.Container
		code int32
		want bool
	}{
		{restartAlways, rulesOf(""), 0, true}, {restartOnFailure, rulesOf(""), 0, false}, {restartOnFailure, rulesOf(""), 1, true}, {restartNever, rulesOf(""), 1, false},
		{restartNever, rulesOf(restartAlways), 0, true}, {restartNever, rulesOf(restartOnFailure), 3, true}, {restartNever, rulesOf(restartOnFailure), 0, false},
		{restartAlways, rulesOf(restartNever), 1, false},
		{restartAlways, rulesOf(restartNever, onCodes(actionRestart, "In", 42, 43)), 43, true},
		{restartAlways, rulesOf(restartNever, onCodes(actionRestart, "In", 42, 43)), 1, false},
		{restartAlways, rulesOf(restartNever, onCodes(actionRestart, "NotIn", 42)), 1, true},
		{restartAlways, rulesOf(restartNever, onCodes(actionRestart, "NotIn", 42)), 42, false},
		{restartNever, rulesOf(restartNever, onCodes("Other", "In", 1), onCodes(actionRestart, "In", 1)), 1, false}, // the first that matches counts
		{restartNever, rulesOf(restartNever, onCodes(actionRestartAll, "In", 7)), 7, true},
	} {
		if got := mayRestart(&corev1.PodSpec{RestartPolicy: c.pod}, c.c, c.code); got != c.want {
			t.Errorf("pod %s, container %q %+v, exit code %d: %t", c.pod, c.c.RestartPolicy, c.c.RestartPolicyRules, c.code, got)
		}
	}
}

// TestContainerPolicies: each container of a pod goes by its own policy and rules, and the pod's phase by all of them.
func TestContainerPolicies(t *testing.T) {
	simulate(t, func(w *world) {
		codes := []int32{42, 42, 1}
		w.rt.programs["worker"] = func(attempt uint32) run { return run{lasts: time.Second, code: codes[min(int(attempt), 2)]} }
		w.rt.programs["helper"] = func(uint32) run { return run{lasts: 100 * time.Second} }
		w.apply(`{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"restartPolicy":"Never","containers":[
			{"name":"worker","image":"app:1","restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]},
			{"name":"helper","image":"app:1"}]}}`)
		w.settle(8 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 1 || c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.LastState.Terminated.ExitCode != 42 {
			t.Errorf("worker %+v", c)
		}
		w.settle(time.Minute)
		s := w.status()
		if c := s.ContainerStatuses[0]; c.RestartCount != 2 || c.State.Terminated == nil || c.State.Terminated.ExitCode != 1 || s.Phase != phaseRunning {
			t.Errorf("phase %s, worker %+v", s.Phase, c)
		}
		w.settle(time.Minute)
		if s := w.status(); s.Phase != phaseFailed || s.ContainerStatuses[1].State.Terminated == nil {
			t.Errorf("phase %s", s.Phase)
		}
	})
}

// TestInitContainerPolicy: an init container whose own policy is Never fails its pod, and one with a rule is tried again.
func TestInitContainerPolicy(t *testing.T) {
	for policy, want := range map[string]string{
		`"restartPolicy":"Never"`: phaseFailed,
		`"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[3]}}]`: phaseRunning,
	} {
		simulate(t, func(w *world) {
			w.rt.programs["first"] = func(attempt uint32) run { return run{lasts: time.Second, code: 3 * int32(1-min(attempt, 1))} } //nolint:gosec // small
			w.apply(strings.Replace(simplePod, `"spec":{`, `"spec":{"initContainers":[{"name":"first","image":"app:1",`+policy+`}],`, 1))
			w.settle(time.Minute)
			if s := w.status(); s.Phase != want {
				t.Errorf("%s: phase %s", policy, s.Phase)
			}
		})
	}
}

// restartsAll is a pod that starts anew when its worker ends with 88.
const restartsAll = `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"restartPolicy":"Never",
	"initContainers":[{"name":"first","image":"app:1"},{"name":"side","image":"app:1","restartPolicy":"Always"}],
	"ephemeralContainers":[{"name":"debugger","image":"app:1"}],
	"containers":[{"name":"worker","image":"app:1","restartPolicy":"Never","restartPolicyRules":[{"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[88]}}]},
	{"name":"helper","image":"app:1"}]}}`

// TestRestartAllContainers: all containers end and start anew from the first init container, in the same sandbox, one restart more; ephemeral
// containers stay. The second time there is a pause.
func TestRestartAllContainers(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["first"] = func(uint32) run { return run{lasts: time.Second} }
		w.rt.programs["worker"] = func(attempt uint32) run {
			if attempt < 2 {
				return run{lasts: 20 * time.Second, code: 88}
			}
			return run{}
		}
		w.apply(restartsAll)
		w.settle(15 * time.Second)
		before := w.status()
		if c := cond(before.Conditions, condAllRestarting); before.Phase != phaseRunning || c.Status != "False" {
			t.Fatalf("phase %s, %+v", before.Phase, c)
		}
		debugger := w.rt.byName("debugger")[0].id
		w.settle(15 * time.Second)
		s := w.status()
		if len(w.rt.boxes) != 1 || w.rt.called("RunPodSandbox") != 1 || s.PodIP != before.PodIP {
			t.Errorf("%d sandboxes were made", w.rt.called("RunPodSandbox"))
		}
		for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
			if c.RestartCount != 1 || c.State.Waiting != nil || c.LastState.Terminated == nil {
				t.Errorf("container %+v", c)
			}
			want := map[string]string{"worker": "Error", "first": reasonRestartingAll}[c.Name]
			if want != "" && c.LastState.Terminated.Reason != want {
				t.Errorf("%s ended for %s", c.Name, c.LastState.Terminated.Reason)
			}
		}
		if s.Phase != phaseRunning || s.ContainerStatuses[0].LastState.Terminated.ExitCode != 88 {
			t.Errorf("phase %s, %+v", s.Phase, s.ContainerStatuses[0])
		}
		if d := w.rt.byName("debugger"); len(d) != 1 || d[0].id != debugger {
			t.Errorf("the ephemeral container was touched: %+v", d)
		}
		w.settle(15 * time.Second) // it has ended again
		s = w.status()
		if c := s.InitContainerStatuses[0]; c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || s.Phase == phaseFailed {
			t.Errorf("phase %s, first %+v", s.Phase, c)
		}
		w.stop() // the agent restarts in the middle
		w.start()
		w.settle(30 * time.Second)
		s = w.status()
		if s.Phase != phaseRunning || s.ContainerStatuses[0].RestartCount != 2 || s.ContainerStatuses[1].RestartCount != 2 || s.InitContainerStatuses[0].RestartCount != 2 {
			t.Errorf("phase %s, %+v", s.Phase, s.ContainerStatuses)
		}
	})
}
