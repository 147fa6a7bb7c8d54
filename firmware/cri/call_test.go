package cri

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/grpcwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer serves HTTP/2 without TLS on a unix socket, as a runtime does, and returns a client of it.
func peer(t *testing.T, o Options, handler http.HandlerFunc) *Client {
	t.Helper()
	o.Socket = listen(t, socketPath(t), handler)
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a temporary folder
	return filepath.Join(dir, "s")
}

func listen(t *testing.T, socket string, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: handler, Protocols: &h2c, ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { s.Serve(l) }) //nolint:errcheck // ends with Close
	t.Cleanup(func() { _ = s.Close(); served.Wait() })
	return socket
}

func frame(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...)
}

// answer writes frames and the trailers of a call that succeeded.
func answer(w http.ResponseWriter, frames ...[]byte) {
	w.Header().Set("Content-Type", "application/grpc")
	for _, f := range frames {
		w.Write(f) //nolint:errcheck // the client's side fails
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

func TestUnary(t *testing.T) {
	c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want := frame(Marshal(&PodSandboxStatusRequest{"pod", true}))
		if err != nil || !bytes.Equal(body, want) || r.URL.Path != "/runtime.v1.RuntimeService/PodSandboxStatus" ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || r.ProtoMajor != 2 {
			t.Errorf("request %s %s, %v, body %x, %v", r.Proto, r.URL, r.Header, body, err)
		}
		answer(w, frame(Marshal(&PodSandboxStatusResponse{Status: &PodSandboxStatus{ID: "pod"}})))
	})
	for range 3 {
		got, err := c.PodSandboxStatus(t.Context(), "pod", true)
		if err != nil || got.Status.ID != "pod" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func TestFaultyAnswers(t *testing.T) {
	ok := Marshal(&VersionResponse{RuntimeName: "x"})
	header := func(name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set(name, value)
		}
	}
	raw := func(frames ...[]byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { answer(w, frames...) }
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		code    Code
		text    string
	}{
		"status without a message":  {header("Grpc-Status", "5"), ErrNotFound, "(NotFound)"},
		"unknown status":            {header("Grpc-Status", "77"), 77, "Code(77)"},
		"status that is no number":  {header("Grpc-Status", "five"), ErrInternal, "no number"},
		"no status":                 {header("X", "y"), ErrInternal, grpcwire.ErrNoStatus.Error()},
		"success without a message": {raw(), ErrInternal, grpcwire.ErrNoMessage.Error()},
		"two messages":              {raw(frame(ok), frame(ok)), ErrInternal, grpcwire.ErrMore.Error()},
		"too large":                 {raw(frame(make([]byte, 2000))), ErrResourceExhausted, "2000 bytes, at most 1000"},
		"length of 4 GiB":           {raw([]byte{0, 0xff, 0xff, 0xff, 0xff}), ErrResourceExhausted, "4294967295 bytes"},
		"compressed":                {raw(append([]byte{1}, frame(ok)[1:]...)), ErrInternal, "compressed"},
		"truncated message":         {raw(frame(ok)[:7]), ErrUnavailable, "unexpected EOF"},
		"truncated prefix":          {raw([]byte{0, 0}), ErrUnavailable, "unexpected EOF"},
		"malformed message":         {raw(frame([]byte{0xff})), ErrInternal, "decode *cri.VersionResponse"},
		"not gRPC":                  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, ErrInternal, "does not serve gRPC"},
		"HTTP error":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, ErrInternal, "503"},
		"reset":                     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnavailable, "no answer at"},
	} {
		client := peer(t, Options{MaxResponse: 1000}, c.handler)
		got, err := client.Version(t.Context())
		if !errors.Is(err, c.code) || CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) || got != nil {
			t.Errorf("%s: %+v, %v; want %v and %q", name, got, err, c.code, c.text)
		}
	}
}

func TestRuntimeIsNotThere(t *testing.T) {
	socket := socketPath(t)
	c := New(Options{Socket: "unix://" + socket})
	defer c.Close()
	_, err := c.Version(t.Context())
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), socket) || !strings.Contains(err.Error(), "systemctl status containerd") {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close() //nolint:errcheck // it is the closed listener that is tested
	if _, err := c.Version(t.Context()); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("socket of a dead runtime: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	listen(t, socket, func(w http.ResponseWriter, _ *http.Request) { answer(w, frame(nil)) })
	if _, err := c.Version(t.Context()); err != nil {
		t.Errorf("runtime is back: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	headers := make(chan string, 2)
	c := peer(t, Options{Timeout: 200 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Get("Grpc-Timeout")
		<-r.Context().Done()
	})
	_, err := c.Version(t.Context())
	if !errors.Is(err, ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("default time-out: %v", err)
	}
	if header := <-headers; header == "" || header == "0n" {
		t.Errorf("default time-out: sent as %q", header)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = c.PullImage(ctx, &ImageSpec{Image: "x"}, nil, nil)
	if !errors.Is(err, ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestEvents(t *testing.T) {
	release := make(chan struct{})
	c := peer(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Write(frame(Marshal(&ContainerEventResponse{ContainerID: "a"}))) //nolint:errcheck // the client's side fails
		w.(http.Flusher).Flush()
		<-release
		answer(w, frame(Marshal(&ContainerEventResponse{ContainerID: "b", ContainerEventType: ContainerStoppedEvent})))
	})
	var got []string
	err := c.GetContainerEvents(t.Context(), func(e *ContainerEventResponse) error {
		if got = append(got, e.ContainerID); len(got) == 1 {
			close(release) // the second event is sent after the first was handled
		}
		return nil
	})
	if err != nil || strings.Join(got, "") != "ab" {
		t.Errorf("events %v, %v", got, err)
	}
	stop := errors.New("enough")
	if err := c.GetContainerEvents(t.Context(), func(*ContainerEventResponse) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("handler's error: %v", err)
	}
}

func TestCondition(t *testing.T) {
	s := &RuntimeStatus{Conditions: []RuntimeCondition{{Type: RuntimeReady, Status: true}}}
	if !s.Condition(RuntimeReady).Status || s.Condition(NetworkReady).Status || s.Condition(NetworkReady).Message == "" {
		t.Errorf("conditions: %+v, %+v", s.Condition(RuntimeReady), s.Condition(NetworkReady))
	}
	if (*RuntimeStatus)(nil).Condition(RuntimeReady).Status {
		t.Error("no status is ready")
	}
}

func BenchmarkVersion(b *testing.B) {
	dir := b.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		b.Fatal(err)
	}
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &h2c, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, frame(Marshal(&VersionResponse{RuntimeName: "x"})))
	})}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }() //nolint:errcheck // ends with Close
	defer func() { _ = s.Close(); <-done }()
	c := New(Options{Socket: l.Addr().String()})
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Version(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
