package stream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Options describes a Session. Peer, Config.Peer and Send are required.
type Options struct {
	Config             // Serves is Services'
	Name     string    // of this side, for addresses
	PeerName string    // of the other
	Services *Services // that take the peer's streams; nil: none
	// Send is called, with no lock held, when Next may have a frame. It does not block.
	Send func()
	// Refused is told, with no lock held, of streams that the peer did not get. It does not block. May be nil.
	Refused func(Refusal)
}

// Session is the shell around a Mux: it makes net.Conns of its streams. All methods are safe for concurrent use. It has no
// goroutines; End releases what it holds.
type Session struct {
	opts Options

	mu    sync.Mutex
	mux   *Mux
	timer *time.Timer
	wake  time.Time // that timer is set to
}

// NewSession returns a session without streams.
func NewSession(opts Options) *Session {
	if opts.Services == nil {
		opts.Services = new(Services)
	}
	opts.Config.Serves = opts.Services.serves
	return &Session{opts: opts, mux: NewMux(opts.Config)}
}

// Dial opens a stream to a service of the peer, and waits for its answer.
func (s *Session) Dial(ctx context.Context, service string) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	st, err := s.mux.Dial(service)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	c := newConn(s, st)
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	defer s.leave()
	s.rouse()
	for {
		open, err := st.Opened()
		switch {
		case err != nil:
			return nil, err
		case open:
			return c, nil
		case ctx.Err() != nil:
			st.Reset(wire.ResetCancelled, "the caller did not wait for the answer")
			return nil, ctx.Err()
		}
		c.changed.Wait()
	}
}

// rouse has what there is sent while a caller, who holds mu, goes on waiting.
func (s *Session) rouse() {
	if !s.mux.Pending(time.Now()) {
		return
	}
	s.mu.Unlock()
	s.opts.Send()
	s.mu.Lock()
}

// leave unlocks mu after anything was done, and has what came of it sent.
func (s *Session) leave() {
	now := time.Now()
	send := s.mux.Pending(now)
	s.arm(now)
	s.mu.Unlock()
	if send {
		s.opts.Send()
	}
}

// arm sets the timer to when the Mux wants it. The caller holds mu.
func (s *Session) arm(now time.Time) {
	at := s.mux.Wake()
	if at.Equal(s.wake) {
		return
	}
	s.wake = at
	if s.timer != nil {
		s.timer.Stop()
	}
	if !at.IsZero() {
		s.timer = time.AfterFunc(at.Sub(now), s.tick)
	}
}

func (s *Session) tick() {
	s.mu.Lock()
	s.wake = time.Time{}
	s.mux.Tick(time.Now())
	s.leave()
}

// Receive takes a frame from the peer. After an error, which is a *Violation, the session is to be ended.
func (s *Session) Receive(f wire.StreamFrame) error {
	s.mu.Lock()
	out, err := s.mux.Receive(f, time.Now())
	var c *Conn
	if out.Opened != nil {
		c = newConn(s, out.Opened)
	}
	s.leave()
	if c != nil {
		s.opts.Services.deliver(c)
	}
	if out.Refused != nil && s.opts.Refused != nil {
		s.opts.Refused(*out.Refused)
	}
	return err
}

// Next returns the next frame to send, nil if there is none now.
func (s *Session) Next() wire.StreamFrame {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	f := s.mux.Next(now)
	s.arm(now)
	return f
}

// Leave refuses new streams from now on, in both directions.
func (s *Session) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mux.Leave()
}

// End ends all streams because the session has; why says how.
func (s *Session) End(why error) {
	if why == nil {
		why = errors.New("it was closed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mux.End(why)
	s.arm(time.Now())
}

// Stats returns the counters so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mux.Stats()
}

var _ net.Conn = (*Conn)(nil)
