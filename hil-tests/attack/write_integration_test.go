//go:build integration

package attack

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/fleet"
)

var getOptions = metav1.GetOptions{}

// writeAttempts try to change what belongs to others, or more than a node may change of itself.
func writeAttempts() []attempt {
	another := refused("report-on-another-node")
	return []attempt{
		{"status-of-another-node", tryNodeStatus, another, []string{"node=NODE", "report-on-another-node", "nodes//" + victim}},
		{"status-of-another-pod", tryPodStatus, another, []string{"node=NODE", "report-on-another-node", "pods/default/with-secret"}},
		{"delete-another-pod", tryPodDelete, another, []string{"node=NODE", "report-on-another-node", "pods/default/pod-" + victim}},
		{"claim-a-device", tryDevice, another, []string{"node=NODE", "report-on-another-node", "devices/default/device-" + victim}},
		{"pod-with-another-uid", tryOtherUID, refused("report-on-unknown"), []string{"node=NODE", "report-on-unknown", "otheruid"}},
		{"delete-own-pod", tryDeleteOwnPod, reports("not-deleting"), []string{"node=NODE", "nobody has deleted"}},
		{"ended-pod-comes-back", tryComeBack, []string{"skerry_relay_write_failures_total", `resource="pods"`}, []string{"node=NODE", "cannot become Running again"}},
		{"forbidden-labels", tryLabels, reports("label-refused"), []string{"node=NODE", "node may not set this on itself"}},
		{"label-bomb", tryLabelBomb, reports("refused"), []string{"node=NODE", "5000 labels"}},
		{"condition-and-image-bomb", tryListBomb, reports("refused"), []string{"node=NODE", "5000 conditions"}},
		{"status-of-500-kb", tryLargeStatus, reports("refused"), []string{"node=NODE", "the limit for nodes is"}},
		{"times-out-of-range", tryTimes, []string{"skerry_relay_write_failures_total"}, []string{"node=NODE", "status is not a"}},
		{"event-about-others", tryEventOfOthers, events("refused"), []string{"node=NODE", "event cannot be stored"}},
		{"outbox-replay", tryOutboxReplay, events("duplicate"), []string{"node=NODE", "event was stored before"}},
		{"event-with-another-time", tryEventTime, events("time-corrected"), []string{"node=NODE", "clock is wrong"}},
		{"reports-of-an-earlier-session", tryReportReplay, ended("protocol-error"), []string{"node=NODE", "came after"}},
		{"acknowledgements-of-an-earlier-session", tryAckReplay, ended("protocol-error"), []string{"node=NODE", "commit 77 was acknowledged"}},
		{"frames-on-a-replaced-session", tryReplaced, ended("replaced"), []string{"node=NODE", "a newer session"}},
		{"bytes-of-a-captured-connection", tryCapture, turnedAway("tls-handshake"), []string{"127.0.2.1", "tls-handshake"}},
	}
}

func tryNodeStatus(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: nodeKey(victim), Body: document(t, map[string]any{
		"labels": map[string]any{"owned": "by-" + node},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "Evil", "message": "x"}}},
	})})
}

func tryPodStatus(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: r.podKey(t, "with-secret"), Body: document(t, map[string]any{"status": map[string]any{"phase": "Failed", "reason": "Evil"}})})
}

func tryPodDelete(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: r.podKey(t, "pod-"+victim), Body: document(t, map[string]any{"deleted": true})})
}

func tryDevice(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	report(t, s, 1, wire.ReportItem{Key: deviceKey(victim), Body: document(t, map[string]any{
		"observedGeneration": 99, "conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "Evil", "message": "x"}},
		"deviceStatus": map[string]any{"state": "offline", "twins": []any{map[string]any{"propertyName": "level", "reported": map[string]any{"value": "666"}}}},
	})})
}

// tryOtherUID reports on its own pod's name under another UID, as if it were the pod that comes after it.
func tryOtherUID(t *testing.T, r *rig, node string) {
	r.pod(t, node, node)
	s := open(t, r.attacker(t, node), node)
	key := wire.NewKey(wire.KindPod, fleet.Namespace, node, "otheruid")
	report(t, s, 1, wire.ReportItem{Key: key, Body: document(t, map[string]any{"metadata": map[string]any{"uid": "otheruid"}, "status": map[string]any{"phase": "Failed"}})})
}

// tryDeleteOwnPod says that a pod is gone which the cluster wants to run.
func tryDeleteOwnPod(t *testing.T, r *rig, node string) {
	key := r.pod(t, node, node)
	s := open(t, r.attacker(t, node), node)
	r.holds(t, s, key)
	report(t, s, 1, wire.ReportItem{Key: key, Body: document(t, map[string]any{"deleted": true})})
	r.told(t, node, "nobody has deleted")
	if r.podKey(t, node) != key {
		t.Error("the pod was removed")
	}
}

// holds waits until the attacker was sent key: from then on the relay knows that it is its own.
func (r *rig) holds(t *testing.T, s *Session, key wire.Key) {
	t.Helper()
	seen := s.Drain(patience, true, func(f wire.Frame) bool {
		if _, ok := f.(*wire.Compare); ok {
			send(t, s, &wire.Entries{}) // it holds nothing
		}
		c, ok := f.(*wire.CommitPart)
		if !ok {
			return false
		}
		for _, o := range c.Put {
			if o.Key == key {
				return true
			}
		}
		return false
	})
	if _, ok := seen.Objects[key]; !ok {
		t.Fatalf("the attacker was not given its own %s: %v", key, seen.Err)
	}
}

// tryComeBack ends its own pod and then has it run again.
func tryComeBack(t *testing.T, r *rig, node string) {
	key := r.pod(t, node, node)
	s := open(t, r.attacker(t, node), node)
	r.holds(t, s, key)
	report(t, s, 1, wire.ReportItem{Key: key, Body: document(t, map[string]any{"status": map[string]any{"phase": "Failed"}})})
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		p, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).Get(t.Context(), node, getOptions)
		if err != nil || time.Now().After(end) {
			t.Fatalf("the pod has not failed: %v", err)
		}
		if p.Status.Phase == "Failed" {
			break
		}
	}
	report(t, s, 2, wire.ReportItem{Key: key, Body: document(t, map[string]any{"status": map[string]any{"phase": "Running"}})})
}

// tryLabels sets labels that would draw pods of the control plane, or hide the node from Skerry's own tools.
func tryLabels(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	doc := nodeStatus(nil)
	forbidden := map[string]any{
		"node-role.kubernetes.io/control-plane": "", "node-restriction.kubernetes.io/pci": "yes", "node.skerry.dev/agent": "false",
		"topology.k8s.io/x": "y", "kubernetes.io/anything": "z",
	}
	doc["labels"] = forbidden
	doc["annotations"] = map[string]any{"volumes.kubernetes.io/controller-managed-attach-detach": "true", "node.alpha.kubernetes.io/ttl": "99"}
	report(t, s, 1, wire.ReportItem{Key: nodeKey(node), Body: document(t, doc)})
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		n, err := r.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, getOptions)
		if err == nil {
			for k := range forbidden {
				if v, set := n.Labels[k]; set && (k != "node.skerry.dev/agent" || v != "true") {
					t.Errorf("the label %s is set to %q", k, v)
				}
			}
			if _, set := n.Annotations["volumes.kubernetes.io/controller-managed-attach-detach"]; set {
				t.Error("a foreign annotation is set")
			}
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// bomb reports one document about the attacker's own node, and checks that nothing of it reached the API once the relay has refused
// it with the given words.
func bomb(t *testing.T, r *rig, node string, doc map[string]any, refusal string) {
	t.Helper()
	s := open(t, r.attacker(t, node), node)
	r.register(t, s, node)
	report(t, s, 2, wire.ReportItem{Key: nodeKey(node), Body: document(t, doc)})
	r.told(t, node, refusal)
	n, err := r.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, getOptions)
	if err != nil {
		t.Fatal(err)
	}
	if n.Size() > 32<<10 {
		t.Errorf("the Node has %d bytes", n.Size())
	}
}

func tryLabelBomb(t *testing.T, r *rig, node string) {
	labels := map[string]any{}
	for i := range 5000 {
		labels[fmt.Sprintf("l%d", i)] = "x"
	}
	doc := nodeStatus(nil)
	doc["labels"] = labels
	bomb(t, r, node, doc, "5000 labels")
}

func tryListBomb(t *testing.T, r *rig, node string) {
	var conditions, images []any
	for i := range 5000 {
		conditions = append(conditions, map[string]any{"type": fmt.Sprint("T", i), "status": "True"})
		images = append(images, map[string]any{"names": []any{fmt.Sprint(i)}})
	}
	bomb(t, r, node, nodeStatus(map[string]any{"conditions": conditions, "images": images[:10]}), "5000 conditions")
}

func tryLargeStatus(t *testing.T, r *rig, node string) {
	bomb(t, r, node, nodeStatus(map[string]any{"nodeInfo": map[string]any{"osImage": strings.Repeat("x", 480<<10)}}), "the limit for nodes is")
}

// tryTimes reports times that no clock shows.
func tryTimes(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	r.register(t, s, node)
	report(t, s, 2, wire.ReportItem{Key: nodeKey(node), Body: document(t, nodeStatus(map[string]any{
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": "292277026596-12-04T15:30:07Z"}},
	}))})
}

func event(t *testing.T, ref map[string]any, at, message string) []byte {
	t.Helper()
	return document(t, map[string]any{"ref": ref, "type": "Normal", "reason": "Evil", "message": message, "time": at, "component": "x"})
}

// store sends outbox items and waits for their acknowledgement.
func store(t *testing.T, s *Session, items ...wire.OutboxItem) {
	t.Helper()
	send(t, s, &wire.Outbox{Items: items})
	seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.OutboxAck); return ok })
	if seen.Close != nil || seen.Err != nil {
		t.Fatalf("the items are not acknowledged: %+v %v", seen.Close, seen.Err)
	}
}

const honestTime = "2026-11-01T00:00:00Z"

// tryEventOfOthers tells stories about other nodes, their pods and devices, and about secrets.
func tryEventOfOthers(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	pod := r.podKey(t, "with-secret")
	var items []wire.OutboxItem
	for i, ref := range []map[string]any{
		{"kind": "Node", "name": victim}, {"kind": "Pod", "namespace": pod.Namespace(), "name": pod.Name(), "uid": pod.UID()},
		{"kind": "Device", "namespace": fleet.Namespace, "name": "device-" + victim}, {"kind": "Secret", "namespace": fleet.Namespace, "name": secretName},
	} {
		items = append(items, wire.OutboxItem{Epoch: 1, Seq: uint64(i + 1), Kind: wire.KindOfEvent, Body: event(t, ref, honestTime, "a lie by "+node)})
	}
	store(t, s, items...)
	for _, e := range r.events(t, "") {
		if strings.Contains(e, "a lie by "+node) {
			t.Errorf("it was stored: %s", e)
		}
	}
}

// events returns the events that name a node as their source, or all: messages and times.
func (r *rig) events(t *testing.T, node string) (out []string) {
	t.Helper()
	list, err := r.cluster.Core.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if e := &list.Items[i]; node == "" || e.Source.Host == node {
			out = append(out, e.LastTimestamp.UTC().Format(time.RFC3339)+" "+e.Message)
		}
	}
	return out
}

// tryOutboxReplay sends an item again, in the next session, with another body.
func tryOutboxReplay(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	ref := map[string]any{"kind": "Node", "name": node}
	for _, message := range []string{"the first", "the second"} {
		s := open(t, a, node)
		store(t, s, wire.OutboxItem{Epoch: 5, Seq: 7, Kind: wire.KindOfEvent, Body: event(t, ref, honestTime, message)})
		s.Close()
	}
	if got := r.events(t, node); len(got) != 1 || !strings.HasSuffix(got[0], "the first") {
		t.Errorf("stored are %q", got)
	}
}

// tryEventTime dates an event into a far future, where it would stand in front of all others.
func tryEventTime(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	store(t, s, wire.OutboxItem{Epoch: 1, Seq: 1, Kind: wire.KindOfEvent, Body: event(t, map[string]any{"kind": "Node", "name": node}, "9999-12-31T23:59:59Z", "from the future")})
	if got := r.events(t, node); len(got) != 1 || strings.HasPrefix(got[0], "9999") {
		t.Errorf("stored are %q", got)
	}
}

// tryReportReplay sends recorded frames again.
func tryReportReplay(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	item := wire.ReportItem{Key: nodeKey(node), Body: document(t, nodeStatus(nil))}
	s := open(t, a, node)
	report(t, s, 1, item)
	report(t, s, 2, item)
	send(t, s, &wire.Report{Seq: 1, Items: []wire.ReportItem{item}})
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

func tryAckReplay(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	send(t, s, &wire.Ack{ID: 77})
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// tryReplaced goes on writing on a session after a newer one of the same node was opened.
func tryReplaced(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	old := open(t, a, node)
	r.register(t, old, node)
	newer := open(t, a, node)
	doc := nodeStatus(nil)
	doc["labels"] = map[string]any{"from": "the-old-session"}
	_ = old.Send(&wire.Report{Seq: 2, Items: []wire.ReportItem{{Key: nodeKey(node), Body: document(t, doc)}}})
	if c := gone(t, old); c != nil && c.Code != wire.CloseReplaced {
		t.Errorf("the old session ended with %v", c.Code)
	}
	doc["labels"] = map[string]any{"from": "the-new-session"}
	report(t, newer, 1, wire.ReportItem{Key: nodeKey(node), Body: document(t, doc)})
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		n, err := r.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, getOptions)
		if err != nil {
			t.Fatal(err)
		}
		if n.Labels["from"] == "the-old-session" || time.Now().After(end) {
			t.Fatalf("the label is %q", n.Labels["from"])
		}
		if n.Labels["from"] == "the-new-session" {
			return
		}
	}
}

// tryCapture records everything that a gateway sends to the relay, and sends it again: TLS early data does not exist here, and all
// else is bound to the connection's own secrets.
func tryCapture(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	raw, err := a.TCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tap := &recorder{Conn: raw}
	c, err := a.Over(t.Context(), tap)
	if err != nil {
		t.Fatal(err)
	}
	s, err := LinkOver(c)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, Hello(node))
	seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.Synced); return ok })
	if seen.Err != nil {
		t.Fatal(seen.Err)
	}
	report(t, s, 1, wire.ReportItem{Key: nodeKey(node), Body: document(t, nodeStatus(nil))})
	s.Close()
	before := r.counters(t)
	again, err := r.nobody("127.0.2.1").TCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(tap.sent); err != nil {
		t.Fatal(err)
	}
	_ = again.SetReadDeadline(time.Now().Add(patience))
	for buf := make([]byte, 4096); err == nil; {
		_, err = again.Read(buf)
	}
	if n := r.counters(t).Sub(before).Sum("skerry_relay_handshakes_total"); n > 0 {
		t.Errorf("%v handshakes were finished with what was sent again", n)
	}
}
