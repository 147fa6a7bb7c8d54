package modbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/mappers/device"
)

// session is one unit behind an endpoint. It is safe for concurrent use.
type session struct {
	driver   *Driver
	config   config
	endpoint *endpoint
	once     sync.Once
	closed   chan struct{}

	mu    sync.Mutex
	alone map[span]bool // what the device refuses to serve together with its neighbours
}

// maxAlone bounds what a session remembers of refused groupings.
const maxAlone = 4096

// Close implements device.Session.
func (s *session) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.driver.release(s.endpoint)
	})
	return nil
}

func (s *session) do(ctx context.Context, r *request, urgent bool) ([]byte, error) {
	select {
	case <-s.closed:
		return nil, device.ErrClosed
	default:
		return s.endpoint.do(ctx, s.closed, s.config.unit, r, s.config.timeout, urgent)
	}
}

// Read implements device.Session: neighbours are read in one request. If the device refuses such a request, its points are
// read one by one, and those that the device only serves alone are remembered.
func (s *session) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	now := time.Now()
	spans := make([]span, len(points))
	compiled := make([]*point, len(points))
	for i, p := range points {
		mp, ok := p.(*point)
		if !ok {
			return fmt.Errorf("modbus: point %d is a %T, which another driver compiled", i, p)
		}
		spans[i], compiled[i] = mp.span, mp
		values[i] = device.BadValue("not read", now)
	}
	blocks := s.plan(spans)
	for n, b := range blocks {
		err := s.readBlock(ctx, b, compiled, values)
		if err == nil {
			continue
		}
		if n > 0 && errors.Is(err, context.DeadlineExceeded) {
			// It answers, and the time for one reading was too short for all of it.
			spoil(blocks[n:], values, tooSlow)
			return nil
		}
		// The device as a whole does not answer: asking for the rest would only cost its neighbours time.
		spoil(blocks[n:], values, err.Error())
		return err
	}
	return nil
}

// tooSlow is the reason of values that were not read in time.
const tooSlow = "the device is too slow to read all its properties within one reading, and this one's turn did not come: raise maxGap, so that " +
	"fewer requests do, or read less"

// spoil marks what was not read of the blocks.
func spoil(blocks []block, values []device.Value, why string) {
	now := time.Now()
	for _, b := range blocks {
		for _, i := range b.members {
			if values[i].Kind() == device.KindNone {
				values[i] = device.BadValue(why, now)
			}
		}
	}
}

func (s *session) plan(spans []span) []block {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.alone) == 0 {
		return plan(spans, s.config.limits, nil)
	}
	return plan(spans, s.config.limits, func(i int) bool { return s.alone[spans[i]] })
}

// readBlock reads one block into the values of its members. Its error means that the device does not answer.
func (s *session) readBlock(ctx context.Context, b block, points []*point, values []device.Value) error {
	data, err := s.do(ctx, readRequest(b.table, b.addr, b.width), false)
	now := time.Now()
	var ex *exception
	switch {
	case err == nil:
		for _, i := range b.members {
			values[i] = points[i].value(b.addr, data).At(now)
		}
		return nil
	case !errors.As(err, &ex):
		return err
	case len(b.members) > 1 && splits(ex.code):
		return s.readApart(ctx, b, points, values)
	}
	for _, i := range b.members {
		values[i] = device.BadValue(ex.Error(), now)
	}
	return nil
}

// splits tells which exceptions may be the fault of one point of a block, or of the block's size.
func splits(code byte) bool {
	return code == modbus.ExceptionCodeIllegalDataAddress || code == modbus.ExceptionCodeIllegalDataValue || code == modbus.ExceptionCodeServerDeviceFailure
}

// readApart reads the points of a refused block one by one and remembers which ones spoil it: those that are refused
// alone too, or all of them if none is (some devices do not serve reads across an internal boundary).
func (s *session) readApart(ctx context.Context, b block, points []*point, values []device.Value) error {
	var refused, all []span
	for _, i := range b.members {
		p := points[i]
		single := block{span: p.span, members: []int{i}}
		if err := s.readBlock(ctx, single, points, values); err != nil {
			return err
		}
		all = append(all, p.span)
		if values[i].Kind() == device.KindNone {
			refused = append(refused, p.span)
		}
	}
	if len(refused) == 0 {
		refused = all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.alone) > maxAlone {
		clear(s.alone)
	}
	for _, sp := range refused {
		s.alone[sp] = true
	}
	return nil
}
