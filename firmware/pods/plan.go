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
	inits      []int    // indexes of the init containers to start
	start      []int    // indexes of the containers to start
	initFailed bool     // an init container failed for good

	ephemeral []*corev1.Container // to start
}

// idle reports whether there is nothing to do.
func (p *plan) idle() bool {
	return !p.stopAll && !p.newSandbox && len(p.kills) == 0 && len(p.remove) == 0 && len(p.drop) == 0 && len(p.inits) == 0 && len(p.start) == 0 && len(p.ephemeral) == 0
}

// containerHash identifies what a running container was made from. As in the kubelet, only what may change in a living pod
// counts: the image.
func containerHash(c *corev1.Container) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Name + "\x00" + c.Image))
	return strconv.FormatUint(h.Sum64(), 16)
}

// sidecar reports whether an init container keeps running beside the containers after it (restartPolicy Always).
func sidecar(c *corev1.Container) bool { return c.RestartPolicy == restartAlways }

// makePlan decides about a pod that should run. forced names containers that are to start again whatever their exit code;
// unhealthy maps ids of running containers to why they must be restarted; started says of a running one whether its startup probe
// has succeeded, or that it has none.
func makePlan(pod *corev1.Pod, obs *observation, forced map[string]bool, unhealthy map[string]string, started func(id string) bool) plan {
	var p plan
	collectGarbage(pod, obs, &p)
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
	if !planInit(pod, obs, sb.id, started, &p) {
		planSidecarsHealth(pod, obs, unhealthy, &p)
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
			p.checkRunning(spec, c, unhealthy)
		case mayRestart(&pod.Spec, spec, c.exitCode) || forced[spec.Name] && restartable(&pod.Spec, spec):
			p.start = append(p.start, i)
		}
	}
	if p.stopAll = !working && len(p.start) == 0; p.stopAll {
		p.inits = nil // sidecars end with what they served
		return p
	}
	planSidecarsHealth(pod, obs, unhealthy, &p)
	return p
}

// checkRunning kills a running container that was made from another definition, or that a probe found unhealthy.
func (p *plan) checkRunning(spec *corev1.Container, c *containerState, unhealthy map[string]string) {
	if c.hash != "" && c.hash != containerHash(spec) {
		p.kills = append(p.kills, kill{container: c, force: true, why: fmt.Sprintf("Container %s definition changed, will be restarted", spec.Name)})
	} else if why := unhealthy[c.id]; why != "" {
		p.kills = append(p.kills, kill{container: c, force: true, why: why})
	}
}

// planSidecarsHealth looks after sidecars that run.
func planSidecarsHealth(pod *corev1.Pod, obs *observation, unhealthy map[string]string, p *plan) {
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		if c := obs.newest(spec.Name); sidecar(spec) && c != nil && c.state == cri.ContainerRunning && !p.stopAll {
			p.checkRunning(spec, c, unhealthy)
		}
	}
}

// planSandbox decides for a pod without a usable sandbox.
func planSandbox(pod *corev1.Pod, obs *observation, forced map[string]bool, p *plan) {
	p.stopAll = obs.running() || len(obs.sandboxes) > 0
	if len(obs.sandboxes) > 0 {
		p.attempt = obs.sandboxes[0].attempt + 1
		if !anyRestartable(&pod.Spec) && len(obs.containers) > 0 {
			return
		}
	}
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		c := obs.newest(spec.Name)
		// What was running when its sandbox died was killed with it, and counts as failed.
		if c == nil || c.state != cri.ContainerExited || mayRestart(&pod.Spec, spec, c.exitCode) || forced[spec.Name] {
			p.start = append(p.start, i)
		}
	}
	p.newSandbox = len(p.start) > 0
	if p.newSandbox && len(pod.Spec.InitContainers) > 0 {
		p.start, p.inits = nil, []int{0}
	}
}

// planInit decides about init containers, which run one after the other, and again in each new sandbox. It returns true when the
// pod's containers may run: all have succeeded, and all sidecars have started. A sidecar that ended is started again,
// whatever the pod's restartPolicy and its exit code.
func planInit(pod *corev1.Pod, obs *observation, sandbox string, started func(id string) bool, p *plan) bool {
	begun := false // a container is only ever made after all init containers
	for i := range pod.Spec.Containers {
		begun = begun || obs.inSandbox(pod.Spec.Containers[i].Name, sandbox) != nil
	}
	inits := pod.Spec.InitContainers
	last := -1 // the runtime may have forgotten those before it, which have succeeded
	for i := range inits {
		if obs.inSandbox(inits[i].Name, sandbox) != nil {
			last = i
		}
	}
	for i := range inits {
		spec := &inits[i]
		c := obs.inSandbox(spec.Name, sandbox)
		running := c != nil && c.state == cri.ContainerRunning
		switch {
		case sidecar(spec) && running:
			if !begun && !started(c.id) {
				return false
			}
		case sidecar(spec):
			if p.inits = append(p.inits, i); !begun && i >= last {
				return false
			}
		case begun, c == nil && i < last:
		case running:
			return false
		case c != nil && c.state == cri.ContainerExited && c.exitCode == 0:
		case c != nil && c.state == cri.ContainerExited && !mayRestart(&pod.Spec, spec, c.exitCode):
			p.initFailed, p.stopAll, p.inits = true, true, nil
			return false
		default:
			p.inits = append(p.inits, i)
			return false
		}
	}
	return true
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
