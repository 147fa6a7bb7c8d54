package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/skerry/skerry/mappers/device"
)

// session is one device. Its methods may be called concurrently.
type session struct {
	driver   *Driver
	endpoint *endpoint
	device   string
	config   config

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	ended  bool           // no further calls of Subscribe
	calls  sync.WaitGroup // Subscribe
}

// enter joins the caller's context with the session's life.
func (s *session) enter(ctx context.Context) (context.Context, func()) {
	joined, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(device.ErrClosed) })
	if s.ctx.Err() != nil {
		cancel(device.ErrClosed)
	}
	return joined, func() {
		stop()
		cancel(nil)
	}
}

// closed replaces an error that Close caused.
func (s *session) closed(err error) error {
	if err != nil && s.ctx.Err() != nil {
		return device.ErrClosed
	}
	return err
}

// Read implements device.Session.
func (s *session) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	ctx, leave := s.enter(ctx)
	defer leave()
	if err := s.ctx.Err(); err != nil {
		fill(values, device.ErrClosed)
		return device.ErrClosed
	}
	if len(points) == 0 {
		return ctx.Err()
	}
	own, err := pointsOf(points)
	var c *client
	if err == nil {
		c, err = s.endpoint.ready(ctx)
	}
	if err != nil {
		err = s.closed(err)
		fill(values, err)
		return err
	}
	c.subs.awaitQueued(ctx, c.ch().Done(), min(c.endpoint.config.timeout, queuedWithin))
	err = s.closed(c.read(ctx, own, values, s.config.maxNodes))
	if errors.Is(err, device.ErrClosed) {
		fill(values, err)
	}
	return err
}

// pointsOf are the driver's own points.
func pointsOf(points []device.Point) ([]*point, error) {
	out := make([]*point, len(points))
	for i, p := range points {
		switch own := p.(type) {
		case *point:
			out[i] = own
		case methodPoint:
			return nil, fmt.Errorf("%s can only be called", p)
		default:
			return nil, errors.New("a point of another driver")
		}
	}
	return out, nil
}

// begin counts a call that Close waits for.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.calls.Add(1)
	}
	return !s.ended
}

// Close implements device.Session.
func (s *session) Close() error {
	s.mu.Lock()
	first := !s.ended
	s.ended = true
	s.mu.Unlock()
	s.cancel(device.ErrClosed)
	s.calls.Wait()
	if first {
		s.driver.release(s.endpoint)
	}
	return nil
}
