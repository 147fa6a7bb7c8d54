package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/skerry/skerry/firmware/localhttp"
)

// Server serves one agent's health. All fields are set before Run and not changed afterwards.
type Server struct {
	Address string // host:port for /metrics and /healthz; empty: no TCP listener
	Socket  string // path of the Unix socket for /status; empty: none
	Metrics func(w io.Writer)
	Status  func() any // encoded as JSON
	// Pages are further things that the Unix socket tells, by their paths without the slash, as text.
	Pages map[string]func(w io.Writer) error
	// Shutdown stops the pods because the machine goes down: POST /shutdown on the Unix socket. nil: there are none.
	Shutdown func(ctx context.Context) error
	Log      *slog.Logger
}

// Run serves until ctx ends. A listener that cannot be opened is logged once and tried again; it is not an error of Run.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if s.Address != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			s.Metrics(w)
		})
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
		wg.Go(func() { localhttp.Keep(ctx, s.Log, "metrics.address "+s.Address, s.listenTCP, serving(mux)) })
	}
	if s.Socket != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(s.Status()); err != nil {
				s.Log.Debug("a status answer was cut off", "error", err)
			}
		})
		for path, page := range s.Pages {
			mux.HandleFunc("GET /"+path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
				if err := page(w); err != nil {
					s.Log.Debug("an answer was cut off", "page", path, "error", err)
				}
			})
		}
		mux.HandleFunc("POST /shutdown", s.shutdown)
		listen := func(ctx context.Context) (net.Listener, error) { return localhttp.Listen(ctx, s.Socket) }
		wg.Go(func() { localhttp.Keep(ctx, s.Log, "socket "+s.Socket, listen, serving(mux)) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// shutdown stops the pods, and answers when they have stopped.
func (s *Server) shutdown(w http.ResponseWriter, r *http.Request) {
	if s.Shutdown == nil {
		return
	}
	if err := s.Shutdown(context.WithoutCancel(r.Context())); err != nil { // who asked may be killed, the machine goes down all the same
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// serving returns the function that makes the servers of a handler.
func serving(h http.Handler) func() *http.Server {
	return func() *http.Server {
		return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	}
}

func (s *Server) listenTCP(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("metrics.address %s is used by another process: stop it (ss -ltnp shows which) or set another address: %w", s.Address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on metrics.address %s: %w", s.Address, err)
	}
	return l, nil
}

// Fetch asks the agent behind socket for its status document. An error says whether the agent is not running or not ours.
func Fetch(ctx context.Context, socket string) ([]byte, error) {
	return ask(ctx, socket, http.MethodGet, "/status")
}

// Shutdown has the agent behind socket stop its pods, and returns when they have stopped.
func Shutdown(ctx context.Context, socket string) error {
	_, err := ask(ctx, socket, http.MethodPost, "/shutdown")
	return err
}

func ask(ctx context.Context, socket, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://skerryd"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	resp, err := localhttp.Client(socket).Do(req)
	if err != nil {
		return nil, localhttp.Explain(socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the agent on %s: HTTP %s", socket, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read the agent's status: %w", err)
	}
	return body, nil
}
