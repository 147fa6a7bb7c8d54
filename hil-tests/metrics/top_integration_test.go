//go:build integration

package metrics_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const held = 64 << 20 // bytes that a pod holds

const workers = `
apiVersion: v1
kind: Pod
metadata: {name: burns, namespace: default}
spec:
  nodeName: $NODE
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: $BUSYBOX
      command: [sh, -c, "while :; do :; done"]
      resources: {limits: {cpu: 200m, memory: 32Mi}}
    - {name: rests, image: $BUSYBOX, command: [sleep, "1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: holds, namespace: default}
spec:
  nodeName: $NODE
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: $BUSYBOX
      command: [sh, -c, "dd if=/dev/zero of=/held/file bs=1M count=64; sleep 1000"]
      volumeMounts: [{name: held, mountPath: /held}]
  volumes: [{name: held, emptyDir: {medium: Memory}}]
`

// TestTop: `kubectl top` shows nodes, pods and containers with metrics-server as it is deployed by default.
func TestTop(t *testing.T) {
	for _, a := range w.args {
		if strings.Contains(a, "insecure") || strings.Contains(a, "certificate-authority") {
			t.Fatalf("metrics-server is told %s", a)
		}
	}
	apply(t, workers)
	running(t, "burns", "holds")
	table := map[string][]string{}
	stacktest.Eventually(t, patience, "measured", func() (bool, string) {
		out, err := kubectl(t, "top", "pods", "--containers", "--no-headers")
		if err != nil {
			return false, out + err.Error()
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 4 {
				table[f[0]+"/"+f[1]] = f[2:]
			}
		}
		return table["burns/main"] != nil && table["burns/rests"] != nil && table["holds/main"] != nil && quantity(t, table["burns/main"][0], "m") > 0, out
	})
	// The machine's load decides how much it gets; its limit is 200m, and a rate over a few seconds may be off by a period or two.
	if cpu := quantity(t, table["burns/main"][0], "m"); cpu < 10 || cpu > 300 {
		t.Errorf("burns uses %d thousandths of a core", cpu)
	}
	if cpu, memory := quantity(t, table["burns/rests"][0], "m"), quantity(t, table["burns/rests"][1], "Mi"); cpu > 20 || memory > 16 {
		t.Errorf("what rests uses %dm, %d MiB", cpu, memory)
	}
	if memory := quantity(t, table["holds/main"][1], "Mi"); memory < held>>20 || memory > 2*held>>20 {
		t.Errorf("holds has %d MiB, of which %d are a file in memory", memory, held>>20)
	}
	out := must(t, "top", "nodes", "--no-headers")
	f := strings.Fields(out)
	if len(f) != 5 || f[0] != node || quantity(t, f[1], "m") < 10 || quantity(t, f[2], "%") > 100 || quantity(t, f[3], "Mi") < held>>20 || quantity(t, f[4], "%") > 100 {
		t.Errorf("top nodes: %s", out)
	}
	var list struct {
		Items []struct {
			Metadata   metav1.ObjectMeta
			Containers []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(must(t, "get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods")), &list); err != nil || len(list.Items) != 2 {
		t.Errorf("%v %+v", err, list)
	}
}

// quantity reads a number with a unit.
func quantity(t *testing.T, text, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || !strings.HasSuffix(text, unit) {
		t.Fatalf("%q is no number of %s", text, unit)
	}
	return n
}

// stamped returns when metrics-server has last heard of the node.
func stamped(t *testing.T) (at time.Time, saw string) {
	t.Helper()
	out, err := kubectl(t, "get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/"+node)
	var m struct{ Timestamp time.Time }
	if err != nil || json.Unmarshal([]byte(out), &m) != nil {
		return at, out
	}
	return m.Timestamp, out
}

// TestRelayKilled: whichever relay is asked, and whichever is lost, the next look works.
func TestRelayKilled(t *testing.T) {
	holder := func() (name string) {
		l, err := w.cluster.Core.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Annotations["skerry.dev/relay"]
	}
	lost, other := w.relays[0], w.relays[1]
	if holder() == other.Name {
		lost, other = other, lost
	}
	newer := func(what string) {
		t.Helper()
		since, _ := stamped(t)
		stacktest.Eventually(t, patience, what, func() (bool, string) {
			at, saw := stamped(t)
			return at.After(since), saw
		})
	}
	w.balancer.Through(other.KubeletAt)
	newer("measured through the other relay")
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "at the other relay", func() (bool, string) { at := holder(); return at == other.Name, at })
	newer("measured after its relay was killed")
	if err := lost.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.balancer.Through(lost.KubeletAt)
	newer("measured through the relay that is back")
}

// TestVerifies: metrics-server with another CA refuses what the relays show.
func TestVerifies(t *testing.T) {
	if err := w.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s, err := w.cluster.Core.CoreV1().Secrets("skerry-system").Get(t.Context(), "skerry-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ca := t.TempDir() + "/ca.crt"
	write(t, ca, s.Data["ca.crt"])
	if err := w.startMetricsServer("--kubelet-certificate-authority=" + ca); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "refused", func() (bool, string) {
		log := w.server.LogTail(40)
		return strings.Contains(log, "Failed to scrape node") && strings.Contains(log, "certificate signed by unknown authority"), log
	})
	if err := w.server.Stop(); err != nil {
		t.Fatal(err)
	}
	config, err := w.cluster.Core.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, ca, []byte(config.Data["ca.crt"]))
	if err := w.startMetricsServer("--kubelet-certificate-authority=" + ca); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "measured", func() (bool, string) { at, saw := stamped(t); return !at.IsZero(), saw })
}

// TestAutoscaler: a HorizontalPodAutoscaler makes more of what works too hard.
func TestAutoscaler(t *testing.T) {
	apply(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: $BUSYBOX
          command: [sh, -c, "while :; do :; done"]
          resources: {requests: {cpu: 50m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`)
	stacktest.Eventually(t, 2*patience, "two run", func() (bool, string) {
		out, err := kubectl(t, "get", "deployment", "busy", "-o", "jsonpath={.status.readyReplicas}")
		why, _ := kubectl(t, "get", "hpa", "busy", "-o", "jsonpath={.status}")
		return err == nil && out == "2", fmt.Sprintf("%s replicas are ready; %s", out, why)
	})
}
