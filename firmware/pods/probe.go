package pods

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Kinds of probes, as events name them.
const (
	probeStartup   = "Startup"
	probeLiveness  = "Liveness"
	probeReadiness = "Readiness"
)

// prober probes the running containers of one pod, each probe in a goroutine of its own. watch, stop and the readers
// belong to the pod's worker.
type prober struct {
	rt     ContainerLister
	wake   func() // a result changed
	events *eventLog

	ending bool // the pod is being deleted

	mu     sync.Mutex
	probed map[string]*probed // by container id
	counts map[probeResult]uint64
}

// probed is one running container. Results are guarded by the prober's mu.
type probed struct {
	name           string
	started, ready bool
	unhealthy      string // why it must be restarted
	grace          *int64 // s; of the probe that failed

	cancel context.CancelFunc
	calm   context.CancelFunc // ends liveness and startup probes alone
	wg     sync.WaitGroup
}

func newProber(rt ContainerLister, wake func(), events *eventLog) *prober {
	return &prober{rt: rt, wake: wake, events: events, probed: map[string]*probed{}}
}

// watch starts the probes of containers that run, and stops those of containers that do not. before is the pod's last status: a
// container that was ready then is taken to be ready until its probe says otherwise, so that a restart of the agent does not
// take pods out of service.
func (p *prober) watch(pod *corev1.Pod, obs *observation, hostIPs []string, before *corev1.PodStatus) {
	running := map[string]bool{}
	ip := first(obs.ips)
	if pod.Spec.HostNetwork {
		ip = first(hostIPs)
	}
	for _, spec := range longRunning(&pod.Spec) {
		c := obs.newest(spec.Name)
		if c == nil || c.state != cri.ContainerRunning {
			continue
		}
		running[c.id] = true
		p.mu.Lock()
		known := p.probed[c.id] != nil
		p.mu.Unlock()
		if !known {
			p.begin(spec, fieldOf(&pod.Spec, spec.Name), c, ip, before)
		}
	}
	p.mu.Lock()
	var ended []*probed
	for id, pr := range p.probed {
		if !running[id] {
			ended = append(ended, pr)
			delete(p.probed, id)
		}
	}
	p.mu.Unlock()
	for _, pr := range ended {
		pr.cancel()
		pr.wg.Wait()
	}
}

// longRunning returns the containers of a pod that have probes: its containers, and its sidecars.
func longRunning(spec *corev1.PodSpec) []*corev1.Container {
	var out []*corev1.Container
	for i := range spec.InitContainers {
		if sidecar(&spec.InitContainers[i]) {
			out = append(out, &spec.InitContainers[i])
		}
	}
	for i := range spec.Containers {
		out = append(out, &spec.Containers[i])
	}
	return out
}

// end leaves only the readiness probes of a pod that is being deleted: whether it still serves matters to Services until it is gone, and nothing of it is
// restarted any more. Containers that run are watched, as after a restart of the agent.
func (p *prober) end(pod *corev1.Pod, obs *observation, hostIPs []string, before *corev1.PodStatus) {
	p.ending = true
	p.mu.Lock()
	for _, pr := range p.probed {
		pr.calm()
	}
	p.mu.Unlock()
	p.watch(pod, obs, hostIPs, before)
}

// stop ends all probes and waits for them.
func (p *prober) stop() { p.watch(&corev1.Pod{}, new(observation), nil, nil) }

func (p *prober) begin(spec *corev1.Container, field string, c *containerState, ip string, before *corev1.PodStatus) {
	ctx, cancel := context.WithCancel(context.Background())
	health, calm := context.WithCancel(ctx)
	pr := &probed{name: spec.Name, started: spec.StartupProbe == nil, ready: spec.ReadinessProbe == nil, cancel: cancel, calm: calm}
	if s := statusOf(before, spec.Name); s != nil && hasID(s.ContainerID, c.id) {
		pr.started = pr.started || isTrue(s.Started)
		pr.ready = pr.ready || s.Ready
	}
	p.mu.Lock()
	p.probed[c.id] = pr
	p.mu.Unlock()
	for kind, probe := range map[string]*corev1.Probe{probeStartup: spec.StartupProbe, probeLiveness: spec.LivenessProbe, probeReadiness: spec.ReadinessProbe} {
		if probe == nil || kind == probeStartup && pr.started || kind != probeReadiness && p.ending {
			continue
		}
		ctx := ctx
		if kind != probeReadiness {
			ctx = health
		}
		l := &probeLoop{caller: caller{rt: p.rt, spec: spec, id: c.id, ip: ip}, p: p, pr: pr, field: field, kind: kind, probe: probe, began: c.began}
		pr.wg.Go(func() { l.run(ctx) })
	}
}

func hasID(containerID, id string) bool {
	return len(containerID) > len(id) && containerID[len(containerID)-len(id):] == id
}

// state returns a running container's started and ready. A container without probes has both.
func (p *prober) state(id string) (started, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.probed[id]; pr != nil {
		return pr.started, pr.started && pr.ready
	}
	return true, true
}

// started returns whether a running container has passed its startup probe, or has none.
func (p *prober) started(id string) bool {
	started, _ := p.state(id)
	return started
}

// unhealthy returns the containers that must be restarted, by id, and why.
func (p *prober) unhealthy() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out map[string]string
	for id, pr := range p.probed {
		if pr.unhealthy != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[id] = pr.unhealthy
		}
	}
	return out
}

// grace returns the grace period of a container that a probe found unhealthy, in seconds.
func (p *prober) grace(id string, pod int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.probed[id]; pr != nil && pr.grace != nil {
		return *pr.grace
	}
	return pod
}

// probeLoop runs one probe of one container.
type probeLoop struct {
	caller
	p     *prober
	pr    *probed
	field string // of the container, for events
	kind  string
	probe *corev1.Probe
	began time.Time // of the container, by the monotonic clock: its first probes must not come early because the clock was set
	good  int32
	bad   int32
}

func (l *probeLoop) run(ctx context.Context) {
	initial := time.Duration(l.probe.InitialDelaySeconds) * time.Second
	if !l.began.IsZero() {
		initial = max(0, initial-time.Since(l.began))
	}
	timer := time.NewTimer(initial)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(time.Duration(l.probe.PeriodSeconds) * time.Second)
		if l.kind != probeStartup && !l.running() {
			continue // the startup probe goes first
		}
		err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		l.p.count(l.spec.Name, l.kind, err)
		if runtimeGone(err) {
			continue // says nothing about the container
		}
		if vague, ok := errors.AsType[*inconclusive](err); ok {
			l.p.events.record(l.field, eventWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in %s state: %v", l.kind, vague.state, vague))
			continue
		}
		if l.result(err) {
			return
		}
	}
}

func (l *probeLoop) running() bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.pr.started
}

// result counts a result and returns whether the probe has nothing left to find out.
func (l *probeLoop) result(err error) (done bool) {
	if err != nil {
		l.p.events.record(l.field, eventWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %v", l.kind, err))
		l.bad, l.good = l.bad+1, 0
	} else {
		l.bad, l.good = 0, l.good+1
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	ready, started, unhealthy := l.pr.ready, l.pr.started, l.pr.unhealthy
	switch {
	case err == nil && l.good < l.probe.SuccessThreshold, err != nil && l.bad < l.probe.FailureThreshold:
		return false
	case l.kind == probeReadiness:
		l.pr.ready = err == nil
	case err != nil:
		l.pr.unhealthy = fmt.Sprintf("Container %s failed %s probe, will be restarted", l.spec.Name, map[string]string{probeLiveness: "liveness", probeStartup: "startup"}[l.kind])
		l.pr.grace = l.probe.TerminationGracePeriodSeconds
	case l.kind == probeStartup:
		l.pr.started = true
	}
	if ready != l.pr.ready || started != l.pr.started || unhealthy != l.pr.unhealthy {
		l.p.wake()
	}
	return l.kind == probeStartup || l.pr.unhealthy != ""
}

// once runs the probe once; nil is success.
func (l *probeLoop) once(ctx context.Context) error {
	timeout := time.Duration(l.probe.TimeoutSeconds) * time.Second
	if l.probe.Exec != nil {
		// The runtime ends the command at its timeout; the call itself gets a little more, to hear of it.
		ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
		defer cancel()
		return l.exec(ctx, &corev1.ExecAction{Command: expandAll(l.probe.Exec.Command, staticEnv(l.spec))}, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case l.probe.HTTPGet != nil:
		return l.http(ctx, l.probe.HTTPGet)
	case l.probe.GRPC != nil:
		return l.grpc(ctx, l.probe.GRPC)
	case l.probe.TCPSocket != nil:
		return l.tcp(ctx, l.probe.TCPSocket)
	}
	return nil
}

// staticEnv are a container's variables as far as its spec has their values: those that $(NAME) stands for in the command of a probe, as with a kubelet.
// Others are empty there.
func staticEnv(c *corev1.Container) []cri.KeyValue {
	out := make([]cri.KeyValue, len(c.Env))
	for i := range c.Env {
		out[i] = cri.KeyValue{Key: c.Env[i].Name, Value: c.Env[i].Value}
	}
	return out
}
