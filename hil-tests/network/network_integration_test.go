//go:build integration

package network_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/cni"
	"github.com/skerry/skerry/hil-tests/rig/isolation"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestNetwork shares one system. The order counts: the last one brings another CNI.
func TestNetwork(t *testing.T) {
	serveNames(t, isolation.Address+":53")
	w := start(t, nil)
	w.nodeSays(t, corev1.ConditionTrue)
	t.Run("addresses", w.testAddresses)
	t.Run("reach", w.testReach)
	t.Run("host ports", w.testHostPorts)
	t.Run("dns policy", w.testDNSPolicy)
	t.Run("another cni", w.testAnotherCNI)
}

const web = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: default, labels: {app: NAME}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: IMAGE}]
`

func (w *world) web(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	w.apply(t, strings.ReplaceAll(web, "NAME", name))
	return &w.pods(t, "default", "app="+name, 1)[0]
}

func (w *world) testAddresses(t *testing.T) {
	n := w.node(t)
	given, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if err != nil || !netip.MustParsePrefix(clusterCIDR).Contains(given.Addr()) {
		t.Fatalf("the node has podCIDR %q of %s: %v", n.Spec.PodCIDR, clusterCIDR, err)
	}
	other, err := w.cluster.Core.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gw-2"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "another node has other addresses", func() (bool, string) {
		if other, err = w.cluster.Core.CoreV1().Nodes().Get(t.Context(), other.Name, metav1.GetOptions{}); err != nil {
			return false, err.Error()
		}
		second, err := netip.ParsePrefix(other.Spec.PodCIDR)
		return err == nil && !second.Overlaps(given), other.Spec.PodCIDR
	})
	doc := w.conflist(t, cni.FileName)
	if doc == nil {
		t.Fatalf("no %s in %s", cni.FileName, w.Runtime.CNIDir())
	}
	p := w.web(t, "a")
	if ip, err := netip.ParseAddr(p.Status.PodIP); err != nil || !given.Contains(ip) {
		t.Errorf("the pod has %s, not one of %s: %v", p.Status.PodIP, given, err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			t.Errorf("NetworkUnavailable is not the agent's to say: %v", c)
		}
	}
}

func (w *world) testReach(t *testing.T) {
	a, b := &w.pods(t, "default", "app=a", 1)[0], w.web(t, "b")
	w.says(t, a, "b asked by "+a.Status.PodIP+":", "get", "http://"+b.Status.PodIP+":8080/peer") // pods see each other's own address
	w.says(t, a, "a asked by "+a.Status.PodIP+":", "get", "http://"+a.Status.PodIP+":8080/peer")
	if out := fetch(t, "http://"+b.Status.PodIP+":8080/peer"); !strings.HasPrefix(out, "b asked by ") {
		t.Errorf("from the node: %q", out)
	}
	w.apply(t, strings.NewReplacer("NAME", "host", "containers:", "hostNetwork: true\n  containers:", "image: IMAGE", "image: IMAGE, env: [{name: PORT, value: '18099'}]").Replace(web))
	host := &w.pods(t, "default", "app=host", 1)[0]
	if host.Status.PodIP != host.Status.HostIP {
		t.Errorf("hostNetwork: podIP %s, hostIP %s", host.Status.PodIP, host.Status.HostIP)
	}
	w.says(t, a, "asked by "+a.Status.PodIP+":", "get", "http://"+isolation.Address+":18099/peer") // pod to node
	w.says(t, host, "b asked by ", "get", "http://"+b.Status.PodIP+":8080/peer")
	// A machine of the plant that knows the gateway alone: pods come with the gateway's address.
	w.says(t, a, "asked by "+isolation.Address+":", "get", "http://"+w.plant(t)+":8080/peer")
}

// plant starts a machine on the gateway's uplink that serves HTTP, and returns its address.
func (w *world) plant(t *testing.T) string {
	t.Helper()
	const address = "192.0.2.9"
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.Module, "build", "images", runtime.GOARCH, "sample"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() }) //nolint:errcheck // killed with the test's context
	pid := strconv.Itoa(cmd.Process.Pid)
	for _, command := range []string{
		"ip link add plant0 type veth peer name eth0 netns " + pid, "ip link set plant0 master " + isolation.Uplink + " up",
		"nsenter -n -t " + pid + " ip addr add " + address + "/24 dev eth0", "nsenter -n -t " + pid + " ip link set eth0 up",
	} {
		args := strings.Fields(command)
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	return address
}

const hostPorts = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: default, labels: {app: NAME}}
spec:
  nodeName: gw-1
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - {name: main, image: IMAGE, ports: [{containerPort: 8080, hostPort: 18080}, {containerPort: 8080, hostPort: 18081, hostIP: 127.0.0.1}]}
    - {name: udp, image: IMAGE, args: [udp], env: [{name: PORT, value: '5000'}], ports: [{containerPort: 5000, hostPort: 18080, protocol: UDP}]}
`

func (w *world) testHostPorts(t *testing.T) {
	w.apply(t, strings.ReplaceAll(hostPorts, "NAME", "ports"))
	w.pods(t, "default", "app=ports", 1)
	for _, at := range []string{isolation.Address + ":18080", "127.0.0.1:18080", "127.0.0.1:18081"} {
		if out := fetch(t, "http://"+at+"/peer"); !strings.HasPrefix(out, "ports asked by ") {
			t.Errorf("%s: %q", at, out)
		}
	}
	if out := datagram(t, isolation.Address+":18080"); !strings.HasPrefix(out, "ports asked by ") {
		t.Errorf("UDP: %q", out)
	}
	a := &w.pods(t, "default", "app=a", 1)[0]
	w.says(t, a, "ports asked by ", "get", "http://"+isolation.Address+":18080/peer") // from a pod of the same node
	if out, err := w.inside(t, a, "get", "http://"+isolation.Address+":18081/peer"); err == nil {
		t.Errorf("a port of 127.0.0.1 alone is open on %s: %q", isolation.Address, out)
	}

	w.apply(t, strings.ReplaceAll(hostPorts, "NAME", "taken"))
	stacktest.Eventually(t, patience, "a second pod with the same host ports is refused", func() (bool, string) {
		p, err := w.cluster.Core.CoreV1().Pods("default").Get(t.Context(), "taken", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "NodePorts", string(p.Status.Phase) + p.Status.Reason + p.Status.Message
	})
	if err := w.cluster.Core.CoreV1().Pods("default").Delete(t.Context(), "ports", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "the port is closed with its pod", func() (bool, string) {
		_, err := w.inside(t, a, "get", "http://"+isolation.Address+":18080/peer")
		return err != nil && strings.Contains(err.Error(), "refused"), ""
	})
}

// testDNSPolicy holds what pods resolve names with. The resolver stands in for a cluster's: TestServices has the real one.
func (w *world) testDNSPolicy(t *testing.T) {
	a := &w.pods(t, "default", "app=a", 1)[0]
	own := "search plant.example\nnameserver " + isolation.Address
	w.says(t, a, own, "cat", "/etc/resolv.conf")
	stacktest.Eventually(t, patience, "MissingClusterDNS is told of the pod and of the node", func() (bool, string) {
		pod, node := w.events(t, "a", "MissingClusterDNS"), w.events(t, w.Node, "MissingClusterDNS")
		return len(pod) == 1 && len(node) > 0 && strings.Contains(pod[0], `pod: "a_default(`) && strings.Contains(node[0], "pods.clusterDNS"), strings.Join(append(pod, node...), "\n")
	})
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	w.configure(t, map[string]any{"clusterDNS": []string{isolation.Address}})
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ spec, want string }{
		"first":  {"dnsPolicy: ClusterFirst", "search default.svc.cluster.local svc.cluster.local cluster.local plant.example\nnameserver " + isolation.Address + "\noptions ndots:5"},
		"node":   {"dnsPolicy: Default", own},
		"hosted": {"dnsPolicy: ClusterFirstWithHostNet\n  hostNetwork: true", "search default.svc.cluster.local svc.cluster.local cluster.local plant.example\nnameserver " + isolation.Address + "\noptions ndots:5"},
		"bare":   {"dnsPolicy: ClusterFirst\n  hostNetwork: true", own},
		"none":   {"dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.9], searches: [x.example], options: [{name: ndots, value: '2'}]}", "search x.example\nnameserver 192.0.2.9\noptions ndots:2"},
	} {
		w.apply(t, strings.NewReplacer("NAME", name, "containers:", tc.spec+"\n  containers:", "image: IMAGE", "image: IMAGE, args: [sleep]").Replace(web))
		w.says(t, &w.pods(t, "default", "app="+name, 1)[0], tc.want, "cat", "/etc/resolv.conf")
		if m := w.events(t, name, "MissingClusterDNS"); len(m) > 0 {
			t.Errorf("%s: %v", name, m)
		}
	}
	w.says(t, a, own, "cat", "/etc/resolv.conf") // pods that run keep theirs

	// Names resolve without the cloud: a resolver on the spot is all that it takes.
	if err := w.StopRelay(); err != nil {
		t.Fatal(err)
	}
	first := &w.pods(t, "default", "app=first", 1)[0]
	w.says(t, first, serviceIP, "resolve", "stub")
	w.says(t, first, serviceIP, "resolve", "stub.default.svc.cluster.local")
	w.says(t, first, plcIP, "resolve", "plc")
	w.says(t, a, plcIP, "resolve", "plc")
	if out, err := w.inside(t, a, "resolve", "stub"); err == nil {
		t.Errorf("dnsPolicy Default resolves a Service's short name: %q", out)
	}
	if err := w.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A DaemonSet that ships a CNI configuration as flannel's does: on the host's network, privileged, by hostPath.
const daemonSet = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: tiny-cni, namespace: kube-system}
spec:
  selector: {matchLabels: {app: tiny-cni}}
  template:
    metadata: {labels: {app: tiny-cni}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
        - name: install
          image: IMAGE
          securityContext: {privileged: true}
          args: [write, /etc/cni/net.d/10-tiny.conflist, 'CONFLIST']
          volumeMounts: [{name: cni, mountPath: /etc/cni/net.d}]
      volumes: [{name: cni, hostPath: {path: DIR}}]
`

const tinyConflist = `{"cniVersion":"0.4.0","name":"tiny","plugins":[{"type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"10.99.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

func (w *world) testAnotherCNI(t *testing.T) {
	a := &w.pods(t, "default", "app=a", 1)[0]
	w.apply(t, strings.NewReplacer("DIR", w.Runtime.CNIDir(), "CONFLIST", tinyConflist).Replace(daemonSet))
	w.pods(t, "kube-system", "app=tiny-cni", 1)
	stacktest.Eventually(t, patience, "skerryd's own configuration has gone", func() (bool, string) {
		return w.conflist(t, cni.FileName) == nil, "it is there"
	})
	if doc := w.conflist(t, "10-tiny.conflist"); doc["name"] != "tiny" {
		t.Errorf("the other CNI's file: %v", doc)
	}
	c := w.web(t, "c")
	if !strings.HasPrefix(c.Status.PodIP, "10.99.0.") {
		t.Errorf("a new pod has %s", c.Status.PodIP)
	}
	w.says(t, a, "c asked by ", "get", "http://"+c.Status.PodIP+":8080/peer") // nobody is cut off
	w.says(t, c, "a asked by ", "get", "http://"+a.Status.PodIP+":8080/peer")

	// The other CNI is removed by hand. Nothing takes its place behind its back; a restart does.
	if err := w.cluster.Core.AppsV1().DaemonSets("kube-system").Delete(t.Context(), "tiny-cni", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.Runtime.CNIDir(), "10-tiny.conflist")); err != nil {
		t.Fatal(err)
	}
	w.nodeSays(t, corev1.ConditionFalse, "NetworkNotReady", "another CNI", "Restart skerryd")
	w.apply(t, strings.NewReplacer("NAME", "late", "containers:", "nodeName: gw-1\n  containers:").Replace(web)) // not by the scheduler: the node is tainted
	stacktest.Eventually(t, patience, "a pod waits for the network", func() (bool, string) {
		m := w.events(t, "late", "NetworkNotReady")
		return len(m) > 0 && strings.HasPrefix(m[0], "network is not ready: "), strings.Join(m, "\n")
	})
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.nodeSays(t, corev1.ConditionTrue)
	t.Logf("ready %v after the restart", time.Since(began).Round(time.Millisecond))
	w.pods(t, "default", "app=late", 1)
	w.says(t, c, "a asked by ", "get", "http://"+a.Status.PodIP+":8080/peer")
}
