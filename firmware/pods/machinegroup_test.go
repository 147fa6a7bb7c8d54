package pods

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGroupLimits: pods have what the group that holds them all may have, by the nearest limit of either version of cgroups.
func TestGroupLimits(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		parent string
		files  map[string]string
		want   Measurement
	}{
		"none":     {"/k", nil, Measurement{Memory: 1000 * mib, MemoryAvailable: 600 * mib, PIDs: 100, PIDsMax: 32768}},
		"no limit": {"/k", map[string]string{"memory/k/memory.limit_in_bytes": "9223372036854771712", "k/memory.max": "max", "k/pids.max": "max"}, Measurement{Memory: 1000 * mib, MemoryAvailable: 600 * mib, PIDs: 100, PIDsMax: 32768}},
		"version 1": {"/k", map[string]string{
			"memory/k/memory.limit_in_bytes": "209715200", "memory/k/memory.usage_in_bytes": "104857600", "memory/k/memory.stat": "inactive_file 1\ntotal_inactive_file 10485760\n",
			"pids/k/pids.max": "300", "pids/k/pids.current": "40",
		}, Measurement{Memory: 200 * mib, MemoryAvailable: 110 * mib, PIDs: 40, PIDsMax: 300}},
		"version 2, above the parent": {"/a/k", map[string]string{
			"a/memory.max": "209715200", "a/memory.current": "104857600", "a/memory.stat": "inactive_file 10485760\n", "a/k/memory.max": "max", "a/pids.max": "300", "a/pids.current": "40",
		}, Measurement{Memory: 200 * mib, MemoryAvailable: 110 * mib, PIDs: 40, PIDsMax: 300}},
		"systemd": {"/k", map[string]string{"k.slice/memory.max": "209715200", "k.slice/memory.current": "314572800"}, Measurement{Memory: 200 * mib, PIDs: 100, PIDsMax: 32768}},
		"the machine is shorter": {"/k", map[string]string{"k/memory.max": "943718400", "k/memory.current": "104857600", "k/pids.max": "32768", "k/pids.current": "3"}, Measurement{
			Memory: 900 * mib, MemoryAvailable: 600 * mib, PIDs: 100, PIDsMax: 32768}},
		"not a number": {"/k", map[string]string{"k/memory.max": "-", "k/pids.max": ""}, Measurement{Memory: 1000 * mib, MemoryAvailable: 600 * mib, PIDs: 100, PIDsMax: 32768}},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v := Measurement{Memory: 1000 * mib, MemoryAvailable: 600 * mib, PIDs: 100, PIDsMax: 32768}
		parentGroups(root, c.parent).narrow(&v)
		if v != c.want {
			t.Errorf("%s: %+v, want %+v", name, v, c.want)
		}
	}
	if g := parentGroups("/sys/fs/cgroup", "/"); g.Memory != nil || g.PIDs != nil {
		t.Errorf("the root is nobody's parent: %v", g)
	}
}
