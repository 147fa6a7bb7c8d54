package serialline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// netLine is a Line over a connection: a serial server in raw mode (Moxa's "TCP server", ser2net's "raw").
type netLine struct {
	conn  net.Conn
	tap   Tap
	until deadline // Discard overwrites the connection's
}

// Dial opens a line behind a serial server. The connection has keep-alive, which finds a server that lost its power.
func Dial(ctx context.Context, address string, tap Tap) (Line, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &OpenError{Path: address, Problem: "the serial server cannot be reached", Err: unwrapNet(err)}
	}
	return NetLine(conn, tap), nil
}

// NetLine makes a Line of a connection, which it then owns.
func NetLine(conn net.Conn, tap Tap) Line {
	return &netLine{conn: conn, tap: tap, until: deadline{from: time.Now()}}
}

// unwrapNet leaves out addresses and ports of our own, which change with every attempt and would make a new message each time.
func unwrapNet(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err
}

func (l *netLine) fault(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case err == nil, errors.Is(err, io.EOF):
		return fmt.Errorf("the serial server %s closed the connection: %w", l.conn.RemoteAddr(), ErrGone)
	default:
		return fmt.Errorf("the connection to serial server %s broke: %w: %w", l.conn.RemoteAddr(), ErrGone, unwrapNet(err))
	}
}

func (l *netLine) Read(p []byte) (int, error) {
	n, err := l.conn.Read(p)
	if n > 0 {
		if l.tap != nil {
			l.tap(time.Now(), false, p[:n])
		}
		return n, nil
	}
	if len(p) == 0 && err == nil {
		return 0, nil
	}
	return 0, l.fault(err)
}

func (l *netLine) Write(p []byte) (int, error) {
	if l.tap != nil {
		l.tap(time.Now(), true, p)
	}
	n, err := l.conn.Write(p)
	if err != nil {
		return n, l.fault(err)
	}
	return n, nil
}

func (l *netLine) SetDeadline(t time.Time) error {
	l.until.set(t)
	if err := l.conn.SetDeadline(t); err != nil {
		return l.fault(err)
	}
	return nil
}

func (l *netLine) Close() error {
	_ = l.conn.Close() // nothing is buffered in it
	return nil
}

// maxDiscard bounds what is thrown away at once: a peer that floods an idle connection is as good as broken.
const maxDiscard = 64 << 10

func (l *netLine) Discard() (int, error) {
	sc, ok := l.conn.(syscall.Conn)
	if !ok {
		return 0, nil // a connection of a test, which has no socket
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, l.fault(err)
	}
	// A deadline that has passed would fail the read before it is tried.
	if err := l.conn.SetReadDeadline(time.Time{}); err != nil {
		return 0, l.fault(err)
	}
	total := 0
	var fault error
	err = raw.Read(func(fd uintptr) bool {
		var junk [512]byte
		for total < maxDiscard {
			n, err := syscall.Read(int(fd), junk[:])
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return true
			case errors.Is(err, syscall.EINTR):
			case err != nil:
				fault = err
				return true
			case n == 0:
				fault = io.EOF
				return true
			default:
				total += n
			}
		}
		fault = fmt.Errorf("it sends without end")
		return true
	})
	if end := l.until.get(); !end.IsZero() {
		err = errors.Join(err, l.conn.SetReadDeadline(end))
	}
	if fault == nil {
		fault = err
	}
	if fault != nil {
		return total, l.fault(fault)
	}
	return total, nil
}
