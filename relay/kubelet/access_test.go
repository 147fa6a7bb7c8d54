package kubelet

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWhoAsks: the API server's certificate and reviewed tokens open the port, and nothing else does.
func TestWhoAsks(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver", "system:masters")
	w.expect(ask{path: logs, cert: api}, 200, "agent: GET "+logs)
	w.expect(ask{path: logs}, 401, "no client certificate and no bearer token")
	w.expect(ask{path: logs, cert: w.skerry.named("apiserver")}, 401, "is not good here")
	w.expect(ask{path: logs, cert: w.cluster.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = "apiserver", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})}, 401, "is not good here")
	w.expect(ask{path: logs, cert: w.cluster.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "apiserver", time.Now().Add(-time.Minute)
	})}, 401, "is not good here")
	w.expect(ask{path: logs, token: "token-of-apiserver"}, 200, "agent: GET")
	if r := w.last(); r.Header.Get("Authorization") != "" {
		t.Errorf("the gateway was given the token: %q", r.Header)
	}
	w.expect(ask{path: logs, token: "forged"}, 401, "not valid")
	w.expect(ask{path: logs, token: "token-of-nobody"}, 403, `user "nobody" may not get nodes/proxy of the node that this is about`)
	w.expect(ask{path: logs, token: "token-of-broken"}, 500, "cannot ask the API server")
	before := w.reviews.Load()
	w.expect(ask{path: logs, token: "token-of-apiserver"}, 200, "agent: GET")
	w.expect(ask{path: logs, token: "forged"}, 401, "not valid")
	w.expect(ask{path: logs, token: "token-of-nobody"}, 403, "may not")
	if n := w.reviews.Load() - before; n != 0 {
		t.Errorf("%d reviews of what had just been reviewed", n)
	}
}

// TestWhatTheyMay holds the reviews to the kubelet's.
func TestWhatTheyMay(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	for path, review := range map[string]string{
		"GET /nodes/gw-1/stats/summary":         "apiserver get nodes/stats gw-1",
		"GET /nodes/gw-1/metrics/resource":      "apiserver get nodes/metrics gw-1",
		"GET /nodes/gw-1/metrics":               "apiserver get nodes/metrics gw-1",
		"GET /nodes/gw-1/metricsandmore":        "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/diagnose":              "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/logs/syslog":           "apiserver get nodes/log gw-1",
		"GET /nodes/gw-1/pods":                  "apiserver get nodes/pods gw-1",
		"GET /nodes/gw-1/healthz":               "apiserver get nodes/healthz gw-1",
		"GET /nodes/gw-1/runningpods/":          "apiserver get nodes/pods gw-1",
		"GET /nodes/gw-1/configz":               "apiserver get nodes/configz gw-1",
		"GET /nodes/gw-1/metrics/cadvisor":      "apiserver get nodes/metrics gw-1",
		"GET /containerLogs/default/web/main":   "apiserver get nodes/proxy gw-1",
		"POST /exec/default/web/main":           "apiserver create nodes/proxy gw-1",
		"GET /exec/default/web/main":            "apiserver get nodes/proxy gw-1",
		"DELETE /attach/default/web/main":       "apiserver delete nodes/proxy gw-1",
		"PUT /portForward/default/web":          "apiserver update nodes/proxy gw-1",
		"PATCH /portForward/default/web/uid":    "apiserver patch nodes/proxy gw-1",
		"GET /nodes/gw-1/nodes/gw-2/metrics":    "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/containerLogs/x/y/z":   "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/stats/../exec/x/y/z":   "",
		"GET /nodes/gw-1/stats/%2e%2e/exec/a/b": "",
		"GET /nodes/gw-1//stats/summary":        "",
	} {
		w.asked.Clear()
		method, at, _ := strings.Cut(path, " ")
		status, body := w.do(ask{method: method, path: at, cert: api})
		if review == "" {
			if status != 400 {
				t.Errorf("%s: %d %s", path, status, body)
			}
			continue
		}
		if _, ok := w.asked.Load(review); !ok || status != 200 {
			t.Errorf("%s: %d %s; %s was not reviewed", path, status, body, review)
		}
		w.relays["a"].srv.access.kept.clear()
	}
	w.expect(ask{path: "/nodes/gw-1/metrics/resource", token: "token-of-metrics"}, 200, "agent: GET /metrics/resource")
	w.expect(ask{path: "/nodes/gw-1/stats/summary", token: "token-of-metrics"}, 403, "nodes/stats")
}

// TestNobodyLearns: who may not ask does not learn whether there is such a pod or node, or where: not by words, and not while reviews fail.
func TestNobodyLearns(t *testing.T) {
	w := newWorld(t)
	say := func(user, path string) string {
		status, body := w.do(ask{path: path, token: "token-of-" + user})
		var s metav1.Status
		if json.Unmarshal([]byte(body), &s) == nil {
			body = s.Message
		}
		return fmt.Sprint(status, " ", strings.TrimSpace(body))
	}
	for user, want := range map[string]string{"nobody": "403 user", "metrics": "403 user", "broken": "500 relay a cannot ask"} {
		for _, paths := range [][]string{
			{"/containerLogs/default/web/main", "/containerLogs/default/new/main", "/containerLogs/nowhere/secret/main"}, {"/nodes/gw-1/pods", "/nodes/gw-9/pods"},
		} {
			there := say(user, paths[0])
			if !strings.HasPrefix(there, want) || strings.Contains(there, "gw-1") {
				t.Errorf("%s is told %q", user, there)
			}
			for _, path := range paths[1:] {
				if other := say(user, path); other != there {
					t.Errorf("%s learns from %q and %q", user, there, other)
				}
			}
		}
	}
}

// TestBundleNeedsProxyRight: who may read metrics may not have a gateway's diagnostic bundle.
func TestBundleNeedsProxyRight(t *testing.T) {
	w := newWorld(t)
	w.expect(ask{path: "/nodes/gw-1/diagnose", token: "token-of-metrics"}, 403, "may not get nodes/proxy of the node that this is about")
	w.expect(ask{path: "/nodes/gw-1/diagnose", cert: w.cluster.named("apiserver")}, 200, "agent: GET /diagnose")
}

// TestOnlyRelaysArePeers: what the relays' CA has signed for others does not open the door between relays, and the header that names a node
// counts for nothing elsewhere.
func TestOnlyRelaysArePeers(t *testing.T) {
	w := newWorld(t)
	node, _ := url.Parse("skerry://node/gw-1")
	peer := map[string]string{nodeHeader: "gw-1"}
	w.expect(ask{as: peerName, path: "/pods", cert: w.skerry.relay("b"), header: peer}, 200, "agent: GET /pods")
	for what, cert := range map[string]*tls.Certificate{
		"a gateway": w.skerry.issue(func(c *x509.Certificate) {
			c.Subject, c.URIs = pkix.Name{CommonName: "system:node:gw-1", Organization: []string{"system:nodes"}}, []*url.URL{node}
		}),
		"a relay's name of the cluster's CA": w.cluster.relay("b"),
		"nobody":                             nil,
	} {
		if status, body := w.do(ask{as: peerName, path: "/pods", cert: cert, header: peer}); status != 0 {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	// With the right certificate, but not at that door, it is nobody.
	w.expect(ask{path: "/pods", cert: w.skerry.relay("b"), header: peer}, 401, "is not good here")
	w.expect(ask{path: "/pods", cert: w.cluster.named("apiserver"), header: peer}, 404, "as a whole")
	w.expect(ask{as: peerName, path: "/pods", cert: w.skerry.relay("b"), header: map[string]string{nodeHeader: "gw-2"}}, 503, "relay gone, which had it, is gone")
}

// clear forgets all.
func (r *remembered[K, V]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.has)
}
