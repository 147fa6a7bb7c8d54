package modbus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/mappers/device"
)

// session is one unit behind an endpoint. It is safe for concurrent use.
type session struct {
	driver   *Driver
	name     string // of the device
	config   config
	endpoint *endpoint
	once     sync.Once
	closed   chan struct{}

	change sync.Mutex // held while bits of a register are changed that holds others too

	mu      sync.Mutex
	free    []*transaction
	plans   []*readPlan // the newest first
	holes   []hole
	expires time.Time // when the first of holes does
	noMask  bool      // the device has no FC 22
	noMixed bool      // the device has no FC 23
	noGroup bool      // the device does not take several values in one request
	groups  groupDoubt
}

// Bounds of what a session remembers.
const (
	maxHoles = 4096
	maxPlans = 16
	maxFree  = 2 * maxPipeline
)

// Close implements device.Session.
func (s *session) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.driver.release(s.endpoint, &s.config, s.name)
	})
	return nil
}

// submit hands a request to the endpoint.
func (s *session) submit(ctx context.Context, r *request, c class) *transaction {
	t := s.prepare(ctx, r, c)
	s.endpoint.queue.push(t)
	return t
}

// prepare makes a transaction for a request.
func (s *session) prepare(ctx context.Context, r *request, c class) *transaction {
	s.mu.Lock()
	var t *transaction
	if n := len(s.free); n > 0 {
		t = s.free[n-1]
		s.free = s.free[:n-1]
	}
	s.mu.Unlock()
	if t == nil {
		t = &transaction{done: make(chan struct{}, 1)}
	}
	t.ctx, t.cfg, t.request, t.class = ctx, &s.config, r, c
	t.data, t.err, t.asked, t.again, t.tries = nil, nil, false, false, 0
	t.carried.Store(0)
	return t
}

// wait waits for a transaction. Without an error, or with an exception, t is the caller's again, who gives it back with reuse.
func (s *session) wait(ctx context.Context, t *transaction) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		t.left.Store(true)
		return ctx.Err()
	case <-s.closed:
	case <-s.endpoint.done:
	}
	t.left.Store(true)
	return device.ErrClosed
}

// reuse gives back a transaction that has been waited for.
func (s *session) reuse(t *transaction) {
	if t.left.Load() {
		return // the endpoint may still have it
	}
	t.ctx, t.request, t.burst = nil, nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < maxFree {
		s.free = append(s.free, t)
	}
}

// do carries out one request and asks a busy device again. The data is the caller's.
func (s *session) do(ctx context.Context, r *request, c class) ([]byte, error) {
	data, err := s.attempt(ctx, r, c)
	return s.patient(ctx, r, c, data, err)
}

func (s *session) attempt(ctx context.Context, r *request, c class) ([]byte, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	t := s.submit(ctx, r, c)
	err := s.wait(ctx, t)
	data := append([]byte(nil), t.dataOf(err)...)
	s.reuse(t)
	return data, err
}

// patient asks again while a device says that it is busy; data and err are what the first attempt brought.
func (s *session) patient(ctx context.Context, r *request, c class, data []byte, err error) ([]byte, error) {
	for tries := 0; ; tries++ {
		accepted := r.echo != nil && isException(err, modbus.ExceptionCodeAcknowledge) // and takes its time: it must not be sent again
		if !busy(err) || tries >= s.config.busyRetries && !accepted {
			return data, err
		}
		if err := s.sleep(ctx, s.config.busyPause); err != nil || accepted {
			return nil, err
		}
		data, err = s.attempt(ctx, r, c)
	}
}

// dataOf returns the reply's data, nil if there was an error: then the transaction may not be the caller's.
func (t *transaction) dataOf(err error) []byte {
	if err != nil {
		return nil
	}
	return t.data
}

func (s *session) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return device.ErrClosed
	default:
		return ctx.Err()
	}
}

func (s *session) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return device.ErrClosed
	}
}

func busy(err error) bool {
	var ex *exception
	return errors.As(err, &ex) && ex.busy()
}

// learn remembers a hole, and makes all plans anew.
func (s *session) learn(h hole) {
	h.until = time.Now().Add(s.config.holeRetry)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.holes) >= maxHoles {
		s.holes = nil
	}
	if len(s.holes) == 0 || h.until.Before(s.expires) {
		s.expires = h.until
	}
	s.holes = append(s.holes, h)
	s.plans = nil
}

// forget drops holes whose time has come, and all plans with them. The lock is held.
func (s *session) forget(now time.Time) {
	if len(s.holes) == 0 || now.Before(s.expires) {
		return
	}
	s.holes = slices.DeleteFunc(s.holes, func(h hole) bool { return !now.Before(h.until) })
	s.plans, s.expires = nil, time.Time{}
	for _, h := range s.holes {
		if s.expires.IsZero() || h.until.Before(s.expires) {
			s.expires = h.until
		}
	}
}
