package kubeletapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// fakeRuntime is a runtime with a list of containers.
type fakeRuntime struct {
	mu         sync.Mutex
	err        error
	containers []cri.Container
	sandboxes  []cri.PodSandbox
	stats      []cri.ContainerStats
	url        string
	asked      []any
}

func (f *fakeRuntime) ListContainers(_ context.Context, filter *cri.ContainerFilter) (out []cri.Container, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if filter == nil {
		filter = &cri.ContainerFilter{}
	}
	for _, c := range f.containers {
		if filter.ID != "" && filter.ID != c.ID || filter.State != nil && *filter.State != c.State {
			continue
		}
		matches := true
		for k, v := range filter.LabelSelector {
			matches = matches && c.Labels[k] == v
		}
		if matches {
			out = append(out, c)
		}
	}
	return out, f.err
}

func (f *fakeRuntime) ListPodSandbox(context.Context, *cri.PodSandboxFilter) ([]cri.PodSandbox, error) {
	return f.sandboxes, f.err
}

func (f *fakeRuntime) ListContainerStats(context.Context, *cri.ContainerStatsFilter) ([]cri.ContainerStats, error) {
	return f.stats, f.err
}

func (f *fakeRuntime) ImageFsInfo(context.Context) (*cri.ImageFsInfoResponse, error) {
	return &cri.ImageFsInfoResponse{}, f.err
}

func (f *fakeRuntime) ask(req any) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, req)
	return f.url, f.err
}

func (f *fakeRuntime) Exec(_ context.Context, r *cri.ExecRequest) (string, error) { return f.ask(*r) }

func (f *fakeRuntime) Attach(_ context.Context, r *cri.AttachRequest) (string, error) {
	return f.ask(*r)
}

func (f *fakeRuntime) PortForward(_ context.Context, r *cri.PortForwardRequest) (string, error) {
	return f.ask(*r)
}

func (f *fakeRuntime) set(state cri.ContainerState, attempts ...uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers = nil
	for i, n := range attempts {
		s := cri.ContainerExited
		if i == len(attempts)-1 {
			s = state
		}
		f.containers = append(f.containers, cri.Container{
			ID: fmt.Sprint("c", n), State: s, Metadata: &cri.ContainerMetadata{Attempt: n}, CreatedAt: int64(n),
			Labels: map[string]string{labelPodUID: "u-1", labelContainer: "main"},
		})
	}
}

type fakePods []Pod

func (f fakePods) All() []Pod { return f }

func (f fakePods) Pod(namespace, name string) (Pod, bool) {
	for _, p := range f {
		if p.Namespace == namespace && p.Name == name {
			return p, true
		}
	}
	return Pod{}, false
}

type bench struct {
	t   *testing.T
	rt  *fakeRuntime
	pod Pod
	dir string // of the container's logs
	srv *Server
	web *httptest.Server
}

func newBench(t *testing.T, options ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, rt: &fakeRuntime{}}
	root := t.TempDir()
	b.dir = filepath.Join(root, "default_web_u-1", "main")
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.pod = Pod{Namespace: "default", Name: "web", UID: "u-1", Containers: []Container{{Name: "main"}, {Name: "term", TTY: true, Stdin: true}}, Status: &corev1.PodStatus{
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.StateRunning{}}}},
	}}
	o := Options{Node: "gw-1", Pods: fakePods{b.pod}, Runtime: b.rt, LogDir: root}
	for _, f := range options {
		f(&o)
	}
	var err error
	if b.srv, err = New(o); err != nil {
		t.Fatal(err)
	}
	b.web = httptest.NewServer(b.srv.Handler())
	t.Cleanup(b.web.Close)
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		_ = f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func line(second int, stream, tag, text string) string {
	return fmt.Sprintf("2026-01-01T00:00:%02d.5Z %s %s %s\n", second, stream, tag, text)
}

func (b *bench) get(path string) (int, string) {
	b.t.Helper()
	resp, err := http.Get(b.web.URL + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

const mainLog = "/containerLogs/default/web/main"

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not %s", what)
		}
	}
}
