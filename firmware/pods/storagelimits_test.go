package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStorageLimits: a pod that exceeds a limit is evicted with the kubelet's words, and one that does not runs on.
func TestStorageLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits, volume string
		write          int   // into the emptyDir
		layer          int64 // into the container
		want           string
	}{
		"emptyDir within its limit":    {"", `"sizeLimit":"1Mi"`, 512 << 10, 0, ""},
		"emptyDir over its limit":      {"", `"sizeLimit":"1Mi"`, 2 << 20, 0, `Usage of EmptyDir volume "v" exceeds the limit "1Mi".`},
		"emptyDir without a limit":     {"", "", 2 << 20, 0, ""},
		"emptyDir with a limit of 0":   {"", `"sizeLimit":"0"`, 2 << 20, 0, ""},
		"container within its limit":   {`"limits":{"ephemeral-storage":"1Mi"}`, "", 0, 512 << 10, ""},
		"container over its limit":     {`"limits":{"ephemeral-storage":"1Mi"}`, "", 0, 2 << 20, `Container c exceeded its local ephemeral storage limit "1Mi".`},
		"container and volume over it": {`"limits":{"ephemeral-storage":"3Mi"}`, "", 2 << 20, 2 << 20, "Pod ephemeral local storage usage exceeds the total limit of containers 3145728."},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.rt.mu.Lock()
				w.rt.uses, w.rt.layer = map[string]uint64{"c": 1}, map[string]uint64{"c": uint64(c.layer)} //nolint:gosec // positive
				w.rt.mu.Unlock()
				w.apply(`{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1","resources":{` + c.limits + `},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{` + c.volume + `}}]}}`)
				w.settle(3 * time.Second)
				if s := w.status(); s.Phase != phaseRunning {
					t.Fatalf("status %+v", s)
				}
				dirs, err := filepath.Glob(filepath.Join(w.o.Dir, "*", volumesFolder, pluginEmptyDir, "v"))
				if err != nil || len(dirs) != 1 {
					t.Fatalf("%v, %v", dirs, err)
				}
				if err := os.WriteFile(filepath.Join(dirs[0], "file"), make([]byte, c.write), 0o600); err != nil {
					t.Fatal(err)
				}
				w.settle(25 * time.Second)
				s := w.status()
				if c.want == "" {
					if s.Phase != phaseRunning {
						t.Errorf("status %+v", s)
					}
					return
				}
				if s.Phase != phaseFailed || s.Reason != reasonEvicted || s.Message != c.want {
					t.Errorf("phase %s, reason %s, message %q", s.Phase, s.Reason, s.Message)
				}
				if e := w.event(reasonEvicted); e == nil || !strings.Contains(e.message, c.want) {
					t.Errorf("events %+v", w.events)
				}
				if cond := findCondition(s.Conditions, condDisruption); cond == nil || cond.Status != "True" {
					t.Errorf("conditions %+v", s.Conditions)
				}
			})
		})
	}
}
