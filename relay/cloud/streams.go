package cloud

import (
	"net"
	"sync"
)

// streams is a net.Listener of the streams that agents open.
type streams struct {
	arrivals chan *stream
	closed   chan struct{}
	once     sync.Once
}

func newStreams() *streams {
	return &streams{arrivals: make(chan *stream), closed: make(chan struct{})}
}

// serve hands a stream to the HTTP server and waits for its end.
func (l *streams) serve(c *stream) {
	select {
	case l.arrivals <- c:
	case <-l.closed:
		_ = c.Close()
		return
	}
	<-c.done
}

// Accept implements net.Listener.
func (l *streams) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrivals:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *streams) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *streams) Addr() net.Addr { return addr{} }

type addr struct{}

// Network implements net.Addr.
func (addr) Network() string { return "skerry" }

// String implements net.Addr.
func (addr) String() string { return "cloud" }

// stream is one of a node's streams. It belongs to the HTTP server.
type stream struct {
	net.Conn
	node string
	done chan struct{} // closed with it
	once sync.Once
}

// Close implements net.Conn.
func (c *stream) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}
