//go:build integration

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

func TestNode(t *testing.T) {
	var n *corev1.Node
	stacktest.Eventually(t, 20*time.Second, "the node is Ready", func() (bool, string) {
		status, message, err := w.cluster.NodeReady(t.Context(), node)
		return err == nil && status == corev1.ConditionTrue, message
	})
	n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("status", func(t *testing.T) { nodeStatus(t, n) })
	t.Run("lease is renewed", func(t *testing.T) {
		renewed := func() time.Time {
			l, err := w.cluster.Core.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), node, metav1.GetOptions{})
			if err != nil || l.Spec.RenewTime == nil {
				t.Fatalf("lease %+v, %v", l, err)
			}
			if len(l.OwnerReferences) != 1 || l.OwnerReferences[0].UID != n.UID {
				t.Errorf("the Lease is not owned by the Node, and would outlive it: %+v", l.OwnerReferences)
			}
			return l.Spec.RenewTime.Time
		}
		first := renewed()
		stacktest.Eventually(t, 15*time.Second, "the Lease is renewed", func() (bool, string) { return renewed().After(first), first.String() })
	})
}

func nodeStatus(t *testing.T, n *corev1.Node) {
	conditions := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range n.Status.Conditions {
		conditions[c.Type] = c.Status
		if c.Reason == "" || c.Message == "" || c.LastHeartbeatTime.IsZero() || c.LastTransitionTime.IsZero() {
			t.Errorf("condition is not complete: %+v", c)
		}
	}
	want := map[corev1.NodeConditionType]corev1.ConditionStatus{"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "SkerryMemoryShed": "False", "SkerryAgentFault": "False", "SkerryDiskReadOnly": "False"}
	if !maps.Equal(conditions, want) {
		t.Errorf("conditions %v, want %v", conditions, want)
	}
	if n.Labels["kubernetes.io/hostname"] != node || n.Labels["kubernetes.io/os"] != "linux" || n.Labels["kubernetes.io/arch"] != n.Status.NodeInfo.Architecture {
		t.Errorf("labels %v", n.Labels)
	}
	info := n.Status.NodeInfo
	if !strings.Contains(info.KubeletVersion, "skerry") || !strings.HasPrefix(info.ContainerRuntimeVersion, "containerd://") || info.KernelVersion == "" || info.OSImage == "" || info.BootID == "" {
		t.Errorf("nodeInfo %+v", info)
	}
	for _, r := range []corev1.ResourceName{"cpu", "memory", "pods", "ephemeral-storage"} {
		if q := n.Status.Capacity[r]; q.IsZero() {
			t.Errorf("no capacity of %s: %v", r, n.Status.Capacity)
		}
		if q := n.Status.Allocatable[r]; q.IsZero() {
			t.Errorf("nothing of %s can be allocated: %v", r, n.Status.Allocatable)
		}
	}
	if len(n.Status.Addresses) == 0 || n.Status.Addresses[0].Type != corev1.NodeInternalIP {
		t.Errorf("addresses %v", n.Status.Addresses)
	}
	if len(n.Spec.Taints) != 0 {
		t.Errorf("a ready node has taints: %v", n.Spec.Taints)
	}
}

// TestPods runs what needs nothing but pods at the same time.
func TestPods(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"status as a kubelet's", podStatus}, {"deployment", deployment}, {"job", job}, {"failed", failed},
		{"config reaches the pod", config}, {"events", events},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

const simplePod = `
apiVersion: v1
kind: Pod
metadata: {name: $NAME, namespace: default, labels: {app: $NAME}}
spec:
  nodeName: $NODE
  terminationGracePeriodSeconds: 10
  containers:
    - {name: c, image: $IMAGE}
`

func podStatus(t *testing.T) {
	remove(t, "pod", "status")
	apply(t, strings.Replace(simplePod, "{name: c,", "{name: c, resources: {limits: {memory: 64Mi}}, readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1},", 1), "NAME", "status")
	p := awaitPod(t, "status", 30*time.Second, "is ready", ready)
	s := p.Status
	if s.QOSClass != corev1.PodQOSBurstable || s.StartTime == nil || s.ObservedGeneration != p.Generation || s.Reason != "" || s.Message != "" {
		t.Errorf("status %+v", s)
	}
	n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.HostIP != n.Status.Addresses[0].Address || len(s.HostIPs) != 1 || s.HostIPs[0].IP != s.HostIP {
		t.Errorf("hostIP %q, hostIPs %v; the node is %v", s.HostIP, s.HostIPs, n.Status.Addresses)
	}
	if s.PodIP == "" || len(s.PodIPs) != 1 || s.PodIPs[0].IP != s.PodIP || !strings.Contains(get(t, "http://"+s.PodIP+":8080/"), "version=1") {
		t.Errorf("podIP %q, podIPs %v, or it does not serve there", s.PodIP, s.PodIPs)
	}
	conditions := map[corev1.PodConditionType]corev1.ConditionStatus{}
	for _, c := range s.Conditions {
		conditions[c.Type] = c.Status
		if c.LastTransitionTime.IsZero() || c.Reason != "" || c.Message != "" {
			t.Errorf("condition %+v", c)
		}
	}
	want := map[corev1.PodConditionType]corev1.ConditionStatus{"PodScheduled": "True", "PodReadyToStartContainers": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True"}
	if !maps.Equal(conditions, want) || len(s.Conditions) != len(want) {
		t.Errorf("conditions %v, want %v", s.Conditions, want)
	}
	if len(s.ContainerStatuses) != 1 {
		t.Fatalf("containerStatuses %+v", s.ContainerStatuses)
	}
	c := s.ContainerStatuses[0]
	if c.Name != "c" || !c.Ready || c.Started == nil || !*c.Started || c.RestartCount != 0 || c.Image != w.Images.Ref("sample:1") ||
		!regexp.MustCompile(`^containerd://[0-9a-f]{64}$`).MatchString(c.ContainerID) || !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(c.ImageID) ||
		c.State.Running == nil || c.State.Running.StartedAt.IsZero() || c.State.Waiting != nil || c.LastTerminationState != (corev1.ContainerState{}) {
		t.Errorf("containerStatus %+v", c)
	}
	line := strings.Fields(kubectl(t, "get", "pod", "status", "--no-headers"))
	if len(line) < 4 || line[1] != "1/1" || line[2] != "Running" || line[3] != "0" {
		t.Errorf("kubectl get pod: %v", line)
	}

	// Deletion: the pod is Terminating while it ends, then its object goes, with it what runs at the edge.
	began := time.Now()
	kubectl(t, "delete", "pod", "status", "--wait=false")
	gone(t, "status", 10*time.Second)
	if d := time.Since(began); d > 6*time.Second {
		t.Errorf("a container that obeys SIGTERM took %v to end", d)
	}
	if list := running(t); slices.ContainsFunc(slices.Collect(maps.Keys(list)), func(k string) bool { return strings.HasPrefix(k, "status/") }) {
		t.Errorf("the object is gone, and its container runs: %v", list)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func deployment(t *testing.T) {
	remove(t, "deployment", "web")
	apply(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 1
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - {name: web, image: $IMAGE, readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
`)
	has := func(n int, version string) {
		t.Helper()
		stacktest.Eventually(t, 40*time.Second, fmt.Sprintf("%d ready pods of version %s and no other", n, version), func() (bool, string) {
			list := pods(t, "app=web")
			text, ok := "", len(list) == n
			for i := range list {
				text += describe(&list[i]) + "; "
				ok = ok && ready(&list[i]) && strings.Contains(get(t, "http://"+list[i].Status.PodIP+":8080/"), "version="+version)
			}
			return ok, text
		})
	}
	has(1, "1")
	first := pods(t, "app=web")[0].Status.ContainerStatuses[0].ContainerID
	kubectl(t, "scale", "deployment", "web", "--replicas=3")
	has(3, "1")
	ips := map[string]bool{}
	kept := false
	for _, p := range pods(t, "app=web") {
		ips[p.Status.PodIP] = true
		kept = kept || p.Status.ContainerStatuses[0].ContainerID == first
	}
	if len(ips) != 3 || !kept {
		t.Errorf("addresses %v; the first pod was kept: %v", ips, kept)
	}
	kubectl(t, "scale", "deployment", "web", "--replicas=1")
	has(1, "1")
	kubectl(t, "set", "image", "deployment/web", "web="+w.Images.Ref("sample:2"))
	// maxUnavailable 0: there is a ready pod at every moment.
	for done := false; !done; time.Sleep(50 * time.Millisecond) {
		list := pods(t, "app=web")
		if !slices.ContainsFunc(list, func(p corev1.Pod) bool { return ready(&p) }) {
			t.Fatalf("no pod was ready during the rolling update: %v", list)
		}
		done = len(list) == 1 && list[0].Spec.Containers[0].Image == w.Images.Ref("sample:2")
		if t.Context().Err() != nil {
			return
		}
	}
	has(1, "2")
}

func job(t *testing.T) {
	remove(t, "job", "once")
	apply(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: default}
spec:
  template:
    metadata: {labels: {app: once}}
    spec:
      automountServiceAccountToken: false
      restartPolicy: Never
      containers: [{name: c, image: $IMAGE, args: [exit, "0", "300"]}]
`)
	stacktest.Eventually(t, 40*time.Second, "the Job is complete", func() (bool, string) {
		j, err := w.cluster.Core.BatchV1().Jobs(ns).Get(t.Context(), "once", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return j.Status.Succeeded == 1 && slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
		}), fmt.Sprintf("%+v", j.Status)
	})
	list := pods(t, "app=once")
	if len(list) != 1 || list[0].Status.Phase != corev1.PodSucceeded {
		t.Fatalf("pods of the Job: %+v", list)
	}
	p := &list[0]
	if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 0 || end.Reason != "Completed" || end.StartedAt.IsZero() || end.FinishedAt.IsZero() {
		t.Errorf("terminated %+v", end)
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		if c := podCondition(p, kind); c == nil || c.Status != corev1.ConditionFalse || c.Reason != "PodCompleted" {
			t.Errorf("condition %s: %+v", kind, c)
		}
	}
}

func failed(t *testing.T) {
	remove(t, "pod", "failed")
	apply(t, strings.NewReplacer("containers:", "restartPolicy: Never\n  containers:", "{name: c,", "{name: c, args: [exit, '7'], terminationMessagePolicy: FallbackToLogsOnError,").Replace(simplePod), "NAME", "failed")
	p := awaitPod(t, "failed", 30*time.Second, "is Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	end := p.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 7 || end.Reason != "Error" || !strings.Contains(end.Message, "exiting with status 7") || p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("container %+v", p.Status.ContainerStatuses[0])
	}
	if c := podCondition(p, corev1.PodReady); c == nil || c.Status != corev1.ConditionFalse || c.Reason != "PodFailed" {
		t.Errorf("Ready condition %+v", c)
	}
	id := p.Status.ContainerStatuses[0].ContainerID
	never(t, 2*time.Second, "a failed pod changed", func() (bool, string) {
		p := pods(t, "app=failed")[0]
		return p.Status.Phase != corev1.PodFailed || p.Status.ContainerStatuses[0].ContainerID != id, describe(&p)
	})
}

func config(t *testing.T) {
	remove(t, "pod/configured", "configmap/greeting", "secret/password")
	apply(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting, namespace: default}
data: {text: "hello"}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: default}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, namespace: default}
spec:
  nodeName: $NODE
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 2
  containers:
    - name: c
      image: $IMAGE
      readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
      env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: password, key: password}}}]
      volumeMounts: [{name: config, mountPath: /config}]
  volumes: [{name: config, configMap: {name: greeting}}]
`)
	p := awaitPod(t, "configured", 30*time.Second, "is ready", ready)
	id := p.Status.ContainerStatuses[0].ContainerID
	if text := get(t, "http://"+p.Status.PodIP+":8080/env"); !strings.Contains(text, "PASSWORD=s3cret\n") {
		t.Errorf("environment:\n%s", text)
	}
	file := "http://" + p.Status.PodIP + ":8080/config/text"
	if text := get(t, file); text != "hello" {
		t.Errorf("file in the volume: %q", text)
	}
	kubectl(t, "patch", "configmap", "greeting", "--type=merge", "-p", `{"data":{"text":"good evening"}}`)
	stacktest.Eventually(t, 10*time.Second, "the volume has the new text", func() (bool, string) {
		text := get(t, file)
		return text == "good evening", text
	})
	p = awaitPod(t, "configured", time.Second, "is ready", ready)
	if p.Status.ContainerStatuses[0].ContainerID != id {
		t.Error("the container was replaced because a configMap changed")
	}
}

// eventsOf returns reason → how many event objects there are about a pod, or "" for all reasons' messages too.
func eventsOf(t *testing.T, pod string) (counts map[string]int, list []corev1.Event) {
	t.Helper()
	l, err := w.cluster.Core.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Pod,involvedObject.name=" + pod})
	if err != nil {
		t.Fatal(err)
	}
	counts = map[string]int{}
	for _, e := range l.Items {
		if e.Source.Component == "skerryd" {
			counts[e.Reason]++
			list = append(list, e)
		}
	}
	return counts, list
}

func events(t *testing.T) {
	remove(t, "pod", "eventful")
	apply(t, simplePod, "NAME", "eventful")
	p := awaitPod(t, "eventful", 30*time.Second, "is ready", ready)
	var list []corev1.Event
	stacktest.Eventually(t, 10*time.Second, "Started is there", func() (bool, string) {
		var n map[string]int
		n, list = eventsOf(t, "eventful")
		return n["Started"] == 1, fmt.Sprint(n)
	})
	for _, e := range list {
		if e.Type != "Normal" || e.InvolvedObject.UID != p.UID || e.Source.Host != node || e.InvolvedObject.FieldPath != "spec.containers{c}" || e.FirstTimestamp.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	text := kubectl(t, "get", "events", "--field-selector", "involvedObject.name=eventful")
	contains(t, "kubectl get events", text, "Started", "pod/eventful")
}

func statusText(t *testing.T) string {
	t.Helper()
	out, err := w.Skerryd(t.Context(), "status", "-config", w.AgentConfig())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStatusText(t *testing.T) {
	remove(t, "pod/shown", "device/shown", "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", "shown")
	apply(t, simplePod, "NAME", "shown")
	awaitPod(t, "shown", 30*time.Second, "is ready", ready)
	valuesGood(t, "shown")
	connected(t)
	var text string
	// The events of the pod's start may still be on their way.
	stacktest.Eventually(t, 20*time.Second, "skerryd status is that of a sound agent", func() (bool, string) {
		text = statusText(t)
		for _, want := range []string{
			`(?m)^node      gw-1   skerryd \S+, up \S+, [0-9.]+ MB$`,
			`(?m)^relay     connected to ` + regexp.QuoteMeta(w.RelayAt) + ` for \S+, in sync$`,
			`(?m)^store     \d+ objects, 0 events waiting, 0 dropped$`,
			`(?m)^runtime   containerd `,
			`(?m)^default/shown  1/1    Running  0 +$`,
			`(?m)^default/shown  modbus    online  4/4   \S+ *$`,
		} {
			if !regexp.MustCompile(want).MatchString(text) {
				return false, fmt.Sprintf("does not match %s:\n%s", want, text)
			}
		}
		return true, ""
	})
	for _, bad := range []string{"CANNOT WRITE", "recovered", "NOT "} {
		if strings.Contains(text, bad) {
			t.Errorf("skerryd status says %q of a sound agent:\n%s", bad, text)
		}
	}
}

func TestNodeDeletion(t *testing.T) {
	pid := w.Agent.PID()
	remove(t, "pod", "survivor")
	before, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "node", node)
	_, err = w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Logf("the node is back at once (or still there): %v", err)
	}
	// As with a kubelet, a deleted Node comes back when the agent registers anew.
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 20*time.Second, "the node is back and Ready", func() (bool, string) {
		n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		status, message, err := w.cluster.NodeReady(t.Context(), node)
		return err == nil && status == corev1.ConditionTrue && n.UID != before.UID, message
	})
	apply(t, simplePod, "NAME", "survivor")
	awaitPod(t, "survivor", 30*time.Second, "runs on the new node", ready)
	if w.Agent.PID() == pid {
		t.Error("the agent was not restarted")
	}
}
