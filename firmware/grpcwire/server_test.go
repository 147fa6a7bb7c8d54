package grpcwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

type word struct{ s string }

func (w *word) Walk(f *Fields) { f.Str(1, &w.s) }

// startServer serves one method that answers with what it was asked, or fails as it was asked to.
func startServer(t *testing.T) *http.Transport {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &h2c, ReadHeaderTimeout: time.Minute, Handler: &Server{MaxRequest: 100, ReadTime: 30 * time.Second, Methods: map[string]Method{
		"/s/Echo": {New: func() Message { return new(word) }, Call: func(ctx context.Context, m Message) (Message, error) {
			switch w := m.(*word); w.s {
			case "deny":
				return nil, Errorf(PermissionDenied, "nö\n%%")
			case "fail":
				return nil, errors.New("broken")
			case "time":
				_, ok := ctx.Deadline()
				return &word{map[bool]string{true: "yes"}[ok]}, nil
			}
			return m, nil
		}},
	}}}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	tr := NewTransport(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	})
	t.Cleanup(func() { tr.CloseIdleConnections(); _ = srv.Close(); <-done })
	return tr
}

func call(t *testing.T, tr *http.Transport, path string, body []byte) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := NewRequest(ctx, path, "test", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	a, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close() //nolint:errcheck // nothing was written through it
	if err := CheckHeader(a); err != nil {
		return "", err
	}
	w := new(word)
	data, err := ReadFrame(a.Body, nil, 1000)
	switch {
	case err == nil:
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			return "", err
		}
		if err := Unmarshal(data, w); err != nil {
			return "", err
		}
	case !errors.Is(err, io.EOF):
		return "", err
	}
	code, message, err := Status(a)
	if err == nil && code != 0 {
		err = &StatusError{code, message}
	}
	return w.s, err
}

func TestServer(t *testing.T) {
	tr := startServer(t)
	for _, s := range []string{"", "word", "time"} {
		want := map[string]string{"time": "yes"}[s]
		if want == "" {
			want = s
		}
		if got, err := call(t, tr, "/s/Echo", Frame(&word{s})); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for name, c := range map[string]struct {
		path string
		body []byte
		code Code
		text string
	}{
		"status":     {"/s/Echo", Frame(&word{"deny"}), PermissionDenied, "nö\n%"},
		"error":      {"/s/Echo", Frame(&word{"fail"}), Unknown, "broken"},
		"method":     {"/s/Else", Frame(&word{}), Unimplemented, "/s/Else"},
		"large":      {"/s/Echo", Frame(&word{strings.Repeat("x", 200)}), ResourceExhausted, "larger than 100"},
		"4 GiB":      {"/s/Echo", []byte{0, 0xff, 0xff, 0xff, 0xff}, ResourceExhausted, "larger than 100"},
		"nothing":    {"/s/Echo", nil, InvalidArgument, "no message"},
		"compressed": {"/s/Echo", []byte{1, 0, 0, 0, 0}, Unimplemented, "uncompressed"},
		"two":        {"/s/Echo", append(Frame(&word{}), Frame(&word{})...), InvalidArgument, "more than one"},
		"torn":       {"/s/Echo", []byte{0, 0, 0, 0, 9, 1}, Unavailable, "unexpected EOF"},
		"malformed":  {"/s/Echo", []byte{0, 0, 0, 0, 1, 0xff}, InvalidArgument, "decode"},
	} {
		_, err := call(t, tr, c.path, c.body)
		if !errors.Is(err, c.code) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFrame reads anything as a frame and as a time limit: no panic, and never more than the limit.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 5}, "5S")
	f.Fuzz(func(t *testing.T, data []byte, timeout string) {
		if got, err := ReadFrame(bytes.NewReader(data), nil, 64); err == nil && len(got) > 64 {
			t.Fatal("larger than the limit")
		}
		if d, ok := parseTimeout(timeout); ok && d < 0 {
			t.Fatal("a negative time limit")
		}
	})
}
