//go:build integration

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 1
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers: [{name: hello, image: "registry.invalid/hello:1"}]
`

func binary() string {
	if dir := os.Getenv("SKERRY_BIN"); dir != "" {
		return filepath.Join(dir, "skerry-kube")
	}
	return filepath.Join("..", "..", "..", "build", "bin", "skerry-kube")
}

func start(ctx context.Context, t *testing.T, dir string) *ControlPlane {
	t.Helper()
	cp, err := Start(ctx, Options{Binary: binary(), Dir: dir, Progress: func(what string, waited time.Duration, _ error) {
		t.Logf("waited %v until %s", waited, what)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Kill(); err != nil {
			t.Error(err)
		}
	})
	m, err := cp.Process().Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %v with %d MiB RSS, %d MiB PSS", cp.Took().Round(10*time.Millisecond), m.RSS>>20, m.PSS>>20)
	return cp
}

func kubectl(ctx context.Context, t *testing.T, cp *ControlPlane, args ...string) string {
	t.Helper()
	out, err := cp.Kubectl(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// pod waits until the deployment has one pod that the scheduler has judged,
// and returns its uid, phase and the reason why it is not scheduled.
func pod(ctx context.Context, t *testing.T, cp *ControlPlane) (uid, phase, reason string) {
	t.Helper()
	const path = `jsonpath={range .items[*]}{.metadata.uid} {.status.phase} {.status.conditions[?(@.type=="PodScheduled")].reason}{end}`
	err := process.Poll(ctx, "the deployment has a pod that the scheduler has judged", nil, func(ctx context.Context) error {
		out, err := cp.Kubectl(ctx, "get", "pods", "-l", "app=hello", "-o", path)
		if err != nil {
			return err
		}
		if n, _ := fmt.Sscan(out, &uid, &phase, &reason); n != 3 {
			return fmt.Errorf("kubectl prints %q", out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return uid, phase, reason
}

// TestTheControlPlaneKeepsItsState goes through the life of a control plane: a
// first start, an orderly restart, a crash; all on one folder.
func TestTheControlPlaneKeepsItsState(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()

	cp := start(ctx, t, dir)
	if v := kubectl(ctx, t, cp, "version"); !strings.Contains(v, "Client Version: v1.3") || !strings.Contains(v, "Server Version: v1.3") {
		t.Errorf("kubectl version prints %q", v)
	}
	if _, err := cp.Apply(ctx, deployment); err != nil {
		t.Fatal(err)
	}
	uid, phase, reason := pod(ctx, t, cp)
	if phase != "Pending" || reason != "Unschedulable" {
		t.Errorf("without a node the pod is %s, %s", phase, reason)
	}
	deploymentUID := kubectl(ctx, t, cp, "get", "deployment", "hello", "-o", "jsonpath={.metadata.uid}")

	// A watch that is open must not hold up the end.
	watch, err := process.Start(process.Spec{Name: "watch", Path: binary(), Log: filepath.Join(dir, "watch.log"),
		Args: []string{"kubectl", "--kubeconfig", cp.Kubeconfig(), "get", "pods", "-w"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := watch.Kill(); err != nil {
			t.Error(err)
		}
	})
	err = process.WaitReady(ctx, watch, "the watch shows the pod", nil, func(context.Context) error {
		if !strings.Contains(watch.LogTail(10), "Pending") {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stopping := time.Now()
	if err := cp.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := cp.Process().Err(); err != nil {
		t.Errorf("the end after Stop: %v", err)
	}
	t.Logf("stopped in %v", time.Since(stopping).Round(10*time.Millisecond))
	if _, err := cp.Kubectl(ctx, "get", "pods"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("kubectl on the stopped control plane: %v", err)
	}

	for _, end := range []struct {
		name string
		end  func(*ControlPlane) error
	}{{"an orderly stop", (*ControlPlane).Kill}, {"a crash", (*ControlPlane).Stop}} {
		again := start(ctx, t, dir)
		if again.URL() != cp.URL() {
			t.Errorf("after %s the address is %s, before it was %s", end.name, again.URL(), cp.URL())
		}
		// The first run's handle, with its kubeconfig, must go on working.
		if got := kubectl(ctx, t, cp, "get", "deployment", "hello", "-o", "jsonpath={.metadata.uid}"); got != deploymentUID {
			t.Errorf("after %s the deployment has uid %s, before it had %s", end.name, got, deploymentUID)
		}
		if got, _, _ := pod(ctx, t, again); got != uid {
			t.Errorf("after %s the pod has uid %s, before it had %s", end.name, got, uid)
		}
		if err := end.end(again); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASecondOneOnTheSameFolderIsRefused also shows that the first one's mark
// is not taken for the second one's.
func TestASecondOneOnTheSameFolderIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cp := start(ctx, t, dir)
	second, err := Start(ctx, Options{Binary: binary(), Dir: dir, Log: filepath.Join(dir, "second.log")})
	if err == nil {
		t.Fatal(second.Stop())
	}
	if !strings.Contains(err.Error(), "another skerry-kube runs on "+dir) {
		t.Errorf("the second one: %v", err)
	}
	kubectl(ctx, t, cp, "get", "--raw", "/readyz")
	if err := cp.Stop(); err != nil {
		t.Error(err)
	}
}
