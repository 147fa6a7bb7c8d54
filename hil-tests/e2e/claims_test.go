//go:build integration

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const claimManifest = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: edge}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: claims-disk}
spec:
  storageClassName: edge
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $DIR}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$NODE]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claims-data}
spec:
  storageClassName: edge
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: claims-plain}
handler: runc
overhead: {podFixed: {memory: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: claims-db}
spec:
  ports: [{name: sql, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: claims-headless}
spec:
  clusterIP: None
  ports: [{name: sql, port: 5432}]
`

const claimingPod = `
apiVersion: v1
kind: Pod
metadata: {name: claims}
spec:
  automountServiceAccountToken: false
  runtimeClassName: claims-plain
  containers:
    - name: c
      image: $IMAGE
      volumeMounts: [{name: data, mountPath: /config}]
  volumes:
    - name: data
      persistentVolumeClaim: {claimName: claims-data}
`

// TestClaim: the real scheduler and volume controller bind a claim to a local volume when its first pod comes, and the pod runs with it,
// in its runtime class, with the variables of its namespace's Services.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("from the disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove(t, "storageclass/edge", "persistentvolume/claims-disk", "runtimeclass/claims-plain")
	remove(t, "persistentvolumeclaim/claims-data", "service/claims-db", "service/claims-headless", "pod/claims")
	apply(t, claimManifest, "DIR", dir)
	claims := w.cluster.Core.CoreV1().PersistentVolumeClaims(ns)
	c, err := claims.Get(t.Context(), "claims-data", metav1.GetOptions{})
	if err != nil || c.Status.Phase == corev1.ClaimBound {
		t.Fatalf("the claim is bound before there is a pod: %+v, %v", c, err)
	}
	apply(t, claimingPod)
	p := awaitPod(t, "claims", 30*time.Second, "is ready", ready)
	if c, err = claims.Get(t.Context(), "claims-data", metav1.GetOptions{}); err != nil || c.Status.Phase != corev1.ClaimBound || c.Spec.VolumeName != "claims-disk" {
		t.Errorf("claim %+v, %v", c, err)
	}
	if p.Spec.Overhead.Memory().String() != "8Mi" || p.Spec.NodeName != node {
		t.Errorf("the pod's spec has overhead %v, node %q", p.Spec.Overhead, p.Spec.NodeName)
	}
	read := func(path string) string {
		resp, err := http.Get("http://" + p.Status.PodIP + ":8080" + path) //nolint:noctx // a pod on this machine
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	stacktest.Eventually(t, 10*time.Second, "the volume's file can be read", func() (bool, string) { text := read("/config/hello"); return text == "from the disk", text })
	db, err := w.cluster.Core.CoreV1().Services(ns).Get(t.Context(), "claims-db", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "the environment", read("/env"), fmt.Sprintf("CLAIMS_DB_SERVICE_HOST=%s\n", db.Spec.ClusterIP), "CLAIMS_DB_SERVICE_PORT_SQL=5432\n",
		fmt.Sprintf("CLAIMS_DB_PORT=tcp://%s:5432\n", db.Spec.ClusterIP), "KUBERNETES_SERVICE_HOST=", "KUBERNETES_PORT_443_TCP_PROTO=tcp\n")
}
