package link

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// connection is one socket and the goroutine that reads it; another one writes. send and hangup do not block: what the
// machine sends is bounded by its windows.
type connection struct {
	c      *Client
	number uint64

	mu      sync.Mutex
	out     []wire.Frame
	closing bool
	streams *stream.Session // from the relay's welcome on
	more    chan struct{}   // holds a value when out or closing changed, or streams have something to send
	flushed chan struct{}   // closed when the writer has ended
	done    chan struct{}   // closed when run has returned
	cancel  context.CancelFunc
}

func newConnection(c *Client, number uint64) *connection {
	return &connection{
		c: c, number: number,
		more: make(chan struct{}, 1), flushed: make(chan struct{}), done: make(chan struct{}),
		cancel: func() {},
	}
}

func (n *connection) signal() {
	select {
	case n.more <- struct{}{}:
	default:
	}
}

func (n *connection) send(f wire.Frame) {
	n.mu.Lock()
	n.out = append(n.out, f)
	n.mu.Unlock()
	n.signal()
}

// hangup closes the connection after what was sent before; a dial under way is given up.
func (n *connection) hangup() {
	n.mu.Lock()
	n.closing = true
	cancel := n.cancel
	n.mu.Unlock()
	cancel()
	n.signal()
}

func (n *connection) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

func (n *connection) awaitFlush(limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-n.done:
	case <-n.flushed:
	case <-t.C:
	}
}

// run dials, then reads until the connection ends.
func (n *connection) run(ctx context.Context, address string) {
	defer close(n.done)
	dialCtx, cancel := context.WithTimeout(ctx, n.c.opts.DialTimeout)
	n.mu.Lock()
	n.cancel = cancel
	closing := n.closing
	n.mu.Unlock()
	defer cancel()
	if closing {
		return
	}
	ws, failure := n.c.dialer.dial(dialCtx, address)
	if failure != nil {
		n.c.step(Lost{Conn: n.number, Err: failure.err, RetryAfter: failure.retryAfter})
		return
	}
	readCtx, stop := context.WithCancel(ctx)
	n.mu.Lock()
	n.cancel = func() {} // from here on a hang-up lets the writer flush
	n.mu.Unlock()
	var writer sync.WaitGroup
	writer.Go(func() {
		defer stop()
		defer close(n.flushed)
		n.write(ctx, ws)
	})
	n.c.step(Opened{Conn: n.number})
	err := n.read(readCtx, ws)
	n.c.step(Lost{Conn: n.number, Err: explainLoss(address, err)})
	n.hangup()
	_ = ws.CloseNow() // unblocks a write under way
	writer.Wait()
}

// keepRead is the largest buffer that is kept for the next message, bytes: what messages take that come often.
const keepRead = 8 << 10

func (n *connection) read(ctx context.Context, ws *websocket.Conn) error {
	var buf []byte
	for {
		b, err := n.readOne(ctx, ws, buf)
		if err != nil {
			return err
		}
		if buf = b; cap(b) > keepRead {
			buf = nil
		}
		f, err := wire.Decode(b) // copies what it keeps
		if err != nil {
			return err
		}
		if f != nil {
			n.trace(ctx, f)
			n.c.step(Received{Conn: n.number, Frame: f, Size: len(b)})
		}
	}
}

// readOne returns the next message, in buf if that is large enough, and tells the machine of each stride of one that comes slowly.
func (n *connection) readOne(ctx context.Context, ws *websocket.Conn, buf []byte) ([]byte, error) {
	_, r, err := ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	var pace wire.Pace
	b := buf[:0]
	if b == nil {
		b = make([]byte, 0, 512)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		got, err := r.Read(b[len(b):min(cap(b), len(b)+pace.Missing())]) // it waits until this is full
		b = b[:len(b)+got]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if pace.Got(got, time.Now()) {
			n.c.step(Heard{Conn: n.number})
		}
	}
}

// write sends what is queued until a hang-up, or until a write fails. A frame of a stream goes only when nothing else waits.
func (n *connection) write(ctx context.Context, ws *websocket.Conn) {
	var buf []byte
	for {
		n.mu.Lock()
		frames, closing, streams := n.out, n.closing, n.streams
		n.out = nil
		n.mu.Unlock()
		if len(frames) == 0 && !closing && streams != nil {
			if f := streams.Next(); f != nil {
				size, err := n.writeFrame(ctx, ws, &buf, f)
				if err != nil {
					return
				}
				n.c.step(StreamSent{Conn: n.number, Size: size})
				continue
			}
		}
		for _, f := range frames {
			size, err := n.writeFrame(ctx, ws, &buf, f)
			if err != nil {
				return // the reader learns it too, and reports the loss
			}
			n.trace(ctx, f)
			n.c.countSent(size)
		}
		if cap(buf) > 128<<10 {
			buf = nil
		}
		if closing {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-n.more:
		}
	}
}

// writeFrame encodes a frame into buf and sends it.
func (n *connection) writeFrame(ctx context.Context, ws *websocket.Conn, buf *[]byte, f wire.Frame) (size int, err error) {
	if *buf, err = wire.Append((*buf)[:0], f); err != nil {
		n.c.opts.Log.Error("a frame could not be encoded", "err", err)
		return 0, err
	}
	return len(*buf), n.writeOne(ctx, ws, *buf)
}

// writeOne sends one message. The relay may take as long as it likes for all of it, but no longer than two heartbeats for a stride.
func (n *connection) writeOne(ctx context.Context, ws *websocket.Conn, b []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := 2 * n.c.opts.Heartbeat
	timer := time.AfterFunc(patience, cancel)
	defer timer.Stop()
	if len(b) <= wire.Stride {
		return ws.Write(ctx, websocket.MessageBinary, b)
	}
	w, err := ws.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(b, wire.Stride) { // each is a fragment of its own
		if _, err := w.Write(part); err != nil {
			return err
		}
		timer.Reset(patience)
	}
	return w.Close()
}
