package stack

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// The device resources.
var (
	Devices        = schema.GroupVersionResource{Group: "devices.kubeedge.io", Version: "v1beta1", Resource: "devices"}
	DeviceModels   = schema.GroupVersionResource{Group: "devices.kubeedge.io", Version: "v1beta1", Resource: "devicemodels"}
	DeviceStatuses = schema.GroupVersionResource{Group: "devices.kubeedge.io", Version: "v1beta1", Resource: "devicestatuses"}
)

// Cluster is what the demo, the tests and the benchmarks look at through the Kubernetes API, and nothing else.
type Cluster struct {
	Core    kubernetes.Interface
	Dynamic dynamic.Interface
}

// Cluster returns clients of the control plane, safe for concurrent use.
func (s *Stack) Cluster() (*Cluster, error) {
	cfg := s.Kube.REST()
	cfg.QPS, cfg.Burst = 200, 400
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of the control plane: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("dynamic client of the control plane: %w", err)
	}
	return &Cluster{core, dyn}, nil
}

// NodeReady returns the status and the message of a node's Ready condition; "" while there is no such node.
func (c *Cluster) NodeReady(ctx context.Context, name string) (status corev1.ConditionStatus, message string, err error) {
	list, err := c.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil || len(list.Items) == 0 {
		return "", "no such node", err
	}
	for _, cond := range list.Items[0].Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status, cond.Reason + ": " + cond.Message, nil
		}
	}
	return "", "the node has no Ready condition yet", nil
}

// Value is one property of a device as the API shows it.
type Value struct {
	Device, Property  string
	Value, Quality    string
	Unit, Reason      string
	At                time.Time
	Desired, Outcome  string
	DesiredGeneration string
}

// DeviceState is a DeviceStatus object.
type DeviceState struct {
	Namespace, Name string
	State           string
	LastOnline      string
	ResourceVersion string
	Values          []Value
}

// Value returns the property called name, the zero Value if it is not there.
func (d DeviceState) Value(name string) Value {
	for _, v := range d.Values {
		if v.Property == name {
			return v
		}
	}
	return Value{}
}

// DeviceStates lists all DeviceStatus objects of a namespace ("" for all).
func (c *Cluster) DeviceStates(ctx context.Context, namespace string) ([]DeviceState, error) {
	list, err := c.Dynamic.Resource(DeviceStatuses).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := make([]DeviceState, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, ReadDeviceState(&list.Items[i]))
	}
	return out, nil
}

// DeviceState reads one DeviceStatus; the zero state if there is none yet.
func (c *Cluster) DeviceState(ctx context.Context, namespace, name string) (DeviceState, error) {
	all, err := c.DeviceStates(ctx, namespace)
	if err != nil {
		return DeviceState{}, err
	}
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
	}
	return DeviceState{}, nil
}

// ReadDeviceState decodes a DeviceStatus object.
func ReadDeviceState(u *unstructured.Unstructured) DeviceState {
	str := func(m map[string]any, path ...string) string {
		s, _, _ := unstructured.NestedString(m, path...)
		return s
	}
	d := DeviceState{
		Namespace: u.GetNamespace(), Name: u.GetName(), ResourceVersion: u.GetResourceVersion(),
		State: str(u.Object, "status", "state"), LastOnline: str(u.Object, "status", "lastOnlineTime"),
	}
	twins, _, _ := unstructured.NestedSlice(u.Object, "status", "twins")
	for _, t := range twins {
		m, ok := t.(map[string]any)
		if !ok {
			continue
		}
		v := Value{
			Device: d.Name, Property: str(m, "propertyName"),
			Value: str(m, "reported", "value"), Quality: str(m, "reported", "metadata", "quality"),
			Unit: str(m, "reported", "metadata", "unit"), Reason: str(m, "reported", "metadata", "reason"),
			Desired: str(m, "observedDesired", "value"), Outcome: str(m, "observedDesired", "metadata", "outcome"),
			DesiredGeneration: str(m, "observedDesired", "metadata", "generation"),
		}
		if ms, err := strconv.ParseInt(str(m, "reported", "metadata", "timestamp"), 10, 64); err == nil {
			v.At = time.UnixMilli(ms)
		}
		d.Values = append(d.Values, v)
	}
	return d
}

// DeviceConditions returns the conditions in a Device's status by type.
func (c *Cluster) DeviceConditions(ctx context.Context, namespace, name string) (map[string]metav1.Condition, error) {
	u, err := c.Dynamic.Resource(Devices).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	out := map[string]metav1.Condition{}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		get := func(k string) string { s, _ := m[k].(string); return s }
		out[get("type")] = metav1.Condition{Type: get("type"), Status: metav1.ConditionStatus(get("status")), Reason: get("reason"), Message: get("message")}
	}
	return out, nil
}
