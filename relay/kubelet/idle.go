package kubelet

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// idleWatch calls expire once if touch is not called for the time given.
type idleWatch struct {
	limit time.Duration
	moved atomic.Bool

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func newIdleWatch(limit time.Duration, expire func()) *idleWatch {
	w := &idleWatch{limit: limit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.ended:
		case w.moved.Swap(false):
			w.timer.Reset(w.limit) // so it may take up to twice the time
		default:
			w.ended = true
			expire()
		}
	})
	return w
}

// touch says that something moved.
func (w *idleWatch) touch() { w.moved.Store(true) }

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}

// watchedWriter tells of what an answer writes: a log that is followed is one answer that goes on for days. It hands out a connection that is
// closed with ctx, and tells of what moves on it, too.
type watchedWriter struct {
	http.ResponseWriter
	ctx     context.Context //nolint:containedctx // of the one request that it lives for
	watch   *idleWatch
	tracker *spdyTracker // nil: the session's end is not told
}

func (h *watchedWriter) Write(b []byte) (int, error) {
	n, err := h.ResponseWriter.Write(b)
	if n > 0 {
		h.watch.touch()
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (h *watchedWriter) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Hijack is for httputil.ReverseProxy.
func (h *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// net/http does not watch a connection any more that it has given away: a write to a peer that reads nothing would last for ever.
	stop := context.AfterFunc(h.ctx, func() { _ = c.Close() })
	watched := &watchedConn{Conn: c, watch: h.watch, stop: stop}
	if h.tracker != nil {
		return &trackedConn{watched, h.tracker}, rw, nil
	}
	return watched, rw, nil
}

// watchedConn has no CloseWrite, deliberately: neither SPDY nor WebSocket knows half-closed connections, and a session whose one side has
// ended is over.
type watchedConn struct {
	net.Conn
	watch *idleWatch
	stop  func() bool
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.watch.touch()
	}
	return n, err
}

func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.watch.touch()
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
