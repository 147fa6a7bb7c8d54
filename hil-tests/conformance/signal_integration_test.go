//go:build integration && containerd2

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestStopSignal: a container is stopped by the signal that its pod names, and its status says which. The pod is a static one: the API server drops the
// field unless its gate ContainerStopSignals is on, which it is not by default in Kubernetes 1.37.
func TestStopSignal(t *testing.T) {
	w := newWorld(t, stack.Options{Runtime2: containerd2(t)})
	dir := filepath.Join(w.Dir, "signal")
	manifest := Fill(`
apiVersion: v1
kind: Pod
metadata: {name: signal, namespace: <ns>}
spec:
  os: {name: linux}
  terminationGracePeriodSeconds: 20
  volumes: [{name: v, hostPath: {path: <dir>, type: DirectoryOrCreate}}]
  containers:
  - name: main
    image: <box>
    command: [sh, -c, 'trap "echo USR1 > /v/got; exit 7" USR1; trap "echo TERM > /v/got; exit 0" TERM; touch /v/ready; while true; do sleep 0.1; done']
    lifecycle: {stopSignal: SIGUSR1}
    volumeMounts: [{name: v, mountPath: /v}]
`, map[string]string{"<ns>": namespace, "<box>": w.values["<box>"], "<dir>": dir})
	file := filepath.Join(w.StaticPods(), "signal.yaml")
	if err := os.MkdirAll(w.StaticPods(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	pods, name := w.cluster.Core.CoreV1().Pods(namespace), "signal-"+w.Node
	stacktest.Eventually(t, time.Minute, "the pod runs, and its status names the signal", func() (bool, string) {
		p, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || len(p.Status.ContainerStatuses) == 0 {
			return false, fmt.Sprint(err)
		}
		s := p.Status.ContainerStatuses[0]
		_, err = os.Stat(filepath.Join(dir, "ready"))
		return err == nil && s.State.Running != nil && s.StopSignal != nil && *s.StopSignal == "SIGUSR1", Describe(&s)
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, "the container has got the signal", func() (bool, string) {
		got, err := os.ReadFile(filepath.Join(dir, "got"))
		return string(got) == "USR1\n", fmt.Sprintf("%q (%v)", got, err)
	})
}
