//go:build integration

package metrics_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// page reads one of the node's pages through the API server, as Prometheus' does.
func page(t *testing.T, path string) map[string]*dto.MetricFamily {
	t.Helper()
	text := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/"+path)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text + "\n"))
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, text)
	}
	return families
}

// value returns the value of the series of a family that has the labels given; ok is false if there is not exactly one.
func value(families map[string]*dto.MetricFamily, name string, want map[string]string) (v float64, ok bool) {
	n := 0
	for _, m := range families[name].GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		matches := true
		for k, x := range want {
			matches = matches && has[k] == x
		}
		if !matches {
			continue
		}
		n++
		switch {
		case m.Counter != nil:
			v = m.Counter.GetValue()
		case m.Gauge != nil:
			v = m.Gauge.GetValue()
		}
	}
	return v, n == 1
}

// talks is a pod with a server and a client: bytes on its interface, files on its disk, a probe.
const talks = `
apiVersion: v1
kind: Pod
metadata: {name: talks, namespace: default}
spec:
  nodeName: $NODE
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: $BUSYBOX
      command: [sh, -c, "head -c 3000000 /dev/zero > /cache/file; head -c 2000000 /dev/zero > /layer; while :; do echo a line; sleep 1; done"]
      resources: {limits: {cpu: 100m, memory: 64Mi}}
      livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
      volumeMounts: [{name: cache, mountPath: /cache}]
  volumes: [{name: cache, emptyDir: {}}]
`

// TestPages: what Prometheus and people read through the API server's node proxy, without any configuration.
func TestPages(t *testing.T) {
	apply(t, talks)
	running(t, "talks")
	main := map[string]string{"namespace": "default", "pod": "talks", "container": "main"}
	pod := map[string]string{"namespace": "default", "pod": "talks", "container": ""}
	stacktest.Eventually(t, patience, "counted", func() (bool, string) {
		out := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/metrics/cadvisor")
		return strings.Contains(out, `container_memory_working_set_bytes{container="main"`), out
	})
	families := page(t, "metrics/cadvisor")
	for name, bounds := range map[string][2]float64{
		"container_memory_working_set_bytes": {1, 64 << 20}, "container_memory_usage_bytes": {1, 64 << 20}, "container_memory_rss": {1, 64 << 20},
		"container_spec_memory_limit_bytes": {64 << 20, 64 << 20}, "container_spec_cpu_quota": {10000, 10000}, "container_spec_cpu_period": {100000, 100000},
		"container_cpu_cfs_periods_total": {1, 1e9}, "container_start_time_seconds": {1.6e9, 4e9}, "container_processes": {1, 10}, "container_threads": {1, 10},
	} {
		v, ok := value(families, name, main)
		if !ok || v < bounds[0] || v > bounds[1] {
			t.Errorf("%s: %v (%v), want %v to %v", name, v, ok, bounds[0], bounds[1])
		}
	}
	stacktest.Eventually(t, patience, "what is in the writable layer is counted", func() (bool, string) { // the runtime looks every 10 s
		v, ok := value(page(t, "metrics/cadvisor"), "container_fs_usage_bytes", main)
		return ok && v >= 2e6 && v < 1e8, strconv.FormatFloat(v, 'g', -1, 64)
	})
	for _, m := range families["container_cpu_usage_seconds_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "image" && l.GetValue() != "" && !strings.Contains(l.GetValue(), "/") {
				t.Errorf("image %q", l.GetValue())
			}
		}
	}
	if v, ok := value(families, "container_network_receive_bytes_total", map[string]string{"namespace": "default", "pod": "talks", "container": "", "interface": "eth0"}); !ok {
		t.Errorf("received: %v", v)
	}
	if v, ok := value(families, "container_cpu_usage_seconds_total", pod); !ok || v <= 0 {
		t.Errorf("the pod's processor time: %v (%v)", v, ok)
	}
	if v, ok := value(families, "machine_memory_bytes", nil); !ok || v < 64<<20 {
		t.Errorf("the machine's memory: %v", v)
	}
	if _, ok := value(families, "container_pressure_cpu_waiting_seconds_total", map[string]string{"id": "/"}); !ok && exists("/proc/pressure/cpu") {
		t.Error("nothing of the node's pressure")
	}
	families = page(t, "metrics")
	for _, name := range []string{"kubelet_node_name", "kubelet_running_pods", "kubelet_desired_pods", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds", "process_open_fds", "go_goroutines", "kubelet_certificate_manager_client_ttl_seconds"} {
		if v, ok := value(families, name, nil); !ok || v <= 0 {
			t.Errorf("%s: %v (%v)", name, v, ok)
		}
	}
	if v, ok := value(families, "kubelet_running_containers", map[string]string{"container_state": "running"}); !ok || v < 1 {
		t.Errorf("containers that run: %v", v)
	}
	stacktest.Eventually(t, patience, "probed", func() (bool, string) {
		v, ok := value(page(t, "metrics/probes"), "prober_probe_total", map[string]string{"pod": "talks", "container": "main", "probe_type": "Liveness", "result": "successful"})
		return ok && v >= 2, strconv.FormatFloat(v, 'g', -1, 64)
	})
	page(t, "metrics/resource")
	for path, want := range map[string]string{"healthz": "ok", "configz": `"kubeletconfig"`, "runningpods/": `"name":"talks"`, "pods": `"talks"`} {
		if out := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/"+path); !strings.Contains(out, want) {
			t.Errorf("%s: %.300s", path, out)
		}
	}
}

// TestPrometheusPath asks the relays themselves, as docs/kubelet.md tells Prometheus to: by path, with a token, and with a certificate that
// the cluster's CA has signed.
func TestPrometheusPath(t *testing.T) {
	must(t, "create", "serviceaccount", "prometheus")
	must(t, "create", "clusterrole", "prometheus", "--verb=get", "--resource=nodes/metrics")
	must(t, "create", "clusterrolebinding", "prometheus", "--clusterrole=prometheus", "--serviceaccount=default:prometheus")
	token := strings.TrimSpace(must(t, "create", "token", "prometheus"))
	config, err := w.cluster.Core.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(config.Data["ca.crt"])) {
		t.Fatal("no CA")
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s:%d%s", w.balancer.Host(), w.balancer.Port(), path), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, r := range w.relays {
		w.balancer.Through(r.KubeletAt)
		for _, path := range []string{"/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource"} {
			if status, body := get("/nodes/" + node + path); status != http.StatusOK || !strings.Contains(body, "# TYPE ") {
				t.Errorf("%s by %s: %d %.200s", path, r.Name, status, body)
			}
		}
		if status, body := get("/nodes/" + node + "/stats/summary"); status != http.StatusForbidden {
			t.Errorf("without the right: %d %.200s", status, body)
		}
	}
}

// TestSummaryOfPods: disks and networks in /stats/summary.
func TestSummaryOfPods(t *testing.T) {
	apply(t, strings.ReplaceAll(talks, "talks", "stored"))
	running(t, "stored")
	type disk struct{ UsedBytes, CapacityBytes, InodesUsed uint64 }
	type found struct {
		PodRef     struct{ Name string }
		Containers []struct{ Rootfs, Logs disk }
		Volume     []struct {
			Name      string
			UsedBytes uint64
		}
		Network struct {
			Name             string
			RxBytes, TxBytes *uint64
		}
		Ephemeral disk `json:"ephemeral-storage"`
		Processes struct {
			Count int `json:"process_count"`
		} `json:"process_stats"`
	}
	stacktest.Eventually(t, patience, "all counted", func() (bool, string) {
		out := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
		var sum struct {
			Node struct{ Runtime struct{ ImageFs disk } }
			Pods []found
		}
		if err := json.Unmarshal([]byte(out), &sum); err != nil {
			t.Fatal(err)
		}
		for _, p := range sum.Pods {
			if p.PodRef.Name != "stored" || len(p.Containers) != 1 {
				continue
			}
			c := p.Containers[0]
			return c.Rootfs.UsedBytes >= 2e6 && c.Rootfs.CapacityBytes > 0 && c.Logs.UsedBytes > 0 && len(p.Volume) == 1 && p.Volume[0].Name == "cache" && p.Volume[0].UsedBytes >= 3e6 &&
				p.Ephemeral.UsedBytes >= 5e6 && p.Ephemeral.CapacityBytes > 0 && p.Network.Name == "eth0" && p.Network.RxBytes != nil && p.Network.TxBytes != nil && p.Processes.Count > 0 &&
				sum.Node.Runtime.ImageFs.CapacityBytes > 0, out
		}
		return false, out
	})
}

// TestManyScrapes: fifty at once are answered or told to come again, and leave nothing behind.
func TestManyScrapes(t *testing.T) {
	figure := func(name string) float64 {
		v, ok := value(page(t, "metrics"), name, nil)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return v
	}
	scrape := func() {
		var parts sync.WaitGroup
		for i := range 50 {
			parts.Go(func() {
				path := []string{"metrics/cadvisor", "stats/summary", "metrics/resource", "metrics", "pods"}[i%5]
				b, err := w.cluster.Core.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + node + "/proxy/" + path).DoRaw(t.Context())
				if err != nil && !strings.Contains(err.Error()+string(b), "which is its limit") {
					t.Errorf("%s: %v %s", path, err, b)
				}
			})
		}
		parts.Wait()
	}
	scrape()
	goroutines, files := figure("go_goroutines"), figure("process_open_fds")
	before, err := w.Agent.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		scrape()
	}
	stacktest.Eventually(t, patience, "all ended", func() (bool, string) {
		g, f := figure("go_goroutines"), figure("process_open_fds")
		return g <= goroutines+5 && f <= files+5, strconv.FormatFloat(g, 'g', -1, 64) + " goroutines, " + strconv.FormatFloat(f, 'g', -1, 64) + " files"
	})
	after, err := w.Agent.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.PSS - before.PSS; grown > 8<<20 {
		t.Errorf("the agent's memory grew by %d bytes", grown)
	}
	t.Logf("memory before 200 scrapes %+v, after %+v", before, after)
}

// TestCutOff: of a gateway that is away there is a clear word, whichever relay is asked.
func TestCutOff(t *testing.T) {
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its context has ended
		if err := w.StartAgent(context.Background()); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, patience, "back", func() (bool, string) {
			out, err := w.Kube.Kubectl(context.Background(), "get", "--raw", "/api/v1/nodes/"+node+"/proxy/healthz")
			return err == nil && out == "ok", out
		})
	})
	for _, r := range w.relays {
		w.balancer.Through(r.KubeletAt)
		stacktest.Eventually(t, patience, "said to be away by "+r.Name, func() (bool, string) {
			out, err := kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/metrics/resource")
			if err == nil {
				return false, out
			}
			saw := out + err.Error()
			return strings.Contains(saw, "ServiceUnavailable") && strings.Contains(saw, "node "+node+" is not connected: it was, to relay relay-"), saw
		})
	}
}
