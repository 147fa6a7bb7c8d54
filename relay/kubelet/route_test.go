package kubelet

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWhichNode: by the pod, by name, or said by people.
func TestWhichNode(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	w.expect(ask{path: "/stats/summary", cert: api}, 404, "ask for /nodes/NAME/stats/summary")
	w.expect(ask{path: "/nodes/gw-1/stats/summary?only_cpu=true", cert: api}, 200, "agent: GET /stats/summary?only_cpu=true")
	w.expect(ask{path: "/stats/summary", cert: api, as: "gw-1.edge.example"}, 200, "agent: GET /stats/summary")
	w.expect(ask{path: "/stats/summary", cert: api, host: "gw-1.edge.example:10250"}, 200, "agent: GET /stats/summary")
	w.expect(ask{path: "/stats/summary", cert: api, host: "gw-9.edge.example"}, 404, `no node \"gw-9\"`)
	w.expect(ask{path: "/nodes/gw-9/pods", cert: api}, 404, `no node \"gw-9\"`)
	w.expect(ask{path: "/containerLogs/default/none/main", cert: api}, 404, "pod default/none does not exist")
	w.expect(ask{path: "/containerLogs/default/new/main", cert: api}, 409, "bound to no node yet")
	w.expect(ask{path: "/containerLogs/default", cert: api}, 404, "as a whole")
	// What kubectl shows of a refusal is the message of a Status.
	_, body := w.do(ask{path: "/stats/summary", cert: api})
	var status metav1.Status
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if status.Kind != "Status" || status.APIVersion != "v1" || status.Status != "Failure" || status.Code != 404 || status.Reason != metav1.StatusReasonNotFound || !strings.HasPrefix(status.Message, "/stats/summary is about a node as a whole") {
		t.Errorf("%+v", status)
	}
	if _, body := w.do(ask{path: "/containerLogs/default/none/main", cert: api}); !strings.HasPrefix(body, "pod default/none") {
		t.Errorf("the API server quotes %q", body)
	}
}

// TestThroughTheNodeProxy: the API server says for which node it was asked, unless the connection is upgraded.
func TestThroughTheNodeProxy(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	via := func(uri string, more ...string) map[string]string {
		h := map[string]string{forwardedURI: uri}
		for i := 0; i+1 < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	for _, uri := range []string{
		"/api/v1/nodes/gw-1/proxy/stats/summary", "/api/v1/nodes/gw-1/proxy", "/api/v1/nodes/https:gw-1:10250/proxy/stats/summary", "/api/v1/nodes/gw-1:10250/proxy/",
	} {
		w.expect(ask{path: "/stats/summary", cert: api, header: via(uri)}, 200, "agent: GET /stats/summary")
		w.expect(ask{relay: "b", path: "/stats/summary", cert: api, header: via(uri)}, 200, "agent: GET /stats/summary")
	}
	for _, uri := range []string{
		"", "/", "/api/v1/nodes/", "/api/v1/nodes/gw-1", "/api/v1/nodes/gw-1/proxying/x", "/api/v1/nodes//proxy/x", "/api/v1/namespaces/default/pods/gw-1/proxy/",
		"/other/api/v1/nodes/gw-1/proxy/",
	} {
		w.expect(ask{path: "/stats/summary", cert: api, header: via(uri)}, 404, "as a whole")
	}
	w.expect(ask{path: "/stats/summary", cert: api, header: via("/api/v1/nodes/gw-9/proxy/stats/summary")}, 404, `no node \"gw-9\"`)
	w.expect(ask{path: "/stats/summary", cert: api, header: via("/api/v1/nodes/gw-1/proxy/stats/summary", "Connection", "keep-alive, UpGrade")}, 404, "as a whole")
	// What the API server was asked for is what it has authorised: no way leads from there to another node.
	w.expect(ask{path: "/nodes/gw-1/stats/summary", cert: api, header: via("/api/v1/nodes/gw-1/proxy/nodes/gw-1/stats/summary")}, 200, "agent: GET /stats/summary")
	w.expect(ask{path: "/nodes/gw-1/stats/summary", cert: api, header: via("/api/v1/nodes/gw-2/proxy/nodes/gw-1/stats/summary")}, 403, "is on node gw-1, and the API server was asked for node gw-2")
	w.expect(ask{path: logs, cert: api, header: via("/api/v1/nodes/gw-1/proxy" + logs)}, 200, "agent: GET "+logs)
	w.expect(ask{path: logs, cert: api, header: via("/api/v1/nodes/gw-2/proxy" + logs)}, 403, "is on node gw-1")
	// Said to the relay itself it opens nothing that is not granted.
	w.expect(ask{path: "/metrics/resource", token: "token-of-metrics", header: via("/api/v1/nodes/gw-1/proxy/metrics/resource")}, 200, "agent: GET")
	w.expect(ask{path: "/stats/summary", token: "token-of-metrics", header: via("/api/v1/nodes/gw-1/proxy/metrics/resource")}, 403, "nodes/stats")
}

// TestWhatStreams: only what is read as a whole has an end.
func TestWhatStreams(t *testing.T) {
	for path, want := range map[string]bool{
		logs: true, "/nodes/gw-1" + logs: true, "/exec/default/web/main": true, "/portForward/default/web": true, "/nodes/gw-1/attach/default/web/main": true,
		"/stats/summary": false, "/nodes/gw-1/metrics/cadvisor": false, "/pods": false, "/": false, "/nodes/exec/stats/summary": false,
	} {
		if streams(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

// TestWhichRelay: one hop, and words for people where there is no way.
func TestWhichRelay(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	w.expect(ask{relay: "b", path: logs, cert: api}, 200, "agent: GET "+logs)
	if r := w.last(); r.Header.Get(nodeHeader) != "" {
		t.Errorf("the gateway sees what relays tell each other: %q", r.Header)
	}
	w.expect(ask{path: "/containerLogs/default/away/main", cert: api}, 503, "relay gone, which had it, is gone; its last sign of life was at 2026-01-02T03:04:05Z")
	w.expect(ask{path: "/nodes/gw-3/pods", cert: api}, 503, "never been connected")
	w.relays["a"].connected.Store(false)
	w.expect(ask{path: logs, cert: api}, 503, "node gw-1 is not connected: it was, to relay a; its last sign of life was at 2026-01-02T03:04:05Z")
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "node gw-1 is not connected: it was, to relay a; its last sign of life was at 2026-01-02T03:04:05Z. Its pods go on running")
	w.lease("gw-1", "a", time.Now())
	for _, relay := range []string{"a", "b"} {
		w.expect(ask{relay: relay, path: logs, cert: api}, 503, "It may be changing relays: try again in a moment")
	}
	w.relays["a"].stop()
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "relay b cannot reach node gw-1")
}

// FuzzProxied: what the API server says names a node, or nothing.
func FuzzProxied(f *testing.F) {
	for _, uri := range []string{"/api/v1/nodes/gw-1/proxy/stats/summary", "/api/v1/nodes/https:gw-1:10250/proxy", "/api/v1/nodes/http:https:x/proxy/", "/api/v1/nodes/../proxy/"} {
		f.Add(uri, "keep-alive")
	}
	f.Fuzz(func(t *testing.T, uri, connection string) {
		r := &http.Request{Header: http.Header{forwardedURI: {uri}, "Connection": {connection}}}
		switch node := proxied(r); {
		case strings.ContainsAny(node, "/:"):
			t.Errorf("%q: %q", uri, node)
		case node != "" && (!strings.HasPrefix(uri, proxyPrefix) || strings.Contains(strings.ToLower(connection), "upgrade")):
			t.Errorf("%q with %q: %q", uri, connection, node)
		}
	})
}
