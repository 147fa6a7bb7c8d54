package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits of what a connection owes and is owed.
const (
	helloWithin  = 10 * time.Second // from the connection to the whole CONNECT
	stallAfter   = 10 * time.Second // a peer that takes nothing for so long is gone
	lingerAtMost = time.Second      // for the last words
	bufferAbout  = 32 << 10         // bytes on their way to a peer; writers wait above it
	writeChunk   = 8 << 10
)

// conn is a client's connection. mochi writes to it with a lock held that publishers need, too, so Write never blocks: it appends to a buffer that a
// goroutine of its own empties, and awaitRoom, which the broker calls before that lock is taken, is where a peer that does not read holds up its own messages.
type conn struct {
	net.Conn
	broker *Broker
	from   origin
	gate   gate // of the goroutine that reads
	paces  *rate.Limiter

	identity    atomic.Pointer[Identity]
	subscribing uint16       // of the goroutine that reads: the number of a SUBSCRIBE that stands aside for a message's
	session     string       // its client identifier, once the identity is known
	queued      atomic.Int64 // bytes of messages that wait for the peer, about
	known       func()       // he has proved who he is
	published   func()       // of the goroutine that reads: what it publishes has been handed out

	mu      sync.Mutex
	changed sync.Cond // of mu: pending shrank, or closing
	pending []byte
	writing bool
	closing bool
	linger  time.Time
}

// origin is where a connection comes from.
type origin struct {
	listener string
	source   string // who it is counted by: an address, or "unix"
	local    bool   // a Unix socket, or loopback
	names    []string
}

func newConn(b *Broker, c net.Conn, from origin, known func()) *conn {
	x := &conn{Conn: c, broker: b, from: from, known: known}
	x.changed.L = &x.mu
	r := rate.Limit(b.opt.Limits.MessagesPerSecond)
	x.paces = rate.NewLimiter(r, 2*b.opt.Limits.MessagesPerSecond)
	return x
}

// RemoteAddr names the source.
func (c *conn) RemoteAddr() net.Addr { return sourceAddr(c.from.source) }

type sourceAddr string

func (sourceAddr) Network() string  { return "mqtt" }
func (a sourceAddr) String() string { return string(a) }

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.gate.open {
		if err := c.gate.pass(p[:n]); err != nil {
			c.broker.stats.refused.gate.Add(1)
			return 0, err
		}
	}
	return n, err
}

// SetDeadline is what mochi sets from the keep-alive: it is for reading. Writing has limits of its own.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return 0, net.ErrClosed
	}
	c.pending = append(c.pending, p...)
	if !c.writing {
		c.writing = true
		c.broker.running.Go(c.drain)
	}
	return len(p), nil
}

// queue counts size bytes more, or less, that wait; false: they would be more than most.
func (c *conn) queue(size, most int) bool {
	if size > 0 {
		if c.queued.Add(int64(size)) > int64(most) {
			c.queued.Add(-int64(size))
			return false
		}
		return true
	}
	if c.queued.Add(int64(size)) < 0 {
		c.queued.Store(0) // what was retained was not counted
	}
	return true
}

// awaitRoom returns when something more may be written.
func (c *conn) awaitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) > bufferAbout && !c.closing {
		c.changed.Wait()
	}
}

// drain writes what is pending.
func (c *conn) drain() {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 {
			c.writing, c.pending = false, nil
			closing := c.closing
			c.mu.Unlock()
			if closing {
				_ = c.Conn.Close()
			}
			return
		}
		chunk := c.pending[:min(len(c.pending), writeChunk)]
		until := time.Now().Add(stallAfter)
		if c.closing {
			until = c.linger
		}
		c.mu.Unlock()
		err := c.Conn.SetWriteDeadline(until)
		if err == nil {
			_, err = c.Conn.Write(chunk) // others only append behind it
		}
		c.mu.Lock()
		c.pending = c.pending[len(chunk):]
		if err != nil {
			if !c.closing {
				c.broker.stats.stalled.Add(1)
			}
			c.pending, c.closing, c.writing = nil, true, false
			c.changed.Broadcast()
			c.mu.Unlock()
			_ = c.Conn.Close()
			return
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// Close ends the connection, after what is pending was written if the peer takes it soon.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return nil
	}
	c.closing, c.linger = true, time.Now().Add(lingerAtMost)
	c.changed.Broadcast()
	writing := c.writing
	c.mu.Unlock()
	if !writing {
		return c.Conn.Close()
	}
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // whoever reads returns at once
	return c.Conn.SetWriteDeadline(c.linger)
}
