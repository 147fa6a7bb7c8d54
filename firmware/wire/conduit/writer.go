package conduit

import (
	"bufio"
	"context"
	"net"
	"net/http"
)

// Writer is a http.ResponseWriter that hands out a connection which is closed with Ctx, and tells Watch of what moves on it. What is
// answered without an upgrade is not watched.
type Writer struct {
	http.ResponseWriter
	Ctx   context.Context //nolint:containedctx // of the one request that it lives for
	Watch *Watch
}

// Unwrap is for http.ResponseController.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack is for httputil.ReverseProxy. The connection has no CloseWrite, deliberately: neither SPDY nor WebSocket knows half-closed
// connections, and a session whose one side has ended is over. See NoHalfClose.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// net/http does not watch a connection any more that it has given away: a write to a peer that reads nothing would last for ever.
	stop := context.AfterFunc(w.Ctx, func() { _ = c.Close() })
	return &conn{Conn: c, watch: w.Watch, stop: stop}, rw, nil
}

// NoHalfClose hides a connection's CloseWrite from httputil.ReverseProxy, which else would go on with half of a session.
func NoHalfClose(c net.Conn) net.Conn { return struct{ net.Conn }{c} }

// conn tells of what moves on a connection.
type conn struct {
	net.Conn
	watch *Watch
	stop  func() bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.watch.Touch()
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.watch.Touch()
	}
	return n, err
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}
