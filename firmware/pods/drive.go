package pods

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// drive makes a plan for a pod that should run and carries it out. It returns when to look again and what the runtime has then.
func (w *worker) drive(ctx context.Context, d *desiredPod, obs *observation) (time.Duration, *observation, error) {
	if sources := wantReset(&d.pod.Spec, obs); sources != nil {
		var err error
		if obs, err = w.reset(ctx, d, obs, sources); err != nil {
			return 0, obs, err
		}
	}
	w.made = nil
	unhealthy := w.probes.unhealthy()
	p := makePlan(&d.pod, obs, w.forced, unhealthy, w.probes.started)
	p.ephemeral = w.planEphemeral(d, obs, &p)
	kills := len(p.kills)
	update := w.alloc.planResize(&d.pod.Spec, obs, &p)
	restarts := len(p.kills) > kills
	left, err := w.clean(ctx, d, obs, &p, unhealthy)
	if err != nil {
		return 0, obs, err
	}
	w.limitsAgain(d, obs, true)
	retry, err := w.resize(ctx, d, obs, update)
	if err != nil {
		return 0, obs, err
	}
	if !retry {
		w.limitsAgain(d, obs, false)
	}
	if len(p.kills) > 0 { // what was killed is started again by the next plan, which sees how it ended
		w.poke()
	}
	next := left
	if p.newSandbox || len(p.inits) > 0 || len(p.start) > 0 || len(p.ephemeral) > 0 {
		if w.status == nil {
			w.report(d, obs) // show the pod before the long work begins
		}
		var err error
		if next, err = w.launch(ctx, d, obs, &p); err != nil {
			return 0, obs, err
		}
		next = sooner(next, left)
	} else if obs.sandbox() != nil && len(d.pod.Spec.Volumes) > 0 {
		w.refreshVolumes(ctx, d, obs)
	}
	if !p.idle() {
		var err error
		if m := w.made; m != nil {
			obs, err = w.obs.lookAt(ctx, m)
			w.fresh = obs
		} else {
			obs, err = w.obs.observe(ctx)
		}
		if err != nil {
			return 0, obs, err
		}
	}
	if obs.sandbox() == nil {
		w.m.releasePorts(w)
	}
	maps.DeleteFunc(w.left, func(id string, _ bool) bool { return !slices.Contains(p.remove, id) && !slices.Contains(p.drop, id) })
	maps.DeleteFunc(w.hooked, func(id string, _ bool) bool {
		return !slices.ContainsFunc(obs.containers, func(c containerState) bool { return c.id == id })
	})
	w.probes.watch(&d.pod, obs, w.m.hostIPs(), w.status)
	if sb := obs.sandbox(); sb != nil && !w.initsDone(d, obs, sb.id) {
		w.initPoll = min(max(2*w.initPoll, initPollFrom), initPollTo)
		next = sooner(next, w.initPoll)
	} else {
		w.initPoll = 0
	}
	if left > 0 { // it has its time, and is no reason to look more often
		p.remove, p.drop = nil, nil
	}
	w.settled.Store(p.idle() && next == left)
	if !restarts && !retry {
		w.resized(d)
	} else if retry {
		next = sooner(next, resizeRetry)
	}
	return next, obs, nil
}

// initsDone reports whether no init container is running or left.
func (w *worker) initsDone(d *desiredPod, obs *observation, sandbox string) bool {
	var probe plan
	return planInit(&d.pod, obs, sandbox, w.probes.started, &probe) || probe.initFailed
}

// clean carries out what a plan takes away. It returns when to try again to remove what stays.
func (w *worker) clean(ctx context.Context, d *desiredPod, obs *observation, p *plan, unhealthy map[string]string) (again time.Duration, err error) {
	if p.stopAll {
		if err := w.stopAll(ctx, obs, d.grace()); err != nil {
			return 0, err
		}
	}
	for _, k := range p.kills {
		grace := d.grace()
		if unhealthy[k.container.id] != "" {
			grace = w.probes.grace(k.container.id, grace)
		}
		w.eventFor(k.container.name, eventNormal, "Killing", k.why)
		if err := w.stopContainers(ctx, []containerState{*k.container}, grace); err != nil {
			return 0, err
		}
		if k.force {
			w.forced[k.container.name] = true
		}
	}
	for _, id := range p.remove {
		if err := w.removeContainer(ctx, id); err != nil {
			ended := slices.ContainsFunc(obs.containers, func(c containerState) bool { return c.id == id && c.state == cri.ContainerExited })
			if !ended { // nobody knows what it does: another one must not run beside it
				return 0, err
			}
			if err := w.leave(ctx, "container", id, err); err != nil {
				return 0, err
			}
			again = leftAgain
			continue
		}
		for i := range obs.containers {
			if c := &obs.containers[i]; c.id == id && c.state == cri.ContainerExited {
				w.removeTraces(d, c)
			}
		}
	}
	for _, id := range p.drop {
		err := ignoreMissing(w.m.o.Runtime.StopPodSandbox(ctx, id))
		if err == nil {
			err = w.removeSandbox(ctx, id, id) // the pod may run in a newer one: it has the same cgroup
		}
		if err != nil {
			if err := w.leave(ctx, "sandbox", id, err); err != nil {
				return 0, err
			}
			again = leftAgain
		}
	}
	return again, nil
}

// leftAgain is when the removal of what the runtime refuses to remove is tried again.
const leftAgain = 30 * time.Second

// leave says, once, that something of an earlier run of the pod stays: that is no reason not to run the pod. It returns an error if the runtime is gone.
func (w *worker) leave(ctx context.Context, what, id string, err error) error {
	if runtimeGone(err) || ctx.Err() != nil {
		return err
	}
	if !w.left[id] {
		w.left[id] = true
		w.log.Warn("the container runtime does not remove what is left of an earlier run of a pod: it is tried again", what, id, "error", err, "again_in", leftAgain)
	}
	return nil
}

// removeTraces removes the log and the termination message of a container that was removed.
func (w *worker) removeTraces(d *desiredPod, c *containerState) {
	logs := podLogDir(w.m.o.LogDir, &d.pod.Metadata) + string(filepath.Separator)
	for path, base := range map[string]string{c.logPath: logs, c.termFile: w.m.podDir(w.uid) + string(filepath.Separator)} {
		if path == "" || !strings.HasPrefix(filepath.Clean(path), base) {
			continue
		}
		if err := removeLogFiles(path); err != nil {
			w.log.Warn("a file of a removed container stays", "path", path, "error", err)
		}
	}
}

// volumesOf returns the pod's volumes. ips are the pod's addresses, for downwardAPI files.
func (w *worker) volumesOf(ctx context.Context, d *desiredPod, ips []string) *volumes {
	return &volumes{
		dir: w.m.podDir(w.uid), mount: w.m.o.Mount, csi: w.m.o.CSI,
		refs:  references{desired: w.m.o.Desired, namespace: d.pod.Metadata.Namespace},
		facts: w.facts(d, ips),
		token: func(s *corev1.TokenProjection) (string, error) { return w.token(ctx, d, s) },
	}
}

func (w *worker) facts(d *desiredPod, ips []string) *facts {
	hostIPs := w.m.hostIPs()
	if d.pod.Spec.HostNetwork {
		ips = hostIPs
	}
	return &facts{pod: &d.pod, node: w.m.o.Node, hostIPs: hostIPs, podIPs: ips, allocatable: w.m.allocatable()}
}

// refreshVolumes brings the volumes of a running pod up to date. What is missing leaves them as they were.
func (w *worker) refreshVolumes(ctx context.Context, d *desiredPod, obs *observation) {
	if _, err := w.volumesOf(ctx, d, obs.ips).prepare(&d.pod.Spec); err != nil {
		w.event(eventWarning, "FailedMount", err.Error()+" (the running containers keep what they have)")
	}
}

// launch makes the sandbox, if the plan wants one, and starts containers. Failures that only time or another object can heal
// become waiting reasons.
func (w *worker) launch(ctx context.Context, d *desiredPod, obs *observation, p *plan) (time.Duration, error) {
	starting := slices.Clone(p.ephemeral)
	for _, i := range p.inits {
		starting = append(starting, &d.pod.Spec.InitContainers[i])
	}
	for _, i := range p.start {
		starting = append(starting, &d.pod.Spec.Containers[i])
	}
	hold := func(what string, err error, event string) (time.Duration, error) {
		delay := w.try(what).fail(time.Now(), tryFirst, tryMost)
		w.event(eventWarning, event, err.Error())
		for _, c := range starting {
			w.waiting[c.Name] = waiting{reason: "ContainerCreating", message: err.Error()}
		}
		return delay, nil
	}
	for _, what := range []string{"volumes", "sandbox"} {
		if left := w.try(what).left(time.Now()); left > 0 && !w.m.changedSince(w.try(what).since) && (p.newSandbox || what == "volumes") {
			return left, nil
		}
	}
	paths, err := w.volumesOf(ctx, d, obs.ips).prepare(&d.pod.Spec)
	if err != nil {
		return hold("volumes", err, "FailedMount")
	}
	delete(w.tries, "volumes")
	attempt := p.attempt
	if sb := obs.sandbox(); sb != nil {
		attempt = sb.attempt
	}
	handler := ""
	if p.newSandbox {
		if why := w.m.withoutNetwork(); why != "" && !d.pod.Spec.HostNetwork {
			return hold("sandbox", errors.New("network is not ready: "+why), reasonNoNetwork)
		}
		if handler, err = runtimeHandler(w.m.o.Desired, &d.pod.Spec); err != nil {
			return hold("sandbox", err, "FailedCreatePodSandBox")
		}
		if err := w.m.claimPorts(w, &d.pod); err != nil {
			return hold("sandbox", err, "FailedCreatePodSandBox")
		}
	}
	h := w.m.host()
	if h.users, err = w.m.userNamespace(ctx, w.uid, &d.pod.Spec); runtimeGone(err) {
		return 0, err
	} else if err != nil {
		return hold("sandbox", fmt.Errorf("Failed to create pod sandbox: %w", err), "FailedCreatePodSandBox") //nolint:staticcheck // the kubelet's event
	}
	config, err := sandboxConfig(&d.pod, attempt, h)
	if err != nil {
		return hold("sandbox", fmt.Errorf("Failed to create pod sandbox: %w", err), "FailedCreatePodSandBox") //nolint:staticcheck // the kubelet's event
	}
	box := obs.sandbox()
	ips := obs.ips
	if p.newSandbox {
		if len(obs.sandboxes) > 0 {
			w.event(eventNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
		}
		if err := w.limits(d, true, false); err != nil {
			return hold("sandbox", fmt.Errorf("unable to ensure pod container exists: %w", err), "FailedCreatePodContainer")
		}
		if box, ips, err = w.makeSandbox(ctx, config, handler); runtimeGone(err) || ctx.Err() != nil {
			return 0, errors.Join(err, ctx.Err())
		} else if err != nil {
			return hold("sandbox", err, "FailedCreatePodSandBox")
		}
		w.dnsEvents(&d.pod, h)
		if b := w.try("sandbox"); attempt == 0 || time.Since(b.since) > backoffForget {
			delete(w.tries, "sandbox")
		} else {
			b.fail(time.Now(), tryFirst, tryMost) // sandboxes that die again and again
		}
	}
	s := &starter{w: w, d: d, obs: obs, sandbox: box.id, config: config, volumes: paths, host: h, ips: ips}
	next, err := s.startAll(ctx, starting)
	if err == nil && p.newSandbox && len(obs.sandboxes) == 0 && len(obs.containers) == 0 && len(s.started) == len(starting) {
		box.file = d.file
		w.made = &made{sandbox: *box, containers: s.started}
	}
	return next, err
}

// makeSandbox makes a sandbox and finds its addresses.
func (w *worker) makeSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (*sandboxState, []string, error) {
	if err := os.MkdirAll(config.LogDirectory, folderMode); err != nil {
		return nil, nil, fmt.Errorf("make the pod's log folder: %w", err)
	}
	id, err := w.runSandbox(ctx, config, handler)
	if err != nil {
		if runtimeGone(err) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("Failed to create pod sandbox: %w", err) //nolint:staticcheck // the kubelet's event
	}
	if err := w.obs.address(ctx, id); err != nil {
		return nil, nil, err
	}
	w.log.Info("pod sandbox is up", "sandbox", id, "attempt", config.Metadata.Attempt, "ips", w.obs.ips)
	return &sandboxState{id: id, ready: true, attempt: config.Metadata.Attempt}, w.obs.ips, nil
}
