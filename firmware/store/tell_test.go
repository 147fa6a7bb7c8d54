package store

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlmostFullDiskIsToldOnceAMinute: small writes that succeed between large ones that do not must not flood the log.
func TestAlmostFullDiskIsToldOnceAMinute(t *testing.T) {
	f := &faultFS{err: syscall.ENOSPC}
	var log bytes.Buffer
	opt := fastOptions(t, t.TempDir())
	opt.fs, opt.Log = f, slog.New(slog.NewTextHandler(&log, nil))
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, opt)
		commit := func(full bool) {
			f.from, f.last = f.calls, 0
			if full {
				f.last = 1 << 30
			}
			var b Batch
			b.Put(SpaceTwin, "a", []byte("x"))
			if err := s.Commit(context.Background(), b); (err != nil) != full {
				t.Fatalf("full %v: %v", full, err)
			}
			f.last = 0
		}
		for range 20 {
			commit(true)
			commit(false)
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "cannot write"); n != 1 {
			t.Errorf("said %d times that the store cannot write:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "can write again"); n != 1 {
			t.Errorf("said %d times that it can again:\n%s", n, log.String())
		}
		time.Sleep(time.Minute)
		commit(true) // it lasts: that is told
		commit(true)
		if n := strings.Count(log.String(), "cannot write"); n != 2 {
			t.Errorf("said %d times that the store cannot write, a minute later:\n%s", n, log.String())
		}
		commit(false)
		if n := strings.Count(log.String(), "can write again"); n != 2 {
			t.Errorf("said %d times that it can again:\n%s", n, log.String())
		}
		mustClose(t, s)
	})
}
