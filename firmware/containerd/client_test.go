package containerd

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer plays containerd: method → handler of the messages of a call.
type peer struct {
	mu      sync.Mutex
	calls   []string
	headers http.Header
	handle  map[string]func(msg []byte) (resp []byte, status string)
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := filepath.Base(r.URL.Path)
	p.mu.Lock()
	p.calls = append(p.calls, method)
	p.headers = r.Header.Clone()
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/grpc")
	status := "0"
	for status == "0" {
		var head [5]byte
		if _, err := io.ReadFull(r.Body, head[:]); err != nil {
			break
		}
		msg := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r.Body, msg); err != nil {
			break
		}
		var resp []byte
		if h := p.handle[method]; h != nil {
			resp, status = h(msg)
		}
		if status == "0" {
			_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(resp))), resp...))
			_ = http.NewResponseController(w).Flush()
		}
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
}

func start(t *testing.T, p *peer) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: p, Protocols: &h2c, ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	c := cri.New(cri.Options{Socket: l.Addr().String()})
	t.Cleanup(func() { c.Close(); _ = srv.Close(); served.Wait() })
	return New(c)
}

// written collects what a Write sends.
func (p *peer) written(into *bytes.Buffer, commit *string) func([]byte) ([]byte, string) {
	return func(msg []byte) ([]byte, string) {
		var data []byte
		var action uint64
		var labels string
		_ = visit(msg, func(num int, v uint64, d []byte) error {
			switch num {
			case 1:
				action = v
			case 6:
				data = d
			case 7:
				labels += string(d)
			}
			return nil
		})
		into.Write(data)
		if action == actionEnd {
			*commit = labels
		}
		return message{}.number(4, int64(into.Len())), "0"
	}
}

func TestWrite(t *testing.T) {
	p := &peer{handle: map[string]func([]byte) ([]byte, string){}}
	var got bytes.Buffer
	var commit string
	p.handle["Write"] = p.written(&got, &commit)
	p.handle["Abort"] = func([]byte) ([]byte, string) { return nil, "5" }
	c := start(t, p)
	text := strings.Repeat("x", writeStep+1000)
	ctx, release, err := c.Lease(t.Context(), "lease-1")
	if err != nil {
		t.Fatal(err)
	}
	d := images.Descriptor{MediaType: "m", Digest: "sha256:ab", Size: int64(len(text))}
	if err := c.Write(ctx, d, map[string]string{"k": "v"}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got.String() != text || !strings.Contains(commit, "k") || !strings.Contains(commit, "v") {
		t.Errorf("%d bytes arrived, commit with %q", got.Len(), commit)
	}
	if h := p.headers; h.Get("Containerd-Namespace") != "k8s.io" || h.Get("Containerd-Lease") != "lease-1" {
		t.Errorf("headers %v", h)
	}
	if err := release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Write(t.Context(), d, nil, strings.NewReader(text[:100])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short content: %v", err)
	}
	p.handle["Write"] = func([]byte) ([]byte, string) { return message{}.number(4, 7), "0" }
	if err := c.Write(t.Context(), d, nil, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "containerd has 7 bytes") {
		t.Errorf("containerd lost bytes: %v", err)
	}
	p.handle["Write"] = func([]byte) ([]byte, string) { return nil, "6" }
	if err := c.Write(ctx, d, map[string]string{"k": "v"}, strings.NewReader(text)); err != nil {
		t.Errorf("content that is there: %v", err)
	}
	if n := len(p.calls); p.calls[n-2] != "AddResource" || p.calls[n-1] != "Update" {
		t.Errorf("calls %v", p.calls)
	}
}

func TestSmallCalls(t *testing.T) {
	p := &peer{handle: map[string]func([]byte) ([]byte, string){}}
	c := start(t, p)
	ask := func(status string) (bool, error) {
		p.handle["Info"] = func([]byte) ([]byte, string) { return nil, status }
		return c.Has(t.Context(), "sha256:ab")
	}
	if there, err := ask("0"); err != nil || !there {
		t.Errorf("there: %v, %v", there, err)
	}
	if there, err := ask("5"); err != nil || there {
		t.Errorf("not there: %v, %v", there, err)
	}
	if _, err := ask("13"); !errors.Is(err, cri.ErrInternal) {
		t.Errorf("error %v", err)
	}
	p.handle["Create"] = func([]byte) ([]byte, string) { return nil, "6" }
	if err := c.Tag(t.Context(), "a:1", images.Descriptor{}); err != nil || p.calls[len(p.calls)-1] != "Update" {
		t.Errorf("a name that is there: %v, calls %v", err, p.calls)
	}
	if _, _, err := c.Lease(t.Context(), "x"); !errors.Is(err, cri.ErrAlreadyExists) {
		t.Errorf("lease: %v", err)
	}
	p.handle["ListStatuses"] = func([]byte) ([]byte, string) {
		return message{}.message(1, message{}.text(3, "layer-sha256:ab").number(4, 5).number(5, 10)).message(1, nil), "0"
	}
	list, err := c.Pulls(t.Context())
	if err != nil || len(list) != 2 || list[0] != (Pull{Ref: "layer-sha256:ab", Offset: 5, Total: 10}) {
		t.Errorf("pulls %+v, %v", list, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Pulls(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

func TestForeign(t *testing.T) {
	p := &peer{handle: map[string]func([]byte) ([]byte, string){}}
	c := start(t, p)
	for name, want := range map[string]struct {
		resp    []byte
		status  string
		foreign bool
		err     error
	}{
		"nobody's":  {nil, "5", false, nil},
		"CRI's":     {message{}.message(1, message{}.text(1, "ab").labels(2, map[string]string{"app": "x", labelKind: "sandbox"})), "0", false, nil},
		"nerdctl's": {message{}.message(1, message{}.text(1, "ab").labels(2, map[string]string{"nerdctl/name": "x"})), "0", true, nil},
		"bare":      {message{}.message(1, message{}.text(1, "ab")), "0", true, nil},
		"no answer": {nil, "13", false, cri.ErrInternal},
	} {
		p.handle["Get"] = func([]byte) ([]byte, string) { return want.resp, want.status }
		if got, err := c.Foreign(t.Context(), "ab"); got != want.foreign || !errors.Is(err, want.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestEndTask(t *testing.T) {
	got := map[string]string{}
	p := &peer{handle: map[string]func([]byte) ([]byte, string){}}
	c := start(t, p)
	answer := func(kill, del string) error {
		p.handle["Kill"] = func(msg []byte) ([]byte, string) { got["Kill"] = string(msg); return nil, kill }
		p.handle["Delete"] = func(msg []byte) ([]byte, string) { got["Delete"] = string(msg); return nil, del }
		return c.EndTask(t.Context(), "ab")
	}
	for _, ok := range [][2]string{{"0", "0"}, {"5", "0"}, {"5", "5"}} {
		if err := answer(ok[0], ok[1]); err != nil {
			t.Errorf("Kill %s, Delete %s: %v", ok[0], ok[1], err)
		}
	}
	if want := "\n\x02ab\x18\x09\x20\x01"; got["Kill"] != want || got["Delete"] != "\n\x02ab" {
		t.Errorf("sent %q", got)
	}
	if err := answer("0", "9"); !errors.Is(err, cri.ErrFailedPrecondition) {
		t.Errorf("a task that still runs: %v", err)
	}
	if err := answer("12", "0"); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("another runtime: %v", err)
	}
}

func TestOwnersOfWhatIsPulled(t *testing.T) {
	info := func(digest string, labels map[string]string) message {
		return message{}.message(1, message{}.text(1, digest).labels(5, labels))
	}
	p := &peer{handle: map[string]func([]byte) ([]byte, string){"List": func([]byte) ([]byte, string) {
		return slices.Concat(
			info("sha256:m1", map[string]string{"containerd.io/gc.ref.content.l.0": "sha256:ab", "containerd.io/gc.ref.content.config": "sha256:cd", "containerd.io/distribution.source.registry.example.org": "team/app,team/copy"}),
			info("sha256:m2", map[string]string{"containerd.io/gc.ref.content.l.0": "sha256:other", "containerd.io/distribution.source.docker.io": "library/busybox"}),
			info("sha256:ab", map[string]string{"containerd.io/distribution.source.docker.io": "library/old"}),
		), "0"
	}}}
	c := start(t, p)
	for ref, want := range map[string]string{
		"layer-sha256:ab": "registry.example.org/team/app registry.example.org/team/copy", "layer-sha256:zz": "", "odd": "",
	} {
		got, err := c.Owners(t.Context(), ref)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	p.handle["List"] = func([]byte) ([]byte, string) { return nil, "12" }
	if _, err := c.Owners(t.Context(), "layer-sha256:ab"); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("a runtime that is not containerd: %v", err)
	}
}

func FuzzVisit(f *testing.F) {
	f.Add([]byte(message{}.text(1, "x").number(4, -1).message(2, nil)))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if err := visit(b, func(_ int, _ uint64, data []byte) error { n += len(data); return nil }); err == nil && n > len(b) {
			t.Errorf("%d bytes of data in a message of %d", n, len(b))
		}
	})
}
