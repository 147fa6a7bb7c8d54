package kubeletapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/stream/streamtest"
)

// pipes are connections to a server: what nobody reads of an answer is not written.
type pipes struct{ *streamtest.Pipes }

// ask sends a request and reads nothing.
func (p pipes) ask(t *testing.T, path string) net.Conn {
	t.Helper()
	near, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(near, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return near
}

// read reads the answer to ask.
func (p pipes) read(t *testing.T, path string) (int, string) {
	t.Helper()
	c := p.ask(t, path)
	defer c.Close()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestWhoNeverReads: scrapers that read nothing hold up other scrapers for as long as it takes to let them go, and logs not at all.
func TestWhoNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &fakeRuntime{}
		s, err := New(Options{Node: "gw-1", Pods: fakePods{}, Runtime: rt, LogDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l := pipes{streamtest.NewPipes()}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		var hung []net.Conn
		for range maxPages {
			hung = append(hung, l.ask(t, "/metrics/cadvisor"))
		}
		synctest.Wait()
		if len(s.pages) != maxPages || len(s.slots) != maxPages {
			t.Errorf("%d pages are written to %d", len(s.pages), maxPages)
		}
		if status, body := l.read(t, "/healthz"); status != 200 {
			t.Errorf("meanwhile: %d %s", status, body)
		}
		if status, body := l.read(t, "/metrics/resource"); status != http.StatusServiceUnavailable || !strings.Contains(body, "gw-1 makes 8 pages of statistics already") {
			t.Errorf("one too many: %d %s", status, body)
		}
		time.Sleep(pageTimeout)
		synctest.Wait()
		if len(s.pages) != 0 || len(s.slots) != 0 {
			t.Errorf("after %v still %d pages, %d requests", pageTimeout, len(s.pages), len(s.slots))
		}
		if status, body := l.read(t, "/metrics/resource"); status != 200 || !strings.Contains(body, "resource_scrape_error 0") {
			t.Errorf("afterwards: %d %s", status, body)
		}
		for _, c := range hung {
			_ = c.Close()
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.runtime.CloseIdleConnections()
	})
}

// TestPageThenAnythingElse: the time that a page has to be read does not count against what the same connection is used for later.
func TestPageThenAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Node: "gw-1", Pods: fakePods{}, Runtime: &fakeRuntime{}, LogDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l := pipes{streamtest.NewPipes()}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(c)
		for i, path := range []string{"/metrics/probes", "/healthz", "/healthz"} {
			time.Sleep(time.Duration(i) * 2 * pageTimeout / 5) // shorter than a connection is kept for
			if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("request %d, %s: %v", i, path, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("request %d, %s: %s, %v", i, path, resp.Status, err)
			}
		}
		_ = c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.runtime.CloseIdleConnections()
	})
}

// hangs is a runtime that does not answer.
type hangs struct{ *fakeRuntime }

func (hangs) ListContainerStats(ctx context.Context, _ *cri.ContainerStatsFilter) ([]cri.ContainerStats, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestManyAtOnce: fifty scrapes of a runtime that hangs end, with what is known without it.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Node: "gw-1", Pods: fakePods{}, Runtime: hangs{&fakeRuntime{}}, LogDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l := pipes{streamtest.NewPipes()}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		statuses := make(chan int, 50)
		for range cap(statuses) {
			go func() {
				status, _ := l.read(t, "/metrics/resource")
				statuses <- status
			}()
		}
		count := map[int]int{}
		for range cap(statuses) {
			count[<-statuses]++
		}
		if count[200] < maxPages || count[200]+count[503] != cap(statuses) {
			t.Errorf("statuses %v", count)
		}
		synctest.Wait()
		if len(s.pages) != 0 || len(s.slots) != 0 {
			t.Errorf("%d pages, %d requests are left", len(s.pages), len(s.slots))
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
