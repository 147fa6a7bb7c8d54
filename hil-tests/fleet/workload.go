package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/relay/enroll"
)

// Namespace is where the fleet's objects are.
const Namespace = "default"

const (
	property = "level"
	model    = "fleet-model"
	everyone = "fleet-all"
)

// Cluster is the API as the simulator uses it: a client with a limit of its own, beside those of the relay.
type Cluster struct {
	CA      *enroll.CA
	Core    kubernetes.Interface
	Dynamic dynamic.Interface
	workers int
}

// Connect makes clients that send at most qps requests a second, and reads the cluster's CA.
func Connect(ctx context.Context, cfg *rest.Config, qps float64) (*Cluster, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = "fleet"
	cfg.QPS, cfg.Burst = float32(qps), max(1, int(qps/10))
	binary := rest.CopyConfig(cfg) // a tenth of JSON's work, for both ends; custom resources have no such form
	binary.ContentType, binary.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(binary)
	if err != nil {
		return nil, fmt.Errorf("client of the control plane: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("dynamic client of the control plane: %w", err)
	}
	ca, err := enroll.LoadCA(ctx, core)
	if err != nil {
		return nil, err
	}
	return &Cluster{CA: ca, Core: core, Dynamic: dyn, workers: 16}, nil
}

// Workload says what each agent is given.
type Workload struct {
	Groups  int // configMaps that a part of the agents share, beside the one that all do
	Bytes   int // of each configMap
	Pods    bool
	Devices bool
}

// Everyone is the key of the configMap that all pods name.
func Everyone() wire.Key { return wire.NewKey(wire.KindConfigMap, Namespace, everyone, "") }

// Group is the key of the gth shared configMap.
func Group(g int) wire.Key { return wire.NewKey(wire.KindConfigMap, Namespace, groupName(g), "") }

func groupName(g int) string { return "fleet-group-" + strconv.Itoa(g) }

// Objects is how many objects an agent holds: its Node, and what w gives it.
func (w Workload) Objects() int {
	n := 1
	if w.Pods {
		n += 3 // the pod, the configMap of all, the Service of the API server
		if w.Groups > 0 {
			n++
		}
	}
	if w.Devices {
		n += 2
	}
	return n
}

// Create makes the workload's objects for nodes, in parallel. The Nodes must exist: pods bound to a node that does not are
// collected.
func (c *Cluster) Create(ctx context.Context, w Workload, nodes []string, progress Progress) error {
	if err := c.Share(ctx, w); err != nil {
		return err
	}
	return c.each(ctx, "objects", len(nodes), progress, func(ctx context.Context, i int) error {
		if w.Pods {
			if err := c.createPod(ctx, nodes[i], i, w.Groups); err != nil {
				return err
			}
		}
		if w.Devices {
			return c.createDevice(ctx, nodes[i])
		}
		return nil
	})
}

// Share makes what w's pods and devices have in common: configMaps and the DeviceModel.
func (c *Cluster) Share(ctx context.Context, w Workload) error {
	if w.Pods {
		for g := range w.Groups {
			if err := c.SetConfigMap(ctx, Group(g), 0, w.Bytes); err != nil {
				return err
			}
		}
		if err := c.SetConfigMap(ctx, Everyone(), 0, w.Bytes); err != nil {
			return err
		}
	}
	if w.Devices {
		return c.createModel(ctx)
	}
	return nil
}

// each calls fn for 0 … n-1 in parallel, and says how far it has come.
func (c *Cluster) each(ctx context.Context, what string, n int, progress Progress, fn func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	var done atomic.Int64
	said := time.Now()
	for i := range n {
		g.Go(func() error {
			defer done.Add(1)
			if err := fn(ctx, i); err != nil {
				return fmt.Errorf("%s %d of %d: %w", what, i, n, err)
			}
			return nil
		})
		if now := time.Now(); progress != nil && now.Sub(said) > 2*time.Second {
			said = now
			progress(what, int(done.Load()), n)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return g.Wait()
}

// SetConfigMap makes a shared configMap, or gives it content that no other n has.
func (c *Cluster) SetConfigMap(ctx context.Context, key wire.Key, n, bytes int) error {
	data := map[string]string{"n": strconv.Itoa(n), "content": strings.Repeat("skerry ", max(0, bytes)/7)}
	maps := c.Core.CoreV1().ConfigMaps(key.Namespace())
	_, err := maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key.Name()}, Data: data}, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key.Name()}, Data: data}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write configMap %s: %w", key.Name(), err)
	}
	return nil
}

func (c *Cluster) createPod(ctx context.Context, node string, i, groups int) error {
	no, grace := false, int64(1)
	volume := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: podName(node), Namespace: Namespace, Labels: map[string]string{"app": "fleet"}},
		Spec: corev1.PodSpec{
			NodeName: node, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/fleet:1"}},
			Volumes:    []corev1.Volume{volume(everyone)},
		},
	}
	if groups > 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, volume(groupName(i%groups)))
	}
	_, err := c.Core.CoreV1().Pods(Namespace).Create(ctx, pod, metav1.CreateOptions{})
	return already(err)
}

func podName(node string) string { return "pod-" + node }

// ReplacePods deletes the nodes' pods and makes them anew: churn as a rollout causes it. The agents must report.
func (c *Cluster) ReplacePods(ctx context.Context, w Workload, nodes []string, first int, progress Progress) error {
	return c.each(ctx, "replaced pods", len(nodes), progress, func(ctx context.Context, i int) error {
		pods := c.Core.CoreV1().Pods(Namespace)
		if err := pods.Delete(ctx, podName(nodes[i]), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete pod %s: %w", podName(nodes[i]), err)
		}
		for {
			old, err := pods.Get(ctx, podName(nodes[i]), metav1.GetOptions{})
			if apierrors.IsNotFound(err) || err == nil && old.DeletionTimestamp == nil {
				break
			}
			if err != nil {
				return fmt.Errorf("read pod %s: %w", podName(nodes[i]), err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("pod %s is not gone: %w", podName(nodes[i]), ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
		return c.createPod(ctx, nodes[i], first+i, w.Groups)
	})
}

func already(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func deviceObject(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": Namespace}, "spec": spec,
	}}
}

func (c *Cluster) createModel(ctx context.Context) error {
	_, err := c.Dynamic.Resource(stack.DeviceModels).Namespace(Namespace).Create(ctx, deviceObject("DeviceModel", model, map[string]any{
		"protocol": "modbus", "properties": []any{map[string]any{"name": property, "type": "INT", "accessMode": "ReadWrite"}},
	}), metav1.CreateOptions{})
	return already(err)
}

func deviceName(node string) string { return "device-" + node }

func (c *Cluster) createDevice(ctx context.Context, node string) error {
	_, err := c.Dynamic.Resource(stack.Devices).Namespace(Namespace).Create(ctx, deviceObject("Device", deviceName(node), map[string]any{
		"deviceModelRef": map[string]any{"name": model}, "nodeName": node,
		"protocol": map[string]any{"protocolName": "modbus", "configData": map[string]any{"ip": "127.0.0.1", "port": int64(1502), "slaveID": int64(1)}},
		"properties": []any{map[string]any{
			"name": property, "collectCycle": int64(1000), "reportToCloud": true,
			"visitors": map[string]any{"protocolName": "modbus", "configData": map[string]any{"register": "HoldingRegister", "offset": int64(0), "limit": int64(1)}},
		}},
	}), metav1.CreateOptions{})
	return already(err)
}

// SetDesired gives the devices of nodes a new desired value.
func (c *Cluster) SetDesired(ctx context.Context, nodes []string, value int, progress Progress) error {
	patch, err := json.Marshal([]any{map[string]any{"op": "add", "path": "/spec/properties/0/desired", "value": map[string]any{"value": strconv.Itoa(value)}}})
	if err != nil {
		return err
	}
	return c.each(ctx, "desired values", len(nodes), progress, func(ctx context.Context, i int) error {
		_, err := c.Dynamic.Resource(stack.Devices).Namespace(Namespace).Patch(ctx, deviceName(nodes[i]), types.JSONPatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// CountNodes returns how many Nodes there are.
func (c *Cluster) CountNodes(ctx context.Context) (int, error) {
	list, err := c.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("count the nodes: %w", err)
	}
	n := len(list.Items)
	if list.RemainingItemCount != nil {
		n += int(*list.RemainingItemCount)
	}
	return n, nil
}

// AwaitNodes blocks until n Nodes exist.
func (c *Cluster) AwaitNodes(ctx context.Context, n int, progress Progress) error {
	for {
		have, err := c.CountNodes(ctx)
		if err == nil && have >= n {
			return nil
		}
		if progress != nil {
			progress("registered as Nodes", have, n)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d Nodes exist: %w", have, n, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

// ServerCounters reads the API server's own metrics.
func (c *Cluster) ServerCounters(ctx context.Context) (Counters, error) {
	b, err := c.Core.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	return ParseCounters(b), nil
}
