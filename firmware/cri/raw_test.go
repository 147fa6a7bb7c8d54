package cri

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/grpcwire"
)

// echo answers each message with the same one, and fails the call when one says so.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	for {
		msg, err := grpcwire.ReadFrame(r.Body, nil, 1<<20)
		if err != nil {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			return
		}
		if string(msg) == "fail" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "6")
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", "there is one")
			return
		}
		_, _ = w.Write(frame(append(msg, r.Header.Get("containerd-namespace")...)))
		_ = http.NewResponseController(w).Flush()
	}
}

func TestStreamBothWays(t *testing.T) {
	c := peer(t, Options{}, echo)
	s := c.Open(t.Context(), "/x.Y/Z", Metadata{"containerd-namespace": "-ns"})
	defer s.Close()
	for _, text := range []string{"one", "", strings.Repeat("x", 300000)} {
		if err := s.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || string(got) != text+"-ns" {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the end: %v", err)
	}
}

func TestStreamFails(t *testing.T) {
	c := peer(t, Options{}, echo)
	s := c.Open(t.Context(), "/x.Y/Z", nil)
	defer s.Close()
	if err := s.Send([]byte("fail")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, ErrAlreadyExists) || !strings.Contains(err.Error(), "Z: there is one") {
		t.Errorf("error %v", err)
	}
	s.Close()
	s.Close()
}

func TestInvoke(t *testing.T) {
	c := peer(t, Options{}, echo)
	got, err := c.Invoke(t.Context(), "/x.Y/Z", nil, []byte("text"))
	if err != nil || !bytes.Equal(got, []byte("text")) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.Invoke(t.Context(), "/x.Y/Z", nil, []byte("fail")); !errors.Is(err, ErrAlreadyExists) {
		t.Errorf("error %v", err)
	}
	gone := New(Options{Socket: socketPath(t)})
	if _, err := gone.Invoke(t.Context(), "/x.Y/Z", nil, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a server: %v", err)
	}
	unused := gone.Open(t.Context(), "/x.Y/Z", nil)
	if err := unused.Send([]byte("x")); err == nil {
		if _, err := unused.Recv(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a server: %v", err)
		}
	}
	unused.Close()
}
