package cri

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"path"

	"github.com/skerry/skerry/firmware/grpcwire"
)

// Metadata are request headers of a call to another service than CRI's. Keys are lower case.
type Metadata map[string]string

// Invoke calls a unary method of another service on the runtime's socket, with encoded messages: containerd serves its own API beside
// CRI. method is the full path: "/containerd.services.leases.v1.Leases/Create". Without a deadline, Options.Timeout limits it.
func (c *Client) Invoke(ctx context.Context, method string, meta Metadata, req []byte) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	s := c.Open(ctx, method, meta)
	defer s.Close()
	if err := s.Send(req); err != nil {
		return nil, s.why(err)
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	resp, err := s.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = c.failed(ctx, s.name, ErrInternal, grpcwire.ErrNoMessage)
		}
		return nil, err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = c.failed(ctx, s.name, ErrInternal, grpcwire.ErrMore)
		}
		return nil, err
	}
	return resp, nil
}

// Stream is a call that goes both ways. One goroutine uses it, and closes it.
type Stream struct {
	c      *Client
	ctx    context.Context //nolint:containedctx // a call's life is its context's
	name   string
	cancel context.CancelFunc
	pipe   *io.PipeWriter
	reply  chan reply
	got    *reply
}

type reply struct {
	resp *http.Response
	err  error
}

// Open begins a call that goes both ways. Nothing is sent until the first Send; only ctx limits the call.
func (c *Client) Open(ctx context.Context, method string, meta Metadata) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &Stream{c: c, ctx: ctx, name: path.Base(method), cancel: cancel, pipe: w, reply: make(chan reply, 1)}
	go func() {
		resp, err := c.request(ctx, method, meta, r) //nolint:bodyclose // Recv and Close read it to its end
		if err != nil {
			_ = r.CloseWithError(err) // whoever sends must not wait
		}
		s.reply <- reply{resp, err}
	}()
	return s
}

// Send sends one encoded message. An error may be only the trace of one that Recv tells better.
func (s *Stream) Send(msg []byte) error {
	var head [grpcwire.FrameHeader]byte
	binary.BigEndian.PutUint32(head[1:], uint32(len(msg))) //nolint:gosec // callers send small messages
	if _, err := s.pipe.Write(append(head[:], msg...)); err != nil {
		return s.c.failed(s.ctx, s.name, ErrUnavailable, err)
	}
	return nil
}

// CloseSend says that no more will be sent.
func (s *Stream) CloseSend() error { return s.pipe.Close() }

// Recv returns the next message of the answer, io.EOF after the last one of a call that succeeded, or the call's error.
func (s *Stream) Recv() ([]byte, error) {
	if s.got == nil {
		a := <-s.reply
		s.got = &a
	}
	if s.got.err != nil {
		return nil, s.c.failed(s.ctx, s.name, ErrUnavailable, s.got.err)
	}
	if err := grpcwire.CheckHeader(s.got.resp); err != nil {
		return nil, s.c.failed(s.ctx, s.name, ErrInternal, err)
	}
	data, err := grpcwire.ReadFrame(s.got.resp.Body, nil, s.c.maxResponse)
	switch {
	case err == nil:
		return data, nil
	case !errors.Is(err, io.EOF):
		return nil, s.c.failed(s.ctx, s.name, grpcwire.FrameCode(err), err)
	}
	code, message, err := grpcwire.Status(s.got.resp)
	switch {
	case err != nil:
		return nil, s.c.failed(s.ctx, s.name, ErrInternal, err)
	case code != 0:
		return nil, &Error{Method: s.name, Socket: s.c.socket, Code: code, Message: message}
	}
	return nil, io.EOF
}

// why returns the call's own error in place of one of Send.
func (s *Stream) why(sending error) error {
	if _, err := s.Recv(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return sending
}

// Close ends the call, cancelling what is under way. It may be called again.
func (s *Stream) Close() {
	s.cancel()
	_ = s.pipe.Close()
	if s.got == nil {
		a := <-s.reply
		s.got = &a
	}
	if s.got.resp != nil {
		_ = s.got.resp.Body.Close()
	}
}
