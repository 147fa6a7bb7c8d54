package serial

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
)

// listen waits for what devices send by themselves, and does what is to be done between exchanges. It returns when there is an
// exchange, or something else to look at.
func (p *port) listen() {
	wanted := false
	for _, s := range p.members() {
		wanted = wanted || s.wantsLine()
	}
	if !wanted {
		p.waitWake(0)
		return
	}
	line, err := p.open()
	if err != nil {
		p.waitWake(max(time.Until(p.keeper.RetryAt()), time.Millisecond))
		return
	}
	var until time.Time
	for _, s := range p.members() {
		if !s.wantsLine() {
			continue
		}
		if err := p.prepare(line, s); err != nil {
			p.drop(err)
			return
		}
		until = earlier(until, p.chores(line, s))
	}
	data, err := p.read(line, until, nil)
	switch {
	case err != nil:
		p.drop(err)
	default:
		p.feed(data, nil)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// prepare sends a device's init strings if the line was opened since they were last sent.
func (p *port) prepare(line serialline.Line, s *session) error {
	if s.prepared == p.keeper.Opened() {
		return nil
	}
	s.prepared = p.keeper.Opened()
	s.listener.Reset()
	s.keepAt = time.Now().Add(s.config.keepEvery)
	for _, t := range s.config.init {
		if err := p.tell(line, s, t); err != nil {
			return err
		}
		if s.config.initDelay > 0 && !p.sleep(s.config.initDelay) {
			return nil
		}
	}
	return nil
}

// tell sends something to which no reply is awaited.
func (p *port) tell(line serialline.Line, s *session, t *template) error {
	data, err := t.expand(s.config.station, noValue)
	if err != nil {
		return fmt.Errorf("%q cannot be sent: %w", t.source, err) // parseConfig has tried it
	}
	err = p.write(line, data, s.config.timeout)
	if errors.Is(err, serialline.ErrEcho) {
		return nil // somebody else was talking; the next one may do better
	}
	return err
}

// chores does what is due for a device between exchanges, and returns when the next thing is.
func (p *port) chores(line serialline.Line, s *session) time.Time {
	now := time.Now()
	var next time.Time
	if s.listener.Begun() {
		if end := p.heard.Add(s.config.gap); now.Before(end) {
			next = end
		} else {
			s.listener.Silence(s.received)
		}
	}
	if s.config.keepAlive != nil {
		if !now.Before(s.keepAt) {
			s.keepAt = now.Add(s.config.keepEvery)
			// A line that is gone says so in the read that follows.
			_ = p.tell(line, s, s.config.keepAlive)
		}
		next = earlier(next, s.keepAt)
	}
	return next
}

// feed gives bytes to all devices that listen, and to the exchange under way.
func (p *port) feed(data []byte, x *exchange) {
	if len(data) == 0 {
		return
	}
	for _, s := range p.members() {
		if s.listening() {
			s.listener.Push(data, s.received)
			s.watch.count(s.listener.Stats())
		}
	}
	if x != nil {
		x.session.replies.Push(data, x.frame)
	}
}
