package link

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// Client is the shell around a Machine: it dials, reads, writes, calls store and outbox, and keeps time. All methods are
// safe for concurrent use; Run may be called once.
type Client struct {
	opts  Options
	ready chan struct{} // holds a value when queue or the next wake-up changed

	mu    sync.Mutex
	m     *Machine
	queue []Action
	armed time.Time // wake-up that Run waits for
	// streams are those of the open session, nil if there is none, or if its relay has none.
	streams *stream.Session

	services stream.Services

	// Owned by Run's goroutine.
	conns   map[uint64]*connection
	apply   chan Apply
	outbox  chan Action
	workers sync.WaitGroup
	dialer  *dialer
}

// New returns a client. It panics if a required option is missing: that is a wiring error, not input.
func New(opts Options) *Client {
	if len(opts.Addresses) == 0 || opts.TLS == nil || opts.Node == "" || opts.Desired == nil {
		panic("link: Addresses, TLS, Node and Desired are required")
	}
	opts = opts.withDefaults()
	return &Client{
		opts:   opts,
		ready:  make(chan struct{}, 1),
		m:      NewMachine(opts, rand.Uint64()),
		conns:  map[uint64]*connection{},
		apply:  make(chan Apply, 1),  // at most one is under way
		outbox: make(chan Action, 4), // one read, and the forgetting before it
		dialer: newDialer(opts),
	}
}

// Report offers the newest body of a key. It does not block, replaces what was offered before, and keeps body, which must
// not be changed afterwards. A body equal to what the relay acknowledged last is not sent again.
func (c *Client) Report(key wire.Key, body []byte) { c.step(Reported{Key: key, Body: body}) }

// Withdraw says that nothing is to be reported about key any more.
func (c *Client) Withdraw(key wire.Key) { c.step(Withdrawn{Key: key}) }

// Status returns a snapshot.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m.Status()
}

// Run keeps a session open until ctx ends, then says goodbye to the relay and returns nil once everything it started has
// ended.
func (c *Client) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.workers.Go(func() { c.applier(work) })
	if c.opts.Outbox != nil {
		c.workers.Go(func() { c.outboxWorker(work) })
	}
	c.step(Start{})
	c.loop(ctx, work)

	c.step(Stop{Reason: "the agent shuts down"})
	c.execute(work)
	for _, conn := range c.conns {
		conn.awaitFlush(time.Second)
	}
	cancel()
	c.workers.Wait()
	return nil
}

// step feeds the machine and leaves its actions to Run.
func (c *Client) step(ev Event) {
	c.mu.Lock()
	acts := c.m.Step(ev, time.Now())
	c.queue = append(c.queue, acts...)
	wake := c.m.Wake()
	changed := len(acts) > 0 || (!wake.IsZero() && (c.armed.IsZero() || wake.Before(c.armed)))
	c.mu.Unlock()
	if changed {
		select {
		case c.ready <- struct{}{}:
		default:
		}
	}
}

// roundAtLeast is how often the loop goes round if its life is watched.
const roundAtLeast = 15 * time.Second

func (c *Client) loop(ctx, work context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var notify <-chan struct{}
	if n, ok := c.opts.Outbox.(OutboxNotifier); ok {
		notify = n.C()
	}
	for {
		c.execute(work)
		wait := time.Hour
		c.mu.Lock()
		c.armed = c.m.Wake()
		if !c.armed.IsZero() {
			wait = time.Until(c.armed)
		}
		c.mu.Unlock()
		if c.opts.Alive != nil { // what has been done until here is the sign of life: actions are handed out, the lock could be had
			c.opts.Alive()
			wait = min(wait, roundAtLeast)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return
		case <-c.ready:
		case <-notify:
			c.step(OutboxChanged{})
		case <-timer.C:
			c.step(Tick{})
		}
	}
}

// execute carries out what is queued. Nothing here blocks: whatever may is handed to a goroutine.
func (c *Client) execute(work context.Context) {
	c.mu.Lock()
	acts := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, a := range acts {
		switch t := a.(type) {
		case Dial:
			conn := newConnection(c, t.Conn)
			c.conns[t.Conn] = conn
			c.workers.Go(func() { conn.run(work, t.To) })
		case Send:
			if conn := c.conns[t.Conn]; conn != nil {
				conn.send(t.Frame)
			}
		case Hangup:
			if conn := c.conns[t.Conn]; conn != nil {
				conn.hangup()
				c.endStreams(conn, t.Why)
			}
		case StreamsUp:
			if conn := c.conns[t.Conn]; conn != nil {
				c.beginStreams(conn, t)
			}
		case Streamed:
			if conn := c.conns[t.Conn]; conn != nil {
				conn.received(t.Frame)
			}
		case Apply:
			c.apply <- t
		case ReadOutbox, ForgetOutbox:
			c.outbox <- t
		case Note:
			if t.Warn {
				c.opts.Log.Warn(t.Text, "node", c.opts.Node)
			} else {
				c.opts.Log.Info(t.Text, "node", c.opts.Node)
			}
		}
	}
	for n, conn := range c.conns {
		if conn.ended() && !conn.hasStreams() { // the hang-up that ends those is still to come
			delete(c.conns, n)
		}
	}
}

func (c *Client) applier(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-c.apply:
			err := c.opts.Desired.Apply(ctx, a.Commit)
			c.step(Applied{Conn: a.Conn, ID: a.Commit.ID, Err: err})
		}
	}
}

func (c *Client) outboxWorker(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-c.outbox:
			switch t := a.(type) {
			case ReadOutbox:
				c.step(OutboxRead{Conn: t.Conn, Items: c.opts.Outbox.Pending(0, t.Limit)})
			case ForgetOutbox:
				c.forget(ctx, t)
			}
		}
	}
}

// forget acknowledges items. If the store cannot, the same items come again: the pause keeps that from becoming a busy loop.
func (c *Client) forget(ctx context.Context, f ForgetOutbox) {
	err := c.opts.Outbox.Ack(f.Epoch, f.Seq)
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	c.opts.Log.Warn("the outbox did not take an acknowledgement, its items will be sent again", "node", c.opts.Node, "err", err)
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

func (c *Client) countSent(size int) {
	c.mu.Lock()
	c.m.st.BytesSent += uint64(size)
	c.mu.Unlock()
}
