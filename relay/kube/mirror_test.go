package kube

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
)

func staticManifest(change func(meta, spec map[string]any)) map[string]any {
	meta := map[string]any{"name": "dns-gw-1", "namespace": "kube-system", "uid": "h1", "labels": map[string]any{"app": "dns"},
		"annotations": map[string]any{hashAnnotation: "h1", "kubernetes.io/config.source": "file"}, "ownerReferences": []any{"mine"}, "finalizers": []any{"x"}}
	spec := map[string]any{"nodeName": "other", "containers": []any{map[string]any{"name": "c", "image": "i"}},
		"volumes": []any{map[string]any{"name": "v", "hostPath": map[string]any{"path": "/x"}}}}
	if change != nil {
		change(meta, spec)
	}
	return map[string]any{"metadata": meta, "spec": spec}
}

// TestMirrorPod: a node may show its static pods, owned by itself, and nothing more.
func TestMirrorPod(t *testing.T) {
	key := wire.NewKey(wire.KindPod, "kube-system", "dns-gw-1", "h1")
	pod, err := mirrorPod(key, "gw-1", "node-uid", staticManifest(nil))
	if err != nil {
		t.Fatal(err)
	}
	owner := pod.GetOwnerReferences()
	if len(owner) != 1 || owner[0].Kind != "Node" || owner[0].UID != "node-uid" || !*owner[0].Controller || owner[0].BlockOwnerDeletion != nil {
		t.Errorf("owners %+v", owner)
	}
	if pod.GetAnnotations()[mirrorAnnotation] != "h1" || pod.GetUID() != "" || len(pod.GetFinalizers()) != 0 || pod.GetLabels()["app"] != "dns" ||
		text(child(pod.Object, "spec"), "nodeName") != "gw-1" {
		t.Errorf("pod %+v", pod.Object)
	}
	for name, change := range map[string]func(meta, spec map[string]any){
		"must end with":      func(meta, _ map[string]any) { meta["name"] = "dns-gw-2" },
		"hash":               func(meta, _ map[string]any) { child(meta, "annotations")[hashAnnotation] = "h2" },
		"serviceAccountName": func(_, spec map[string]any) { spec["serviceAccountName"] = "admin" },
		"imagePullSecrets":   func(_, spec map[string]any) { spec["imagePullSecrets"] = []any{map[string]any{"name": "s"}} },
		"resourceClaims":     func(_, spec map[string]any) { spec["resourceClaims"] = []any{map[string]any{"name": "s"}} },
		"secrets s": func(_, spec map[string]any) {
			spec["containers"] = []any{map[string]any{"envFrom": []any{map[string]any{"secretRef": map[string]any{"name": "s"}}}}}
		},
		"configmaps c": func(_, spec map[string]any) {
			spec["initContainers"] = []any{map[string]any{"env": []any{map[string]any{"valueFrom": map[string]any{"configMapKeyRef": map[string]any{"name": "c"}}}}}}
		},
		"persistentvolumeclaims": func(_, spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "v", "persistentVolumeClaim": map[string]any{"claimName": "x"}}}
		},
		"is a projected": func(_, spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "v", "projected": map[string]any{"sources": []any{map[string]any{"serviceAccountToken": map[string]any{}}}}}}
		},
		"is a csi": func(_, spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "v", "csi": map[string]any{"driver": "x"}}}
		},
		"too large":   func(meta, _ map[string]any) { child(meta, "labels")["x"] = strings.Repeat("y", maxLabelBytes) },
		"not the one": func(meta, _ map[string]any) { meta["namespace"] = "default" },
	} {
		m := staticManifest(change)
		k := key
		if name == "must end with" {
			k = wire.NewKey(wire.KindPod, "kube-system", "dns-gw-2", "h1")
		}
		if _, err := mirrorPod(k, "gw-1", "node-uid", m); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMirrorIsMadeAndGoes: the relay makes the mirror that a node asks for, and deletes it when the node says so, though nobody else has.
func TestMirrorIsMadeAndGoes(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, strings.Replace(readyNode, `{"labels"`, `{"taints":[{"key":"k","effect":"NoSchedule"}],"labels"`, 1))
		if taints := field(b.api.get(nodesGVR, "/gw-1"), "spec", "taints").([]any); len(taints) != 1 {
			t.Errorf("taints %v", taints)
		}
		const request = wire.Key("pods/kube-system/dns-gw-1/h1")
		b.report("gw-1", 7, request, `{"mirror":{"metadata":{"name":"dns-gw-1","namespace":"kube-system","annotations":{"kubernetes.io/config.hash":"h1"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}`)
		pod := b.api.get(podsGVR, "kube-system/dns-gw-1")
		if pod == nil || field(pod, "metadata", "annotations", mirrorAnnotation) != "h1" || field(pod, "spec", "nodeName") != "gw-1" {
			t.Fatalf("pod %v", pod)
		}
		own := wire.NewKey(wire.KindPod, "kube-system", "dns-gw-1", field(pod, "metadata", "uid").(string))
		b.report("gw-1", 7, own, `{"status":{"phase":"Running"}}`)
		if phase := field(b.api.get(podsGVR, "kube-system/dns-gw-1"), "status", "phase"); phase != "Running" {
			t.Errorf("phase %v", phase)
		}
		b.start("gw-2", 1)
		b.report("gw-2", 1, own, `{"deleted":true}`)
		if b.api.get(podsGVR, "kube-system/dns-gw-1") == nil {
			t.Fatal("another node deleted the mirror")
		}
		b.report("gw-1", 7, own, `{"deleted":true}`)
		if b.api.get(podsGVR, "kube-system/dns-gw-1") != nil {
			t.Error("the mirror was not deleted")
		}
		b.report("gw-1", 7, request, `{"mirror":{"metadata":{"name":"dns-gw-1","namespace":"kube-system","annotations":{"kubernetes.io/config.hash":"h1"}},"spec":{"serviceAccountName":"x"}}}`)
		if b.api.get(podsGVR, "kube-system/dns-gw-1") != nil {
			t.Error("a mirror with a service account was made")
		}
	})
}

// TestMirrorsAreLimited: a gateway cannot fill the cluster with pods.
func TestMirrorsAreLimited(t *testing.T) {
	withBench(t, func(b *bench) {
		b.start("gw-1", 7)
		b.report("gw-1", 7, nodeKey, readyNode)
		for i := range maxBound {
			b.api.put(b.t, wire.KindPod, fmt.Sprintf(`{"metadata":{"name":"p%d","namespace":"default","uid":"u%d"},"spec":{"nodeName":"gw-1"}}`, i, i))
		}
		synctest.Wait() // the cache has them
		b.report("gw-1", 7, "pods/kube-system/dns-gw-1/h1",
			`{"mirror":{"metadata":{"name":"dns-gw-1","namespace":"kube-system","annotations":{"kubernetes.io/config.hash":"h1"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}`)
		if b.api.get(podsGVR, "kube-system/dns-gw-1") != nil {
			t.Error("a mirror was made for a node that has more pods than any may have")
		}
	})
}
