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

	"github.com/skerry/skerry/mappers/device"
)

// stream tells that the line is a connection, which can be closed to be sure that no late reply is on its way. On a serial
// line only silence tells that.
func (e *endpoint) stream() bool { return e.opener.stream() }

// reset makes sure that nothing of what is under way is taken for an answer to what comes next.
func (e *endpoint) reset() {
	if e.stream() {
		e.drop()
		return
	}
	e.noisy = true
}

// spill empties flight. What was under way beside a culprit is sent anew, once; a write might have been carried out.
func (e *endpoint) spill(err error) {
	for len(e.flight) > 0 {
		t := e.take(len(e.flight) - 1)
		if t.request.write || t.again {
			e.judge(t, err)
			continue
		}
		t.again = true
		e.queue.putBack(t)
	}
}

// wrong handles a reply that cannot be: flight[i] is to blame for it.
func (e *endpoint) wrong(i int, err error) {
	t := e.take(i)
	e.reset()
	if !e.retry(t) {
		e.judge(t, err)
	}
	e.spill(errSpilled)
}

var errSpilled = errors.New("the connection was closed because of another request's reply")

// expired handles transactions whose time is up.
func (e *endpoint) expired() {
	now := time.Now()
	noise := e.have
	e.reset()
	for i := len(e.flight) - 1; i >= 0; i-- {
		if now.Before(e.flight[i].deadline) {
			continue
		}
		t := e.take(i)
		switch {
		case early(t, now):
			t.giveUp()
		case e.retry(t):
		default:
			e.judge(t, &silence{noise: noise})
		}
	}
	if e.line == nil {
		e.spill(errSpilled)
	}
}

// silence means that a unit did not answer in time.
type silence struct{ noise int } // bytes that came and were no reply

func (s *silence) Error() string { return "no answer" }

// retry sends a lost read anew, if the device's configuration wants that. A unit that is known to be dead is not worth it.
func (e *endpoint) retry(t *transaction) bool {
	if t.request.write || t.tries >= t.cfg.retries || e.unit(t.cfg.unit).Failing() || t.gone() {
		return false
	}
	t.tries++
	e.queue.putBack(t)
	return true
}

// broken handles the end of the line. A connection that turns out to have been closed by the peer while it was idle is
// replaced once, for reads.
func (e *endpoint) broken(err error) {
	fresh := e.have == 0 && lost(err)
	if e.have > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	e.drop()
	if e.ctx.Err() != nil {
		err = device.ErrClosed
	}
	for len(e.flight) > 0 {
		t := e.take(len(e.flight) - 1)
		if fresh && t.reused && !t.again && !t.request.write && e.ctx.Err() == nil {
			t.again = true
			e.queue.putBack(t)
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && early(t, time.Now()) {
			t.giveUp()
			continue
		}
		e.judge(t, err)
	}
}

// judge ends a transaction: it keeps count of failures and words the error.
func (e *endpoint) judge(t *transaction, err error) {
	if err != nil && e.ctx.Err() != nil {
		t.finish(device.ErrClosed)
		return
	}
	if err == nil { // apart from the rest, which allocates
		e.answered()
		e.unit(t.cfg.unit).OK()
		e.carriedOut(t)
		return
	}
	t.finish(e.verdict(t, err))
}

func (e *endpoint) verdict(t *transaction, err error) error {
	now, unit, id := time.Now(), e.unit(t.cfg.unit), t.cfg.unit
	var ex *exception
	var frame *frameError
	var dial *connectError
	var mute *silence
	switch {
	case errors.As(err, &ex) && !ex.unreachable():
		e.answered()
		unit.OK()
		return err
	case ex != nil: // a gateway that speaks for a dead unit
		e.answered()
		err = device.Unreachable("unit %d at %s: %s", id, e.name, ex)
		unit.Failed(now, err, unitBase/e.haste, unitLimit/e.haste)
	case errors.As(err, &dial):
		if err = device.Unreachable("cannot connect to %s: %s", e.name, cause(err)); !e.stream() {
			err = device.Unreachable("%s", cause(dial.err))
		}
		e.health.Failed(now, err, connectBase/e.haste, connectLimit/e.haste)
	case errors.As(err, &mute):
		err = e.mute(t, mute)
		unit.Failed(now, err, unitBase/e.haste, unitLimit/e.haste)
		if e.silent[id] = true; len(e.silent) > 1 && e.stream() { // nobody answers: it is not the unit
			e.health.Failed(now, device.Unreachable("%s accepts connections and does not answer", e.name), connectBase/e.haste, connectLimit/e.haste)
		}
	case errors.Is(err, errSpilled):
		err = device.Unreachable("%s: %s: %s; whether the device has carried it out is not known", e.name, t.request, err)
	case errors.As(err, &frame):
		err = device.Unreachable("unit %d at %s: %s", id, e.name, err)
		if e.stream() {
			err = device.Unreachable("%s: the connection was closed", err)
		}
		unit.Failed(now, err, connectBase/e.haste, unitLimit/e.haste)
	case !e.stream() && errors.Is(err, os.ErrDeadlineExceeded):
		err = device.Unreachable("%s: the request could not be sent within %v: the line is jammed, or flow control is set and nobody gives leave", e.name, t.cfg.timeout)
		e.health.Failed(now, err, connectBase/e.haste, connectLimit/e.haste)
	default:
		err = device.Unreachable("the connection to %s broke: %s", e.name, cause(err))
		e.health.Failed(now, err, connectBase/e.haste, connectLimit/e.haste)
	}
	return err
}

func (e *endpoint) answered() {
	e.replied = true
	e.health.OK()
	clear(e.silent)
}

func (e *endpoint) mute(t *transaction, s *silence) error {
	if s.noise > 0 && !e.stream() {
		return device.Unreachable("unit %d at %s sent no reply within %v, only %d bytes that are none: check baudRate, parity and wiring, and that no other device has the same slaveID",
			t.cfg.unit, e.name, t.cfg.timeout, s.noise)
	}
	return &muteError{device.Unreachable("unit %d at %s did not answer within %v", t.cfg.unit, e.name, t.cfg.timeout)}
}

// early tells that the caller's time is up, which left the unit less than its time-out.
func early(t *transaction, now time.Time) bool {
	d, ok := t.ctx.Deadline()
	return t.ctx.Err() != nil || ok && !now.Before(d.Add(-time.Millisecond))
}

// giveUp ends a transaction whose caller's time was up: that says nothing about the unit, or the line.
func (t *transaction) giveUp() { t.finish(fmt.Errorf("%s: %w", t.request, context.DeadlineExceeded)) }

// lost tells that the peer closed the connection.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// cause words an error of the network without addresses and ports of our own, which change with every attempt.
func cause(err error) string {
	var no syscall.Errno
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, errNobody):
		return err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it does not answer: check that the device is on and the address is right"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there; check ip, port and the device"
	case errors.Is(err, io.EOF):
		return "the device closed it"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the device closed it within a reply"
	case errors.As(err, &dns):
		return "the name cannot be resolved: " + dns.Err
	case errors.As(err, &op) && errors.As(err, &no):
		return no.Error()
	default:
		return err.Error()
	}
}
