package health

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not come true within 10 s: %s", what)
}

func run(t *testing.T, s *Server) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t)
	})
}

func TestStatusAndMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String() // kept open: the address is taken at first

	var log lockedBuffer
	socket := filepath.Join(t.TempDir(), "s", "skerryd.sock")
	run(t, &Server{
		Address: addr, Socket: socket,
		Metrics: func(w io.Writer) { _, _ = io.WriteString(w, "skerry_x 1\n") },
		Status:  func() any { return map[string]string{"node": "gw-1"} },
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})

	var body []byte
	eventually(t, "status on the socket", func() bool {
		body, err = Fetch(t.Context(), socket)
		return err == nil
	})
	if got := strings.TrimSpace(string(body)); got != `{"node":"gw-1"}` {
		t.Errorf("status = %s", got)
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if p := info.Mode().Perm(); p != 0o600 {
		t.Errorf("the socket's mode is %o, want 600", p)
	}
	eventually(t, "a log line about the taken address", func() bool { return strings.Contains(log.String(), addr) })
	if n := strings.Count(log.String(), "cannot listen"); n != 1 {
		t.Errorf("%d log lines about the taken address, want 1:\n%s", n, log.String())
	}
	l.Close()
}

func TestMetricsAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	run(t, &Server{Address: addr, Metrics: func(w io.Writer) { _, _ = io.WriteString(w, "skerry_x 1\n") }, Log: slog.New(slog.DiscardHandler)})
	for path, want := range map[string]string{"/metrics": "skerry_x 1\n", "/healthz": "ok\n"} {
		var got []byte
		eventually(t, path, func() bool {
			resp, err := http.Get("http://" + addr + path)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			got, err = io.ReadAll(resp.Body)
			return err == nil && resp.StatusCode == 200
		})
		if string(got) != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
}

func TestFetchWithoutAgent(t *testing.T) {
	_, err := Fetch(t.Context(), filepath.Join(t.TempDir(), "none.sock"))
	if err == nil || !strings.Contains(err.Error(), "is skerryd running") {
		t.Errorf("got %v", err)
	}
}
