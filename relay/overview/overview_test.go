package overview

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	dynfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/skerry/skerry/relay/api/devices/v1beta1"
	"github.com/skerry/skerry/relay/members"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func node(name string, ready corev1.ConditionStatus, reason string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{AgentLabel: "true"}},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v0.0.0-skerry.1.2.3"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: reason}},
		},
	}
}

func lease(name, relay string, ago time.Duration) *coordinationv1.Lease {
	seconds := int32(40)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-node-lease", Annotations: map[string]string{relayAnnotation: relay}},
		Spec:       coordinationv1.LeaseSpec{LeaseDurationSeconds: &seconds, RenewTime: &metav1.MicroTime{Time: now.Add(-ago)}},
	}
}

func pod(name, node string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
}

func fakes(t *testing.T, objs ...runtime.Object) *dynfake.FakeDynamicClient {
	t.Helper()
	s := runtime.NewScheme()
	if err := v1beta1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	return dynfake.NewSimpleDynamicClient(s, objs...)
}

func TestGather(t *testing.T) {
	kubelets := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "cloud-1"}}
	core := fake.NewClientset(
		node("gw-1", corev1.ConditionTrue, ""), node("gw-2", corev1.ConditionUnknown, "NodeStatusUnknown"), node("gw-3", corev1.ConditionFalse, "KubeletNotReady"), kubelets,
		lease("gw-1", "relay-a", 3*time.Second), lease("gw-2", "relay-a", time.Hour), lease("cloud-1", "", time.Second),
		pod("a", "gw-1", corev1.PodRunning), pod("b", "gw-1", corev1.PodPending), pod("c", "cloud-1", corev1.PodRunning),
	)
	dyn := fakes(t,
		&v1beta1.Device{
			ObjectMeta: metav1.ObjectMeta{Name: "pump", Namespace: "default"}, Spec: v1beta1.DeviceSpec{NodeName: "gw-1"},
			Status: v1beta1.DeviceState{Conditions: []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Polling"}}},
		},
		&v1beta1.Device{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: "default"}},
		&v1beta1.DeviceStatus{
			ObjectMeta: metav1.ObjectMeta{Name: "pump", Namespace: "default"},
			Status: v1beta1.DeviceStatusStatus{State: "online", Twins: []v1beta1.Twin{
				{PropertyName: "speed", Reported: &v1beta1.TwinProperty{Value: "7", Metadata: map[string]string{"timestamp": "1767322000000"}}},
				{PropertyName: "temp", Reported: &v1beta1.TwinProperty{Value: "3", Metadata: map[string]string{"timestamp": "1767323000000", "quality": "bad"}}},
				{PropertyName: "level"},
			}},
		},
	)
	o, err := Gather(t.Context(), core, dyn, now)
	if err != nil {
		t.Fatal(err)
	}
	wantNodes := []Node{
		{Name: "gw-1", Connected: true, Ready: true, LastSeen: now.Add(-3 * time.Second), Relay: "relay-a", Version: "1.2.3", Pods: 2, Running: 1},
		{Name: "gw-2", Reason: "NodeStatusUnknown", LastSeen: now.Add(-time.Hour), Relay: "relay-a", Version: "1.2.3"},
		{Name: "gw-3", Reason: "KubeletNotReady", Version: "1.2.3"},
	}
	if len(o.Nodes) != len(wantNodes) {
		t.Fatalf("nodes = %+v", o.Nodes)
	}
	for i, want := range wantNodes {
		if o.Nodes[i] != want {
			t.Errorf("node %d = %+v, want %+v", i, o.Nodes[i], want)
		}
	}
	if len(o.Relays) != 1 || o.Relays[0] != (Relay{Name: "relay-a", Connected: 1, Renewed: now.Add(-3 * time.Second)}) {
		t.Errorf("relays = %+v", o.Relays)
	}
	if len(o.Devices) != 2 || o.Devices[0] != (Device{Namespace: "default", Name: "new", Ready: "Unknown"}) {
		t.Fatalf("devices = %+v", o.Devices)
	}
	want := Device{
		Namespace: "default", Name: "pump", Node: "gw-1", Ready: "True", Reason: "Polling", State: "online",
		Values: "speed=7 temp=3(bad) level=?", LastValue: time.UnixMilli(1767323000000).UTC(),
	}
	if o.Devices[1] != want {
		t.Errorf("device = %+v, want %+v", o.Devices[1], want)
	}
	var b strings.Builder
	if err := o.Print(&b, now); err != nil {
		t.Fatal(err)
	}
	if line := "relays: 0 running, 1 not; nodes: 1 ready, 2 not; devices: 1 ready, 0 not, 1 unknown\n\n"; !strings.Contains(b.String(), line) || strings.Index(b.String(), line) > strings.Index(b.String(), "RELAY") {
		t.Errorf("the counts are not before the tables:\n%s", b.String())
	}
	for _, line := range []string{"relay-a   gone    -         -        1 ", "gw-1   yes         yes", "no (NodeStatusUnknown)", "1/2", "default/pump", "speed=7 temp=3(bad)"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("the tables lack %q:\n%s", line, b.String())
		}
	}
}

// TestProblems: of a fleet only what is not well is listed, and the counts are of all.
func TestProblems(t *testing.T) {
	o := &Overview{
		Relays: []Relay{{Name: "well-r", Alive: true}, {Name: "ill-draining", Alive: true, Draining: true}, {Name: "ill-gone"}},
		Nodes: []Node{
			{Name: "well-n", Ready: true, Connected: true}, {Name: "ill-silent", Ready: true}, {Name: "ill-n", Connected: true, Reason: "KubeletNotReady"},
		},
		Devices: []Device{{Name: "well-d", Ready: "True"}, {Name: "ill-d", Ready: "False"}, {Name: "ill-unknown", Ready: "Unknown"}},
	}
	o.Summary = o.count()
	counts := "relays: 1 running, 2 not; nodes: 1 ready, 2 not; devices: 1 ready, 1 not, 1 unknown\n"
	var b strings.Builder
	if err := o.Problems().Print(&b, now); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.HasPrefix(text, counts) || strings.Contains(text, "well-") || strings.Count(text, "ill-") != 6 {
		t.Errorf("the problems of a fleet:\n%s", text)
	}
	if len(o.Nodes) != 3 || o.Nodes[0].Name != "well-n" {
		t.Errorf("asking for problems changed what was gathered: %+v", o.Nodes)
	}
	well := &Overview{Relays: o.Relays[:1], Nodes: o.Nodes[:1], Devices: o.Devices[:1]}
	well.Summary = well.count()
	b.Reset()
	if err := well.Problems().Print(&b, now); err != nil || b.String() != "relays: 1 running, 0 not; nodes: 1 ready, 0 not; devices: 1 ready, 0 not\n" {
		t.Errorf("the problems of one that is well: %q, %v", b.String(), err)
	}
	text, err := json.Marshal(well.Problems())
	if err != nil || !strings.Contains(string(text), `"nodes":[]`) || !strings.Contains(string(text), `"summary":{"relays":{"well":1,`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestRequests: a fleet costs no more requests than one gateway, but for the pages of its pods; and all pages count.
func TestRequests(t *testing.T) {
	requests := func(nodes int) (int, *Overview) {
		var objs []runtime.Object
		var pods []corev1.Pod
		for i := range nodes {
			name := fmt.Sprintf("gw-%04d", i)
			objs = append(objs, node(name, corev1.ConditionTrue, ""), lease(name, "a", time.Second))
			pods = append(pods, *pod("a-"+name, name, corev1.PodRunning), *pod("b-"+name, name, corev1.PodPending))
		}
		core, dyn := fake.NewClientset(objs...), fakes(t)
		core.PrependReactor("list", "pods", func(a ktesting.Action) (bool, runtime.Object, error) { // in pages, which the fake does not
			opts := a.(ktesting.ListActionImpl).ListOptions
			if opts.Limit != pageSize || opts.FieldSelector != "" {
				t.Errorf("pods are asked for with %+v", opts)
			}
			from, _ := strconv.Atoi(opts.Continue)
			to := min(from+int(opts.Limit), len(pods))
			list := &corev1.PodList{Items: pods[from:to]}
			if to < len(pods) {
				list.Continue = strconv.Itoa(to)
			}
			return true, list, nil
		})
		o, err := Gather(t.Context(), core, dyn, now)
		if err != nil {
			t.Fatal(err)
		}
		return len(core.Actions()) + len(dyn.Actions()), o
	}
	one, _ := requests(1)
	all, o := requests(700) // 1,400 pods: three pages
	if all != one+2 {
		t.Errorf("%d requests for one node, %d for 700", one, all)
	}
	for _, n := range o.Nodes {
		if n.Pods != 2 || n.Running != 1 {
			t.Fatalf("%+v", n)
		}
	}
}

// TestRelays: a relay is shown by its own Lease, whether or not a node's Lease names it.
func TestRelays(t *testing.T) {
	own := func(name string, renewed time.Duration, more map[string]string) *coordinationv1.Lease {
		a := map[string]string{members.NameAnnotation: name, members.AgentsAnnotation: "7"}
		maps.Copy(a, more)
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: members.LeaseName(name), Namespace: members.Namespace, Labels: map[string]string{members.Label: "true"}, Annotations: a},
			Spec:       coordinationv1.LeaseSpec{AcquireTime: &metav1.MicroTime{Time: now.Add(-time.Hour)}, RenewTime: &metav1.MicroTime{Time: now.Add(-renewed)}},
		}
	}
	core := fake.NewClientset(
		node("gw-1", corev1.ConditionTrue, ""), lease("gw-1", "a", 3*time.Second),
		own("a", 2*time.Second, map[string]string{members.AddressAnnotation: "192.0.2.1:7443"}),
		own("b", time.Second, map[string]string{members.DrainingAnnotation: "true"}), own("c", time.Minute, nil),
	)
	o, err := Gather(t.Context(), core, fakes(t), now)
	if err != nil {
		t.Fatal(err)
	}
	want := []Relay{
		{Name: "a", Alive: true, Address: "192.0.2.1:7443", Agents: 7, Connected: 1, Started: now.Add(-time.Hour), Renewed: now.Add(-2 * time.Second)},
		{Name: "b", Alive: true, Draining: true, Agents: 7, Started: now.Add(-time.Hour), Renewed: now.Add(-time.Second)},
		{Name: "c", Agents: 7, Started: now.Add(-time.Hour), Renewed: now.Add(-time.Minute)},
	}
	if !slices.Equal(o.Relays, want) {
		t.Errorf("relays = %+v, want %+v", o.Relays, want)
	}
	var b strings.Builder
	if err := o.Print(&b, now); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`a +running +192\.0\.2\.1:7443 +7 +1 +1h0m0s +2s`, `b +draining +- +7 +0 +1h0m0s +1s`, `c +gone +- +- +0 +- +1m0s`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(b.String()) {
			t.Errorf("the tables lack %q:\n%s", line, b.String())
		}
	}
}

func TestWithoutCRDs(t *testing.T) {
	dyn := fakes(t)
	dyn.PrependReactor("list", "devices", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(v1beta1.Resource("devices").GroupResource(), "")
	})
	if _, err := Gather(t.Context(), fake.NewClientset(), dyn, now); !errors.Is(err, ErrNoCRDs) {
		t.Errorf("err = %v", err)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1234 * time.Millisecond: "1.2s", 75 * time.Second: "1m15s", 3*time.Hour + 20*time.Second: "3h0m0s", 72 * time.Hour: "3d", -400 * time.Hour: "-16d",
	} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
	if got := age(time.Time{}, now); got != "never" {
		t.Errorf("age(zero) = %s", got)
	}
}
