package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// maxStrays is how many replies that nobody waits for a server may send beyond those that were given up.
const maxStrays = 64

// ErrUnreadable is wrapped by the error of a request whose response is damaged, or holds more than is accepted.
var ErrUnreadable = errors.New("the server's response cannot be read")

// receive is the channel's goroutine.
func (c *Channel) receive(buf []byte) {
	defer close(c.finished)
	in := inbound{c: c}
	for {
		f, err := readFrame(c.conn, buf)
		if err == nil {
			err = in.take(f)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// inbound is what the receiving goroutine remembers.
type inbound struct {
	c        *Channel
	sequence uint32
	started  bool
	strays   int
}

// take processes one chunk.
func (in *inbound) take(f frame) error {
	switch f.kind {
	case "ERR":
		return serverError(f)
	case "OPN", "MSG":
	case "CLO":
		return errors.New("the server closed the channel")
	default:
		return fmt.Errorf("the server sent a message of unknown kind %q", f.kind)
	}
	plain, err := in.decrypt(f)
	if err != nil {
		return err
	}
	if len(plain) < sequenceSize {
		return errors.New("the server sent a message that is too short")
	}
	if err := in.order(binary.LittleEndian.Uint32(plain)); err != nil {
		return err
	}
	in.c.heard.Store(time.Now().UnixNano())
	request := binary.LittleEndian.Uint32(plain[4:])
	return in.assemble(f, request, plain[sequenceSize:])
}

// order checks a sequence number: a message that is replayed, dropped or out of order ends a secured channel.
func (in *inbound) order(n uint32) error {
	last := in.sequence
	started := in.started
	in.sequence, in.started = n, true
	if !started || n == last+1 || last >= math.MaxUint32-1024 && n < 1024 || !in.c.sec.secured() {
		return nil
	}
	return fmt.Errorf("the server's messages are out of order: %d after %d", n, last)
}

// decrypt checks a chunk's security and returns its sequence header and body.
func (in *inbound) decrypt(f frame) ([]byte, error) {
	c := in.c
	r := uabin.NewReader(f.b[headerSize:])
	channel := r.Uint32()
	if f.kind == "OPN" {
		policy, cert := r.String(), r.Bytes()
		r.Bytes() // thumbprint of our certificate
		if r.Err() != nil {
			return nil, r.Err()
		}
		if policy != c.sec.Policy {
			return nil, fmt.Errorf("the server answers with security policy %q instead of %q", policy, c.sec.Policy)
		}
		if c.sec.secured() && !bytes.Equal(cert, c.sec.Remote) && !bytes.HasPrefix(cert, c.sec.Remote) {
			return nil, errors.New("the server answers with another certificate than its endpoint has")
		}
		key := 0
		if c.sec.Key != nil {
			key = c.sec.Key.Size()
		}
		return open(c.asym, f.b, len(f.b)-r.Len(), key, c.sec.secured(), c.sec.secured())
	}
	id := r.Uint32()
	if r.Err() != nil {
		return nil, r.Err()
	}
	algo := c.keys(channel, id)
	if algo == nil {
		return nil, fmt.Errorf("the server uses channel %d with token %d, which it did not give", channel, id)
	}
	return open(algo, f.b, symmetricEnd, 0, c.sec.secured(), c.sec.Mode == ua.MessageSecurityModeSignAndEncrypt)
}

// keys returns a token's algorithms, nil if there is no such token.
func (c *Channel) keys(channel, token uint32) *uapolicy.EncryptionAlgorithm {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel != c.id {
		return nil
	}
	for _, t := range c.tokens {
		if t.id == token {
			return t.algo
		}
	}
	return nil
}

// assemble collects a message's chunks, and delivers it with its last one.
func (in *inbound) assemble(f frame, request uint32, body []byte) error {
	c := in.c
	c.mu.Lock()
	w := c.pending[request]
	if w == nil {
		defer c.mu.Unlock()
		if f.chunk == 'C' {
			return nil
		}
		if in.strays++; in.strays > c.given+maxStrays {
			return errors.New("the server floods with replies that nobody asked for")
		}
		return nil
	}
	if f.chunk == 'C' || f.chunk == 'F' && w.n > 0 {
		w.n++
		w.body = append(w.body, body...)
		c.partial += len(body)
	}
	partial := c.partial
	c.mu.Unlock()
	switch {
	case f.chunk == 'A':
		r := uabin.NewReader(body)
		return in.finish(request, w, nil, r.StatusCode())
	case f.chunk == 'C':
		if partial > maxMessage || w.n > maxChunks {
			// The rest of it is thrown away as it comes; other requests are not concerned.
			c.mu.Lock()
			c.given++
			c.mu.Unlock()
			return in.finish(request, w, nil, fmt.Errorf("the server's response has more than %d bytes or %d chunks: %w", maxMessage, maxChunks, ua.StatusBadResponseTooLarge))
		}
		return nil
	case f.chunk != 'F':
		return fmt.Errorf("the server sent a chunk of unknown kind %q", f.chunk)
	}
	if w.n > 0 {
		body = w.body
	}
	m, err := uabin.DecodeResponse(body)
	if err != nil {
		// Only this response is broken: the stream of chunks is intact.
		return in.finish(request, w, nil, fmt.Errorf("%w: %w", ErrUnreadable, err))
	}
	if h := uabin.Header(m); h != nil && h.ServiceResult != ua.StatusOK && h.ServiceResult>>30 != 0 {
		err = h.ServiceResult
	}
	if o, ok := m.(*ua.OpenSecureChannelResponse); ok && err == nil {
		if f.kind != "OPN" {
			return errors.New("the server opened a channel within a channel")
		}
		c.mu.Lock()
		err = c.opened(o)
		c.mu.Unlock()
	}
	return in.finish(request, w, m, err)
}

// finish delivers a reply.
func (in *inbound) finish(request uint32, w *waiting, m any, err error) error {
	c := in.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pending[request]; !ok {
		return nil
	}
	delete(c.pending, request)
	c.partial -= len(w.body)
	deliver(w.to, Reply{Request: request, Response: m, Err: err})
	return nil
}
