package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PauseName is the repository and tag of the pause image.
const PauseName = "pause:3.6"

// Options configure Start.
type Options struct {
	ModuleDir string // root of this repository's checkout
	BuildDir  string // where the compiled programs are kept
	Addr      string // loopback address to listen on; default 127.0.0.1:0
	Arch      string // GOARCH of the images; default this machine's
}

// Registry serves images on loopback. Close it.
type Registry struct {
	listener net.Listener
	server   *http.Server
	served   chan error
	content  http.Handler // answers without asking who it is

	mu       sync.Mutex
	requests map[string]int
}

// Start compiles the sample programs and serves them as images.
func Start(ctx context.Context, o Options) (*Registry, error) {
	arch := cmp.Or(o.Arch, runtime.GOARCH)
	if err := os.MkdirAll(filepath.Join(o.BuildDir, arch), 0o755); err != nil {
		return nil, fmt.Errorf("make the images' build folder: %w", err)
	}
	built := map[string]string{}
	for _, program := range []string{"pause", "sample"} {
		built[program] = filepath.Join(o.BuildDir, arch, program)
		if err := Compile(ctx, o.ModuleDir, "./hil-tests/images/"+program, arch, built[program]); err != nil {
			return nil, err
		}
	}
	r, err := Listen(cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	for _, i := range []struct {
		tag, program string
		env          []string
	}{
		{PauseName, "pause", nil},
		{"sample:1", "sample", []string{"SAMPLE_VERSION=1"}},
		{"sample:2", "sample", []string{"SAMPLE_VERSION=2"}},
	} {
		image, err := FromBinary(built[i.program], arch, i.env...)
		if err == nil {
			err = r.Push(ctx, i.tag, image)
		}
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// Listen starts an empty registry at addr.
func Listen(addr string) (*Registry, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the image registry: %w", err)
	}
	r := &Registry{listener: l, served: make(chan error, 1), requests: map[string]int{}}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.content = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.count(req)
		handler.ServeHTTP(w, req)
	})
	r.serve(r.content)
	return r, nil
}

func (r *Registry) serve(handler http.Handler) {
	// Clients that do not trust the certificate are what some tests are about: they are not worth a line.
	r.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { r.served <- r.server.Serve(r.listener) }()
}

// Private serves the same images at another loopback address, to those only who give the user's name and password.
func (r *Registry) Private(user, password string) (*Registry, error) {
	return r.Serve(Front{IP: "127.0.0.1", Users: map[string]string{user: password}})
}

// Addr returns the registry's host:port.
func (r *Registry) Addr() string { return r.listener.Addr().String() }

// Ref returns the full reference of a repository and tag, like "sample:1".
func (r *Registry) Ref(tag string) string { return r.Addr() + "/" + tag }

// Content answers requests for images without asking who it is.
func (r *Registry) Content() http.Handler { return r.content }

// PauseImage returns the full reference of the pause image.
func (r *Registry) PauseImage() string { return r.Ref(PauseName) }

// Push stores image under a repository and tag, like "sample:1".
func (r *Registry) Push(ctx context.Context, tag string, image v1.Image) error {
	ref, err := name.ParseReference(r.Ref(tag), name.Insecure)
	if err != nil {
		return fmt.Errorf("push image %q: %w", tag, err)
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push image %q: %w", tag, err)
	}
	return nil
}

// Requests returns how often the manifest of a repository and tag was asked for.
func (r *Registry) Requests(tag string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[tag]
}

// Close stops serving and waits for the server's goroutine.
func (r *Registry) Close() error {
	err := r.server.Close()
	if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	r.served <- http.ErrServerClosed // a second Close finds the same
	return err
}

// count notes requests for manifests: GET or HEAD /v2/REPOSITORY/manifests/TAG.
func (r *Registry) count(req *http.Request) {
	repo, tag, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	if !ok || req.Method != http.MethodGet && req.Method != http.MethodHead {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[repo+":"+tag]++
}
