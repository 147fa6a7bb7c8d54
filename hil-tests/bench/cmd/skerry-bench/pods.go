package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// podOptions are the flags of the benchmark of pods.
type podOptions struct {
	rounds int
	atOnce int
	churn  time.Duration
	watch  time.Duration
	short  bool
	parts  string
}

func (o *podOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&o.rounds, "rounds", 20, "pods one after the other")
	fs.IntVar(&o.atOnce, "at-once", 20, "pods at the same time, and idle pods")
	fs.DurationVar(&o.watch, "watch", 2*time.Minute, "how long the agent's processor time with idle pods is counted")
	fs.DurationVar(&o.churn, "churn", time.Hour, "how long pods come and go while the agent's memory is followed")
	fs.StringVar(&o.parts, "parts", "one,many,idle,churn", "what to measure: pods one by one, many at once, idle ones, and memory while they come and go")
	fs.BoolVar(&o.short, "short", false, "5 minutes of churn, extrapolated to an hour")
}

// podBench measures what the agent adds to the runtime's own time for a pod, and what pods cost the agent.
func podBench(ctx context.Context, r *bench.Report, o options) (err error) {
	if o.pods.short {
		o.pods.churn = 5 * time.Minute
	}
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	for _, start := range []func(context.Context) error{s.StartRelay, s.Join, func(context.Context) error { return s.WriteAgentConfig(tracing) }, s.StartAgent} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	cluster, err := s.Cluster()
	if err != nil {
		return err
	}
	w := &workload{stack: s, cluster: cluster, opt: o}
	if err := w.nodeReady(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench.Report) error
	}{{"one", w.oneByOne}, {"many", w.allAtOnce}, {"idle", w.idlePods}, {"churn", w.churn}} {
		if !slices.Contains(strings.Split(o.pods.parts, ","), part.name) {
			continue
		}
		if err := part.run(ctx, r); err != nil {
			return err
		}
		if err := r.Write(filepath.Join(o.module, "build", "bench")); err != nil { // what has been found is kept if a later part fails
			return err
		}
	}
	return nil
}

// deleteSet deletes a set of pods and waits until they are gone.
func (w *workload) deleteSet(ctx context.Context, set string) error {
	pods, grace := w.cluster.Core.CoreV1().Pods(namespace), int64(1)
	selector := metav1.ListOptions{LabelSelector: "set=" + set}
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &grace}, selector); err != nil {
		return err
	}
	return until(ctx, "the pods of set "+set+" are gone", func(ctx context.Context) error {
		list, err := pods.List(ctx, selector)
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
}

// idlePods measures the agent with pods that only have probes, every 10 s.
func (w *workload) idlePods(ctx context.Context, r *bench.Report) error {
	if err := w.quietly(ctx); err != nil {
		return err
	}
	n := w.opt.pods.atOnce
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	for i := range n {
		p := w.pod("idle", "idle-"+strconv.Itoa(i))
		p.Spec.Containers[0].Args = []string{"serve"}
		probe := &corev1.Probe{PeriodSeconds: 10, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}
		p.Spec.Containers[0].ReadinessProbe, p.Spec.Containers[0].LivenessProbe = probe, probe.DeepCopy()
		if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := w.allReady(ctx, "idle", n); err != nil {
		return err
	}
	w.opt.say("%d idle pods with an HTTP liveness and readiness probe every 10 s: %v of settling, then %v", n, w.opt.settle, w.opt.pods.watch)
	if err := sleep(ctx, w.opt.settle); err != nil {
		return err
	}
	before, err := process.ReadCPU(w.stack.Agent.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, w.opt.pods.watch); err != nil {
		return err
	}
	after, err := process.ReadCPU(w.stack.Agent.PID())
	if err != nil {
		return err
	}
	r.Add("agent_cpu_pct_20_pods", 100*(after-before).Seconds()/time.Since(began).Seconds(), "% of a core")
	m, err := w.stack.Agent.Memory()
	if err != nil {
		return err
	}
	r.Add("agent_pss_mb_20_pods", float64(m.PSS)/mb, "MB")
	return w.deleteSet(ctx, "idle")
}

func (w *workload) allReady(ctx context.Context, set string, n int) error {
	return until(ctx, fmt.Sprintf("%d pods are ready", n), func(ctx context.Context) error {
		list, err := w.cluster.Core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "set=" + set})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			for _, c := range list.Items[i].Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready < n {
			return fmt.Errorf("%d of %d", ready, n)
		}
		return nil
	})
}
