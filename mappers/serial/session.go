package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial/frame"
)

// session is one device on a line. It is safe for concurrent use; what belongs to the port's owner says so.
type session struct {
	driver *Driver
	config *config
	port   *port
	filter readyFilter
	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc

	watch *watch // what it sends by itself

	// The owner's.
	listener *frame.Scanner // of all that is received, if the device talks by itself
	replies  *frame.Scanner // of the reply to its own request
	health   device.Backoff
	prepared int // for which opening of the line the init strings were sent
	keepAt   time.Time
}

// noValue is for templates without a place for one.
var noValue device.Value

// newSession makes a session, which outlives the Open that made it, so its context is nobody's: Close ends it.
func newSession(d *Driver, c *config) *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		driver: d, config: c, ctx: ctx, cancel: cancel, filter: c.filter.ready(c.station), watch: newWatch(),
		listener: frame.NewScanner(c.format), replies: frame.NewScanner(c.format),
	}
}

// Close implements device.Session.
func (s *session) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.watch.close()
		s.driver.release(s)
	})
	return nil
}

// wantsLine tells that the line is to be open even if nobody asks for anything.
func (s *session) wantsLine() bool { return s.watch.active() || s.config.keepAlive != nil }

// listening tells that frames are wanted which nobody has asked for.
func (s *session) listening() bool { return s.watch.active() }

// trim takes the rest of a line's end off a frame.
func (s *session) trim(p []byte) []byte {
	if s.config.format.Kind == frame.Delimited && len(s.config.format.Delimiter) == 1 && s.config.format.Delimiter[0] == '\n' {
		return bytes.TrimSuffix(p, []byte{'\r'})
	}
	return p
}

// readyFilter is a filter for one station.
type readyFilter struct {
	prefix []byte
	match  *regexp.Regexp
}

// ready fills the station in. What cannot be expanded matches nothing: parseConfig refuses it for devices.
func (f *filter) ready(station string) readyFilter {
	out := readyFilter{match: f.match}
	if f.prefix != nil {
		var err error
		if out.prefix, err = f.prefix.expand(station, noValue); err != nil {
			out.match = regexp.MustCompile(`\b\B`)
		}
	}
	return out
}

func (f *readyFilter) passes(m *message) bool {
	return bytes.HasPrefix(m.raw, f.prefix) && (f.match == nil || f.match.Match(m.raw))
}

// Read implements device.Session: one exchange for each request that the points need; the values of points without a request are the
// last that the device sent.
func (s *session) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	now := time.Now()
	compiled := make([]*point, len(points))
	var requests []*template
	members := map[string][]int{}
	var heard []int
	for i, dp := range points {
		p, ok := dp.(*point)
		if !ok {
			return fmt.Errorf("serial: point %d is a %T, which another driver compiled", i, dp)
		}
		compiled[i] = p
		values[i] = device.BadValue("not read", now)
		t := s.requestOf(p)
		if t == nil {
			heard = append(heard, i)
			continue
		}
		if members[t.source] == nil {
			requests = append(requests, t)
		}
		members[t.source] = append(members[t.source], i)
	}
	if s.ctx.Err() != nil {
		spoil(values, device.ErrClosed.Error())
		return device.ErrClosed
	}
	err := s.poll(ctx, requests, members, compiled, values)
	if len(heard) == 0 {
		return err
	}
	return errors.Join(err, s.overhear(ctx, heard, compiled, values))
}

// requestOf is what gets a point; nil if the device sends it by itself.
func (s *session) requestOf(p *point) *template {
	if p.request != nil {
		return p.request
	}
	return s.config.request
}

const tooSlow = "the device is too slow to read all its properties within one reading, and this one's turn did not come: raise collectCycle, or read less"

// poll asks for all that has to be asked for.
func (s *session) poll(ctx context.Context, requests []*template, members map[string][]int, points []*point, values []device.Value) error {
	for n, t := range requests {
		group := members[t.source]
		err := s.ask(ctx, t, group, points, values, false)
		switch {
		case err == nil:
			continue
		case errors.Is(err, errOddReply): // it answers; the values say what is wrong
			continue
		}
		why := err.Error()
		answered := n > 0 && errors.Is(err, context.DeadlineExceeded)
		if answered {
			why = tooSlow
		}
		for _, t := range requests[n:] {
			for _, i := range members[t.source] {
				if values[i].Kind() == device.KindNone {
					values[i] = device.BadValue(why, time.Now())
				}
			}
		}
		if answered {
			return nil
		}
		return err
	}
	return nil
}

// ask sends one request and reads the points of its group from the reply, which may have several frames.
func (s *session) ask(ctx context.Context, t *template, group []int, points []*point, values []device.Value, urgent bool) error {
	data, err := s.envelop(t, noValue)
	if err != nil {
		for _, i := range group {
			values[i] = device.BadValue(err.Error(), time.Now())
		}
		return nil
	}
	// The owner fills these in, and the caller may be gone by then.
	got := make([]device.Value, len(group))
	filters := make([]readyFilter, len(group))
	why := make([]string, len(group))
	for k, i := range group {
		filters[k] = points[i].filter.ready(s.config.station)
	}
	missing := len(group)
	x := &exchange{data: data, urgent: urgent, retries: s.config.retries, take: func(m *message) (useful, last bool) {
		now := time.Now()
		for k, i := range group {
			if !got[k].Server.IsZero() || !filters[k].passes(m) {
				continue
			}
			v, err := points[i].read(m)
			if isOther(err) {
				why[k] = err.Error()
				continue
			}
			if err != nil {
				v = device.BadValue(err.Error(), now)
			}
			got[k], useful = v.At(now), true
			missing--
		}
		return useful, missing == 0
	}}
	err = s.do(ctx, x)
	if err != nil && !errors.Is(err, errOddReply) {
		return err
	}
	for k, i := range group {
		switch {
		case !got[k].Server.IsZero():
			values[i] = got[k]
		case why[k] != "":
			values[i] = device.BadValue(why[k], time.Now())
		default:
			values[i] = device.BadValue(err.Error(), time.Now())
		}
	}
	return err
}

// envelop is what goes over the line for a template.
func (s *session) envelop(t *template, v device.Value) ([]byte, error) {
	data, err := t.expand(s.config.station, v)
	if err == nil && s.config.envelope {
		data, err = s.config.format.Encode(data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be sent: %w", visible([]byte(t.source)), err)
	}
	return data, nil
}

func spoil(values []device.Value, why string) {
	now := time.Now()
	for i := range values {
		values[i] = device.BadValue(why, now)
	}
}
