// Package streamtest holds what stands for the network in tests of servers of streams, on either side of the link.
//
//	l := streamtest.NewPipes()
//	go server.Serve(l)
//	conn, err := l.Dial(ctx) // the client's end
//
// Pipes have no buffers and no sockets: what nobody reads is not written, and a bubble of testing/synctest sees all that waits.
package streamtest

import (
	"context"
	"net"
	"sync"

	"github.com/skerry/skerry/firmware/wire/stream"
)

// Pipes is a net.Listener whose connections are the far ends of pipes. Its methods may be called by any goroutine; whoever serves it
// closes it, as servers do.
type Pipes struct {
	arrivals chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// NewPipes returns an open listener.
func NewPipes() *Pipes {
	return &Pipes{arrivals: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial returns one end of a pipe as soon as the other is accepted.
func (p *Pipes) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	if err := p.Arrive(ctx, far); err != nil {
		return nil, err
	}
	return near, nil
}

// Arrive returns as soon as c is accepted. c is closed if it is not.
func (p *Pipes) Arrive(ctx context.Context, c net.Conn) error {
	select {
	case p.arrivals <- c:
		return nil
	case <-p.closed:
		_ = c.Close()
		return net.ErrClosed
	case <-ctx.Done():
		_ = c.Close()
		return ctx.Err()
	}
}

// Closed is closed when the listener is.
func (p *Pipes) Closed() <-chan struct{} { return p.closed }

// Accept implements net.Listener.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.arrivals:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *Pipes) Addr() net.Addr { return stream.Addr("pipes") }
