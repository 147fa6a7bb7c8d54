package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
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

// maxProbeBody is what a probe reads of an answer at most, in bytes, of its headers as of its body.
const maxProbeBody = 10 << 10

// prober probes the running containers of one pod, each probe in a goroutine of its own. watch, stop and the readers
// belong to the pod's worker.
type prober struct {
	rt     ContainerLister
	wake   func() // a result changed
	events *eventLog

	mu     sync.Mutex
	probed map[string]*probed // by container id
}

// probed is one running container. Results are guarded by the prober's mu.
type probed struct {
	name           string
	started, ready bool
	unhealthy      string // why it must be restarted
	grace          *int64 // s; of the probe that failed

	cancel context.CancelFunc
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
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		c := obs.newest(spec.Name)
		if c == nil || c.state != cri.ContainerRunning {
			continue
		}
		running[c.id] = true
		p.mu.Lock()
		known := p.probed[c.id] != nil
		p.mu.Unlock()
		if !known {
			p.begin(spec, c, ip, before)
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

// stop ends all probes and waits for them.
func (p *prober) stop() { p.watch(&corev1.Pod{}, new(observation), nil, nil) }

func (p *prober) begin(spec *corev1.Container, c *containerState, ip string, before *corev1.PodStatus) {
	ctx, cancel := context.WithCancel(context.Background())
	pr := &probed{name: spec.Name, started: spec.StartupProbe == nil, ready: spec.ReadinessProbe == nil, cancel: cancel}
	if before != nil {
		for i := range before.ContainerStatuses {
			s := &before.ContainerStatuses[i]
			if s.Name == spec.Name && hasID(s.ContainerID, c.id) {
				pr.started = pr.started || isTrue(s.Started)
				pr.ready = pr.ready || s.Ready
			}
		}
	}
	p.mu.Lock()
	p.probed[c.id] = pr
	p.mu.Unlock()
	for kind, probe := range map[string]*corev1.Probe{probeStartup: spec.StartupProbe, probeLiveness: spec.LivenessProbe, probeReadiness: spec.ReadinessProbe} {
		if probe == nil || kind == probeStartup && pr.started {
			continue
		}
		l := &probeLoop{p: p, pr: pr, kind: kind, probe: probe, spec: spec, id: c.id, ip: ip, started: c.started}
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
	p       *prober
	pr      *probed
	kind    string
	probe   *corev1.Probe
	spec    *corev1.Container
	id, ip  string
	started time.Time
	good    int32
	bad     int32
}

func (l *probeLoop) run(ctx context.Context) {
	initial := time.Duration(l.probe.InitialDelaySeconds) * time.Second
	if age := time.Since(l.started); !l.started.IsZero() && age > 0 {
		initial = max(0, initial-age)
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
		if runtimeGone(err) {
			continue // says nothing about the container
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
		l.p.events.record(containerField(l.spec.Name), eventWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %v", l.kind, err))
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
		return l.exec(ctx, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case l.probe.HTTPGet != nil:
		return l.httpGet(ctx)
	case l.probe.TCPSocket != nil:
		return l.tcp(ctx)
	}
	return nil
}

func (l *probeLoop) exec(ctx context.Context, timeout time.Duration) error {
	// The runtime ends the command at its timeout; the call itself gets a little more, to hear of it.
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
	defer cancel()
	out, err := l.p.rt.ExecSync(ctx, l.id, l.probe.Exec.Command, timeout)
	if err != nil {
		return err
	}
	if out.ExitCode != 0 {
		text := string(out.Stdout) + string(out.Stderr)
		if len(text) > 500 {
			text = text[:500]
		}
		return fmt.Errorf("command exited with code %d: %s", out.ExitCode, text)
	}
	return nil
}

// address resolves a port, which may be a name, at a host, which is the pod unless given.
func (l *probeLoop) address(host string, port corev1.IntOrString) (string, error) {
	if host == "" {
		host = l.ip
	}
	n := port.Int
	if port.IsString {
		n = 0
		for _, p := range l.spec.Ports {
			if p.Name == port.Str {
				n = int64(p.ContainerPort)
			}
		}
		if v, err := strconv.ParseInt(port.Str, 10, 32); err == nil {
			n = v
		}
	}
	if n < 1 || n > 65535 {
		return "", fmt.Errorf("the container has no port %q", port.String())
	}
	return net.JoinHostPort(host, strconv.FormatInt(n, 10)), nil
}

func (l *probeLoop) tcp(ctx context.Context) error {
	addr, err := l.address(l.probe.TCPSocket.Host, l.probe.TCPSocket.Port)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (l *probeLoop) httpGet(ctx context.Context) error {
	get := l.probe.HTTPGet
	addr, err := l.address(get.Host, get.Port)
	if err != nil {
		return err
	}
	path, err := url.ParseRequestURI("/" + trimSlash(get.Path))
	if err != nil {
		return fmt.Errorf("path %q: %w", get.Path, err)
	}
	path.Scheme, path.Host = "http", addr
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/skerry")
	for _, h := range get.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		} else {
			req.Header.Set(h.Name, h.Value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxProbeBody}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBody))
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

func trimSlash(s string) string {
	if len(s) > 0 && s[0] == '/' {
		return s[1:]
	}
	return s
}
