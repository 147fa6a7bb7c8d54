package kubeletapi

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

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
