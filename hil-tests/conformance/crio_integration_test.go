//go:build integration && crio

package conformance

import (
	"os"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// TestConformanceOnCRIO runs the table on the CRI-O that `make crio` builds; `make conformance-crio` says where it is.
func TestConformanceOnCRIO(t *testing.T) {
	path := os.Getenv("SKERRY_CRIO")
	if path == "" {
		t.Fatal("SKERRY_CRIO names no CRI-O: make conformance-crio builds one, and runs this")
	}
	conform(t, stack.Options{CRIO: path}, "", map[string]string{
		"status-whole":              "the row names containerd: ids begin with cri-o://",
		"lifecycle-no-such-command": "CRI-O finds it out when it makes the container: CreateContainerError, as with a kubelet",
		"security-capabilities":     "CRI-O gives containers 9 capabilities, containerd 14 (default_capabilities)",
		"security-privileged":       "CRI-O wants all capabilities of the kernel, and this machine lacks some",
		"networking-host-pid":       "the same",
		"volumes-propagation":       "the same",
		"networking-share-pid":      "CRI-O lowers oom_score_adj of the sandbox's own container, which this machine may not",
		"networking-host-port":      "CRI-O's own host ports do not answer on 127.0.0.1 in this rig's network (docs/runtimes.md)",
	})
}
