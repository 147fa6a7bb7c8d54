package overview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/relay/api/devices/v1beta1"
	"github.com/skerry/skerry/relay/members"
)

// AgentLabel marks the Nodes that are Skerry's; the relay sets it, and no node can.
const AgentLabel = "node.skerry.dev/agent"

// relayAnnotation of a node's Lease names the relay that holds the node's session.
const relayAnnotation = "skerry.dev/relay"

// pageSize is how many pods one answer of the API server holds at most.
const pageSize = 500

// ErrNoCRDs says that the cluster does not know Devices.
var ErrNoCRDs = errors.New("the cluster has no Skerry custom resources: run `skerryctl init`")

// Overview is the whole picture at one moment.
type Overview struct {
	Warnings []string `json:"warnings,omitempty"` // what needs an operator
	Summary  Summary  `json:"summary"`            // of all, also where only Problems are listed
	Relays   []Relay  `json:"relays"`
	Nodes    []Node   `json:"nodes"`
	Devices  []Device `json:"devices"`

	problems bool // those that are well are not in it
}

// Relay is a relay that runs, as its own Lease tells, or that holds or held sessions, as the nodes' Leases tell.
type Relay struct {
	Name      string    `json:"name"`
	Alive     bool      `json:"alive"`             // its own Lease has not expired
	Draining  bool      `json:"draining"`          // it sends its agents elsewhere
	Address   string    `json:"address,omitempty"` // under which gateways reach this very relay
	Agents    int       `json:"agents"`            // connected, by its own count
	Connected int       `json:"connected"`         // nodes whose session it holds now
	Started   time.Time `json:"started,omitzero"`
	Renewed   time.Time `json:"renewed"` // when it last renewed a Lease
}

// Node is one gateway.
type Node struct {
	Name      string    `json:"name"`
	Connected bool      `json:"connected"` // a relay renews its Lease
	Ready     bool      `json:"ready"`
	Reason    string    `json:"reason,omitempty"` // why it is not ready
	LastSeen  time.Time `json:"lastSeen,omitzero"`
	Relay     string    `json:"relay,omitempty"`
	Version   string    `json:"version,omitempty"` // of the agent
	Pods      int       `json:"pods"`
	Running   int       `json:"running"`
}

// Device is one device and how fresh its values are.
type Device struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Node      string    `json:"node"`
	Ready     string    `json:"ready"` // True, False or Unknown
	Reason    string    `json:"reason,omitempty"`
	State     string    `json:"state,omitempty"`
	Values    string    `json:"values,omitempty"`
	LastValue time.Time `json:"lastValue,omitzero"` // by the gateway's clock
}

// Gather reads the cluster. The number of requests does not depend on the number of nodes: one for each kind, and one for each 500 pods.
func Gather(ctx context.Context, core kubernetes.Interface, dyn dynamic.Interface, now time.Time) (*Overview, error) {
	nodes, err := core.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: AgentLabel + "=true"})
	if err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	leases, err := core.CoordinationV1().Leases("kube-node-lease").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes' Leases: %w", err)
	}
	o := &Overview{Nodes: []Node{}, Relays: []Relay{}, Devices: []Device{}}
	if o.Warnings, err = warnings(ctx, core, now); err != nil {
		return nil, err
	}
	byNode := map[string]*coordinationv1.Lease{}
	for i := range leases.Items {
		byNode[leases.Items[i].Name] = &leases.Items[i]
	}
	relays, err := running(ctx, core, now)
	if err != nil {
		return nil, err
	}
	pods, err := countPods(ctx, core)
	if err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		n := nodeOf(&nodes.Items[i], byNode[nodes.Items[i].Name], now)
		n.Pods, n.Running = pods[n.Name].all, pods[n.Name].running
		o.Nodes = append(o.Nodes, n)
		if n.Relay == "" {
			continue
		}
		r := relays[n.Relay]
		if r == nil {
			r = &Relay{Name: n.Relay}
			relays[n.Relay] = r
		}
		if n.Connected {
			r.Connected++
		}
		if n.LastSeen.After(r.Renewed) {
			r.Renewed = n.LastSeen
		}
	}
	for _, r := range relays {
		o.Relays = append(o.Relays, *r)
	}
	slices.SortFunc(o.Relays, func(a, b Relay) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(o.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	if o.Devices, err = devices(ctx, dyn); err != nil {
		return nil, err
	}
	o.Summary = o.count()
	return o, nil
}

// running returns the relays that have Leases of their own.
func running(ctx context.Context, core kubernetes.Interface, now time.Time) (map[string]*Relay, error) {
	leases, err := core.CoordinationV1().Leases(members.Namespace).List(ctx, metav1.ListOptions{LabelSelector: members.Label + "=true"})
	if err != nil {
		return nil, fmt.Errorf("list the relays' Leases: %w", err)
	}
	out := map[string]*Relay{}
	for i := range leases.Items {
		l := &leases.Items[i]
		r := &Relay{
			Name: l.Annotations[members.NameAnnotation], Address: l.Annotations[members.AddressAnnotation],
			Draining: l.Annotations[members.DrainingAnnotation] == "true",
		}
		r.Agents, _ = strconv.Atoi(l.Annotations[members.AgentsAnnotation])
		if t := l.Spec.AcquireTime; t != nil {
			r.Started = t.Time
		}
		if t := l.Spec.RenewTime; t != nil {
			r.Renewed = t.Time
			r.Alive = now.Before(t.Add(members.Duration))
		}
		out[r.Name] = r
	}
	return out, nil
}

func nodeOf(n *corev1.Node, lease *coordinationv1.Lease, now time.Time) Node {
	out := Node{Name: n.Name, Version: agentVersion(n.Status.NodeInfo.KubeletVersion)}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if out.Ready = c.Status == corev1.ConditionTrue; !out.Ready {
				out.Reason = c.Reason
			}
		}
	}
	if lease != nil && lease.Spec.RenewTime != nil {
		out.LastSeen = lease.Spec.RenewTime.Time
		out.Relay = lease.Annotations[relayAnnotation]
		if d := lease.Spec.LeaseDurationSeconds; d != nil {
			out.Connected = now.Before(out.LastSeen.Add(time.Duration(*d) * time.Second))
		}
	}
	return out
}

// agentVersion takes the agent's own version out of the kubelet version, which must start like one: "v0.0.0-skerry.1.2".
func agentVersion(kubelet string) string {
	if _, v, ok := strings.Cut(kubelet, "skerry."); ok {
		return v
	}
	return kubelet
}

// podCount is how many pods a node has.
type podCount struct{ all, running int }

// countPods reads the pods of the whole cluster in pages and keeps the counts by node: a fleet has thousands of nodes, and one request for
// each would take minutes; all pods in one answer may be hundreds of MB.
func countPods(ctx context.Context, core kubernetes.Interface) (map[string]podCount, error) {
	out := map[string]podCount{}
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		pods, err := core.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list Pods: %w", err)
		}
		for i := range pods.Items {
			n := out[pods.Items[i].Spec.NodeName]
			n.all++
			if pods.Items[i].Status.Phase == corev1.PodRunning {
				n.running++
			}
			out[pods.Items[i].Spec.NodeName] = n
		}
		if opts.Continue = pods.Continue; opts.Continue == "" {
			return out, nil
		}
	}
}

func devices(ctx context.Context, dyn dynamic.Interface) ([]Device, error) {
	var specs v1beta1.DeviceList
	if err := list(ctx, dyn, "devices", &specs); err != nil {
		return nil, err
	}
	var values v1beta1.DeviceStatusList
	if err := list(ctx, dyn, "devicestatuses", &values); err != nil {
		return nil, err
	}
	statuses := map[string]*v1beta1.DeviceStatusStatus{}
	for i := range values.Items {
		v := &values.Items[i]
		statuses[v.Namespace+"/"+v.Name] = &v.Status
	}
	out := make([]Device, 0, len(specs.Items))
	for i := range specs.Items {
		d := &specs.Items[i]
		row := Device{Namespace: d.Namespace, Name: d.Name, Node: d.Spec.NodeName, Ready: string(metav1.ConditionUnknown)}
		if c := meta.FindStatusCondition(d.Status.Conditions, v1beta1.ConditionReady); c != nil {
			row.Ready, row.Reason = string(c.Status), c.Reason
		}
		if s := statuses[d.Namespace+"/"+d.Name]; s != nil {
			row.State, row.Values, row.LastValue = s.State, v1beta1.Summary(s.Twins, 60), newest(s.Twins)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func list(ctx context.Context, dyn dynamic.Interface, resource string, into any) error {
	l, err := dyn.Resource(v1beta1.Resource(resource)).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return ErrNoCRDs
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", resource, err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(l.UnstructuredContent(), into); err != nil {
		return fmt.Errorf("read %s: %w", resource, err)
	}
	return nil
}

// newest returns the timestamp of the value that changed last; zero if there is none.
func newest(twins []v1beta1.Twin) time.Time {
	var at time.Time
	for _, t := range twins {
		if t.Reported == nil {
			continue
		}
		ms, err := strconv.ParseInt(t.Reported.Metadata["timestamp"], 10, 64)
		if err != nil {
			continue
		}
		if ts := time.UnixMilli(ms).UTC(); ts.After(at) {
			at = ts
		}
	}
	return at
}
