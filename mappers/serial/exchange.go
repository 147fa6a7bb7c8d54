package serial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial/frame"
	"github.com/skerry/skerry/mappers/serialline"
)

// Back-off of a device that does not answer: each probe costs its neighbours on the line a time-out.
const (
	healthBase  = time.Second
	healthLimit = 30 * time.Second
)

// exchange is something to send, and the frames that answer it. It belongs to the port's owner until done has been sent to.
type exchange struct {
	ctx     context.Context // the caller's: an exchange nobody waits for any more is not begun, and not waited for
	session *session
	data    []byte
	urgent  bool
	retries int
	// take is given each frame that passes the device's filter, and returns whether it was of use, and whether it was the last one wanted; nil if no reply is awaited.
	take func(m *message) (useful, last bool)
	done chan error // buffered

	finished bool
	partial  bool   // some of what was wanted has come
	frames   int    // that came
	last     string // the last one, for the message of an error
	before   frame.Stats
}

// frame is called for every frame while the exchange is under way.
func (x *exchange) frame(payload []byte) {
	if x.finished {
		return
	}
	x.frames++
	m := &message{raw: x.session.trim(payload)}
	if !x.session.filter.passes(m) {
		x.last = visible(m.raw)
		return
	}
	useful, last := x.take(m)
	x.partial, x.finished = x.partial || useful, last
	if !last {
		x.last = visible(m.raw)
	}
}

// do hands an exchange to the owner and waits for its end.
func (s *session) do(ctx context.Context, x *exchange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(device.ErrClosed) })()
	// The owner may be in a read that would not end before its time-out.
	defer context.AfterFunc(ctx, s.port.poke)()
	x.ctx, x.session, x.done = ctx, s, make(chan error, 1)
	s.port.push(x)
	select {
	case err := <-x.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.port.done:
		return device.ErrClosed
	}
}

// serve carries out an exchange, unless its device is in back-off.
func (p *port) serve(x *exchange) error {
	s := x.session
	if err := s.health.Blocked(time.Now()); err != nil {
		return err
	}
	var err error
	for try := 0; try <= x.retries; try++ {
		var line serialline.Line
		if line, err = p.open(); err != nil {
			return device.Unreachable("%v", err)
		}
		if err = p.attempt(line, x); err == nil {
			s.health.OK()
			return nil
		}
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		if x.frames > 0 && errors.Is(err, errSilent) {
			break // it answers; asking again would bring the same
		}
		if !errors.Is(err, errSilent) && !errors.Is(err, serialline.ErrEcho) {
			p.drop(err)
			return device.Unreachable("%v", err)
		}
	}
	if errors.Is(err, errSilent) {
		err = x.silence()
	} else {
		err = device.Unreachable("%v", err)
	}
	if x.frames == 0 {
		s.health.Failed(time.Now(), err, healthBase, healthLimit)
	} else {
		s.health.OK()
	}
	return err
}

// errSilent means that the wanted reply did not come in time.
var errSilent = errors.New("no reply")

// silence words why there is no reply. What came instead is the best help there is.
func (x *exchange) silence() error {
	s := x.session
	now := s.replies.Stats()
	bad, long, junk := now.Checksum-x.before.Checksum, now.TooLong-x.before.TooLong, now.Garbage-x.before.Garbage
	switch {
	case x.frames > 0:
		return fmt.Errorf("%w: the device on %s sent %s, which is not what was asked for", errOddReply, s.port.name, x.last)
	case bad > 0:
		return device.Unreachable("the device on %s answers with a wrong checksum: check checksum, baudRate and parity", s.port.name)
	case long > 0:
		return device.Unreachable("the device on %s answers with frames longer than maxFrame: check framing and baudRate", s.port.name)
	case junk > 0:
		return device.Unreachable("the device on %s answers with bytes that are no frame: check framing, baudRate and parity", s.port.name)
	default:
		return device.Unreachable("the device on %s did not answer within %v: check that it is on, its wiring, baudRate, and what it expects as request", s.port.name, s.config.timeout)
	}
}

// errOddReply means that the device answers, but not this.
var errOddReply = errors.New("no usable reply")

// attempt sends and waits for the reply once.
func (p *port) attempt(line serialline.Line, x *exchange) error {
	s := x.session
	if err := p.prepare(line, s); err != nil {
		return err
	}
	if !p.settle(line, x) {
		return p.ended(x)
	}
	if err := p.clear(line, x); err != nil {
		return err
	}
	s.replies.Reset()
	x.before, x.frames, x.finished, x.partial = s.replies.Stats(), 0, false, false
	defer func() { p.idleAt = time.Now() }()
	if err := p.write(line, x.data, s.config.timeout); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the port %s does not send: does flow control (CTS) block it?: %w", p.name, serialline.ErrGone)
		}
		return err
	}
	if x.take == nil {
		return nil
	}
	return p.await(line, x, time.Now().Add(s.config.timeout))
}

// ended says why an exchange was given up: it is never nil, because what was not sent must not be taken for done.
func (p *port) ended(x *exchange) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	return device.ErrClosed
}

// settle keeps the pause before a request, and waits for a late reply that would be taken for the one to this request.
func (p *port) settle(line serialline.Line, x *exchange) bool {
	until := p.idleAt.Add(x.session.config.requestGap)
	if p.owedUntil.After(until) {
		until = p.owedUntil
	}
	for x.ctx.Err() == nil && p.ctx.Err() == nil && time.Now().Before(until) {
		data, err := p.read(line, until, x.ctx)
		if err != nil {
			return true // the request will say so
		}
		p.feed(data, nil)
	}
	p.owedUntil = time.Time{}
	return x.ctx.Err() == nil && p.ctx.Err() == nil
}

// clear throws away what came before the request. If a device on the line talks by itself, what it sent is read instead.
func (p *port) clear(line serialline.Line, x *exchange) error {
	if !slices.ContainsFunc(p.members(), (*session).listening) {
		_, err := line.Discard()
		return err
	}
	for range 8 { // as much as the kernel keeps
		data, err := p.read(line, time.Now().Add(time.Millisecond), x.ctx)
		if err != nil || len(data) == 0 {
			return err
		}
		p.feed(data, nil)
	}
	return nil
}

// moreWithin is how long after a useful frame another one of the same reply may come. Without it, a property that no reply ever has
// would keep the line waiting for a whole time-out at every reading.
const moreWithin = 200 * time.Millisecond

// await reads until the reply is complete.
func (p *port) await(line serialline.Line, x *exchange, deadline time.Time) error {
	s := x.session
	for {
		until := deadline
		if s.replies.Begun() {
			until = earlier(until, p.heard.Add(s.config.gap))
		}
		if x.partial {
			until = earlier(until, p.heard.Add(moreWithin))
		}
		data, err := p.read(line, until, x.ctx)
		if err != nil {
			return err
		}
		p.feed(data, x)
		now := time.Now()
		if s.replies.Begun() && !now.Before(p.heard.Add(s.config.gap)) {
			s.replies.Silence(x.frame)
		}
		switch {
		case x.finished:
			return nil
		case p.ctx.Err() != nil:
			return device.ErrClosed
		case x.ctx.Err() != nil:
			p.owedUntil = deadline
			return context.Cause(x.ctx)
		case !now.Before(deadline), x.partial && now.Sub(p.heard) >= moreWithin:
			return errSilent
		}
	}
}
