// Package localhttp serves HTTP on Unix sockets that only root and the agent's own user may open, and asks on them. The status
// socket (firmware/health) and the control socket (firmware/control) are served with it.
//
// # Usage
//
//	localhttp.Keep(ctx, log, "socket "+path, listen, server)  // serves until ctx ends, whatever happens to the listener
//	localhttp.Listen(ctx, path)                               // a socket of mode 0600 in place of one that was left behind
//	localhttp.Client(path).Do(request)                        // with Explain for its errors
//
// # Concurrency
//
// Everything may be called concurrently; the caller closes what Listen returns, Keep what its listen function returns.
//
// # Testing
//
// Tests use real sockets in temporary folders.
package localhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// rebindEvery is how long a listener that cannot be opened is left alone.
const rebindEvery = 15 * time.Second

// Keep serves with server until ctx ends. A listener that cannot be opened is logged once under what, and tried again: the
// agent goes on without it. server makes a new one for each listener.
func Keep(ctx context.Context, log *slog.Logger, what string, listen func(context.Context) (net.Listener, error), server func() *http.Server) {
	told := ""
	for ctx.Err() == nil {
		l, err := listen(ctx)
		if err != nil {
			if err.Error() != told {
				told = err.Error()
				log.Error("cannot listen; trying again until it works, everything else goes on", "key", what, "error", err, "every", rebindEvery)
			}
			select {
			case <-ctx.Done():
			case <-time.After(rebindEvery):
			}
			continue
		}
		told = ""
		serve(ctx, l, server())
	}
}

func serve(ctx context.Context, l net.Listener, srv *http.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	select {
	case <-ctx.Done():
	case <-done:
	}
	_ = srv.Close()
	<-done
}

// Listen opens the Unix socket at path with mode 0600, and its folder if there is none. A socket file that is there already is
// replaced: it outlives a process that was killed, and the store's lock has made sure that no other agent runs here.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("close the socket to others: %w", err)
	}
	return l, nil
}

// Client returns a client whose every request goes to the socket, over a connection of its own.
func Client(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// ErrNotRunning is wrapped by what Explain returns if nobody listens on the socket.
var ErrNotRunning = errors.New("no agent answers")

// Explain says in a technician's words why a request of Client failed.
func Explain(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s: is skerryd running? (systemctl status skerryd): %w", ErrNotRunning, path, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("only root may ask the agent on %s: %w", path, err)
	default:
		return fmt.Errorf("ask the agent on %s: %w", path, err)
	}
}
