package cri

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// services of api.proto.
const (
	runtimeService = "/runtime.v1.RuntimeService/"
	imageService   = "/runtime.v1.ImageService/"
)

// frameHeader is gRPC's message prefix: a compression flag and a big-endian length
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message).
const frameHeader = 5

// deadlineSlack is how much before our deadline a runtime may end a call because of it.
const deadlineSlack = 20 * time.Millisecond

// readStep bounds how far a buffer grows ahead of the bytes that have arrived.
const readStep = 64 << 10

var (
	errCompressed = errors.New("compressed message in an answer that may not have any")
	errTooLarge   = errors.New("answer exceeds the size limit")
	errNoStatus   = errors.New("answer ended without a gRPC status")
	errNoMessage  = errors.New("answer has no message")
	errMore       = errors.New("more than one message in the answer to a unary call")
)

// unary makes one call. If ctx has no deadline, Options.Timeout + extra limits it.
func (c *Client) unary(ctx context.Context, service, method string, extra time.Duration, req, resp Message) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout+extra)
		defer cancel()
	}
	return c.unbounded(ctx, service, method, req, resp)
}

// unbounded makes one call that only ctx limits.
func (c *Client) unbounded(ctx context.Context, service, method string, req, resp Message) error {
	buf := c.buffer()
	defer c.release(buf)
	got := false
	return c.stream(ctx, service, method, req, buf, func(data []byte) error {
		if got {
			return errMore
		}
		got = true
		return Unmarshal(data, resp)
	}, func() error {
		if !got {
			return errNoMessage
		}
		return nil
	})
}

// stream makes one call and gives each message of the answer to each; after the last, done may object.
func (c *Client) stream(ctx context.Context, service, method string, req Message, buf *[]byte,
	each func([]byte) error, done func() error,
) error {
	resp, err := c.send(ctx, service+method, req)
	if err != nil {
		return c.failed(ctx, method, ErrUnavailable, err)
	}
	// Closing before the end of the stream cancels the call at the runtime.
	defer resp.Body.Close() //nolint:errcheck // nothing was written through it
	if err := checkHeader(resp); err != nil {
		return c.failed(ctx, method, ErrInternal, err)
	}
	for {
		data, err := readFrame(resp.Body, (*buf)[:0], c.maxResponse)
		*buf = data[:0]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c.failed(ctx, method, frameCode(err), err)
		}
		if err := each(data); err != nil {
			return c.failed(ctx, method, ErrInternal, err)
		}
	}
	code, message, err := status(resp)
	switch {
	case err != nil:
		return c.failed(ctx, method, ErrInternal, err)
	case code != 0:
		return &Error{Method: method, Socket: c.socket, Code: code, Message: message}
	}
	if err := done(); err != nil {
		return c.failed(ctx, method, ErrInternal, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, path string, req Message) (*http.Response, error) {
	body := appendMessage(make([]byte, frameHeader, 128), req)
	binary.BigEndian.PutUint32(body[1:], uint32(len(body)-frameHeader))
	return c.request(ctx, path, nil, bytes.NewReader(body))
}

// request begins a call whose framed messages are body.
func (c *Client) request(ctx context.Context, path string, meta Metadata, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header = http.Header{
		"Content-Type": {"application/grpc"},
		"Te":           {"trailers"},
		"User-Agent":   {"skerry-cri"},
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.Header["Grpc-Timeout"] = []string{timeoutHeader(time.Until(deadline))}
	}
	for k, v := range meta {
		r.Header[http.CanonicalHeaderKey(k)] = []string{v}
	}
	return c.transport.RoundTrip(r)
}

// frameCode is the code of a frame that cannot be read.
func frameCode(err error) Code {
	switch {
	case errors.Is(err, errTooLarge):
		return ErrResourceExhausted
	case errors.Is(err, errCompressed):
		return ErrInternal
	default:
		return ErrUnavailable
	}
}

// failed returns the Error of a call that failed on this side; a context that ended is the reason whatever
// net/http made of it. The runtime keeps the same deadline and its reset of the stream can overtake our timer.
func (c *Client) failed(ctx context.Context, method string, code Code, err error) error {
	deadline, ok := ctx.Deadline()
	switch ctxErr := ctx.Err(); {
	case ctxErr == nil && code == ErrUnavailable && ok && time.Until(deadline) < deadlineSlack:
		code, err = ErrDeadlineExceeded, context.DeadlineExceeded
	case errors.Is(ctxErr, context.DeadlineExceeded):
		code, err = ErrDeadlineExceeded, ctxErr
	case ctxErr != nil:
		code, err = ErrCanceled, context.Cause(ctx)
	}
	return &Error{Method: method, Socket: c.socket, Code: code, Err: err}
}

func checkHeader(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s: the socket does not serve gRPC", resp.Status)
	}
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/grpc") {
		return fmt.Errorf("content type %q: the socket does not serve gRPC", ct)
	}
	return nil
}

// readFrame reads one message into buf. io.EOF says that there is none.
func readFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err // io.EOF at a message's border
	}
	if head[0] != 0 {
		return buf, errCompressed
	}
	size := binary.BigEndian.Uint32(head[1:])
	if uint64(size) > uint64(limit) {
		return buf, fmt.Errorf("%w: %d bytes, at most %d are accepted", errTooLarge, size, limit)
	}
	for n := int(size); len(buf) < n; {
		start := len(buf)
		step := min(n-start, readStep)
		buf = slices.Grow(buf, step)[:start+step]
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
	}
	return buf, nil
}

// status returns the call's outcome: from the trailers, or from the headers if the answer is nothing else.
func status(resp *http.Response) (Code, string, error) {
	h := resp.Trailer
	if h.Get("Grpc-Status") == "" {
		h = resp.Header
	}
	s := h.Get("Grpc-Status")
	if s == "" {
		return 0, "", errNoStatus
	}
	code, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, "", fmt.Errorf("gRPC status %q is no number", s)
	}
	return Code(code), percentDecode(h.Get("Grpc-Message")), nil
}

// percentDecode undoes the encoding of grpc-message. Invalid sequences stay as they are: the message is for
// people, and the protocol forbids to fail on it.
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// timeoutHeader formats d as grpc-timeout: at most 8 digits and a unit, rounded up.
func timeoutHeader(d time.Duration) string {
	if d <= 0 {
		return "0n"
	}
	units := [...]struct {
		size time.Duration
		name string
	}{{time.Nanosecond, "n"}, {time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}}
	for _, u := range units {
		if v := int64((d-1)/u.size) + 1; v < 1e8 {
			return strconv.FormatInt(v, 10) + u.name
		}
	}
	return strconv.FormatInt(int64((d-1)/time.Hour)+1, 10) + "H"
}

func (c *Client) buffer() *[]byte {
	if b, ok := c.buffers.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (c *Client) release(b *[]byte) {
	if cap(*b) <= keptBuffer {
		c.buffers.Put(b)
	}
}
