package kubeletapi

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// BenchmarkPages makes the pages of a gateway with 20 pods of one container, with cgroups of version 1, of which there are more files.
// The runtime's part is not in it.
func BenchmarkPages(b *testing.B) {
	dir := b.TempDir()
	rt := &fakeRuntime{}
	var pods fakePods
	files := machineTree()
	for i := range 20 {
		uid, id, sandbox := fmt.Sprintf("u-%d", i), fmt.Sprintf("%s%064d", "c", i), fmt.Sprintf("%s%064d", "s", i)
		for name, text := range firstTree() {
			if strings.HasPrefix(name, "cg/") {
				files[strings.NewReplacer("podu-1", "pod"+uid, mainID, id, sandboxID, sandbox).Replace(name)] = text
			}
		}
		set := map[string]string{labelPodUID: uid, labelContainer: "main"}
		pods = append(pods, Pod{Namespace: "default", Name: "web-" + uid, UID: uid})
		rt.sandboxes = append(rt.sandboxes, cri.PodSandbox{ID: sandbox, Labels: set})
		rt.stats = append(rt.stats, cri.ContainerStats{Attributes: &cri.ContainerAttributes{ID: id, Labels: set}, CPU: &cri.CPUUsage{UsageCoreNanoSeconds: new(uint64(1))}})
	}
	tree(b, dir, files)
	s, err := New(Options{
		Node: "gw-1", Pods: pods, Runtime: rt, LogDir: dir, Dir: dir, Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"),
		Group: func(uid string) (string, string) { return filepath.Join(dir, "cg"), "/skerry/pod" + uid },
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range []string{"/metrics/resource", "/metrics/cadvisor", "/stats/summary"} {
		b.Run(strings.ReplaceAll(path[1:], "/", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != 200 || w.Body.Len() < 1000 {
					b.Fatal(w.Code, w.Body)
				}
				b.ReportMetric(float64(w.Body.Len()), "bytes/page")
			}
		})
	}
}
