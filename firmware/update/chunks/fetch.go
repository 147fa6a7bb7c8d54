package chunks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Suffixes of the published files. The data file's URL is the index's with the other suffix.
const (
	IndexSuffix = ".skidx"
	DataSuffix  = ".skdat"
)

// Fetcher fetches bundles. Its methods may be called from any goroutine, for one folder only one at a time.
type Fetcher struct {
	Client  *http.Client
	Rate    int64         // bytes per second; 0: as fast as it goes
	Stall   time.Duration // a connection that brings nothing for so long is given up; 0: a minute
	Reserve int64         // bytes of the disk that stay free
	Most    int64         // bytes that a bundle has at most: what a slot can hold; 0: MaxSize
	// Seeds are what may hold chunks: the partitions of the slot that runs. One that cannot be opened is passed over.
	Seeds []string
	// Progress is called now and then; it must not block.
	Progress func(Progress)
}

// Progress of a download.
type Progress struct {
	Size    int64 // of the bundle
	Seeded  int64 // bytes as stored that need not be fetched
	Fetched int64 // bytes that were fetched in this call, the index included
	Missing int64 // bytes that are still to be fetched
}

// Fatal says that an error of Fetch is one that trying again does not mend.
func Fatal(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Code >= 400 && s.Code < 500 && s.Code != http.StatusRequestTimeout && s.Code != http.StatusTooManyRequests
	}
	return errors.Is(err, ErrMalformed) || errors.Is(err, ErrServer) || errors.Is(err, errScheme)
}

// StatusError is an answer of the server that brings nothing.
type StatusError struct {
	URL  string
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the server answers %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

var errNoRanges = errors.New("the server does not know Range requests")

var errScheme = errors.New("a bundle's address has to begin with https:// and to end with " + IndexSuffix)

// request is how much is asked for at once: little enough that a broken line costs little, and enough that the line is used.
const request = 1 << 20

// Fetch puts the bundle whose index is at url together in dir, and returns its path. What a call before has brought there is used. After an error it can be called
// again, unless Fatal says otherwise. Index and data that do not belong together are what a server has whose files are just being replaced: the index is fetched once
// more before that is an error.
func (f *Fetcher) Fetch(ctx context.Context, url, dir string) (string, error) {
	data, ok := strings.CutSuffix(url, IndexSuffix)
	if !ok || !strings.HasPrefix(url, "https://") {
		return "", fmt.Errorf("%q: %w", url, errScheme)
	}
	var p Progress
	path, err := f.fetch(ctx, url, data+DataSuffix, dir, nil, &p)
	if mismatch(err) {
		first := err
		path, err = f.fetch(ctx, url, data+DataSuffix, dir, http.Header{"Cache-Control": {"no-cache"}}, &p)
		if mismatch(err) {
			return "", fmt.Errorf("%w (and before the index was fetched anew: %w)", err, first)
		}
	}
	return path, err
}

// mismatch says that index and data do not fit each other, or that one of both is not whole.
func mismatch(err error) bool {
	var s *StatusError
	return errors.Is(err, ErrMalformed) || errors.Is(err, ErrServer) && !errors.Is(err, errNoRanges) || errors.As(err, &s) && s.Code == http.StatusRequestedRangeNotSatisfiable
}

// fetch is one try. header goes with the request for the index.
func (f *Fetcher) fetch(ctx context.Context, url, data, dir string, header http.Header, p *Progress) (string, error) {
	x, err := f.index(ctx, url, header, p)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bundle.raucb")
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a folder of the agent's
	if err != nil {
		return "", err
	}
	err = f.fill(ctx, x, out, data, dir, p)
	if err := errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	return path, nil
}

func (f *Fetcher) fill(ctx context.Context, x *Index, out *os.File, data, dir string, p *Progress) error {
	if err := f.room(out, dir, x.Size); err != nil {
		return err
	}
	if err := out.Truncate(x.Size); err != nil { // of an older bundle there may be more
		return fmt.Errorf("make room for the bundle: %w", err)
	}
	a, err := NewAssembly(ctx, x, out)
	if err != nil {
		return err
	}
	for _, path := range f.Seeds {
		if a.lacking == 0 {
			break
		}
		if err := seedFrom(ctx, a, path); err != nil {
			return err
		}
	}
	p.Seeded = 0
	for _, c := range x.Chunks {
		p.Seeded += int64(c.Stored)
	}
	p.Seeded -= a.missing
	if err := f.rest(ctx, a, out, data, p); err != nil {
		return err
	}
	if err := a.Verify(ctx); err != nil {
		return err
	}
	return out.Sync()
}

func seedFrom(ctx context.Context, a *Assembly, path string) error {
	in, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil //nolint:nilerr // a seed saves bytes, and no more
	}
	defer in.Close() //nolint:errcheck // only read
	if err := a.Seed(ctx, in); err != nil && !errors.Is(err, unix.EIO) {
		return err
	}
	return nil
}

// room fails if the bundle does not fit the disk. What is there of it already needs no room.
func (f *Fetcher) room(out *os.File, dir string, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(out.Fd()), &st); err != nil { //nolint:gosec // a descriptor fits
		return err
	}
	return Room(dir, size-st.Blocks*512+f.Reserve)
}

// Room fails if the disk of dir has not so many bytes free.
func Room(dir string, need int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("look for room in %s: %w", dir, err)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); need > free { //nolint:gosec,unconvert // types differ between architectures
		return fmt.Errorf("the disk of %s has %d MB free, and %d MB are needed for the bundle and what stays free: make room", dir, free/1e6, need/1e6)
	}
	return nil
}

// rest fetches what is missing. Each span is synced before the next: what was paid for is not fetched twice.
func (f *Fetcher) rest(ctx context.Context, a *Assembly, out *os.File, url string, p *Progress) error {
	report := func() {
		p.Missing = a.missing
		if f.Progress != nil {
			f.Progress(*p)
		}
	}
	report()
	tag := ""
	for i := 0; ; {
		s, ok := a.next(i, request)
		if !ok {
			return nil
		}
		header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", s.at, s.at+s.length-1)}}
		if tag != "" {
			header.Set("If-Range", tag)
		}
		got, err := f.get(ctx, url, header, func(resp *http.Response, body io.Reader) error {
			want := fmt.Sprintf("bytes %d-%d/", s.at, s.at+s.length-1)
			switch {
			case resp.StatusCode == http.StatusOK && tag != "":
				return fmt.Errorf("%s was replaced while it was fetched", url)
			case resp.StatusCode == http.StatusOK:
				return fmt.Errorf("%w: %s: %w", ErrServer, url, errNoRanges)
			case !strings.HasPrefix(resp.Header.Get("Content-Range"), want):
				return fmt.Errorf("%w: %s: asked for %q, and it sends %q", ErrServer, url, want, resp.Header.Get("Content-Range"))
			}
			if t := resp.Header.Get("ETag"); !strings.HasPrefix(t, "W/") { // weak ones are nothing for If-Range (RFC 9110, 13.1.5)
				tag = t
			}
			return a.take(s, body)
		})
		p.Fetched += got
		if err := errors.Join(err, out.Sync()); err != nil {
			return err
		}
		report()
		i = s.end
	}
}

func (f *Fetcher) index(ctx context.Context, url string, header http.Header, p *Progress) (x *Index, err error) {
	most := f.Most
	if most <= 0 {
		most = MaxSize
	}
	got, err := f.get(ctx, url, header, func(resp *http.Response, body io.Reader) error {
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%w: the server answers %s", ErrServer, resp.Status)
		}
		if x, _, err = ReadIndex(body, most); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		return nil
	})
	if p.Fetched += got; err != nil {
		return nil, err
	}
	p.Size = x.Size
	return x, nil
}

// get asks for url and has use read the answer, if it is one.
func (f *Fetcher) get(ctx context.Context, url string, header http.Header, use func(*http.Response, io.Reader) error) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := f.Stall
	if stall == 0 {
		stall = time.Minute
	}
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing has come from the server for %v", stall)) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errScheme, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := f.Client.Do(req)
	if err != nil {
		return 0, cause(ctx, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return 0, &StatusError{url, resp.StatusCode}
	}
	body := &meter{ctx: ctx, r: resp.Body, rate: f.Rate, read: func() { watch.Reset(stall) }}
	err = use(resp, body)
	return body.n, cause(ctx, err)
}

// cause tells why a context was cancelled, and not only that it was.
func cause(ctx context.Context, err error) error {
	if err != nil && errors.Is(err, context.Canceled) && context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return err
}

// meter counts what is read and keeps to a rate.
type meter struct {
	ctx  context.Context
	r    io.Reader
	rate int64
	n    int64
	read func()
	from time.Time
}

func (m *meter) Read(p []byte) (int, error) {
	if m.rate > 0 {
		if m.from.IsZero() {
			m.from = time.Now()
		}
		p = p[:min(len(p), max(int(m.rate/4), 1024))]
		if early := time.Duration(float64(m.n)/float64(m.rate)*float64(time.Second)) - time.Since(m.from); early > 0 {
			select {
			case <-m.ctx.Done():
				return 0, m.ctx.Err()
			case <-time.After(early):
			}
		}
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.read()
	return n, err
}
