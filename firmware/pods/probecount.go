package pods

import "errors"

// Results of probes, as the kubelet's metrics call them.
const (
	probeSuccessful = "successful"
	probeFailed     = "failed"
	probeUnknown    = "unknown" // the runtime did not answer, or nobody could be asked: it says nothing about the container
)

// ProbeCount is how often a probe had a result since this agent was started.
type ProbeCount struct {
	Namespace, Pod, UID, Container string
	Kind                           string // Liveness, Readiness, Startup
	Result                         string // successful, failed, unknown
	Count                          uint64
}

// probeResult is what is counted of a pod: at most three results for each probe of its spec.
type probeResult struct{ container, kind, result string }

// count notes a probe's result.
func (p *prober) count(container, kind string, err error) {
	r := probeResult{container, kind, probeSuccessful}
	_, vague := errors.AsType[*inconclusive](err)
	switch {
	case runtimeGone(err), vague:
		r.result = probeUnknown
	case err != nil:
		r.result = probeFailed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = map[probeResult]uint64{}
	}
	p.counts[r]++
}

// ProbeCounts returns the results of the probes of all pods that are wanted on this node. It may be called by any goroutine.
func (m *Manager) ProbeCounts() []ProbeCount {
	type pod struct {
		of     ProbeCount
		probes *prober
	}
	var pods []pod
	m.mu.Lock()
	for _, w := range m.workers {
		if d := w.shared.desired; d != nil {
			meta := &d.pod.Metadata
			pods = append(pods, pod{ProbeCount{Namespace: meta.Namespace, Pod: meta.Name, UID: meta.UID}, w.probes})
		}
	}
	m.mu.Unlock() // a prober wakes its worker while it holds its own lock
	var out []ProbeCount
	for _, p := range pods {
		p.probes.mu.Lock()
		for r, n := range p.probes.counts {
			c := p.of
			c.Container, c.Kind, c.Result, c.Count = r.container, r.kind, r.result, n
			out = append(out, c)
		}
		p.probes.mu.Unlock()
	}
	return out
}
