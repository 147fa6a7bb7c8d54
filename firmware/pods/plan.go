package pods

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Values of restartPolicy.
const (
	restartAlways    = "Always"
	restartOnFailure = "OnFailure"
	restartNever     = "Never"
)

// kill is a container to be stopped while the pod goes on.
type kill struct {
	container *containerState
	why       string
	force     bool // start it again whatever its exit code, unless restartPolicy is Never
}

// plan is what has to be done to bring one pod where it should be. It is made by makePlan, from values alone.
type plan struct {
	stopAll    bool     // stop all containers and all sandboxes: none of them is of use any more
	newSandbox bool     // make a sandbox, with this attempt
	attempt    uint32   //
	kills      []kill   // containers to stop
	remove     []string // dead containers that nobody asks for any more
	drop       []string // sandboxes without use and without containers
	initAt     int      // index of the init container to start, -1: none
	start      []int    // indexes of the containers to start
	initFailed bool     // an init container failed for good
}

// idle reports whether there is nothing to do.
func (p *plan) idle() bool {
	return !p.stopAll && !p.newSandbox && len(p.kills) == 0 && len(p.remove) == 0 && len(p.drop) == 0 && p.initAt < 0 && len(p.start) == 0
}

// containerHash identifies what a running container was made from. As in the kubelet, only what may change in a living pod
// counts: the image.
func containerHash(c *corev1.Container) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Name + "\x00" + c.Image))
	return strconv.FormatUint(h.Sum64(), 16)
}

// mayRestart reports whether a container that ended with exitCode is started again.
func mayRestart(policy string, exitCode int32) bool {
	switch policy {
	case restartNever:
		return false
	case restartOnFailure:
		return exitCode != 0
	default:
		return true
	}
}

// makePlan decides about a pod that should run. forced names containers that are to start again whatever their exit code;
// unhealthy maps ids of running containers to why they must be restarted.
func makePlan(pod *corev1.Pod, obs *observation, forced map[string]bool, unhealthy map[string]string) plan {
	p := plan{initAt: -1}
	collectGarbage(pod, obs, &p)
	policy := pod.Spec.RestartPolicy
	sb := obs.sandbox()
	if sb == nil {
		planSandbox(pod, obs, forced, &p)
		return p
	}
	for i := range obs.containers {
		c := &obs.containers[i]
		if c.state == cri.ContainerRunning && c.sandbox != sb.id {
			p.kills = append(p.kills, kill{container: c, why: "its sandbox was replaced"})
		}
	}
	if !planInit(pod, obs, sb.id, &p) {
		return p
	}
	working := len(p.kills) > 0
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		c := obs.newest(spec.Name)
		switch {
		case c == nil || c.state == cri.ContainerCreated || c.state == cri.ContainerUnknown:
			// Created: the agent died between making and starting it. Unknown: the runtime lost it.
			p.start = append(p.start, i)
		case c.state == cri.ContainerRunning:
			working = true
			if c.hash != "" && c.hash != containerHash(spec) {
				p.kills = append(p.kills, kill{container: c, force: true, why: fmt.Sprintf("Container %s definition changed, will be restarted", spec.Name)})
			} else if why := unhealthy[c.id]; why != "" {
				p.kills = append(p.kills, kill{container: c, force: true, why: why})
			}
		case mayRestart(policy, c.exitCode) || forced[spec.Name] && policy != restartNever:
			p.start = append(p.start, i)
		}
	}
	p.stopAll = !working && len(p.start) == 0
	return p
}

// planSandbox decides for a pod without a usable sandbox.
func planSandbox(pod *corev1.Pod, obs *observation, forced map[string]bool, p *plan) {
	policy := pod.Spec.RestartPolicy
	p.stopAll = obs.running() || len(obs.sandboxes) > 0
	if len(obs.sandboxes) > 0 {
		p.attempt = obs.sandboxes[0].attempt + 1
		if policy == restartNever && len(obs.containers) > 0 {
			return
		}
	}
	for i := range pod.Spec.Containers {
		name := pod.Spec.Containers[i].Name
		c := obs.newest(name)
		// What was running when its sandbox died was killed with it, and counts as failed.
		if c == nil || c.state != cri.ContainerExited || mayRestart(policy, c.exitCode) || forced[name] {
			p.start = append(p.start, i)
		}
	}
	p.newSandbox = len(p.start) > 0
	if p.newSandbox && len(pod.Spec.InitContainers) > 0 {
		p.start, p.initAt = nil, 0
	}
}

// planInit decides about init containers, which run one after the other, and again in each new sandbox. It returns true when
// all have succeeded.
func planInit(pod *corev1.Pod, obs *observation, sandbox string, p *plan) bool {
	for i := range pod.Spec.Containers {
		if obs.inSandbox(pod.Spec.Containers[i].Name, sandbox) != nil {
			return true // a container is only ever made after all init containers
		}
	}
	inits := pod.Spec.InitContainers
	for i := len(inits) - 1; i >= 0; i-- {
		c := obs.inSandbox(inits[i].Name, sandbox)
		switch {
		case c == nil:
			continue
		case c.state == cri.ContainerRunning:
			return false
		case c.state == cri.ContainerExited && c.exitCode == 0:
			if i == len(inits)-1 {
				return true
			}
			p.initAt = i + 1
			return false
		case c.state == cri.ContainerExited && pod.Spec.RestartPolicy == restartNever:
			p.initFailed, p.stopAll = true, true
			return false
		default:
			p.initAt = i
			return false
		}
	}
	if len(inits) > 0 {
		p.initAt = 0
	}
	return len(inits) == 0
}

// collectGarbage finds dead containers beyond the newest dead one of each name (it is the lastState), containers that were
// made but never started, and old sandboxes that hold nothing any more.
func collectGarbage(pod *corev1.Pod, obs *observation, p *plan) {
	kept := map[string]bool{}
	holds := map[string]bool{}
	for i := range obs.containers {
		c := &obs.containers[i]
		switch {
		case c.state == cri.ContainerExited && kept[c.name], c.state == cri.ContainerCreated:
			p.remove = append(p.remove, c.id)
		default:
			if c.state == cri.ContainerExited {
				kept[c.name] = true
			}
			holds[c.sandbox] = true
		}
	}
	for i := 1; i < len(obs.sandboxes); i++ {
		if s := &obs.sandboxes[i]; !holds[s.id] {
			p.drop = append(p.drop, s.id)
		}
	}
}
