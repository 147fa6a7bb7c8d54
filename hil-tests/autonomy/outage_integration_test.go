//go:build integration

package autonomy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// world is a gateway behind a gate.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
	gate    *gate
}

func start(t *testing.T) *world {
	t.Helper()
	s := stacktest.Start(t, stack.Options{})
	var err error
	w := &world{Stack: s, gate: newGate(t, s.RelayAt)}
	if w.cluster, err = s.Cluster(); err != nil {
		t.Fatal(err)
	}
	throughGate := func(context.Context) error {
		return s.WriteAgentConfig(func(doc map[string]any) {
			doc["relay"] = map[string]any{"addresses": []string{w.gate.listener.Addr().String()}, "maxBackoff": "1s"}
		})
	}
	for _, step := range []func(context.Context) error{s.StartRelay, s.Join, throughGate, s.StartAgent} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// neighbour keeps a node ready that takes no pods, until the test ends: where no node is ready at all, Kubernetes evicts nothing, unless it has begun to
// before it notices.
func (w *world) neighbour(t *testing.T) {
	t.Helper()
	nodes, name := w.cluster.Core.CoreV1().Nodes(), "neighbour"
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "example.org/no-pods", Effect: corev1.TaintEffectNoExecute}}}}
	if _, err := nodes.Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	beat := func() error {
		status := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Beats","lastHeartbeatTime":%q}]}}`, time.Now().UTC().Format(time.RFC3339))
		_, err := nodes.Patch(t.Context(), name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
		return err
	}
	if err := beat(); err != nil {
		t.Fatal(err)
	}
	var beating sync.WaitGroup
	t.Cleanup(beating.Wait)
	beating.Go(func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(3 * time.Second):
				if err := beat(); err != nil && t.Context().Err() == nil {
					t.Errorf("the other node: %v", err)
				}
			}
		}
	})
}

func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.Kube.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// pods returns the pods of an app that are not being deleted, by name.
func (w *world) pods(t *testing.T, app string) map[string]*corev1.Pod {
	t.Helper()
	list, err := w.cluster.Core.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*corev1.Pod{}
	for i := range list.Items {
		if p := &list.Items[i]; p.DeletionTimestamp == nil {
			out[p.Name] = p
		}
	}
	return out
}

func readyCondition(p *corev1.Pod) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c
		}
	}
	return corev1.PodCondition{}
}

// readyPods waits until an app has n pods, all ready as their node says, and returns them.
func (w *world) readyPods(t *testing.T, app string, n int, limit time.Duration) map[string]*corev1.Pod {
	t.Helper()
	var got map[string]*corev1.Pod
	stacktest.Eventually(t, limit, fmt.Sprintf("%d ready pods of %s", n, app), func() (bool, string) {
		got = w.pods(t, app)
		saw := ""
		ready := 0
		for name, p := range got {
			saw += fmt.Sprintf("%s %s %v; ", name, p.Status.Phase, readyCondition(p))
			if c := readyCondition(p); c.Status == corev1.ConditionTrue && c.Reason == "" { // by its own node's word
				ready++
			}
		}
		return ready == n && len(got) == n, saw
	})
	return got
}

// endpoints returns the addresses of a Service that are ready.
func (w *world) endpoints(t *testing.T, service string) (ready []string) {
	t.Helper()
	list, err := w.cluster.Core.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				ready = append(ready, e.Addresses...)
			}
		}
	}
	return ready
}

// workloads: every pod would be evicted after 5 s.
func (w *world) workloads() string {
	pod := func(app, kind, more string) string {
		return `
    metadata: {labels: {app: ` + app + `}` + more + `}
    spec:
      terminationGracePeriodSeconds: 2
      tolerations:
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      containers: [{name: c, image: IMAGE, env: [{name: SAMPLE_VERSION, value: "1"}]` + kind + `}]
`
	}
	doc := ""
	for _, app := range []string{"keep", "roll", "move"} {
		more := ""
		if app == "move" {
			more = `, annotations: {skerry.dev/autonomy: "false"}`
		}
		doc += `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ` + app + `, namespace: default}
spec:
  selector: {matchLabels: {app: ` + app + `}}
  template:` + pod(app, "", more)
	}
	doc += `---
apiVersion: v1
kind: Service
metadata: {name: keep, namespace: default}
spec: {selector: {app: keep}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: state, namespace: default}
spec:
  serviceName: state
  selector: {matchLabels: {app: state}}
  template:` + pod("state", "", "") + `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each, namespace: default}
spec:
  selector: {matchLabels: {app: each}}
  template:` + pod("each", "", "") + `---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: default}
spec:
  template:` + strings.Replace(pod("once", `, args: [exit, "0", "40000"]`, ""), "containers:", "restartPolicy: Never\n      containers:", 1) + `---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick, namespace: default}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: tick}}
        spec: {restartPolicy: Never, containers: [{name: c, image: IMAGE, args: [exit, "0", "100"]}]}
`
	return strings.ReplaceAll(doc, "IMAGE", w.Images.Ref("sample:1"))
}

func TestCutOff(t *testing.T) {
	w := start(t)
	w.neighbour(t)
	if _, err := w.Kube.Apply(t.Context(), w.workloads()); err != nil {
		t.Fatal(err)
	}
	before := map[string]*corev1.Pod{}
	for _, app := range []string{"keep", "roll", "move", "state", "each", "once"} {
		maps.Copy(before, w.readyPods(t, app, 1, 60*time.Second))
	}
	w.tolerated(t)
	address := w.endpoints(t, "keep")
	if len(address) != 1 {
		t.Fatalf("endpoints %v", address)
	}

	w.gate.set(true)
	w.lost(t, before, address)
	if t.Failed() {
		return
	}
	// What is changed meanwhile.
	w.kubectl(t, "set", "env", "deployment/roll", "daemonset/each", "SAMPLE_VERSION=2")
	w.kubectl(t, "scale", "statefulset", "state", "--replicas=2")
	w.reboot(t)
	w.gate.set(false)
	w.back(t, before, address)
}

// tolerated waits until all pods tolerate that their node is away, but for those that opt out.
func (w *world) tolerated(t *testing.T) {
	stacktest.Eventually(t, 10*time.Second, "pods tolerate that their node is away", func() (bool, string) {
		list, err := w.cluster.Core.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		for _, p := range list.Items {
			forever := 0
			for _, tol := range p.Spec.Tolerations {
				if (tol.Key == "node.kubernetes.io/not-ready" || tol.Key == "node.kubernetes.io/unreachable") && tol.Effect == corev1.TaintEffectNoExecute && tol.TolerationSeconds == nil {
					forever++
				}
			}
			if (p.Labels["app"] != "move") != (forever == 2) && p.Labels["app"] != "tick" {
				return false, fmt.Sprintf("%s: %d of two", p.Name, forever)
			}
		}
		return true, ""
	})
}

// lost waits until the node is lost, and everything is evicted that would be.
func (w *world) lost(t *testing.T, before map[string]*corev1.Pod, address []string) {
	stacktest.Eventually(t, 90*time.Second, "Kubernetes counts the node as lost", func() (bool, string) {
		status, message, err := w.cluster.NodeReady(t.Context(), w.Node)
		return err == nil && status == corev1.ConditionUnknown, fmt.Sprint(status, message, err)
	})
	stacktest.Eventually(t, 30*time.Second, "the pod that opts out is evicted", func() (bool, string) {
		for name := range w.pods(t, "move") {
			if before[name] != nil {
				return false, name + " is there"
			}
		}
		return true, ""
	})
	stacktest.Eventually(t, 10*time.Second, "the Service has its endpoint", func() (bool, string) {
		now := w.endpoints(t, "keep")
		return slices.Equal(now, address), fmt.Sprint(now)
	})
	for name, old := range before {
		if strings.HasPrefix(name, "move-") {
			continue
		}
		p := w.pods(t, old.Labels["app"])[name]
		if p == nil || p.UID != old.UID {
			t.Errorf("%s is deleted, or another pod", name)
			continue
		}
		if c := readyCondition(p); c.Status != corev1.ConditionTrue || c.Reason != "NodeCutOff" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	st, err := w.Status(t.Context())
	if err != nil || st.Link.Connected {
		t.Fatalf("%+v, %v", st.Link, err)
	}
	for _, p := range st.Pods {
		if p.Restarts != 0 {
			t.Errorf("%s was restarted", p.Name)
		}
	}
}

// reboot is a power cut: agent and all processes of pods end, volumes in memory are empty.
func (w *world) reboot(t *testing.T) {
	if err := w.KillAgent(); err != nil {
		t.Fatal(err)
	}
	boxes, err := w.Runtime.Client().ListPodSandbox(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if err := w.Runtime.Client().StopPodSandbox(t.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
	}
	volumes, err := filepath.Glob(filepath.Join(w.AgentData(), "pods", "*", "volumes", "kubernetes.io~projected", "*"))
	if err != nil || len(volumes) == 0 {
		t.Fatalf("%v, %v", volumes, err)
	}
	for _, v := range volumes {
		if err := unix.Unmount(v, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Fatalf("%s: %v", v, err)
		}
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 60*time.Second, "all pods run again without a link", func() (bool, string) {
		st, err := w.Status(t.Context())
		running, saw := 0, fmt.Sprint(err)
		for _, p := range st.Pods {
			saw += fmt.Sprintf(" %s %s %s %s;", p.Name, p.Ready, p.Phase, p.Reason)
			if p.Ready == "1/1" {
				running++
			}
		}
		return err == nil && !st.Link.Connected && running >= 5, saw
	})
}

// back checks that everything ends as it should once the link is there.
func (w *world) back(t *testing.T, before map[string]*corev1.Pod, address []string) {
	stacktest.Eventually(t, 30*time.Second, "the node is ready", func() (bool, string) {
		status, message, err := w.cluster.NodeReady(t.Context(), w.Node)
		return err == nil && status == corev1.ConditionTrue, fmt.Sprint(status, message, err)
	})
	for app, n := range map[string]int{"keep": 1, "state": 2, "move": 1, "roll": 1, "each": 1} {
		now := w.readyPods(t, app, n, 60*time.Second)
		for name, old := range before {
			if old.Labels["app"] != app {
				continue
			}
			p := now[name]
			switch app {
			case "keep", "state": // the same pod, which was started anew by the reboot
				if p == nil || p.UID != old.UID || p.Status.ContainerStatuses[0].RestartCount != 1 {
					t.Errorf("%s is another pod than %s, or has other restarts: %v", name, old.UID, p)
				}
			case "roll", "move", "each":
				if p != nil {
					t.Errorf("%s is still there", name)
				}
			}
		}
	}
	stacktest.Eventually(t, 20*time.Second, "rollouts are complete", func() (bool, string) {
		out, err := w.Kube.Kubectl(t.Context(), "get", "deployment/roll", "daemonset/each", "-o",
			`jsonpath={range .items[*]}{.metadata.generation}={.status.observedGeneration} {.status.updatedReplicas}{.status.updatedNumberScheduled} {.spec.template.spec.containers[0].env[0].value};{end}`)
		return err == nil && out == "2=2 1 2;2=2 1 2;", fmt.Sprint(out, err)
	})
	stacktest.Eventually(t, 20*time.Second, "the Service has an endpoint", func() (bool, string) {
		now := w.endpoints(t, "keep")
		return len(now) == 1, fmt.Sprint(now, ", before the reboot ", address)
	})
	stacktest.Eventually(t, 60*time.Second, "the Job that ended at the edge is complete, and the CronJob's have run", func() (bool, string) {
		jobs, err := w.cluster.Core.BatchV1().Jobs("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		once, ticks, saw := false, 0, ""
		for _, j := range jobs.Items {
			saw += fmt.Sprintf("%s %d; ", j.Name, j.Status.Succeeded)
			switch {
			case j.Name == "once":
				once = j.Status.Succeeded == 1
			case j.Status.Succeeded == 1:
				ticks++
			}
		}
		return once && ticks > 0, saw
	})
}
