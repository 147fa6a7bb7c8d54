package cri

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/skerry/skerry/firmware/grpcwire"
)

// services of api.proto.
const (
	runtimeService = "/runtime.v1.RuntimeService/"
	imageService   = "/runtime.v1.ImageService/"
)

// deadlineSlack is how much before our deadline a runtime may end a call because of it.
const deadlineSlack = 20 * time.Millisecond

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
			return grpcwire.ErrMore
		}
		got = true
		return Unmarshal(data, resp)
	}, func() error {
		if !got {
			return grpcwire.ErrNoMessage
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
	if err := grpcwire.CheckHeader(resp); err != nil {
		return c.failed(ctx, method, ErrInternal, err)
	}
	for {
		data, err := grpcwire.ReadFrame(resp.Body, (*buf)[:0], c.maxResponse)
		*buf = data[:0]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c.failed(ctx, method, grpcwire.FrameCode(err), err)
		}
		if err := each(data); err != nil {
			return c.failed(ctx, method, ErrInternal, err)
		}
	}
	code, message, err := grpcwire.Status(resp)
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
	return c.request(ctx, path, nil, bytes.NewReader(grpcwire.Frame(req)))
}

// request begins a call whose framed messages are body.
func (c *Client) request(ctx context.Context, path string, meta Metadata, body io.Reader) (*http.Response, error) {
	r, err := grpcwire.NewRequest(ctx, path, "skerry-cri", body)
	if err != nil {
		return nil, err
	}
	for k, v := range meta {
		r.Header[http.CanonicalHeaderKey(k)] = []string{v}
	}
	return c.transport.RoundTrip(r)
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
