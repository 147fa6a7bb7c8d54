package kubeletapi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestProcessLimit: /stats/summary says the limit that eviction counts with, which is the lower of the kernel's two.
func TestProcessLimit(t *testing.T) {
	for _, c := range []struct {
		pids, threads string
		want          int64 // 0: it is not said
	}{
		{"32768\n", "", 32768}, {"32768\n", "1007\n", 1007}, {"32768\n", "126000\n", 32768}, {"4194304\n", "many\n", 4194304},
		{"32768\n", "0\n", 32768}, {"", "1007\n", 0},
	} {
		proc := t.TempDir()
		for name, text := range map[string]string{"loadavg": "0.00 0.01 0.05 2/345 6789\n", "sys/kernel/pid_max": c.pids, "sys/kernel/threads-max": c.threads} {
			if text == "" {
				continue
			}
			path := filepath.Join(proc, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := newBench(t, func(o *Options) { o.Proc = proc })
		var got summary
		if status, body := b.get("/stats/summary"); status != 200 || json.Unmarshal([]byte(body), &got) != nil {
			t.Fatalf("%d %s", status, body)
		}
		switch limits := got.Node.Rlimit; {
		case c.want == 0:
			if limits != nil {
				t.Errorf("%+v: %+v", c, limits)
			}
		case limits == nil || *limits.MaxPID != c.want || *limits.CurProc != 345:
			t.Errorf("%+v: %+v", c, limits)
		}
	}
}
