package pods

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCgroupsOfPodsThatAreGone: a cgroup without a pod goes with those in it, in every hierarchy; one that is in use stays, and so does a pod's.
func TestCgroupsOfPodsThatAreGone(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod) // uid u1
		w.settle(time.Second)
		parent := filepath.FromSlash(cmp.Or(w.o.CgroupParent, "/skerry"))
		var gone, stays []string
		for _, h := range []string{"memory", "pids", ""} {
			gone = append(gone, filepath.Join(w.o.CgroupRoot, h, parent, "podu2"))
			stays = append(stays, filepath.Join(w.o.CgroupRoot, h, parent, "podu1"), filepath.Join(w.o.CgroupRoot, h, parent, "podu3"), filepath.Join(w.o.CgroupRoot, h, parent, "other"))
		}
		for _, dir := range append(gone, stays...) {
			if err := os.MkdirAll(filepath.Join(dir, "container"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, dir := range stays { // what holds something is not removed, as a cgroup with a process in it
			if err := os.WriteFile(filepath.Join(dir, "container", "process"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(2 * sweepPeriod)
		for _, dir := range gone {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s stays: %v", dir, err)
			}
		}
		for _, dir := range stays {
			if _, err := os.Stat(filepath.Join(dir, "container", "process")); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
	})
}
