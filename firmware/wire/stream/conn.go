package stream

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Conn is a stream as a net.Conn. All methods are safe for concurrent use. Whoever gets one closes it.
type Conn struct {
	s       *Session
	st      *Stream
	changed sync.Cond // of s.mu

	reading, writing deadline
	writer           sync.Mutex // Writes do not mix; before s.mu
}

// deadline is one of a Conn's. Guarded by Session.mu.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newConn(s *Session, st *Stream) *Conn {
	c := &Conn{s: s, st: st}
	c.changed.L = &s.mu
	st.Changed = c.changed.Broadcast
	return c
}

// Read implements net.Conn. It gives io.EOF after the last byte of a peer that ended its side in order, a *ResetError if it did not,
// and an error that wraps ErrSessionEnded if the session is over and not everything had come.
func (c *Conn) Read(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.leave()
	for {
		if c.reading.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := c.st.Read(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, closedError(err)
		}
		c.changed.Wait()
	}
}

// Write implements net.Conn. It returns when the stream has taken all of p, at most 32 KiB of which wait to be sent then.
func (c *Conn) Write(p []byte) (total int, err error) {
	c.writer.Lock()
	defer c.writer.Unlock()
	c.s.mu.Lock()
	defer c.s.leave()
	for {
		if c.writing.passed() {
			return total, os.ErrDeadlineExceeded
		}
		n, err := c.st.Write(p[total:])
		if total += n; err != nil || total == len(p) {
			return total, closedError(err)
		}
		if n > 0 {
			c.s.rouse() // what this changes is seen below, before it is waited for
			continue
		}
		c.changed.Wait()
	}
}

// closedError gives what net.Conns give after Close.
func closedError(err error) error {
	if err == io.ErrClosedPipe { //nolint:errorlint // Stream returns it bare
		return net.ErrClosed
	}
	return err
}

// CloseWrite ends this side's direction: the peer reads io.EOF after what was written.
func (c *Conn) CloseWrite() error {
	c.s.mu.Lock()
	defer c.s.leave()
	c.st.CloseWrite()
	return nil
}

// Close implements net.Conn. What was written is still sent, for a while; what has come and was not read is dropped.
func (c *Conn) Close() error {
	c.s.mu.Lock()
	defer c.s.leave()
	c.reading.set(time.Time{}, nil)
	c.writing.set(time.Time{}, nil)
	c.st.Close(time.Now())
	return nil
}

// Reset ends both directions at once: reads and writes fail on both sides, at the peer with the reason. Close is still to be called.
func (c *Conn) Reset(reason string) {
	c.s.mu.Lock()
	defer c.s.leave()
	c.st.Reset(wire.ResetFailed, reason)
}

// Service is what the stream was opened to.
func (c *Conn) Service() string { return c.st.Service() }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return Addr(c.s.opts.Name) }

// RemoteAddr implements net.Conn. At a relay it is the node's name, as its certificate says.
func (c *Conn) RemoteAddr() net.Addr { return Addr(c.s.opts.PeerName) }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.reading.set(t, c)
	c.writing.set(t, c)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.reading.set(t, c)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.writing.set(t, c)
	return nil
}

// set moves the deadline. The caller holds the session's lock; c is told when it passes.
func (d *deadline) set(t time.Time, c *Conn) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; c == nil || c.st.closed {
		return
	}
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			c.s.mu.Lock()
			defer c.s.mu.Unlock()
			c.changed.Broadcast()
		})
	}
	c.changed.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
