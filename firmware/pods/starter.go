package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

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
	back := w.turn.elsewhere()
	image, ref, err := w.puller.ensure(ctx, imageWant{c, earlier(prior), creds, s.config})
	back()
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
	back := w.turn.elsewhere()
	err := (&caller{rt: w.m.o.Runtime, spec: c, id: id, ip: w.podIP(s.ips), warn: warn}).hook(ctx, c.Lifecycle.PostStart)
	back()
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
