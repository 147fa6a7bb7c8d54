package kubelet

import (
	"encoding/json"
	"strings"
	"testing"

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
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "it is changing relays")
	w.relays["a"].stop()
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "relay b cannot reach node gw-1")
}
