package pods

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Actions of restartPolicyRules.
const (
	actionRestart    = "Restart"
	actionRestartAll = "RestartAllContainers"
)

// reasonRestartingAll is how a container ended that had to because of another one's rule.
const reasonRestartingAll = "RestartingAllContainers"

// condAllRestarting tells that all containers of a pod are being restarted in place. Only pods with such a rule have it.
const condAllRestarting = "AllContainersRestarting"

// matchRule returns the action of the first rule that an exit code matches, "" if none does.
func matchRule(c *corev1.Container, exitCode int32) string {
	for i := range c.RestartPolicyRules {
		r := &c.RestartPolicyRules[i]
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, exitCode)
		if in && r.ExitCodes.Operator == "In" || !in && r.ExitCodes.Operator == "NotIn" {
			return r.Action
		}
	}
	return ""
}

// mayRestart reports whether a container that ended with exitCode is started again: its own rules say so first, then its own policy, then
// the pod's.
func mayRestart(s *corev1.PodSpec, c *corev1.Container, exitCode int32) bool {
	switch matchRule(c, exitCode) {
	case actionRestart, actionRestartAll:
		return true
	}
	switch cmp.Or(c.RestartPolicy, s.RestartPolicy) {
	case restartNever:
		return false
	case restartOnFailure:
		return exitCode != 0
	default:
		return true
	}
}

// restartable reports whether a container may be started again at all, such as after a probe that failed.
func restartable(s *corev1.PodSpec, c *corev1.Container) bool {
	return cmp.Or(c.RestartPolicy, s.RestartPolicy) != restartNever ||
		slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.RestartRule) bool { return r.Action == actionRestart || r.Action == actionRestartAll })
}

// anyRestartable reports whether any container of a pod may be started again.
func anyRestartable(s *corev1.PodSpec) bool {
	return slices.ContainsFunc(resizable(s), func(c *corev1.Container) bool { return restartable(s, c) })
}

// mayRestartAll reports whether a pod has a rule that restarts all of its containers.
func mayRestartAll(s *corev1.PodSpec) bool {
	return slices.ContainsFunc(resizable(s), func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.RestartRule) bool { return r.Action == actionRestartAll })
	})
}

// wantReset returns the ids of the containers of the pod's sandbox whose end restarts all of its containers.
func wantReset(s *corev1.PodSpec, obs *observation) map[string]bool {
	sb := obs.sandbox()
	if sb == nil {
		return nil // a new sandbox starts everything anew anyway
	}
	var out map[string]bool
	for _, c := range resizable(s) {
		if run := obs.inSandbox(c.Name, sb.id); run != nil && run.state == cri.ContainerExited && matchRule(c, run.exitCode) == actionRestartAll {
			if out == nil {
				out = map[string]bool{}
			}
			out[run.id] = true
		}
	}
	return out
}

// reset takes away all containers of a pod but its sandbox and its ephemeral containers: the pod keeps its address and its volumes, and
// starts from its init containers. Those whose end asked for it go last, so that an agent that is killed in between goes on where it was. The last
// status remembers restart counts and how the containers ended.
func (w *worker) reset(ctx context.Context, d *desiredPod, obs *observation, sources map[string]bool) (*observation, error) {
	w.probes.stop()
	w.resetting = true
	defer func() { w.resetting = false }()
	isPart := map[string]bool{}
	for _, c := range resizable(&d.pod.Spec) {
		isPart[c.Name] = true
	}
	part := slices.DeleteFunc(slices.Clone(obs.containers), func(c containerState) bool { return !isPart[c.name] })
	for i := range part {
		if part[i].state == cri.ContainerRunning {
			w.eventFor(part[i].name, eventNormal, "Killing", "Stopping container "+part[i].name+": a container ended whose restart rule restarts all containers")
		}
	}
	if err := w.stopContainers(ctx, part, 0); err != nil {
		return obs, err
	}
	obs, err := w.obs.observe(ctx)
	if err != nil {
		return obs, err
	}
	w.report(d, obs)
	newest := map[string]int32{}
	for _, last := range []bool{false, true} {
		for i := range obs.containers {
			c := &obs.containers[i]
			if !isPart[c.name] || sources[c.id] != last {
				continue
			}
			if err := w.removeContainer(ctx, c.id); err != nil {
				return obs, err
			}
			newest[c.name] = max(newest[c.name], c.restarts)
		}
	}
	for name, n := range newest {
		w.dropLogs(d, name, n)
	}
	now := time.Now()
	if now.Sub(w.resetUntil) >= w.resets.forget() {
		w.resets.delay = 0
	}
	w.resetUntil = now.Add(w.resets.delay)
	w.resets.next()
	w.log.Info("all containers of the pod start anew, as a restart rule says")
	return w.obs.observe(ctx)
}

// dropLogs removes a container's logs but those of one run.
func (w *worker) dropLogs(d *desiredPod, name string, keep int32) {
	dir := filepath.Join(podLogDir(w.m.o.LogDir, &d.pod.Metadata), name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // nothing to remove
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), strconv.Itoa(int(keep))+".log") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				w.log.Warn("a log of a removed container stays", "path", e.Name(), "error", err)
			}
		}
	}
}

// resetDelay returns how long a pod that was reset waits until its containers start: as long as a container that crashes would. The first
// reset waits for nothing.
func (w *worker) resetDelay(now time.Time) time.Duration {
	return max(0, min(w.resetUntil.Sub(now), w.m.o.MaxRestartDelay))
}

// ranBefore returns the status of a container that the runtime no longer knows, if it has run: its restarts are counted on.
func ranBefore(before *corev1.PodStatus, name string) *corev1.ContainerStatus {
	s := statusOf(before, name)
	if s != nil && (s.State.Running != nil || s.State.Terminated != nil || s.LastState.Terminated != nil) {
		return s
	}
	return nil
}

// startsAgain reports whether a container that ended so is started again.
func startsAgain(s *corev1.PodSpec, c *corev1.Container, t *corev1.StateTerminated) bool {
	return t.Reason == reasonRestartingAll || mayRestart(s, c, t.ExitCode)
}

// remember puts into a container's status what the last one knows and the runtime has forgotten.
func (in *statusInput) remember(st *corev1.ContainerStatus) {
	old := ranBefore(in.before, st.Name)
	if old == nil {
		return
	}
	if st.ContainerID != "" && st.ContainerID == old.ContainerID {
		st.LastState = old.LastState
		return
	}
	if st.ContainerID == "" {
		st.RestartCount = old.RestartCount
	}
	switch {
	case old.State.Terminated != nil:
		st.LastState.Terminated = old.State.Terminated
	case old.State.Running != nil:
		st.LastState.Terminated = lostEnd(old, in.now)
	default:
		st.LastState = old.LastState
	}
}

// lostEnd is how a container ended of which the runtime knows nothing any more.
func lostEnd(s *corev1.ContainerStatus, now time.Time) *corev1.StateTerminated {
	t := &corev1.StateTerminated{
		ContainerID: s.ContainerID, ExitCode: exitKilled, Reason: "ContainerStatusUnknown",
		FinishedAt: corev1.NewTime(now), Message: "the container runtime no longer knows the container",
	}
	if s.State.Running != nil {
		t.StartedAt = s.State.Running.StartedAt
	}
	return t
}

// spec returns the definition of a container of the pod, an empty one if there is none.
func (in *statusInput) spec(name string) *corev1.Container {
	for _, c := range allContainers(&in.pod.Spec) {
		if c.Name == name {
			return c
		}
	}
	return new(corev1.Container)
}

// allRestarting is the condition of a pod that may restart all its containers.
func (in *statusInput) allRestarting() []corev1.Condition {
	if !mayRestartAll(&in.pod.Spec) {
		return nil
	}
	c := corev1.Condition{Type: condAllRestarting, Status: "False"}
	if in.resetting {
		c.Status, c.Reason, c.Message = "True", "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return []corev1.Condition{c}
}
