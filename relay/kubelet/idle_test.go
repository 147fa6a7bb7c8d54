package kubelet

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFollowedLogIsNotIdle: a log whose lines come more often than the limit is followed for days, and one that falls silent is let go.
func TestFollowedLogIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const line = "one line\n"
		s := &Server{o: Options{Name: "a", Idle: defaultIdle}, log: slog.New(slog.DiscardHandler), meter: newMeter(metrics.NewSet())}
		from, agent := io.Pipe()
		by := roundTripper(func(r *http.Request) (*http.Response, error) {
			go func() { // as http.Transport does
				<-r.Context().Done()
				_ = from.CloseWithError(r.Context().Err())
			}()
			return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: from, ContentLength: -1, Request: r}, nil
		})
		to := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, logs, nil)
		r = r.WithContext(t.Context()) // httputil.ReverseProxy panics for servers' requests whose answer breaks; this one has no server
		over := make(chan struct{})
		go func() {
			defer close(over)
			s.proxy(to, r, "gw-1", by, &url.URL{Scheme: "http", Host: "gw-1", Path: r.URL.Path}, nil)
		}()
		const lines = 72
		for i := range lines {
			if _, err := io.WriteString(agent, line); err != nil {
				t.Fatalf("after %d hours: %v", i, err)
			}
			time.Sleep(time.Hour)
		}
		select {
		case <-over:
			t.Fatal("a log that is written to was closed")
		default:
		}
		silent := time.Now()
		<-over
		if d := time.Since(silent); d > 2*defaultIdle {
			t.Errorf("a silent log was closed after %v, want at most %v", d, 2*defaultIdle)
		}
		if n := to.Body.Len(); n != lines*len(line) {
			t.Errorf("%d bytes came through, want %d", n, lines*len(line))
		}
	})
}

// TestUnreadPageEnds: scrapers that do not read are let go, through both relays, and who reads a log is not.
func TestUnreadPageEnds(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.pageLimit = 200 * time.Millisecond })
	api := w.cluster.named("apiserver")
	hang := func(a ask) *tls.Conn {
		t.Helper()
		a.cert = api
		c, err := tls.Dial("tcp", w.at(a), w.config(a))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", a.path); err != nil {
			t.Fatal(err)
		}
		return c
	}
	open := func() int64 { return w.relays["a"].srv.meter.open.Load() + w.relays["b"].srv.meter.open.Load() }
	log := hang(ask{path: "/containerLogs/default/web/main?endless"})
	w.until("the log is open", func() bool { return open() == 1 })
	for i := range 10 {
		hang(ask{relay: []string{"a", "b"}[i%2], path: "/nodes/gw-1/metrics/cadvisor?endless"})
	}
	w.until("the pages are asked for", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.seen) == 11
	})
	w.until("let go", func() bool { return open() == 1 })
	if n, err := io.CopyN(io.Discard, log, 8<<20); err != nil {
		t.Errorf("of the log %d bytes: %v", n, err)
	}
}
