package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Errors of Read. The peer has not been told: the owner says why in its own words, calls Close and then Discard.
var (
	ErrTooBig   = errors.New("the message is larger than the limit")
	ErrProtocol = errors.New("WebSocket protocol error")
)

// maxFragments bounds the frames of one message: a message may have any number of them, and nothing in them.
const maxFragments = 1024

// first is how much is taken for a message before any of it has come, bytes. A declared length alone costs no more.
const first = 4 << 10

// Wait blocks until the next frame begins, and holds no buffer meanwhile.
func (c *Conn) Wait() error {
	if c.have > 0 {
		return nil
	}
	if c.raw != nil && c.raw.Len() == 0 && c.raw.Cap() > keptInput {
		*c.raw = bytes.Buffer{} // it has grown with a large record
	}
	n, err := c.readRaw(c.head[:1])
	c.have = uint8(n)
	if n > 0 {
		return nil
	}
	return err
}

func (c *Conn) readRaw(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.nc.Read(p)
}

func (c *Conn) readFull(p []byte) error {
	for len(p) > 0 {
		n, err := c.readRaw(p)
		if p = p[n:]; err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// header is that of one frame.
type header struct {
	final  bool
	op     byte
	length int
	mask   [4]byte
}

func (c *Conn) header() (h header, err error) {
	from := int(c.have)
	c.have = 0
	if from < 2 {
		if err := c.readFull(c.head[from:2]); err != nil {
			return h, err
		}
	}
	h.final, h.op = c.head[0]&final != 0, c.head[0]&0x0f
	if c.head[0]&0x70 != 0 {
		return h, violation("reserved bits are set")
	}
	if c.head[1]&masked == 0 {
		return h, violation("a client masks its frames")
	}
	more := 4
	switch c.head[1] &^ masked {
	case 126:
		more += 2
	case 127:
		more += 8
	}
	if err := c.readFull(c.head[2 : 2+more]); err != nil {
		return h, err
	}
	length := uint64(c.head[1] &^ masked)
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(c.head[2:]))
	case 127:
		length = binary.BigEndian.Uint64(c.head[2:])
	}
	copy(h.mask[:], c.head[more-2:])
	if h.op >= opClose && (length > maxCtrl || !h.final) {
		return h, violation("a control frame is longer than 125 bytes or fragmented")
	}
	h.length = int(min(length, math.MaxInt32)) // more than any limit
	return h, nil
}

// Listener is told while a large message comes slowly; see wire.Pace.
type Listener interface{ Heard() }

// listening counts what has come of one message.
type listening struct {
	to   Listener // nil if nobody wants to know
	pace wire.Pace
}

func (l *listening) got(n int) {
	if l.to != nil && l.pace.Got(n, time.Now()) {
		l.to.Heard()
	}
}

// Read appends the next message to b. A close frame is answered and returned as a *CloseError. After an error nothing more can be
// read but by Discard. listener, which may be nil, is called by Read itself.
func (c *Conn) Read(b []byte, listener Listener) ([]byte, error) {
	start := len(b)
	var l listening
	for fragments := 0; ; fragments++ {
		h, err := c.header()
		if err != nil {
			return b, err
		}
		switch begun := fragments > 0; {
		case h.op >= opClose:
			return b, c.control(h)
		case h.op == opText:
			return b, violation("a text message: messages are binary")
		case begun != (h.op == opContinuation) || h.op > opBinary:
			return b, violation(fmt.Sprintf("a frame of type %d is out of place", h.op))
		case fragments > maxFragments:
			return b, violation(fmt.Sprintf("a message of more than %d frames", maxFragments))
		}
		if c.limit-(len(b)-start) < h.length {
			return b, fmt.Errorf("%w of %d bytes", ErrTooBig, c.limit)
		}
		if !h.final || h.length > wire.Stride {
			l.to = listener
		}
		if b, err = c.payload(b, h, &l); err != nil {
			return b, err
		}
		if h.final {
			return b, nil
		}
	}
}

// payload appends a frame's payload to b, which grows with what has come.
func (c *Conn) payload(b []byte, h header, l *listening) ([]byte, error) {
	from := len(b)
	for left := h.length; left > 0; {
		have := len(b)
		n := min(left, max(first, have-from, cap(b)-have))
		b = slices.Grow(b, n)[:have+n]
		for rest := b[have:]; len(rest) > 0; {
			got, err := c.readRaw(rest)
			if rest = rest[got:]; err != nil && len(rest) > 0 {
				return b[:have], err
			}
			l.got(got)
		}
		left -= n
	}
	unmask(b[from:], h.mask)
	return b, nil
}

// control returns what a control frame ends the connection with. Pings are refused, too: whoever sends them would have six
// bytes answered each, before anything counts them, and the link has pings of its own.
func (c *Conn) control(h header) error {
	switch h.op {
	case opClose:
	case opPing, opPong:
		return violation("a WebSocket ping or pong: the link has pings of its own")
	default:
		return violation(fmt.Sprintf("there is no frame of type %d", h.op))
	}
	p, err := c.payload(nil, h, &listening{})
	if err != nil {
		return err
	}
	if len(p) == 1 {
		return violation("a close frame of one byte")
	}
	ce, echo := &CloseError{Code: 1005}, StatusNormal
	if len(p) >= 2 {
		ce.Code, ce.Reason = int(binary.BigEndian.Uint16(p)), string(p[2:])
		echo = ce.Code
	}
	_ = c.Close(echo, "") // the answer, unless it was the peer who answers
	return ce
}

// Discard reads until the connection ends, and forgets what comes: a connection that is closed with unread input loses what was
// sent last, which is why it is closed.
func (c *Conn) Discard() {
	c.ahead = nil
	buf := make([]byte, 4<<10)
	for left := maxDiscarded; left > 0; {
		n, err := c.nc.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// maxDiscarded is how much Discard reads, bytes: enough for what an honest peer had sent before it learned of the end. One that does
// not stop sending is cut off.
const maxDiscarded = 1 << 20

func violation(what string) error { return fmt.Errorf("%w: %s", ErrProtocol, what) }

// unmask applies the mask of RFC 6455, section 5.3.
func unmask(b []byte, mask [4]byte) {
	word := uint64(binary.NativeEndian.Uint32(mask[:]))
	word |= word << 32
	for len(b) >= 8 {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= mask[i&3]
	}
}
