package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/packets"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

const (
	startPods     = 10  // pods in the start figures
	podRounds     = 20  // pods in the latency figures, one after the other
	changeRounds  = 200 // register changes
	changeDevice  = "probe"
	collectCycle  = 100 * time.Millisecond
	idleCountdown = time.Minute
)

func firstLight(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	for _, start := range []func(context.Context) error{s.StartRelay, s.Join, s.StartAgent} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	w, err := newWorkload(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.nodeReady(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context, *bench.Report) error{w.podLatency, w.deviceLatency, w.idleTraffic, w.starts} {
		if err := part(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// podLatency measures create → Running as a watcher of the API sees it; the first pod also pulls the image and is left out.
func (w *workload) podLatency(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d pods, one after the other", podRounds)
	var ms []float64
	for i := range podRounds + 1 {
		took, err := w.onePod(ctx, "latency-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		if i > 0 {
			ms = append(ms, took.Seconds()*1e3)
		}
	}
	addSpread(r, "pod_running", "max", 1, ms)
	return nil
}

func (w *workload) onePod(ctx context.Context, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	watch, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return 0, err
	}
	defer watch.Stop()
	began := time.Now()
	if _, err := pods.Create(ctx, w.pod("latency", name), metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	var took time.Duration
	for took == 0 {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("pod %s did not become Running: %w", name, ctx.Err())
		case e, ok := <-watch.ResultChan():
			if !ok {
				return 0, errors.New("the watch of pods ended")
			}
			if p, isPod := e.Object.(*corev1.Pod); isPod && p.Status.Phase == corev1.PodRunning {
				took = time.Since(began)
			}
		}
	}
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return 0, err
	}
	return took, until(ctx, "pod "+name+" is gone", func(ctx context.Context) error {
		_, err := pods.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is still there"), err)
	})
}

// deviceLatency measures register change → visible to a watcher of DeviceStatus.
func (w *workload) deviceLatency(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d register changes at collectCycle %v", changeRounds, collectCycle)
	const register = 40 // one that does not change by itself
	if err := w.createDevice(ctx, changeDevice, collectCycle, register+1); err != nil {
		return err
	}
	watch, err := w.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + changeDevice})
	if err != nil {
		return err
	}
	defer watch.Stop()
	property := "p" + strconv.Itoa(register)
	var ms []float64
	for i := range changeRounds {
		// Neither in step with the collect cycle nor faster than it.
		if err := sleep(ctx, 250*time.Millisecond+time.Duration(i%37)*7*time.Millisecond); err != nil {
			return err
		}
		want := strconv.Itoa(1000 + i)
		began := time.Now()
		if err := w.modbus.SetHolding(ctx, 1, register, uint16(1000+i)); err != nil {
			return err
		}
		timeout := time.After(10 * time.Second)
		for seen := false; !seen; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-timeout:
				return fmt.Errorf("value %s was not visible within 10 s", want)
			case e, ok := <-watch.ResultChan():
				if !ok {
					return errors.New("the watch of device statuses ended")
				}
				u, isObject := e.Object.(*unstructured.Unstructured)
				seen = isObject && stack.ReadDeviceState(u).Value(property).Value == want
			}
		}
		ms = append(ms, time.Since(began).Seconds()*1e3)
	}
	addSpread(r, "device_change", "p99", 0.99, ms)
	return w.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).Delete(ctx, changeDevice, metav1.DeleteOptions{})
}

// idleTraffic counts what one pod and one device with four properties cost on the wire while nothing changes.
func (w *workload) idleTraffic(ctx context.Context, r *bench.Report) error {
	if err := w.createPods(ctx, "idle", 1); err != nil {
		return err
	}
	if err := w.createDevice(ctx, "rest", time.Second, 4); err != nil {
		return err
	}
	w.opt.say("letting the system come to rest for %v, then counting its traffic for %v", idleCountdown, w.opt.idle)
	if err := sleep(ctx, idleCountdown); err != nil {
		return err
	}
	c, err := packets.Count(w.stack.RelayAt)
	if err != nil {
		return err
	}
	err = sleep(ctx, w.opt.idle)
	bytes, count := c.Stop()
	if err != nil {
		return err
	}
	r.Add("idle_wire_bytes_per_hour", float64(bytes)*float64(time.Hour)/float64(w.opt.idle), "bytes/h")
	r.Add("idle_wire_packets_per_hour", float64(count)*float64(time.Hour)/float64(w.opt.idle), "packets/h")
	return nil
}

// starts measures how fast an agent is in charge of its pods again: after SIGKILL with the containers running, and
// after a reboot (no sandboxes left) with the relay down.
func (w *workload) starts(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d pods for the start figures", startPods)
	if err := w.createPods(ctx, "start", startPods); err != nil {
		return err
	}
	want, err := w.running(ctx)
	if err != nil {
		return err
	}
	w.opt.say("SIGKILL with %d containers running, then adoption", len(want))
	if err := w.stack.KillAgent(); err != nil {
		return err
	}
	took, err := w.agentUp(ctx, startPods+1)
	if err != nil {
		return err
	}
	now, err := w.running(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(now, want) {
		return fmt.Errorf("containers were not adopted: %d before, %d after, or other ids", len(want), len(now))
	}
	r.Add("cold_start_adopt_s", took.Seconds(), "s")

	w.opt.say("the same after a reboot, with the relay down")
	if err := errors.Join(w.stack.StopAgent(), w.stack.StopRelay()); err != nil {
		return err
	}
	rt := w.stack.Runtime.Client()
	boxes, err := rt.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	for _, b := range boxes {
		if err := errors.Join(rt.StopPodSandbox(ctx, b.ID), rt.RemovePodSandbox(ctx, b.ID)); err != nil {
			return err
		}
	}
	if took, err = w.agentUp(ctx, startPods+1); err != nil {
		return err
	}
	r.Add("offline_start_s", took.Seconds(), "s")
	return nil
}

// agentUp starts the agent and returns the time from there until it says that n pods are ready.
func (w *workload) agentUp(ctx context.Context, n int) (time.Duration, error) {
	began := time.Now()
	if err := w.stack.StartAgent(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		st, err := w.stack.Status(ctx)
		ready := 0
		for _, p := range st.Pods {
			if p.Phase == "Running" && p.Ready == "1/1" {
				ready++
			}
		}
		if err == nil && ready >= n {
			return time.Since(began), nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%d of %d pods are ready: %w", ready, n, err)
		}
	}
}

func (w *workload) running(ctx context.Context) ([]string, error) {
	list, err := w.stack.Runtime.Client().ListContainers(ctx, &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return ids, nil
}
