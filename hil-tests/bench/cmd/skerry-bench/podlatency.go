package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/bench"
)

// What is measured of a pod, all on one machine in one run:
//
//   - crictl: RunPodSandbox, CreateContainer and StartContainer, asked of containerd in that order by a client that has its connection already. crictl is
//     a process for each of the three, which would flatter whoever is compared with it.
//   - agent: from the frame with the pod off the agent's connection (it is not yet in the store then) until the frame with the status Running is written to
//     it. The image is there, in both cases.
//   - whole: from the call that creates the pod until a watcher of the API hears that it is Running: API server, etcd, scheduler, relay and the way back as well.

// tracing lets the agent's log tell when objects come in and reports go out.
func tracing(doc map[string]any) { doc["log"] = map[string]any{"level": "debug"} }

// quietly starts the agent again as gateways run it.
func (w *workload) quietly(ctx context.Context) error {
	return errors.Join(w.stack.StopAgent(), w.stack.WriteAgentConfig(), w.stack.StartAgent(ctx), w.nodeReady(ctx))
}

// oneByOne compares single pods: through the API, and the same sandbox and container asked of the runtime directly, in turn.
func (w *workload) oneByOne(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d pods, one after the other, and as many sandboxes with a container asked of the runtime directly", w.opt.pods.rounds)
	var all []podRun
	var direct []float64
	for i := range w.opt.pods.rounds + 1 {
		set := "one-" + strconv.Itoa(i)
		runs, err := w.createAndWatch(ctx, set, 1)
		if err != nil {
			return err
		}
		if err := w.deleteSet(ctx, set); err != nil {
			return err
		}
		alone, err := w.direct(ctx, "one-direct-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		if i > 0 { // the first pulls the image
			all, direct = append(all, runs...), append(direct, alone.Seconds()*1e3)
		}
	}
	return w.compare(r, "", all, direct)
}

// allAtOnce is the same with all of them at the same time: once through the API, once directly.
func (w *workload) allAtOnce(ctx context.Context, r *bench.Report) error {
	n := w.opt.pods.atOnce
	w.opt.say("%d at the same time", n)
	direct := make([]float64, n)
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			took, err := w.direct(ctx, "many-direct-"+strconv.Itoa(i))
			direct[i] = took.Seconds() * 1e3
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	runs, err := w.createAndWatch(ctx, "many", n)
	if err != nil {
		return err
	}
	if err := w.compare(r, "_at_once", runs, direct); err != nil {
		return err
	}
	return w.deleteSet(ctx, "many")
}

// compare reports the three latencies, and the ratios of their medians.
func (w *workload) compare(r *bench.Report, suffix string, runs []podRun, direct []float64) error {
	share, err := agentShare(w.stack.AgentLog(), runs)
	if err != nil {
		return err
	}
	var whole []float64
	for _, p := range runs {
		whole = append(whole, p.running.Sub(p.created).Seconds()*1e3)
	}
	addSpread(r, "pod_running"+suffix, "p99", 0.99, whole)
	addSpread(r, "agent_pod_running"+suffix, "p99", 0.99, share)
	addSpread(r, "crictl"+suffix, "p99", 0.99, direct)
	r.Add("pod_vs_crictl"+suffix+"_ratio", bench.Median(share)/bench.Median(direct), "")
	r.Add("pod_api_vs_crictl"+suffix+"_ratio", bench.Median(whole)/bench.Median(direct), "")
	return nil
}

// podRun is one pod that was created and became Running, as a watcher of the API saw it.
type podRun struct {
	name             string
	created, running time.Time
}

// agentShare returns for each pod the ms from its arrival at the agent until the agent has sent that it is Running, by the agent's log: the last report
// before the API showed it.
func agentShare(path string, runs []podRun) ([]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	came, sent := map[string]time.Time{}, map[string]time.Time{}
	seen := map[string]time.Time{}
	for _, p := range runs {
		seen[p.name] = p.running
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		received, reported := strings.Contains(lines.Text(), `msg="object received"`), strings.Contains(lines.Text(), `msg="report sent"`)
		if !received && !reported {
			continue
		}
		at, key, err := traceLine(lines.Text())
		parts := strings.Split(key, "/") // kind, namespace, name, UID
		if err != nil || len(parts) < 4 || parts[0] != "pods" {
			continue
		}
		running, ok := seen[parts[2]]
		switch {
		case !ok || at.After(running):
		case received && came[parts[2]].IsZero():
			came[parts[2]] = at
		case reported:
			sent[parts[2]] = at
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	var ms []float64
	for _, p := range runs {
		if came[p.name].IsZero() || !sent[p.name].After(came[p.name]) {
			return nil, fmt.Errorf("the agent's log does not tell when pod %s came and ran", p.name)
		}
		ms = append(ms, sent[p.name].Sub(came[p.name]).Seconds()*1e3)
	}
	return ms, nil
}

// traceLine takes time and key out of a line of slog's text form.
func traceLine(line string) (at time.Time, key string, err error) {
	for field := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(field, "time="); ok {
			if at, err = time.Parse(time.RFC3339Nano, v); err != nil {
				return at, "", err
			}
		}
		if v, ok := strings.CutPrefix(field, "key="); ok {
			key = v
		}
	}
	return at, key, nil
}

// createAndWatch creates n pods and returns when each became Running, as a watcher of the API sees it.
func (w *workload) createAndWatch(ctx context.Context, set string, n int) ([]podRun, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	watch, err := pods.Watch(ctx, metav1.ListOptions{LabelSelector: "set=" + set})
	if err != nil {
		return nil, err
	}
	defer watch.Stop()
	began := map[string]time.Time{}
	for i := range n {
		name := set + "-" + strconv.Itoa(i)
		began[name] = time.Now()
		if _, err := pods.Create(ctx, w.pod(set, name), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	var runs []podRun
	for len(began) > 0 {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d pods did not become Running: %w", len(began), n, ctx.Err())
		case e, ok := <-watch.ResultChan():
			if !ok {
				return nil, errors.New("the watch of pods ended")
			}
			p, isPod := e.Object.(*corev1.Pod)
			if !isPod || p.Status.Phase != corev1.PodRunning || began[p.Name].IsZero() {
				continue
			}
			runs = append(runs, podRun{p.Name, began[p.Name], time.Now()})
			delete(began, p.Name)
		}
	}
	return runs, nil
}

// direct makes the sandbox and the container of a pod through the runtime's own interface, as crictl does with a file for each, and removes
// them: what the agent asks for, but without its labels and annotations. It returns the time until the container was started.
func (w *workload) direct(ctx context.Context, name string) (took time.Duration, err error) {
	rt := w.stack.Runtime.Client()
	dir := filepath.Join(w.stack.Dir, "direct", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	var mounts []cri.Mount
	for file, at := range map[string]string{"hosts": "/etc/hosts", "message": "/dev/termination-log"} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return 0, err
		}
		mounts = append(mounts, cri.Mount{ContainerPath: at, HostPath: path})
	}
	alone := &cri.NamespaceOption{Network: cri.NamespacePod, IPC: cri.NamespacePod, PID: cri.NamespaceContainer}
	box := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, UID: "uid-" + name, Namespace: namespace}, Hostname: name, LogDirectory: dir,
		Labels: map[string]string{"app": name}, DNSConfig: &cri.DNSConfig{Servers: []string{"127.0.0.1"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: w.stack.Runtime.CgroupParent() + "/" + name, Resources: &cri.LinuxContainerResources{CPUShares: 2},
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: alone, Seccomp: &cri.SecurityProfile{ProfileType: cri.ProfileRuntimeDefault}},
		},
	}
	container := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: w.stack.Images.Ref("sample:1")}, Args: []string{"sleep"}, LogPath: "main.log", Mounts: mounts,
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{CPUShares: 2, OOMScoreAdj: 1000},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: alone, Seccomp: &cri.SecurityProfile{ProfileType: cri.ProfileUnconfined},
				MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
	began := time.Now()
	id, err := rt.RunPodSandbox(ctx, box, "")
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, rt.StopPodSandbox(ctx, id), rt.RemovePodSandbox(ctx, id))
	}()
	c, err := rt.CreateContainer(ctx, id, container, box)
	if err == nil {
		err = rt.StartContainer(ctx, c)
	}
	return time.Since(began), err
}
