package pods

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	if err := w.clean(ctx, d, obs, &p, unhealthy); err != nil {
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
	var next time.Duration
	if p.newSandbox || len(p.inits) > 0 || len(p.start) > 0 || len(p.ephemeral) > 0 {
		if w.status == nil {
			w.report(d, obs) // show the pod before the long work begins
		}
		var err error
		if next, err = w.launch(ctx, d, obs, &p); err != nil {
			return 0, obs, err
		}
	} else if obs.sandbox() != nil && len(d.pod.Spec.Volumes) > 0 {
		w.refreshVolumes(ctx, d, obs)
	}
	if !p.idle() {
		var err error
		if m := w.made; m != nil {
			obs, err = w.obs.lookAt(ctx, m)
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
	w.settled.Store(p.idle() && next == 0)
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

// clean carries out what a plan takes away.
func (w *worker) clean(ctx context.Context, d *desiredPod, obs *observation, p *plan, unhealthy map[string]string) error {
	if p.stopAll {
		if err := w.stopAll(ctx, obs, d.grace()); err != nil {
			return err
		}
	}
	for _, k := range p.kills {
		grace := d.grace()
		if unhealthy[k.container.id] != "" {
			grace = w.probes.grace(k.container.id, grace)
		}
		w.eventFor(k.container.name, eventNormal, "Killing", k.why)
		if err := w.stopContainers(ctx, []containerState{*k.container}, grace); err != nil {
			return err
		}
		if k.force {
			w.forced[k.container.name] = true
		}
	}
	for _, id := range p.remove {
		if err := w.removeContainer(ctx, id); err != nil {
			return err
		}
		for i := range obs.containers {
			if c := &obs.containers[i]; c.id == id && c.state == cri.ContainerExited {
				w.removeTraces(d, c)
			}
		}
	}
	for _, id := range p.drop {
		if err := ignoreMissing(w.m.o.Runtime.StopPodSandbox(ctx, id)); err != nil {
			return err
		}
		// The pod may run in a newer one: it has the same cgroup.
		if err := w.removeSandbox(ctx, id, id); err != nil {
			return err
		}
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

// starter starts containers in a sandbox.
type starter struct {
	w       *worker
	d       *desiredPod
	obs     *observation
	sandbox string
	config  *cri.PodSandboxConfig
	volumes map[string]string
	host    *host
	ips     []string
	started []cri.Container // made, and if all went well started
}

// startAll starts containers one after the other; one that cannot be started does not keep the others.
func (s *starter) startAll(ctx context.Context, list []*corev1.Container) (next time.Duration, err error) {
	for _, c := range list {
		wait, err := s.start(ctx, c)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if w, ok := errors.AsType[*waitError](err); ok {
			s.w.waiting[c.Name] = waiting{reason: w.reason, message: w.message}
			next = sooner(next, max(wait, time.Millisecond))
			continue
		}
		if err != nil {
			return 0, err
		}
		delete(s.w.waiting, c.Name)
		delete(s.w.forced, c.Name)
	}
	return next, nil
}

// start starts one container. A *waitError comes with how long to wait.
func (s *starter) start(ctx context.Context, c *corev1.Container) (time.Duration, error) {
	w, now := s.w, time.Now()
	prior := s.obs.newest(c.Name)
	if prior != nil && prior.state == cri.ContainerCreated { // it was removed just now
		prior = s.obs.lastExited(c.Name, prior.id)
	}
	if prior != nil && prior.state == cri.ContainerUnknown {
		if err := w.stopContainers(ctx, []containerState{*prior}, s.d.grace()); err != nil {
			return 0, err
		}
	}
	if prior != nil && prior.state == cri.ContainerExited && prior.reason == reasonStartError && w.m.killGroup(w.uid, prior.id) > 0 {
		w.log.Warn("killed a container that runs though its start was interrupted", "container", c.Name, "id", prior.id)
	}
	if wait := s.crashDelay(c, prior, now); wait > 0 {
		b := w.restarts[c.Name]
		m := &s.d.pod.Metadata
		msg := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", b.delay, c.Name, m.Name, m.Namespace, m.UID)
		w.eventFor(c.Name, eventWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, m.Name, m.Namespace, m.UID))
		return wait, waitFor("CrashLoopBackOff", "%s", msg)
	}
	try := w.try("start " + c.Name)
	if left := try.left(now); left > 0 && !w.m.changedSince(try.since) {
		if old, ok := w.waiting[c.Name]; ok {
			return left, waitFor(old.reason, "%s", old.message)
		}
	}
	err := s.launch(ctx, c, prior)
	if err == nil {
		delete(w.tries, "start "+c.Name)
		return 0, nil
	}
	if wait := w.puller.wait(c); wait > 0 {
		if e, ok := errors.AsType[*waitError](err); ok && e.reason != "ImagePullBackOff" {
			return min(wait, tryFirst), err // the next look shows the back-off
		}
		return wait, err
	}
	return try.fail(now, tryFirst, tryMost), err
}

// crashDelay returns how long a container that ended has to wait still. The first start, and one that the agent forced, wait
// for nothing.
func (s *starter) crashDelay(c *corev1.Container, prior *containerState, now time.Time) time.Duration {
	b := s.w.restarts[c.Name]
	if b == nil {
		b = &restartBackoff{most: s.w.m.o.MaxRestartDelay}
		s.w.restarts[c.Name] = b
	}
	if prior == nil && ranBefore(s.w.status, c.Name) != nil {
		if wait := s.w.resetDelay(now); wait > 0 {
			b.delay = max(b.delay, wait.Round(time.Second))
			return wait
		}
	}
	if prior == nil || prior.state != cri.ContainerExited || s.w.forced[c.Name] {
		return 0
	}
	return b.wait(prior, now)
}

func (s *starter) launch(ctx context.Context, c *corev1.Container, prior *containerState) error {
	w := s.w
	refs := references{desired: w.m.o.Desired, namespace: s.d.pod.Metadata.Namespace}
	creds := func() (credentials, error) { return pullCredentials(&s.d.pod.Spec, c.Image, refs) }
	w.puller.event = func(eventType, reason, message string) { w.eventFor(c.Name, eventType, reason, message) }
	image, ref, err := w.puller.ensure(ctx, imageWant{c, earlier(prior), creds, s.config})
	if err != nil {
		return err
	}
	s.uses(image)
	facts := w.facts(s.d, s.ips)
	facts.services = serviceVariables(w.m.o.Desired, s.d.pod.Metadata.Namespace, &s.d.pod.Spec)
	env, err := environment(c, refs, facts)
	if err != nil {
		return s.failed(c, err)
	}
	target, err := s.target(c)
	if err != nil {
		return s.failed(c, err)
	}
	l := &launch{pod: &s.d.pod, container: c, image: image, imageRef: ref, env: env, volumes: s.volumes, host: s.host, target: target, can: w.m.can()}
	if l.handler, err = runtimeHandler(w.m.o.Desired, &s.d.pod.Spec); err != nil {
		l.handler = "" // the sandbox has one
	}
	if err := s.imageVolumes(ctx, l, prior != nil); err != nil {
		return err
	}
	if prior != nil {
		l.restarts = prior.restarts + 1
	} else if old := ranBefore(w.status, c.Name); old != nil {
		l.restarts = old.RestartCount + 1
	}
	if err := s.files(l); err != nil {
		return s.failed(c, waitFor("CreateContainerConfigError", "%v", err))
	}
	if err := s.subPaths(l); err != nil {
		return s.failed(c, err)
	}
	cfg, err := l.config()
	if err != nil {
		return s.failed(c, err)
	}
	id, err := w.createContainer(ctx, s.sandbox, cfg, s.config)
	if err != nil {
		return s.refusedBy(c, "CreateContainerError", err)
	}
	if err := s.signalTaken(ctx, c, id, cfg.StopSignal); err != nil {
		return err
	}
	w.eventFor(c.Name, eventNormal, "Created", "Container created")
	s.started = append(s.started, cri.Container{ID: id, PodSandboxID: s.sandbox, State: cri.ContainerRunning, Metadata: cfg.Metadata, Labels: cfg.Labels, ImageRef: cfg.Image.Image})
	if err := w.startContainer(ctx, id); err != nil {
		if !runtimeGone(err) && prior != nil {
			w.restarts[c.Name].next()
		}
		return s.refusedBy(c, "RunContainerError", err)
	}
	if prior != nil {
		w.restarts[c.Name].next()
	}
	w.eventFor(c.Name, eventNormal, "Started", "Container started")
	w.log.Info("container runs", "container", c.Name, "id", id, "restarts", l.restarts)
	return s.postStart(ctx, c, id)
}

// uses notes which image the pod uses.
func (s *starter) uses(image *cri.Image) {
	if !s.d.file {
		s.w.m.images.share(image.ID)
	}
}

// postStart runs a container's postStart hook. A container whose hook failed is stopped, and started again as restartPolicy has it.
func (s *starter) postStart(ctx context.Context, c *corev1.Container, id string) error {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	w := s.w
	warn := func(reason, message string) { w.event(eventWarning, reason, message) }
	err := (&caller{rt: w.m.o.Runtime, spec: c, id: id, ip: w.podIP(s.ips), warn: warn}).hook(ctx, c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil || runtimeGone(err) {
		return err
	}
	w.eventFor(c.Name, eventWarning, "FailedPostStartHook", "PostStartHook failed: "+err.Error())
	w.eventFor(c.Name, eventNormal, "Killing", "FailedPostStartHook")
	if err := w.stopContainers(ctx, []containerState{{id: id, name: c.Name, state: cri.ContainerRunning}}, s.d.grace()); err != nil {
		return err
	}
	w.poke()
	if !restartable(&s.d.pod.Spec, c) {
		return nil // how it ended says it
	}
	return waitFor("PostStartHookError", "PostStartHook failed: %v", err)
}

// failed records why a container cannot be started as it is.
func (s *starter) failed(c *corev1.Container, err error) error {
	s.w.eventFor(c.Name, eventWarning, "Failed", "Error: "+err.Error())
	return err
}

// refusedBy turns the runtime's refusal into a waiting reason with the runtime's own words.
func (s *starter) refusedBy(c *corev1.Container, reason string, err error) error {
	if runtimeGone(err) {
		return err
	}
	return s.failed(c, waitFor(reason, "%s", explainRefusal(c, err)))
}

// files makes what a container gets from the agent: its log folder, /etc/hosts and the termination message file.
func (s *starter) files(l *launch) error {
	w, c := s.w, l.container
	if err := os.MkdirAll(filepath.Join(s.config.LogDirectory, c.Name), folderMode); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	dir := filepath.Join(w.m.podDir(w.uid), containersFolder, c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the container's folder: %w", err)
	}
	if filepath.IsAbs(c.TerminationMessagePath) {
		l.termFile = filepath.Join(dir, strconv.Itoa(int(l.restarts)))
		if err := replaceFile(l.termFile, nil, 0o666); err != nil {
			return fmt.Errorf("make the termination message file: %w", err)
		}
	}
	if s.d.pod.Spec.HostNetwork && len(s.d.pod.Spec.HostAliases) == 0 {
		return nil
	}
	text := hostsFile(&s.d.pod, s.ips, s.host.domain)
	if s.d.pod.Spec.HostNetwork {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read the node's hosts: %w", err)
		}
		text = append(own, hostsFile(&s.d.pod, nil, s.host.domain)...)
	}
	l.hosts = filepath.Join(w.m.podDir(w.uid), hostsName)
	if err := os.WriteFile(l.hosts, text, 0o644); err != nil { //nolint:gosec // read by every container of the pod
		return fmt.Errorf("write the pod's hosts: %w", err)
	}
	return nil
}
