package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/mappers/device"
)

// dialer opens connections; *net.Dialer is one.
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// endpoint is one host:port with everything behind it. do and close may be called by anyone; all else belongs to the
// owner goroutine in run.
type endpoint struct {
	addr   string
	dialer dialer
	queue  *queue
	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}
	refs   int // sessions; guarded by the Driver

	conn     net.Conn
	packager *modbus.TCPClientHandler // only its Encode is used
	buf      [maxADU]byte
	health   health
	units    map[byte]*health
	silent   map[byte]bool // units that did not answer since anything did
}

// newEndpoint starts the owner goroutine. close ends it.
func newEndpoint(addr string, d dialer) *endpoint {
	ctx, cancel := context.WithCancel(context.Background())
	e := &endpoint{
		addr: addr, dialer: d, queue: newQueue(), ctx: ctx, cancel: cancel, done: make(chan struct{}),
		packager: modbus.NewTCPClientHandler(addr), units: make(map[byte]*health), silent: make(map[byte]bool),
	}
	go e.run()
	return e
}

// close interrupts what is under way and waits for the owner goroutine.
func (e *endpoint) close() {
	e.cancel()
	<-e.done
}

// do sends one request and waits for its answer, until ctx ends or stop is closed. The data is the caller's.
func (e *endpoint) do(ctx context.Context, stop <-chan struct{}, unit byte, r *request, timeout time.Duration, urgent bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	t := &transaction{ctx: ctx, unit: unit, request: r, timeout: timeout, urgent: urgent, done: make(chan answer, 1)}
	e.queue.push(t)
	select {
	case a := <-t.done:
		return a.data, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", r, ctx.Err())
	case <-stop:
		return nil, device.ErrClosed
	case <-e.done:
		return nil, device.ErrClosed
	}
}

// run owns the connection.
func (e *endpoint) run() {
	defer close(e.done)
	defer e.drop()
	for {
		t := e.queue.pop()
		if t == nil {
			select {
			case <-e.ctx.Done():
				return
			case <-e.queue.wake:
			}
			continue
		}
		if e.ctx.Err() != nil {
			return
		}
		if t.ctx.Err() != nil {
			continue // the caller has left
		}
		data, err := e.serve(t)
		t.done <- answer{data: data, err: err}
	}
}

// serve carries out one transaction, unless the unit or the endpoint is in back-off.
func (e *endpoint) serve(t *transaction) ([]byte, error) {
	now := time.Now()
	unit := e.units[t.unit]
	if unit == nil {
		unit = new(health)
		e.units[t.unit] = unit
	}
	if err := e.health.blocked(now); err != nil {
		return nil, err
	}
	if err := unit.blocked(now); err != nil {
		return nil, err
	}
	data, err := e.attempt(t)
	return data, e.judge(t, unit, err)
}

// attempt connects if need be and exchanges request and reply. A connection that turns out to have been closed by
// the peer while it was idle is replaced once, for reads: a write might have been carried out.
func (e *endpoint) attempt(t *transaction) ([]byte, error) {
	deadline := time.Now().Add(t.timeout)
	if d, ok := t.ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if e.conn != nil && !flush(e.conn) {
		e.drop()
	}
	reused := e.conn != nil
	if err := e.connect(deadline); err != nil {
		return nil, err
	}
	data, n, err := e.exchange(t, deadline)
	if err != nil && reused && n == 0 && t.request.echo == nil && lost(err) {
		e.drop()
		if err := e.connect(deadline); err != nil {
			return nil, err
		}
		data, _, err = e.exchange(t, deadline)
	}
	return data, err
}

// connectError marks errors of dialling.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

func (e *endpoint) connect(deadline time.Time) error {
	if e.conn != nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(e.ctx, deadline)
	defer cancel()
	conn, err := e.dialer.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return &connectError{err}
	}
	e.conn = conn
	return nil
}

func (e *endpoint) drop() {
	if e.conn != nil {
		_ = e.conn.Close() // what is left of it does not matter
		e.conn = nil
	}
}

// exchange sends the request and reads its reply. n is how many bytes of a reply came, also if there is an error.
func (e *endpoint) exchange(t *transaction, deadline time.Time) (data []byte, n int, err error) {
	if err := e.conn.SetDeadline(deadline); err != nil {
		return nil, 0, err
	}
	conn := e.conn
	defer context.AfterFunc(e.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // close interrupts
	e.packager.SlaveId = t.unit
	adu, err := e.packager.Encode(&t.request.pdu)
	if err != nil {
		return nil, 0, err
	}
	if _, err := conn.Write(adu); err != nil {
		return nil, 0, err
	}
	n, err = io.ReadFull(conn, e.buf[:headerSize])
	if err != nil {
		return nil, n, err
	}
	length, err := replyLength(adu, e.buf[:headerSize])
	if err != nil {
		return nil, n, err
	}
	pdu := e.buf[headerSize : headerSize+length]
	if _, err := io.ReadFull(conn, pdu); err != nil {
		return nil, n, err
	}
	data, err = t.request.check(pdu)
	return append([]byte(nil), data...), n, err
}

// judge keeps or closes the connection, keeps count of failures, and words the error.
func (e *endpoint) judge(t *transaction, unit *health, err error) error {
	now := time.Now()
	var ex *exception
	var frame *frameError
	var dial *connectError
	switch {
	case err == nil, errors.As(err, &ex) && !ex.unreachable():
		unit.ok()
		e.health.ok()
		clear(e.silent)
		return err
	case ex != nil: // a gateway that speaks for a dead unit
		e.health.ok()
		clear(e.silent)
		err = unreachable("unit %d at %s: %s", t.unit, e.addr, ex)
		unit.failed(now, err, unitBase, unitLimit)
		return err
	}
	e.drop()
	if e.ctx.Err() != nil {
		return device.ErrClosed
	}
	switch {
	case errors.As(err, &dial):
		err = unreachable("cannot connect to %s: %s", e.addr, cause(err))
		e.health.failed(now, err, connectBase, connectLimit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if t.ctx.Err() != nil || e.early(t, now) {
			return fmt.Errorf("%s: %w", t.request, context.DeadlineExceeded) // the caller's time was up, not the unit's
		}
		err = unreachable("unit %d at %s did not answer within %v", t.unit, e.addr, t.timeout)
		unit.failed(now, err, unitBase, unitLimit)
		if e.silent[t.unit] = true; len(e.silent) > 1 { // nobody answers: it is not the unit
			e.health.failed(now, unreachable("%s accepts connections and does not answer", e.addr), connectBase, connectLimit)
		}
	case errors.As(err, &frame):
		err = unreachable("unit %d at %s: %s: the connection was closed", t.unit, e.addr, err)
		unit.failed(now, err, connectBase, unitLimit)
	default:
		err = unreachable("the connection to %s broke: %s", e.addr, cause(err))
		e.health.failed(now, err, connectBase, connectLimit)
	}
	return err
}

// early tells that the caller's deadline left the unit less than its time-out.
func (e *endpoint) early(t *transaction, now time.Time) bool {
	d, ok := t.ctx.Deadline()
	return ok && !now.Before(d.Add(-time.Millisecond))
}

// lost tells that the peer closed the connection.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cause words an error of the network without addresses and ports of our own, which change with every attempt.
func cause(err error) string {
	var no syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it does not answer: check that the device is on and the address is right"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there; check ip, port and the device"
	case errors.Is(err, io.EOF):
		return "the device closed it"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the device closed it within a reply"
	case errors.As(err, &no):
		return no.Error()
	case errors.As(err, &dns):
		return "the name cannot be resolved: " + dns.Err
	default:
		return err.Error()
	}
}

// flush throws away bytes that wait on an idle connection: nothing has been asked, so they answer nothing. It does not
// block, and returns false if the peer has closed the connection.
func flush(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return true // a connection of a test, which has no socket
	}
	// The deadline of the last exchange has long passed, and would fail the read before it is tried.
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := true
	err = raw.Read(func(fd uintptr) bool {
		var junk [maxADU]byte
		for range 64 { // a peer that floods an idle connection is as good as broken
			n, err := syscall.Read(int(fd), junk[:])
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return true
			case errors.Is(err, syscall.EINTR):
				continue
			case err != nil || n == 0:
				open = false
				return true
			}
		}
		open = false
		return true
	})
	return err == nil && open
}
