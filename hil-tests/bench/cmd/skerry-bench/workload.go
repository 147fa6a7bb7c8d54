package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/modbuspeer"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// workload is pods and devices on a stack, made and watched through the Kubernetes API.
type workload struct {
	stack   *stack.Stack
	cluster *stack.Cluster
	modbus  *modbuspeer.Peer
	opt     options
}

const namespace = "default"

func newWorkload(ctx context.Context, s *stack.Stack, o options) (*workload, error) {
	c, err := s.Cluster()
	if err != nil {
		return nil, err
	}
	m, err := modbuspeer.Start(ctx, modbuspeer.Options{})
	if err != nil {
		return nil, err
	}
	return &workload{stack: s, cluster: c, modbus: m, opt: o}, nil
}

func (w *workload) close() {
	if err := w.modbus.Stop(); err != nil {
		w.opt.say("stopping the Modbus peer: %v", err)
	}
}

// joinStop stops a stack whatever became of the benchmark, and keeps both errors.
func joinStop(err error, s *stack.Stack) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.Stop(ctx))
}

func (w *workload) nodeReady(ctx context.Context) error {
	return until(ctx, "node is Ready", func(ctx context.Context) error {
		status, message, err := w.cluster.NodeReady(ctx, w.stack.Node)
		if err == nil && status != corev1.ConditionTrue {
			err = errors.New(message)
		}
		return err
	})
}

func until(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return process.Poll(ctx, what, nil, try)
}

// pod belongs to a set: pods that are waited for together.
func (w *workload) pod(set, name string) *corev1.Pod {
	no, grace := false, int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": "bench", "set": set}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "main", Image: w.stack.Images.Ref("sample:1"), Args: []string{"sleep"}}},
		},
	}
}

// createPods makes n pods and waits until all are Running.
func (w *workload) createPods(ctx context.Context, prefix string, n int) error {
	for i := range n {
		if _, err := w.cluster.Core.CoreV1().Pods(namespace).Create(ctx, w.pod(prefix, prefix+"-"+strconv.Itoa(i)), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return until(ctx, fmt.Sprintf("%d pods are Running", n), func(ctx context.Context) error {
		list, err := w.cluster.Core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "set=" + prefix})
		if err != nil {
			return err
		}
		running := 0
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if running < n {
			return fmt.Errorf("%d of %d run", running, n)
		}
		return nil
	})
}

// createDevice makes a model and a device of n INT properties p0… that read holding registers 0… of unit 1, and waits
// until all values are good.
func (w *workload) createDevice(ctx context.Context, name string, cycle time.Duration, n int) error {
	host, port, err := net.SplitHostPort(w.modbus.Addr())
	if err != nil {
		return err
	}
	return w.createDeviceAt(ctx, name, host, port, cycle, n)
}

func (w *workload) createDeviceAt(ctx context.Context, name, host, port string, cycle time.Duration, n int) error {
	number, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		return err
	}
	if err := w.createModbus(ctx, name, map[string]any{"ip": host, "port": number, "slaveID": int64(1)}, cycle, n); err != nil {
		return err
	}
	return w.allGood(ctx, name, n)
}

// createModbus makes a model and a device of n INT properties p0… that read holding registers 0….
func (w *workload) createModbus(ctx context.Context, name string, protocol map[string]any, cycle time.Duration, n int) error {
	var model, props []any
	for i := range n {
		p := "p" + strconv.Itoa(i)
		model = append(model, map[string]any{"name": p, "type": "INT", "accessMode": "ReadWrite"})
		props = append(props, map[string]any{
			"name": p, "collectCycle": cycle.Milliseconds(), "reportToCloud": true,
			"visitors": map[string]any{"protocolName": "modbus", "configData": map[string]any{"register": "HoldingRegister", "offset": int64(i), "limit": int64(1)}},
		})
	}
	object := func(kind, name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind,
			"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec,
		}}
	}
	if _, err := w.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace).Create(ctx,
		object("DeviceModel", name+"-model", map[string]any{"protocol": "modbus", "properties": model}), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := w.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).Create(ctx,
		object("Device", name, map[string]any{
			"deviceModelRef": map[string]any{"name": name + "-model"}, "nodeName": w.stack.Node,
			"protocol":   map[string]any{"protocolName": "modbus", "configData": protocol},
			"properties": props,
		}), metav1.CreateOptions{}); err != nil {
		return err
	}
	return nil
}

// allGood waits until n values of a device are good.
func (w *workload) allGood(ctx context.Context, name string, n int) error {
	return until(ctx, fmt.Sprintf("%d values of device %s are good", n, name), func(ctx context.Context) error {
		d, err := w.cluster.DeviceState(ctx, namespace, name)
		if err != nil {
			return err
		}
		good := 0
		for _, v := range d.Values {
			if v.Quality == "good" {
				good++
			}
		}
		if good < n {
			return fmt.Errorf("%d of %d are good", good, n)
		}
		return nil
	})
}

// addSpread reports median and a second figure of latencies.
func addSpread(r *bench.Report, name, second string, q float64, ms []float64) {
	r.Add(name+"_median_ms", bench.Median(ms), "ms")
	r.Add(name+"_"+second+"_ms", bench.Quantile(ms, q), "ms")
}
