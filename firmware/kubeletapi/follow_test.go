package kubeletapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

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

// TestNoFollowing: while the agent's memory is short, whoever follows is let go and nobody begins to; logs can still be read.
func TestNoFollowing(t *testing.T) {
	var why atomic.Value
	why.Store("")
	b := newBench(t, func(o *Options) { o.NoFollow = func() string { return why.Load().(string) } })
	b.rt.set(cri.ContainerRunning, 0)
	b.write("0.log", line(1, "stdout", "F", "a"))
	body, end := b.follow("")
	b.until("the first line", func() bool { return body.String() == "a\n" })
	why.Store("memory is short")
	if err := end(); err != nil || body.String() != "a\n[skerryd] following ended: memory is short. Ask without -f, or later\n" {
		t.Errorf("%v, %q", err, body.String())
	}
	why.Store("")
	b.write("0.log", line(2, "stdout", "P", "half a line"))
	body, end = b.follow("")
	b.until("half a line", func() bool { return strings.HasSuffix(body.String(), "half a line") })
	why.Store("memory is short")
	if err := end(); err != nil || !strings.Contains(body.String(), "half a line\n[skerryd] following ended: ") {
		t.Errorf("%v, %q", err, body.String())
	}
	b.write("0.log", line(3, "stdout", "F", ""))
	if status, text := b.get(mainLog + "?follow=true"); status != http.StatusServiceUnavailable || !strings.Contains(text, "memory is short. Ask without -f") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.get(mainLog); status != http.StatusOK || text != "a\nhalf a line\n" {
		t.Errorf("%d %s", status, text)
	}
}
