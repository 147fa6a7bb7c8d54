package modbus

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
)

// line is an open connection or serial port: serialline.Line is one. It belongs to the owner of an endpoint; SetDeadline and
// Close may be called by others.
type line interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetDeadline(t time.Time) error
	// Discard throws away what has been received. It does not wait; an error means that the line is gone.
	Discard() (int, error)
	Close() error
}

// opener opens an endpoint's line. It belongs to the owner of the endpoint.
type opener interface {
	name() string // for messages
	stream() bool // closing the line makes sure that no late reply comes
	open(ctx context.Context) (line, error)
	closed(replied bool) // the line was closed, after something was answered on it or before
	close()
}

// serialOpener opens a port of our own.
type serialOpener struct {
	cfg  serialline.Config
	port func(serialline.Config) (line, error)
}

func (o *serialOpener) name() string { return o.cfg.String() }
func (o *serialOpener) stream() bool { return false }
func (o *serialOpener) closed(bool)  {}
func (o *serialOpener) close()       {}

func (o *serialOpener) open(context.Context) (line, error) { return o.port(o.cfg) }

// dialer opens connections; *net.Dialer is one.
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// tcpOpener dials the first address, or the next one if that does not help.
type tcpOpener struct {
	dialer dialer
	addrs  []string
	first  int // is tried first
	used   int
}

func (o *tcpOpener) name() string { return strings.Join(o.addrs, " and ") }
func (o *tcpOpener) stream() bool { return true }
func (o *tcpOpener) close()       {}

func (o *tcpOpener) open(ctx context.Context) (line, error) {
	var first error
	for i := range o.addrs {
		o.used = (o.first + i) % len(o.addrs)
		conn, err := o.dial(ctx, o.addrs[o.used], len(o.addrs)-i)
		if err == nil {
			return &tcpLine{Conn: conn}, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// dial leaves time for the addresses that are left.
func (o *tcpOpener) dial(ctx context.Context, addr string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return o.dialer.DialContext(ctx, "tcp", addr)
}

// closed: an address that accepted the connection and did not answer is not tried first again; after one that worked, the
// first of the list is.
func (o *tcpOpener) closed(replied bool) {
	if o.first = 0; !replied {
		o.first = (o.used + 1) % len(o.addrs)
	}
}

// tcpLine is a TCP connection. It belongs to the owner of an endpoint, but for what line allows others.
type tcpLine struct {
	net.Conn
	raw syscall.RawConn // kept from the first Discard on: each one made takes memory
}

var errFlood = errors.New("the device sends without being asked")

// Discard implements line.
func (l *tcpLine) Discard() (int, error) {
	if own, ok := l.Conn.(interface{ Discard() (int, error) }); ok { // a connection without a socket
		return own.Discard()
	}
	sc, ok := l.Conn.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	if l.raw == nil {
		raw, err := sc.SyscallConn()
		if err != nil {
			return 0, err
		}
		l.raw = raw
	}
	// The deadline of the last exchange has long passed, and would fail the read before it is tried.
	if err := l.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	d := discards.Get().(*discard)
	defer discards.Put(d)
	d.n, d.err = 0, nil
	if err := l.raw.Read(d.read); err != nil {
		return d.n, err
	}
	return d.n, d.err
}

// discard empties a socket. It is kept so that it costs no allocation for each request.
type discard struct {
	n    int
	err  error
	junk [512]byte
	read func(fd uintptr) bool
}

var discards = sync.Pool{New: func() any {
	d := new(discard)
	d.read = d.empty
	return d
}}

// empty reads what is there; it never waits.
func (d *discard) empty(fd uintptr) bool {
	for range 64 { // a peer that floods an idle connection is as good as broken
		n, err := syscall.Read(int(fd), d.junk[:])
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return true
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			d.err = err
			return true
		case n == 0:
			d.err = net.ErrClosed
			return true
		}
		d.n += n
	}
	d.err = errFlood
	return true
}
