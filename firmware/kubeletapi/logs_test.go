package kubeletapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

func TestLogOptions(t *testing.T) {
	b := newBench(t)
	b.rt.set(cri.ContainerExited, 0, 1)
	b.write("0.log", line(1, "stdout", "F", "before"))
	b.write("1.log.2", line(2, "stdout", "F", "one")+line(3, "stderr", "F", "two"))
	b.write("1.log.1", line(4, "stdout", "P", "thr")+line(4, "stdout", "P", "e")+line(4, "stdout", "F", "e"))
	b.write("1.log", line(5, "stdout", "F", "")+line(6, "stdout", "F", "six"))
	for query, want := range map[string]string{
		"":                                      "one\ntwo\nthree\n\nsix\n",
		"tailLines=0":                           "",
		"tailLines=1":                           "six\n",
		"tailLines=2":                           "\nsix\n",
		"tailLines=3":                           "three\n\nsix\n",
		"tailLines=4":                           "two\nthree\n\nsix\n",
		"tailLines=5":                           "one\ntwo\nthree\n\nsix\n",
		"tailLines=99":                          "one\ntwo\nthree\n\nsix\n",
		"tail=all":                              "one\ntwo\nthree\n\nsix\n",
		"sinceTime=2026-01-01T00:00:04Z":        "three\n\nsix\n",
		"sinceTime=2026-01-01T00:00:05.6Z":      "six\n",
		"sinceSeconds=9223372036854775807":      "one\ntwo\nthree\n\nsix\n",
		"sinceSeconds=1":                        "",
		"tailLines=3&timestamps=true":           "2026-01-01T00:00:04.5Z three\n2026-01-01T00:00:05.5Z \n2026-01-01T00:00:06.5Z six\n",
		"limitBytes=6":                          "one\ntw",
		"limitBytes=1":                          "o",
		"limitBytes=1000":                       "one\ntwo\nthree\n\nsix\n",
		"stream=Stderr":                         "two\n",
		"stream=Stdout":                         "one\nthree\n\nsix\n",
		"previous=true":                         "before\n",
		"follow=true":                           "one\ntwo\nthree\n\nsix\n",
		"follow=true&tailLines=1":               "six\n",
		"follow=true&previous=true&tailLines=1": "before\n",
	} {
		if status, got := b.get(mainLog + "?" + query); status != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", query, status, got, want)
		}
	}
	for _, query := range []string{"tailLines=-1", "tailLines=x", "limitBytes=0", "sinceSeconds=0", "sinceTime=yesterday", "follow=perhaps", "stream=Both", "stream=Stdout&tailLines=1", "sinceSeconds=1&sinceTime=2026-01-01T00:00:04Z"} {
		if status, body := b.get(mainLog + "?" + query); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// TestLogsOfWhat says what is not there, and finds what is although the runtime does not know it.
func TestLogsOfWhat(t *testing.T) {
	b := newBench(t)
	expect := func(path string, status int, want string) {
		t.Helper()
		if s, body := b.get(path); s != status || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %d with %q", path, s, body, status, want)
		}
	}
	waiting := corev1.ContainerState{Waiting: &corev1.StateWaiting{Reason: "ImagePullBackOff", Message: "no such host"}}
	b.pod.Status.ContainerStatuses[0].State = waiting
	expect("/containerLogs/default/nobody/main", 404, `pod "nobody" does not exist`)
	expect("/containerLogs/other/web/main", 404, `pod "web" does not exist`)
	expect("/containerLogs/default/web/side", 404, `container "side" not found in pod "web"`)
	expect(mainLog, 400, `container "main" in pod "web" is waiting to start: ImagePullBackOff: no such host`)
	expect("/containerLogs/default/web/term", 400, `is not available`)
	expect(mainLog+"?previous=true", 400, `previous terminated container "main" in pod "web" not found`)

	b.write("0.log", line(1, "stdout", "F", "first run"))
	b.rt.set(cri.ContainerExited, 0)
	expect(mainLog, 200, "first run\n")
	expect(mainLog+"?previous=true", 200, "first run\n") // it waits for its next start: what has ended is the previous one
	b.pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.StateTerminated{}}
	expect(mainLog+"?previous=true", 400, "not found")
	b.rt.set(cri.ContainerRunning, 1)
	b.pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.StateRunning{}}
	expect(mainLog, 500, "nothing was written yet")
	b.write("1.log", line(2, "stdout", "F", "second run"))
	expect(mainLog, 200, "second run\n")
	expect(mainLog+"?previous=true", 200, "first run\n") // the runtime has forgotten it, the file is there
	b.rt.err = cri.ErrUnavailable
	expect(mainLog, 200, "second run\n")
	expect(mainLog+"?previous=true", 200, "first run\n")
	expect("/run/default/web/main", 404, "is not served")
}

// TestNoForeignFiles: what is in a log's place and is no file is not read.
func TestNoForeignFiles(t *testing.T) {
	b := newBench(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(b.dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	if status, body := b.get(mainLog); status != 500 || strings.Contains(body, "key\n") || body == "key" {
		t.Errorf("%d %q", status, body)
	}
}

// follower reads a log that is followed.
func (b *bench) follow(query string) (body *syncText, end func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.web.URL+mainLog+"?follow=true&"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	body = &syncText{}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(body, resp.Body)
		_ = resp.Body.Close()
		done <- err
	}()
	b.t.Cleanup(cancel)
	return body, func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return fmt.Errorf("it goes on; so far %q", body.String())
		}
	}
}

type syncText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncText) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not %s", what)
		}
	}
}

// TestFollowRotations writes lines while the log is rotated again and again, as the agent and the runtime do it, and wants each line once.
func TestFollowRotations(t *testing.T) {
	b := newBench(t)
	b.rt.set(cri.ContainerRunning, 0)
	var want strings.Builder
	n := 0
	put := func(count int) {
		for range count {
			text := fmt.Sprintf("line %d %s", n, strings.Repeat("x", rand.IntN(200)))
			n++
			want.WriteString(text + "\n")
			b.write("0.log", line(n%60, "stdout", "F", text))
		}
	}
	put(10)
	body, end := b.follow("")
	for range 4 {
		put(50)
		at := want.String()
		b.until("caught up", func() bool { return body.String() == at })
		for i := 2; i >= 1; i-- {
			_ = os.Rename(filepath.Join(b.dir, generation("0.log", i-1)), filepath.Join(b.dir, generation("0.log", i)))
		}
		// The runtime writes to the renamed file until it is told to reopen.
		b.write("0.log.1", line(1, "stdout", "F", "late"))
		want.WriteString("late\n")
		put(20)
	}
	b.write("0.log", "2026-01-01T00:00:01Z stdout F cut o")
	b.rt.set(cri.ContainerExited, 0)
	want.WriteString("cut o\n")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if got := body.String(); got != want.String() {
		t.Errorf("got %d bytes, want %d:\n%s", len(got), want.Len(), got)
	}
}

// TestFollowOvertaken: three rotations between two looks, of which one file is gone for good.
func TestFollowOvertaken(t *testing.T) {
	b := newBench(t)
	path := filepath.Join(b.dir, "0.log")
	b.write("0.log", line(1, "stdout", "F", "a"))
	files, err := openLogs(path)
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	if next, err := files.next(files.files[0]); err != nil || next != nil {
		t.Fatalf("there is no newer file: %v %v", next, err)
	}
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(b.dir, from), filepath.Join(b.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	move("0.log", "0.log.2")
	b.write("0.log.1", "middle")
	if next, err := files.next(files.files[0]); err != nil || next == nil || filepath.Base(next.Name()) != "0.log.1" {
		t.Fatalf("the next is %v, %v", next, err)
	} else {
		_ = next.Close()
	}
	move("0.log.1", "0.log.2")
	b.write("0.log", "new")
	if next, err := files.next(files.files[0]); err != nil || next == nil || filepath.Base(next.Name()) != "0.log.2" {
		t.Fatalf("the oldest that is left is %v, %v", next, err)
	} else {
		_ = next.Close()
	}
}

// TestFollowEndsWithTheReader: nothing goes on for somebody who has gone.
func TestFollowEndsWithTheReader(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxRequests = 1 })
	b.rt.set(cri.ContainerRunning, 0)
	b.write("0.log", line(1, "stdout", "F", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.web.URL+mainLog+"?follow=true", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := b.get("/healthz"); status != http.StatusTooManyRequests || !strings.Contains(body, "its limit") {
		t.Errorf("%d %s", status, body)
	}
	cancel()
	_ = resp.Body.Close()
	b.until("free", func() bool { status, _ := b.get("/healthz"); return status == 200 })
}

// TestLongLines: lines longer than the buffer come whole, and one that is being written is not cut.
func TestLongLines(t *testing.T) {
	b := newBench(t)
	b.rt.set(cri.ContainerExited, 0)
	long := strings.Repeat("0123456789", logBlock/3)
	b.write("0.log", line(1, "stdout", "F", long)+line(2, "stderr", "F", long)+"garbage\n"+line(3, "stdout", "F", "end"))
	if _, got := b.get(mainLog); got != long+"\n"+long+"\ngarbage\nend\n" {
		t.Errorf("%d bytes", len(got))
	}
	if _, got := b.get(mainLog + "?stream=Stderr"); got != long+"\ngarbage\n" {
		t.Errorf("stderr: %d bytes", len(got))
	}
	if _, got := b.get(mainLog + "?tailLines=3"); got != long+"\ngarbage\nend\n" {
		t.Errorf("tail: %d bytes", len(got))
	}
}

// TestTailAgainstPlain compares the backward search with reading everything, for random files.
func TestTailAgainstPlain(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t)
		b.rt.set(cri.ContainerExited, 0)
		var lines []string
		part := ""
		for f := 3; f >= 0; f-- {
			for range r.IntN(400) {
				text := strings.Repeat("y", r.IntN(300))
				tag := "F"
				if r.IntN(5) == 0 {
					tag = "P"
				}
				b.write(generation("0.log", f), line(1, "stdout", tag, text))
				if part += text; tag == "F" {
					lines, part = append(lines, part), ""
				}
			}
			b.write(generation("0.log", f), "")
		}
		n := r.IntN(len(lines) + 10)
		want := ""
		if n > 0 {
			if tail := lines[max(0, len(lines)-n):]; len(tail) > 0 {
				want = strings.Join(tail, "\n") + "\n"
			}
			want += part
		}
		if _, got := b.get(fmt.Sprintf("%s?tailLines=%d", mainLog, n)); got != want {
			t.Fatalf("seed %d, %d of %d lines: got %d bytes, want %d", seed, n, len(lines), len(got), len(want))
		}
	}
}

func FuzzLogs(f *testing.F) {
	f.Add([]byte(line(1, "stdout", "F", "a")), "tailLines=1")
	f.Add([]byte("2026-01-01T00:00:01Z stdout P a\n2026 stderr X\n\n"), "timestamps=1&sinceTime=2026-01-01T00:00:00Z&limitBytes=3")
	f.Fuzz(func(t *testing.T, text []byte, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		o, err := parseLogOptions(q, time.Unix(0, 0))
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := openLogs(path)
		if err != nil {
			t.Fatal(err)
		}
		defer files.close()
		var out bytes.Buffer
		var over atomic.Bool
		over.Store(true)
		l := &logReader{files: files, out: &logWriter{to: &out, o: o, left: o.limit}, flush: func() error { return nil }}
		if err := l.run(t.Context()); err != nil && !errors.Is(err, errLimit{}) {
			t.Fatal(err)
		}
		if o.limit >= 0 && int64(out.Len()) > o.limit {
			t.Errorf("%d bytes, limit %d", out.Len(), o.limit)
		}
		if !o.timestamps && out.Len() > len(text)+1 {
			t.Errorf("%d bytes of %d", out.Len(), len(text))
		}
	})
}
