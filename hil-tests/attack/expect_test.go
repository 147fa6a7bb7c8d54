//go:build integration

package attack

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/fleet"
)

// The metrics that attempts are counted in: what a session is not given, why sessions end, what never becomes one, and so on.

func refused(reason string) []string {
	return []string{"skerry_relay_refused_total", `reason="` + reason + `"`}
}

func ended(reason string) []string {
	return []string{"skerry_relay_session_closes_total", `reason="` + reason + `"`}
}

func turnedAway(reason string) []string {
	return []string{"skerry_relay_connections_refused_total", `reason="` + reason + `"`}
}

func certificates(result string) []string {
	return []string{"skerry_relay_certificates_total", `result="` + result + `"`}
}

func reports(result string) []string {
	return []string{"skerry_relay_writer_reports_total", `result="` + result + `"`}
}

func events(result string) []string {
	return []string{"skerry_relay_events_total", `result="` + result + `"`}
}

// gone reads until the relay has ended the session, in whatever way, and returns its Close frame if one came.
func gone(t *testing.T, s *Session) *wire.Close {
	t.Helper()
	seen := s.Drain(patience, false, nil)
	var timeout net.Error
	if seen.Close == nil && errors.As(seen.Err, &timeout) && timeout.Timeout() {
		t.Fatalf("after %v the relay has not ended the session", patience)
	}
	return seen.Close
}

// pod makes a pod that is bound to node and mounts the configMaps, and returns its key.
func (r *rig) pod(t *testing.T, node, name string, configMaps ...string) wire.Key {
	t.Helper()
	no := false
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/fleet:1"}},
	}}
	for _, cm := range configMaps {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: cm, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: cm}},
		}})
	}
	made, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return wire.NewKey(wire.KindPod, fleet.Namespace, name, string(made.UID))
}

// register makes the attacker's Node, as an honest agent's first report does.
func (r *rig) register(t *testing.T, s *Session, node string) {
	t.Helper()
	report(t, s, 1, wire.ReportItem{Key: nodeKey(node), Body: document(t, nodeStatus(nil))})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := r.cluster.Core.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the node was not registered: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func nodeKey(node string) wire.Key { return wire.NewKey(wire.KindNode, "", node, "") }

// nodeStatus is a status document of a node, with more in its status.
func nodeStatus(more map[string]any) map[string]any {
	status := map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "x", "message": "x"}}}
	for k, v := range more {
		status[k] = v
	}
	return map[string]any{"status": status}
}

// together runs variants of one attempt at the same time, and waits for all.
func together(t *testing.T, variants map[string]func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	type result struct {
		name string
		err  error
	}
	done := make(chan result)
	for name, f := range variants {
		go func() { done <- result{name, f(ctx)} }()
	}
	for range variants {
		if r := <-done; r.err != nil {
			t.Errorf("%s: %v", r.name, r.err)
		}
	}
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	sent []byte
}

// Write implements net.Conn.
func (r *recorder) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return r.Conn.Write(b)
}
