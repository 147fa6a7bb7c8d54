package chunks

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// server publishes one bundle.
type server struct {
	*httptest.Server
	index, data []byte
	sent        atomic.Int64 // bytes of data
	requests    atomic.Int64
	handle      func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func serve(t *testing.T, content []byte) *server {
	t.Helper()
	s := &server{handle: func(http.ResponseWriter, *http.Request) bool { return false }}
	x, data := publish(t, content)
	s.index, s.data = x.Append(nil), data
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.handle(w, r) {
			return
		}
		b := s.index
		if strings.HasSuffix(r.URL.Path, DataSuffix) {
			b = s.data
			w = counting{w, &s.sent}
		}
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(s.Close)
	return s
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

func (s *server) fetch(t *testing.T, dir string, change func(*Fetcher)) (string, error) {
	t.Helper()
	f := &Fetcher{Client: s.Client()}
	if change != nil {
		change(f)
	}
	return f.Fetch(t.Context(), s.URL+"/v2"+IndexSuffix, dir)
}

func (s *server) fetches(t *testing.T, dir string, want []byte, change func(*Fetcher)) {
	t.Helper()
	path, err := s.fetch(t, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes were put together that are not the bundle (%v)", len(got), err)
	}
}

func TestFetchWhole(t *testing.T) {
	content := noise(10, 5<<20)
	s := serve(t, content)
	var last Progress
	s.fetches(t, t.TempDir(), content, func(f *Fetcher) { f.Progress = func(p Progress) { last = p } })
	if last.Missing != 0 || last.Size != int64(len(content)) || last.Fetched != int64(len(s.index)+len(s.data)) {
		t.Errorf("progress ends with %+v", last)
	}
	if n := s.requests.Load(); n > 8 {
		t.Errorf("%d requests for 5 MiB", n)
	}
}

// TestFetchDelta: what the slot that runs has is not fetched.
func TestFetchDelta(t *testing.T) {
	old := noise(11, 4<<20)
	content := append(append(bytes.Clone(old[:3<<20]), noise(12, 100<<10)...), old[3<<20:]...)
	s := serve(t, content)
	dir := t.TempDir()
	seed := filepath.Join(dir, "root-a")
	if err := os.WriteFile(seed, append(noise(13, 12345), old...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fetches(t, dir, content, func(f *Fetcher) { f.Seeds = []string{filepath.Join(dir, "not-there"), seed} })
	if n := s.sent.Load(); n < 100<<10 || n > 100<<10+4*MaxChunk {
		t.Errorf("%d bytes were sent for 100 KiB that are new", n)
	}
}

// TestFetchGoesOn: a line that breaks again and again costs what was on its way, and no more.
func TestFetchGoesOn(t *testing.T) {
	content := noise(14, 6<<20)
	s := serve(t, content)
	dir := t.TempDir()
	broken := 0
	s.handle = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, DataSuffix) || s.sent.Load() < int64(broken+1)*(1<<20) || broken == 4 {
			return false
		}
		broken++
		w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+"/*")
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusPartialContent)
		return true // the connection ends early
	}
	for range 4 {
		if _, err := s.fetch(t, dir, nil); err == nil || Fatal(err) {
			t.Fatalf("a broken line gives %v, want an error that is worth another try", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bundle.raucb"), spoil(t, filepath.Join(dir, "bundle.raucb")), 0o600); err != nil { // as a power cut might
		t.Fatal(err)
	}
	s.fetches(t, dir, content, nil)
	if n := s.sent.Load(); n > int64(len(content))+MaxChunk+1<<20 {
		t.Errorf("%d bytes were sent for %d", n, len(content))
	}
}

func spoil(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[100:200])
	return b
}

func TestFetchFailures(t *testing.T) {
	answer := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	onData := func(h func(w http.ResponseWriter, r *http.Request)) func(*server) {
		return func(s *server) {
			s.handle = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, DataSuffix) {
					h(w, r)
					return true
				}
				return false
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*server)
		fetch  func(*Fetcher)
		says   string
		fatal  bool
	}{
		"not there":         {func(s *server) { s.handle = answer(http.StatusNotFound) }, nil, "404 Not Found", true},
		"overloaded":        {func(s *server) { s.handle = answer(http.StatusServiceUnavailable) }, nil, "503", false},
		"too many requests": {func(s *server) { s.handle = answer(http.StatusTooManyRequests) }, nil, "429", false},
		"no index":          {func(s *server) { s.index = []byte("<html>") }, nil, "malformed index", true},
		"a chunk altered":   {func(s *server) { s.data[len(s.data)/2] ^= 1 }, nil, "not what the index says", true},
		"data cut":          {func(s *server) { s.data = s.data[:len(s.data)/2] }, nil, "and it sends", true},
		"the whole altered": {func(s *server) { s.index[len(magic)+9] ^= 1 }, nil, "the whole is not what the index says", true},
		"no ranges":         {onData(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), nil, "does not know Range", true},
		"another range": {onData(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-6/7")
			w.WriteHeader(http.StatusPartialContent)
		}), nil, "bytes 5-6/7", true},
		"larger than a slot": {nil, func(f *Fetcher) { f.Most = 3<<20 - 1 }, "names 3145728 bytes", true},
		"disk full":          {nil, func(f *Fetcher) { f.Reserve = 1 << 60 }, "make room", false},
		"server hangs":       {onData(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), func(f *Fetcher) { f.Stall = 20 * time.Millisecond }, "nothing has come", false},
		"unknown CA":         {nil, func(f *Fetcher) { f.Client = http.DefaultClient }, "certificate", false},
		"file replaced":      {replaced, nil, "was replaced", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, noise(15, 3<<20))
			if c.change != nil {
				c.change(s)
			}
			path, err := s.fetch(t, t.TempDir(), c.fetch)
			if err == nil || !strings.Contains(err.Error(), c.says) || Fatal(err) != c.fatal {
				t.Errorf("Fetch gives %q, %v (fatal: %v), want %q (fatal: %v)", path, err, Fatal(err), c.says, c.fatal)
			}
		})
	}
	for _, url := range []string{"http://updates.example.org/x.skidx", "https://updates.example.org/x.raucb", "file:///etc/passwd", ""} {
		if _, err := (&Fetcher{Client: http.DefaultClient}).Fetch(t.Context(), url, t.TempDir()); !Fatal(err) {
			t.Errorf("%q: %v, want a fatal error", url, err)
		}
	}
}

// TestFetchWhileTheServerIsRepublished: new data with the old index is no reason to give up; the index is fetched once more.
func TestFetchWhileTheServerIsRepublished(t *testing.T) {
	for name, late := range map[string]func(*server){
		"same length": func(*server) {},
		"longer data": func(s *server) { x, _ := publish(t, noise(19, 5<<20)); s.index = x.Append(nil) },
		"cut index":   func(s *server) { s.index = s.index[:len(s.index)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			content := noise(18, 3<<20)
			s := serve(t, noise(20, 3<<20))
			late(s)
			x, data := publish(t, content)
			s.data = data
			asked := 0
			s.handle = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, IndexSuffix) {
					if asked++; asked == 2 {
						s.index = x.Append(nil)
					}
				}
				return false
			}
			s.fetches(t, t.TempDir(), content, nil)
			if asked != 2 {
				t.Errorf("the index was asked for %d times, want 2", asked)
			}
		})
	}
}

// replaced has the server change its data file after the first request.
func replaced(s *server) {
	s.handle = func(w http.ResponseWriter, r *http.Request) bool {
		if s.sent.Load() == 0 || !strings.HasSuffix(r.URL.Path, DataSuffix) {
			return false
		}
		w.Header().Set("ETag", `"two"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.data))
		return true
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	s := serve(t, noise(16, 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	f := &Fetcher{Client: s.Client(), Progress: func(Progress) { cancel() }}
	if _, err := f.Fetch(ctx, s.URL+"/v2"+IndexSuffix, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch gives %v after its context has ended", err)
	}
}

func TestRate(t *testing.T) {
	content := noise(17, 40<<10)
	s := serve(t, content)
	from := time.Now()
	s.fetches(t, t.TempDir(), content, func(f *Fetcher) { f.Rate = 200 << 10 })
	if took := time.Since(from); took < 100*time.Millisecond { // never less, however fast the machine is
		t.Errorf("40 KiB took %v at 200 KiB/s", took)
	}
}
