package pods

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// TestLogsAreRotated fills a running container's log again and again: never more than LogFiles files are there, the newest
// text is in the lowest number, and nothing is left when the container's pod is gone.
func TestLogsAreRotated(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.LogSize, w.o.LogFiles = 1000, 3
		w.start()
		w.apply(simplePod)
		w.settle(5 * time.Second)
		dir := filepath.Join(w.o.LogDir, "default_web_u1", "c")
		write := func(letter string, n int) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, "0.log"), bytes.Repeat([]byte(letter), n), 0o600); err != nil {
				t.Fatal(err)
			}
			w.settle(logLook + time.Second)
		}
		for _, letter := range []string{"a", "b", "c", "d"} {
			write(letter, 1000)
		}
		write("e", 999)
		got := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got[e.Name()] = string(b[:1])
		}
		if len(got) != 3 || got["0.log"] != "e" || got["0.log.1"] != "d" || got["0.log.2"] != "c" {
			t.Errorf("files %v, want 0.log e, 0.log.1 d, 0.log.2 c", got)
		}
		if n := w.rt.called("ReopenContainerLog"); n != 4 {
			t.Errorf("the runtime was asked %d times to reopen, want 4", n)
		}
		w.desired.remove(podKey)
		w.settle(time.Minute)
		if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
			t.Errorf("the log folder of a pod that is gone: %v", err)
		}
	})
}

// TestLogLostBetweenRenameAndReopen is what an agent finds that was killed in between.
func TestLogLostBetweenRenameAndReopen(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(simplePod)
		w.settle(logLook * 2) // the fake runtime makes no log, so it is reopened
		path := filepath.Join(w.o.LogDir, "default_web_u1", "c", "0.log")
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		w.settle(logLook + time.Second)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the log was not reopened: %v", err)
		}
	})
}

type reopener struct {
	err error
	ids []string
}

func (r *reopener) ReopenContainerLog(_ context.Context, id string) error {
	r.ids = append(r.ids, id)
	return r.err
}

// TestLogRotatorFailures: what fails is said once, tried again, and does not keep other logs.
func TestLogRotatorFailures(t *testing.T) {
	dir := t.TempDir()
	logs := []containerLog{{"c1", filepath.Join(dir, "a*", "0.log")}, {"c2", filepath.Join(dir, "b", "0.log")}}
	for _, l := range logs {
		if err := os.Mkdir(filepath.Dir(l.path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.path, make([]byte, 600), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(logs[0].path+".1", "full"), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	var text bytes.Buffer
	rt := &reopener{}
	r := &logRotator{rt: rt, size: 500, files: 2, log: slog.New(slog.NewTextHandler(&text, nil)), sizes: map[string]int64{}}
	for range 3 {
		r.pass(t.Context(), logs)
	}
	if !slices.Contains(rt.ids, "c2") || slices.Contains(rt.ids, "c1") {
		t.Errorf("reopened %v, want c2 and not c1", rt.ids)
	}
	if n := strings.Count(text.String(), "level=WARN"); n != 1 || !strings.Contains(text.String(), logs[0].path) {
		t.Errorf("%d warnings, want one that names the file:\n%s", n, text.String())
	}
	if err := os.RemoveAll(logs[0].path + ".1"); err != nil {
		t.Fatal(err)
	}
	if next := r.pass(t.Context(), logs); next != logLook || !slices.Contains(rt.ids, "c1") {
		t.Errorf("next look in %v, reopened %v: want %v and c1", next, rt.ids, logLook)
	}
	rt.err = &cri.Error{Code: cri.ErrNotFound} // it ended in between
	if _, err := r.look(t.Context(), logs[0]); err != nil {
		t.Errorf("a container that ended: %v", err)
	}
	if err := removeLogFiles(logs[0].path); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(logs[0].path)); len(left) != 0 {
		t.Errorf("left of a removed container's log: %v", left)
	}
}

// TestLogThatGrowsFast is looked at again soon.
func TestLogThatGrowsFast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	r := &logRotator{rt: &reopener{}, size: 1000, files: 1, log: slog.New(slog.DiscardHandler), sizes: map[string]int64{}}
	logs := []containerLog{{"c", path}}
	for _, c := range []struct {
		size int
		next time.Duration
		left bool
	}{{400, logLook, true}, {950, logLookSoon, true}, {990, logLook, true}, {1000, logLook, false}} {
		if err := os.WriteFile(path, make([]byte, c.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if next := r.pass(t.Context(), logs); next != c.next {
			t.Errorf("at %d bytes: next look in %v, want %v", c.size, next, c.next)
		}
		if _, err := os.Stat(path); (err == nil) != c.left {
			t.Errorf("at %d bytes: %v", c.size, err)
		}
	}
}
