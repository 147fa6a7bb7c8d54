//go:build integration && containerd2

package conformance

import (
	"os"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// TestConformanceOnContainerd2 runs the table on the containerd 2 that `make containerd2` builds; `make conformance` says where it is.
func TestConformanceOnContainerd2(t *testing.T) {
	conform(t, stack.Options{Runtime2: containerd2(t)}, NeedContainerd2, nil)
}

// containerd2 returns the path of containerd 2, beside which are its shim and a runc that knows idmapped mounts.
func containerd2(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SKERRY_CONTAINERD2")
	if path == "" {
		t.Fatal("SKERRY_CONTAINERD2 names no containerd 2: make conformance builds one, and runs this")
	}
	return path
}
