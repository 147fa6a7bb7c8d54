//go:build integration && containerd2

package conformance

import (
	"os"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// TestConformanceOnContainerd2 runs the table on the containerd 2 that `make containerd2` builds; `make conformance` says where it is.
func TestConformanceOnContainerd2(t *testing.T) {
	path := os.Getenv("SKERRY_CONTAINERD2")
	if path == "" {
		t.Fatal("SKERRY_CONTAINERD2 names no containerd 2: make conformance builds one, and runs this")
	}
	conform(t, stack.Options{Runtime2: path}, NeedContainerd2)
}
