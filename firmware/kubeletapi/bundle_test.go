package kubeletapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func bundleServer(t *testing.T, diagnose func(context.Context, io.Writer) error) *httptest.Server {
	t.Helper()
	s := &Server{o: Options{Node: "gw", Diagnose: diagnose}, log: slog.New(slog.DiscardHandler), slots: make(chan struct{}, 8), bundling: make(chan struct{}, 1)}
	srv := httptest.NewServer(s.limit(s.routes()))
	t.Cleanup(srv.Close)
	return srv
}

func getBundle(t *testing.T, srv *httptest.Server) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/diagnose", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestBundleIsHandedOut(t *testing.T) {
	srv := bundleServer(t, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "a bundle")
		return err
	})
	for range 2 {
		if status, body, err := getBundle(t, srv); status != http.StatusOK || body != "a bundle" || err != nil {
			t.Errorf("%d %q %v", status, body, err)
		}
	}
}

func TestOneBundleAtATime(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	srv := bundleServer(t, func(context.Context, io.Writer) error {
		close(begun)
		<-finish
		return nil
	})
	first := make(chan int, 1)
	go func() {
		status, _, _ := getBundle(t, srv)
		first <- status
	}()
	<-begun
	if status, body, _ := getBundle(t, srv); status != http.StatusServiceUnavailable || !strings.Contains(body, "try again in a minute") {
		t.Errorf("%d %q", status, body)
	}
	close(finish)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first one: %d", status)
	}
}

func TestBundleThatIsCutOffIsAnError(t *testing.T) {
	srv := bundleServer(t, func(_ context.Context, w io.Writer) error {
		_, _ = w.Write(make([]byte, 64<<10))
		return errors.New("the disk is gone")
	})
	if _, _, err := getBundle(t, srv); err == nil {
		t.Error("a part passes for the whole")
	}
}
