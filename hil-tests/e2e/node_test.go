//go:build integration

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestAdmission: pods that are bound to the node without a scheduler, and do not fit or do not belong there, fail with the kubelet's reasons.
func TestAdmission(t *testing.T) {
	for name, c := range map[string]struct{ change, to, reason, message string }{
		"giant":   {"{name: c,", "{name: c, resources: {requests: {cpu: 1k}},", "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "},
		"hungry":  {"{name: c,", "{name: c, resources: {requests: {memory: 64Ti}},", "OutOfmemory", "Pod was rejected: Node didn't have enough resource: memory, "},
		"foreign": {"nodeName: $NODE", "nodeName: $NODE\n  nodeSelector: {site: nowhere}", "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
	} {
		t.Run(name, func(t *testing.T) {
			remove(t, "pod/"+name)
			apply(t, strings.Replace(simplePod, c.change, c.to, 1), "NAME", name)
			p := awaitPod(t, name, 30*time.Second, "is not let in", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
			if p.Status.Reason != c.reason || !strings.HasPrefix(p.Status.Message, c.message) || len(p.Status.ContainerStatuses) != 0 {
				t.Errorf("status %+v", p.Status)
			}
		})
	}
}

// TestStaticPods: a file becomes a pod and a mirror in the API; who deletes the mirror does not stop the pod.
func TestStaticPods(t *testing.T) {
	if err := os.MkdirAll(w.StaticPods(), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.StaticPods(), "beacon.yaml")
	t.Cleanup(func() { _ = os.Remove(file) })
	manifest := expand(simplePod, "NAME", "beacon")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "beacon-" + node
	first := awaitPod(t, name, 40*time.Second, "is ready", ready)
	if first.Annotations["kubernetes.io/config.mirror"] == "" || first.Annotations["kubernetes.io/config.source"] != "file" {
		t.Errorf("annotations %v", first.Annotations)
	}
	if len(first.OwnerReferences) != 1 || first.OwnerReferences[0].Kind != "Node" || first.OwnerReferences[0].Name != node {
		t.Errorf("owners %+v", first.OwnerReferences)
	}
	container := first.Status.ContainerStatuses[0].ContainerID
	kubectl(t, "delete", "pod", name, "--wait=false")
	again := awaitPod(t, name, 40*time.Second, "is made again", func(p *corev1.Pod) bool { return p.UID != first.UID && ready(p) })
	if got := again.Status.ContainerStatuses[0].ContainerID; got != container {
		t.Errorf("the container was %s and is %s: deleting the mirror has disturbed the pod", container, got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	gone(t, name, 40*time.Second)
}

// TestDrain: the node is cordoned and emptied by the real kubectl, and takes pods again.
func TestDrain(t *testing.T) {
	remove(t, "pod/drained")
	apply(t, simplePod, "NAME", "drained")
	awaitPod(t, "drained", 30*time.Second, "is ready", ready)
	t.Cleanup(func() {
		if out, err := w.Kube.Kubectl(context.Background(), "uncordon", node); err != nil {
			t.Errorf("uncordon: %v %s", err, out)
		}
	})
	out := kubectl(t, "drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
	contains(t, "kubectl drain", out, "drained")
	gone(t, "drained", 40*time.Second)
	kubectl(t, "uncordon", node)
	apply(t, simplePod, "NAME", "drained")
	awaitPod(t, "drained", 30*time.Second, "is ready again", ready)
}
