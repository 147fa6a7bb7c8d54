//go:build integration && networking

package network_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/isolation"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	apiPort = "6443" // of the API server, on the uplink
	dnsIP   = "10.96.0.10"
)

// services is a world with kube-proxy, CoreDNS and a Service of two pods.
type services struct {
	*world
	api    *forwarder
	client *corev1.Pod
}

// TestServices runs kube-proxy in each of its modes, each on a system of its own.
func TestServices(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			s := startServices(t, mode)
			// What follows the first two does not depend on the mode. One that fails leaves nothing to the next.
			_ = t.Run("cluster ip", s.testClusterIP) && t.Run("names", s.testNames) && mode == "iptables" &&
				t.Run("cut off", s.testCutOff) && t.Run("reboot cut off", s.testReboot)
		})
	}
}

func startServices(t *testing.T, mode string) *services {
	t.Helper()
	serveNames(t, isolation.Address+":53")
	s := &services{world: start(t, map[string]any{"clusterDNS": []string{dnsIP}, "maxRestartDelay": "5s"})}
	s.api = forward(t, isolation.Address+":"+apiPort, strings.TrimPrefix(s.Kube.URL(), "https://"))
	t.Cleanup(func() { s.showLogs(t) })
	s.publishAPI(t)
	s.push(t)
	for _, file := range []string{"kube-proxy.yaml", "coredns.yaml", "web.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		s.apply(t, strings.NewReplacer("PROXY_IMAGE", s.Images.Ref("kube-proxy:1"), "COREDNS_IMAGE", s.Images.Ref("coredns:1"), "MODE", mode,
			"SERVER", "https://"+isolation.Address+":"+apiPort, "LOCK", filepath.Join(s.Dir, "xtables.lock")).Replace(string(text)))
	}
	s.pods(t, "kube-system", "k8s-app=kube-proxy", 1)
	s.pods(t, "default", "app=web", 2)
	s.client = &s.pods(t, "default", "app=client", 1)[0]
	return s
}

// showLogs shows the ends of the logs of kube-proxy and CoreDNS if the test has failed.
func (s *services) showLogs(t *testing.T) {
	logs, err := filepath.Glob(filepath.Join(s.PodLogs(), "kube-system_*", "*", "*.log"))
	for _, path := range logs {
		if b, err := os.ReadFile(path); err == nil && t.Failed() {
			t.Logf("%s:\n%s", path, b[max(0, len(b)-4000):])
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// publishAPI makes the endpoints of default/kubernetes, which an API server does itself that does not listen on a loopback address.
func (s *services) publishAPI(t *testing.T) {
	t.Helper()
	name, port := "https", int32(6443)
	_, err := s.cluster.Core.DiscoveryV1().EndpointSlices("default").Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{isolation.Address}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// push makes the images: the programs as they were built, kube-proxy's with Debian's iptables and nft as its users bring them.
func (s *services) push(t *testing.T) {
	t.Helper()
	extensions, err := filepath.Glob("/usr/lib/*/xtables/*.so")
	if err != nil || len(extensions) == 0 {
		t.Fatal("no extensions of iptables: ", err)
	}
	proxy, err := images.Programs(t.Context(), append(extensions, "/usr/sbin/xtables-nft-multi", "/usr/sbin/nft")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		proxy = append(proxy, images.File{Path: "usr/sbin/" + name, Link: "xtables-nft-multi"})
	}
	for name, files := range map[string][]images.File{"kube-proxy": proxy, "coredns": nil} {
		program := images.File{Path: "usr/local/bin/" + name, Host: filepath.Join(stacktest.Bin(), name)}
		image, err := images.FromFiles(runtime.GOARCH, append(slices.Clone(files), program), images.ImageConfig{Entrypoint: []string{"/" + program.Path}})
		if err == nil {
			err = s.Images.Push(t.Context(), name+":1", image)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// both waits until both pods of the Service have answered at an address.
func (s *services) both(t *testing.T, ask func() (string, error)) {
	t.Helper()
	seen := map[string]bool{}
	stacktest.Eventually(t, patience, "both pods answer", func() (bool, string) {
		out, err := ask()
		if err == nil {
			seen[strings.Fields(out)[0]] = true
		}
		return len(seen) == 2, fmt.Sprint(seen, out, err)
	})
}

func (s *services) asClient(t *testing.T, url string) func() (string, error) {
	return func() (string, error) { return s.inside(t, s.client, "get", url) }
}

func (s *services) testClusterIP(t *testing.T) {
	url := "http://" + serviceIP + "/peer"
	s.both(t, s.asClient(t, url))
	s.both(t, func() (string, error) { return fetch(t, url), nil }) // from the node
	s.both(t, s.asClient(t, "http://"+isolation.Address+":30080/peer"))
	// A pod that reaches itself through its Service, which bridges without netfilter cannot do.
	web := s.pods(t, "default", "app=web", 2)
	s.both(t, func() (string, error) { return s.inside(t, &web[0], "get", url) })
}

func (s *services) testNames(t *testing.T) {
	s.pods(t, "kube-system", "k8s-app=kube-dns", 1)
	s.resolves(t)
	s.says(t, s.client, "10.96.0.1", "resolve", "kubernetes.default.svc.cluster.local")
	web := s.pods(t, "default", "app=web", 2)
	out, err := s.inside(t, s.client, "resolve", "backends")
	if err != nil || !strings.Contains(out, web[0].Status.PodIP) || !strings.Contains(out, web[1].Status.PodIP) {
		t.Errorf("the headless Service: %q, %v; pods have %s and %s", out, err, web[0].Status.PodIP, web[1].Status.PodIP)
	}
	if out, err := s.inside(t, s.client, "resolve", "nothing.default.svc.cluster.local"); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("a Service that does not exist: %q, %v", out, err)
	}
}

// resolves holds that names of the cluster and of the plant resolve.
func (s *services) resolves(t *testing.T) {
	t.Helper()
	s.says(t, s.client, serviceIP, "resolve", "web")
	s.says(t, s.client, serviceIP, "resolve", "web.default.svc.cluster.local")
	s.says(t, s.client, plcIP, "resolve", "plc.plant.example")
	s.says(t, s.client, plcIP, "resolve", "plc") // by the gateway's own search domain
	s.both(t, s.asClient(t, "http://web/peer"))
}

// cut takes relay and API server out of the gateway's reach.
func (s *services) cut(t *testing.T) {
	t.Helper()
	if err := s.StopRelay(); err != nil {
		t.Fatal(err)
	}
	s.api.cut()
}

func (s *services) mend(t *testing.T) {
	t.Helper()
	s.api.mend()
	if err := s.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *services) testCutOff(t *testing.T) {
	s.cut(t)
	s.resolves(t)
	if err := s.KillAgent(); err != nil {
		t.Fatal(err)
	}
	if err := s.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.resolves(t)
	// kube-proxy dies: what it has set up stays in the kernel.
	s.killContainer(t, "kube-proxy")
	s.both(t, s.asClient(t, "http://"+serviceIP+"/peer"))
	// CoreDNS dies: a new one knows the plant's names, and none of the cluster's.
	s.killContainer(t, "coredns")
	s.says(t, s.client, plcIP, "resolve", "plc.plant.example")
	if out, err := s.inside(t, s.client, "resolve", "web.default.svc.cluster.local"); err == nil {
		t.Errorf("a CoreDNS that has never seen the cluster says %q", out)
	}
	s.mend(t)
	s.recovers(t)
}

// recovers holds that everything works again, changes included.
func (s *services) recovers(t *testing.T) {
	t.Helper()
	s.pods(t, "kube-system", "k8s-app=kube-proxy", 1)
	s.pods(t, "kube-system", "k8s-app=kube-dns", 1)
	s.pods(t, "default", "app=web", 2)
	s.resolves(t)
}

// killContainer ends a container's process as a crash would.
func (s *services) killContainer(t *testing.T, name string) {
	t.Helper()
	id := s.container(t, name)
	if err := s.Runtime.Client().StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, name+" is started again", func() (bool, string) {
		next := s.container(t, name)
		return next != "" && next != id, next
	})
}

// testReboot is a power cut while the gateway is cut off: no pod, no rule and no connection is left.
func (s *services) testReboot(t *testing.T) {
	s.cut(t)
	if err := s.KillAgent(); err != nil {
		t.Fatal(err)
	}
	s.endAllPods(t)
	if out, err := exec.CommandContext(t.Context(), "nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := s.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "client", "coredns", "kube-proxy"} {
		stacktest.Eventually(t, patience, name+" has been started from the store", func() (bool, string) { return s.container(t, name) != "", "" })
	}
	s.says(t, s.client, "web-", "get", "http://"+s.address(t, "web-")+":8080/peer") // pods reach each other by address
	s.says(t, s.client, "asked by", "get", "http://"+isolation.Address+":18085/peer")
	// Without kube-proxy's rules, addresses of Services lead nowhere: it needs the API server once, to set them up.
	if out, err := s.inside(t, s.client, "get", "http://"+serviceIP+"/peer"); err == nil {
		t.Errorf("the Service answers %q although nobody can have set it up", out)
	}
	s.mend(t)
	s.recovers(t)
}

// address returns the address that a pod has by now, whatever the API says.
func (s *services) address(t *testing.T, prefix string) string {
	t.Helper()
	list, err := s.Runtime.Client().ListPodSandbox(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if !strings.HasPrefix(p.Metadata.Name, prefix) || p.State != cri.SandboxReady {
			continue
		}
		r, err := s.Runtime.Client().PodSandboxStatus(t.Context(), p.ID, false)
		if err == nil && r.Status.Network != nil {
			return r.Status.Network.IP
		}
	}
	t.Fatalf("no pod %s… has an address", prefix)
	return ""
}

func (s *services) endAllPods(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := s.Runtime.Client()
	list, err := c.ListPodSandbox(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if err := c.StopPodSandbox(ctx, p.ID); err != nil {
			t.Fatal(err)
		}
	}
}
