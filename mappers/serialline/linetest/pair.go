package linetest

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
)

// End is one end of a line without system calls. A byte that is written arrives when its last bit would: Write takes as long as the
// characters do. It is a serialline.Line.
type End struct {
	cfg  serialline.Config
	in   *wire
	out  *wire
	mu   sync.Mutex
	dead time.Time
	kick chan struct{} // closed and replaced whenever the deadline changes
}

var _ serialline.Line = (*End)(nil)

// wire carries bytes in one direction.
type wire struct {
	mu     sync.Mutex
	buf    []arrival
	closed bool
	news   chan struct{} // closed and replaced whenever something changes
	free   time.Time     // when the last byte has left
}

type arrival struct {
	b  byte
	at time.Time
}

// Pair connects two ends of a line with cfg's speed.
func Pair(cfg serialline.Config) (a, b *End) {
	x, y := &wire{news: make(chan struct{})}, &wire{news: make(chan struct{})}
	return &End{cfg: cfg, in: x, out: y, kick: make(chan struct{})}, &End{cfg: cfg, in: y, out: x, kick: make(chan struct{})}
}

func (w *wire) changed() {
	close(w.news)
	w.news = make(chan struct{})
}

// SetDeadline implements serialline.Line.
func (e *End) SetDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dead = t
	close(e.kick)
	e.kick = make(chan struct{})
	return nil
}

func (e *End) deadline() (time.Time, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dead, e.kick
}

// Read implements serialline.Line: it returns all bytes that have arrived.
func (e *End) Read(p []byte) (int, error) {
	for {
		n, next, news, closed := e.in.take(p)
		dead, kick := e.deadline()
		now := time.Now()
		switch {
		case n > 0:
			return n, nil
		case !dead.IsZero() && !now.Before(dead):
			return 0, os.ErrDeadlineExceeded
		case closed && next.IsZero():
			return 0, fmt.Errorf("test line: %w", serialline.ErrGone)
		}
		if next.IsZero() || !dead.IsZero() && dead.Before(next) {
			next = dead
		}
		wait(next, news, kick)
	}
}

// take returns what has arrived, when the next byte does, and what to wait for.
func (w *wire) take(p []byte) (n int, next time.Time, news <-chan struct{}, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for n < len(p) && n < len(w.buf) && !w.buf[n].at.After(now) {
		p[n] = w.buf[n].b
		n++
	}
	w.buf = w.buf[n:]
	if len(w.buf) > 0 {
		next = w.buf[0].at
	}
	return n, next, w.news, w.closed
}

// wait waits until a time (zero: for ever) or for either channel.
func wait(until time.Time, a, b <-chan struct{}) {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-a:
	case <-b:
	}
}

// Write implements serialline.Line.
func (e *End) Write(p []byte) (int, error) {
	char := e.cfg.CharTime(1)
	e.out.mu.Lock()
	if e.out.closed {
		e.out.mu.Unlock()
		return 0, fmt.Errorf("test line: %w", serialline.ErrGone)
	}
	at := e.out.free
	if now := time.Now(); at.Before(now) {
		at = now
	}
	for _, b := range p {
		at = at.Add(char)
		e.out.buf = append(e.out.buf, arrival{b: b, at: at})
	}
	e.out.free = at
	e.out.changed()
	e.out.mu.Unlock()
	for {
		dead, kick := e.deadline()
		now := time.Now()
		switch {
		case !now.Before(at):
			return len(p), nil
		case !dead.IsZero() && !now.Before(dead):
			return len(p), os.ErrDeadlineExceeded
		}
		until := at
		if !dead.IsZero() && dead.Before(at) {
			until = dead
		}
		wait(until, kick, nil)
	}
}

// Discard implements serialline.Line.
func (e *End) Discard() (int, error) {
	var junk [256]byte
	total := 0
	for {
		n, _, _, _ := e.in.take(junk[:])
		if n == 0 {
			return total, nil
		}
		total += n
	}
}

// Close implements serialline.Line: both ends are gone.
func (e *End) Close() error {
	for _, w := range []*wire{e.in, e.out} {
		w.mu.Lock()
		if !w.closed {
			w.closed = true
			w.changed()
		}
		w.mu.Unlock()
	}
	return nil
}
