package kubeletapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// TestCompressed: who takes it gets pages compressed, one at a time, and refusals in plain text.
func TestCompressed(t *testing.T) {
	b := counted(t, firstTree())
	ask := func(path, accept string) (encoding, body string, size int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", accept)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		encoding, text := resp.Header.Get("Content-Encoding"), raw
		if encoding == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(string(raw)))
			if err == nil {
				text, err = io.ReadAll(z)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return encoding, string(text), len(raw)
	}
	for path, want := range map[string]string{"/metrics/cadvisor": "container_scrape_error 0", "/stats/summary": `"podRef"`, "/pods": `"PodList"`, "/metrics/resource": "resource_scrape_error 0"} {
		if encoding, body, _ := ask(path, "deflate, gzip;q=0.5"); encoding != "gzip" || !strings.Contains(body, want) {
			t.Errorf("%s: %q %s", path, encoding, body)
		}
		if encoding, body, _ := ask(path, "identity"); encoding != "" || !strings.Contains(body, want) {
			t.Errorf("%s: %q %s", path, encoding, body)
		}
	}
	_, _, plain := ask("/metrics/cadvisor", "identity")
	if _, _, short := ask("/metrics/cadvisor", "gzip"); short*5 > plain {
		t.Errorf("%d bytes of %d", short, plain)
	}
	b.srv.compress.mu.Lock()
	if encoding, body, _ := ask("/metrics/cadvisor", "gzip"); encoding != "" || !strings.Contains(body, "container_scrape_error 0") {
		t.Errorf("while another is compressed: %q", encoding)
	}
	b.srv.compress.mu.Unlock()
	b.rt.err = cri.ErrUnavailable
	if encoding, body, _ := ask("/stats/summary", "gzip"); encoding != "" || !strings.Contains(body, "statistics of the containers") {
		t.Errorf("a refusal: %q %s", encoding, body)
	}
	for accept, want := range map[string]bool{"": false, "gzip": true, "br, GZIP": true, "gzip;q=0": false, "gzip; q=0.000": false, "gzip;q=1.0": true, "xgzip": false} {
		if takesGzip([]string{accept}) != want {
			t.Errorf("%q: %v", accept, !want)
		}
	}
}
