package pods

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestImagesAreFlushedOnce(t *testing.T) {
	var paths []string
	var fails error
	var out bytes.Buffer
	rt := newFakeRuntime()
	f := newFlusher(&Options{Runtime: rt, FlushDisk: func(path string) error {
		paths = append(paths, path)
		return fails
	}, Log: slog.New(slog.NewTextHandler(&out, nil))})
	expect := func(what string, n int) {
		t.Helper()
		if len(paths) != n {
			t.Fatalf("%s: flushed %d times, want %d", what, len(paths), n)
		}
	}
	ctx := t.Context()
	f.used(ctx, "a")
	f.used(ctx, "a")
	expect("two containers of an image", 1)
	if paths[0] != "/images" {
		t.Fatalf("flushed %q", paths[0])
	}
	f.pulled(ctx, "a")
	expect("pulled anew", 2)
	f.used(ctx, "a")
	expect("used after the pull", 2)

	fails = errors.New("disk is gone")
	f.used(ctx, "b")
	expect("a disk that fails", 3)
	if s := out.String(); !strings.Contains(s, "image=b") || !strings.Contains(s, "disk is gone") {
		t.Fatalf("log: %s", s)
	}
	fails = nil
	f.used(ctx, "b")
	expect("tried again", 4)

	for i := range flushedAtMost {
		f.used(ctx, strings.Repeat("x", i+1))
	}
	if len(f.done) > flushedAtMost {
		t.Fatalf("%d images are remembered", len(f.done))
	}
}

// TestContainersFlushTheirImages: once for the sandboxes, once when an image is pulled, once for the first container of one that was there, and not for the
// second pod of it.
func TestContainersFlushTheirImages(t *testing.T) {
	simulate(t, func(w *world) {
		for _, tc := range []struct {
			name, image string
			want        int64
		}{{"a", "app:1", 2}, {"b", "app:1", 2}, {"c", "app:2", 3}, {"d", "app:2", 3}} {
			w.put(podOf(tc.name, tc.image))
			w.settle(time.Minute)
			if n := w.flushes.Load(); n != tc.want {
				t.Fatalf("after pod %s of %s: flushed %d times, want %d", tc.name, tc.image, n, tc.want)
			}
		}
	})
}
