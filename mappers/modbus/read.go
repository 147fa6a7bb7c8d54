package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// readPlan is how one batch of points is read. It is immutable but for the frames that the endpoint keeps in its requests.
type readPlan struct {
	points   []device.Point // as Read was given them
	compiled []*point
	spans    []span
	parts    []part
	unread   map[int]string // points that are not asked for, and why
}

// part is one request of a plan.
type part struct {
	block
	request *request
}

// planFor returns the plan of a batch: a host asks for the same batches again and again.
func (s *session) planFor(points []device.Point) (*readPlan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	for i, p := range s.plans {
		if slices.Equal(p.points, points) {
			copy(s.plans[1:i+1], s.plans[:i])
			s.plans[0] = p
			return p, nil
		}
	}
	p, err := s.makePlan(points)
	if err != nil {
		return nil, err
	}
	s.plans = slices.Insert(s.plans, 0, p)
	s.plans = s.plans[:min(len(s.plans), maxPlans)]
	return p, nil
}

func (s *session) makePlan(points []device.Point) (*readPlan, error) {
	p := &readPlan{points: slices.Clone(points), compiled: make([]*point, len(points)), spans: make([]span, len(points)), unread: map[int]string{}}
	for i, x := range points {
		mp, ok := x.(*point)
		if !ok {
			return nil, fmt.Errorf("modbus: point %d is a %T, which another driver compiled", i, x)
		}
		p.compiled[i], p.spans[i] = mp, mp.span
	}
	grouped := plan(p.spans, s.config.limits, s.holes)
	for _, b := range grouped.blocks {
		p.parts = append(p.parts, part{b, readRequest(b.table, b.addr, b.width)})
	}
	for i, ex := range grouped.refused {
		p.unread[i] = ex.Error()
	}
	for _, i := range grouped.wide {
		p.unread[i] = fmt.Sprintf("%s takes %d, and the device serves at most %d in a request (maxRegisters)", p.compiled[i], p.spans[i].width, s.config.limits.of(p.spans[i].table))
	}
	return p, nil
}

// broadcastOnly is the reason of values of a device that stands for all units.
const broadcastOnly = "a broadcast has no reply, so nothing can be read: read it from a device of its own, without broadcast"

// Read implements device.Session: neighbours are read in one request. If the device refuses such a request, it is halved until
// the part is found that the device does not have, which is then left out for a while.
func (s *session) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	now := time.Now()
	for i := range values {
		values[i] = device.BadValue(notRead, now)
	}
	if err := s.usable(ctx); err != nil {
		spoil(values, err.Error())
		return err
	}
	if s.config.broadcast {
		spoil(values, broadcastOnly)
		return nil
	}
	p, err := s.planFor(points)
	if err != nil {
		return err
	}
	for i, why := range p.unread {
		values[i] = device.BadValue(why, now)
	}
	done, err := s.readParts(ctx, p, values)
	switch {
	case err == nil:
		return nil
	case done > 0 && errors.Is(err, context.DeadlineExceeded):
		// It answers, and the time for one reading was too short for all of it.
		spoil(values, tooSlow)
		return nil
	}
	// The device as a whole does not answer: asking for the rest would only cost its neighbours time.
	spoil(values, err.Error())
	return err
}

// readParts reads the parts of a plan, as many at a time as the device takes, and stops at the first that is not answered.
func (s *session) readParts(ctx context.Context, p *readPlan, values []device.Value) (done int, err error) {
	var window [maxPipeline]*transaction
	sent := 0
	for ; done < len(p.parts); done++ {
		for ; sent < len(p.parts) && sent-done < s.config.pipeline; sent++ {
			window[sent%maxPipeline] = s.submit(ctx, p.parts[sent].request, classRead)
		}
		t := window[done%maxPipeline]
		err := s.wait(ctx, t)
		part := &p.parts[done]
		if err == nil {
			p.deliver(part.block, t.data, values)
		}
		s.reuse(t)
		if err != nil {
			_, err = s.refused(ctx, p, part.block, values, err)
		}
		if err != nil {
			for i := done + 1; i < sent; i++ {
				window[i%maxPipeline].left.Store(true) // nobody waits for them
			}
			return done, err
		}
	}
	return done, nil
}

// deliver decodes the data of a block.
func (p *readPlan) deliver(b block, data []byte, values []device.Value) {
	now := time.Now()
	for _, i := range b.members {
		values[i] = p.compiled[i].value(b.addr, data).At(now)
	}
}

// readBlock reads one block outside of the plan's order. served is false if the device has refused any of it.
func (s *session) readBlock(ctx context.Context, p *readPlan, b block, values []device.Value) (served bool, err error) {
	data, err := s.do(ctx, readRequest(b.table, b.addr, b.width), classRead)
	if err != nil {
		return s.refused(ctx, p, b, values, err)
	}
	p.deliver(b, data, values)
	return true, nil
}

// refused deals with the error of a block. It returns an error if the device does not answer, and whether all of the block was
// read after all.
func (s *session) refused(ctx context.Context, p *readPlan, b block, values []device.Value, err error) (served bool, _ error) {
	var ex *exception
	if !errors.As(err, &ex) {
		return false, err
	}
	if ex.busy() && s.config.busyRetries > 0 {
		if err := s.sleep(ctx, s.config.busyPause); err != nil {
			return false, err
		}
		data, err := s.do(ctx, readRequest(b.table, b.addr, b.width), classRead)
		if err == nil {
			p.deliver(b, data, values)
			return true, nil
		}
		if !errors.As(err, &ex) {
			return false, err
		}
	}
	uniform := b.uniform(p.spans)
	if ex.splits() && !uniform {
		return s.halve(ctx, p, b, values)
	}
	if ex.code == illegalAddress && uniform {
		s.learn(hole{table: b.table, from: int(b.addr), to: b.end(), refused: ex})
	}
	now := time.Now()
	for _, i := range b.members {
		values[i] = device.BadValue(ex.Error(), now)
	}
	return false, nil
}

// halve reads a refused block in two, and remembers what lies between if both are served: a hole, or a boundary that the
// device does not serve reads across.
func (s *session) halve(ctx context.Context, p *readPlan, b block, values []device.Value) (served bool, _ error) {
	left, right := b.halve(p.spans)
	one, err := s.readBlock(ctx, p, left, values)
	if err != nil {
		return false, err
	}
	two, err := s.readBlock(ctx, p, right, values)
	if err != nil || !one || !two {
		return false, err // what the device does not have is within one of the halves
	}
	s.learn(hole{table: b.table, from: min(left.end(), int(right.addr)), to: int(right.addr)})
	return true, nil
}

const (
	notRead = "not read"
	// tooSlow is the reason of values that were not read in time.
	tooSlow = "the device is too slow to read all its properties within one reading, and this one's turn did not come: raise maxGap, so that " +
		"fewer requests do, or read less"
)

// spoil says why the values that are not read are not.
func spoil(values []device.Value, why string) {
	now := time.Now()
	for i := range values {
		if v := &values[i]; v.Kind() == device.KindNone && v.Reason == notRead {
			*v = device.BadValue(why, now)
		}
	}
}
