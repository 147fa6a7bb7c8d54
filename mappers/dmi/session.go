package dmi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// settleTime is how long a write waits for a report that shows its value, once the mapper has it.
const settleTime = 2 * time.Second

// session is one device. The driver's lock guards it.
type session struct {
	driver *Driver
	key    string
	once   sync.Once
	closed chan struct{}
	subs   []*subscription
}

// subscription is one call of Subscribe.
type subscription struct {
	points []device.Point
	index  map[string][]int // by property
	notify func(i int, v device.Value)
}

func (s *session) entry() (*entry, error) {
	if e := s.driver.entries[s.key]; e != nil && e.session == s {
		return e, nil
	}
	return nil, device.ErrClosed
}

// Read returns what the mapper has reported last.
func (s *session) Read(_ context.Context, points []device.Point, values []device.Value) error {
	d, now := s.driver, time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := s.entry()
	if err == nil {
		err = d.unreachable(e)
	}
	for i, p := range points {
		if err != nil {
			values[i] = device.BadValue(err.Error(), now)
		} else {
			values[i] = d.value(e, p, now)
		}
	}
	return err
}

// value is what is known of a property. The lock is held.
func (d *Driver) value(e *entry, p device.Point, now time.Time) device.Value {
	pt, ok := p.(point)
	if !ok {
		return device.BadValue("the point is of another driver", now)
	}
	r, ok := e.readings[pt.property]
	if !ok {
		return device.BadValue("the mapper has not reported this property yet", now)
	}
	v := r.value(pt.typ)
	switch {
	case v.Quality == device.Bad:
	case d.link != nil && d.link.trouble != "":
		v = v.Doubt(device.Uncertain, d.link.trouble)
	case e.state == stateOffline, e.state == stateUnknown:
		v = v.Doubt(device.Uncertain, "the mapper reports the device as "+e.state)
	case e.state == stateUnhealthy:
		v = v.Doubt(device.Bad, "the mapper reports the device as unhealthy")
	case r.doubt != "":
		v = v.Doubt(device.Uncertain, r.doubt)
	}
	return v
}

// value brings the text into the model's type.
func (r *reading) value(typ device.Type) device.Value {
	v, err := device.String(r.text), error(nil)
	if typ != device.TypeString {
		v, err = device.Parse(r.text, typ)
	}
	if err != nil {
		v = device.BadValue("the mapper reports "+err.Error(), r.server)
	}
	v.Source, v.Server = r.source, r.server
	return v
}

// Subscribe tells of reports until ctx ends.
func (s *session) Subscribe(ctx context.Context, points []device.Point, notify func(i int, v device.Value)) error {
	sub := &subscription{points: points, index: make(map[string][]int, len(points)), notify: notify}
	for i, p := range points {
		if pt, ok := p.(point); ok {
			sub.index[pt.property] = append(sub.index[pt.property], i)
		}
	}
	d := s.driver
	d.mu.Lock()
	e, err := s.entry()
	if err != nil {
		d.mu.Unlock()
		return err
	}
	s.subs = append(s.subs, sub)
	if d.unreachable(e) == nil {
		now := time.Now()
		for i, p := range points {
			if pt, ok := p.(point); ok && e.readings[pt.property].server != (time.Time{}) {
				notify(i, d.value(e, p, now))
			}
		}
	}
	d.mu.Unlock()
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.closed:
		err = device.ErrClosed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, x := range s.subs {
		if x == sub {
			s.subs = append(s.subs[:i:i], s.subs[i+1:]...)
			break
		}
	}
	return err
}

// gap tells that nothing comes any more, or that what came may be old. The lock is held.
func (s *session) gap(q device.Quality, why string, now time.Time) {
	v := device.BadValue(why, now)
	v.Quality = q
	for _, sub := range s.subs {
		for i := range sub.points {
			sub.notify(i, v)
		}
	}
}

// report tells of a new value of a property. The lock is held.
func (s *session) report(e *entry, property string, now time.Time) {
	for _, sub := range s.subs {
		for _, i := range sub.index[property] {
			sub.notify(i, s.driver.value(e, sub.points[i], now))
		}
	}
}

// Follow takes over all that is wanted (device.Follower).
func (s *session) Follow(wanted []device.Write) {
	d := s.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := s.entry()
	if err != nil {
		return
	}
	e.followed, e.wanted = true, make(map[string]string, len(wanted))
	e.want(wanted)
	if e.kept {
		d.compose(e)
	}
}

// want notes desired values.
func (e *entry) want(writes []device.Write) {
	if e.wanted == nil {
		e.wanted = make(map[string]string, len(writes))
	}
	for _, w := range writes {
		if pt, ok := w.Point.(point); ok {
			e.wanted[pt.property] = w.Value.Text()
		}
	}
}

// Write sends desired values with the device (UpdateDevice), and waits until the mapper has taken it and, for a short time, until it has reported them.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	results := make([]device.WriteResult, len(writes))
	d := s.driver
	d.mu.Lock()
	e, err := s.entry()
	if err == nil {
		e.want(writes)
		if e.kept {
			d.compose(e)
		}
		err = d.unreachable(e)
	}
	var version uint64
	if e != nil {
		version = e.version
	}
	d.mu.Unlock()
	began := time.Now()
	if err == nil {
		err = s.delivered(ctx, version)
	}
	if err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	s.verify(ctx, began, writes, results)
	return results
}

// delivered waits until the mapper has a version of the device.
func (s *session) delivered(ctx context.Context, version uint64) error {
	for {
		done, changed, err := s.progress(version)
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.closed:
			return device.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: the mapper has not taken the value yet: %w", device.ErrUnreachable, ctx.Err())
		}
	}
}

func (s *session) progress(version uint64) (done bool, changed <-chan struct{}, err error) {
	d := s.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := s.entry()
	if err == nil {
		err = d.unreachable(e)
	}
	switch {
	case err != nil:
		return false, nil, err
	case e.delivered >= version:
		return true, nil, nil
	case e.refused != "" && e.refusedFor >= version:
		return false, nil, errors.New("the mapper refuses it: " + e.refused)
	}
	return false, e.changed, nil
}

// verify waits for reports that show what was written.
func (s *session) verify(ctx context.Context, began time.Time, writes []device.Write, results []device.WriteResult) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		all, changed := s.shown(began, writes, results)
		if all {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-s.closed:
			return
		}
	}
}

func (s *session) shown(began time.Time, writes []device.Write, results []device.WriteResult) (all bool, changed <-chan struct{}) {
	d := s.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := s.entry()
	if err != nil {
		return true, nil
	}
	all = true
	for i, w := range writes {
		if results[i].Verified {
			continue
		}
		if pt, ok := w.Point.(point); ok {
			r, there := e.readings[pt.property]
			if v := r.value(pt.typ); there && !r.server.Before(began) && v.Same(w.Value) {
				results[i] = device.WriteResult{Verified: true, Readback: v}
				continue
			}
		}
		all = false
	}
	return all, e.changed
}

// Close ends the session. The mapper keeps the device: whether there is one is the registry's to say.
func (s *session) Close() error {
	s.once.Do(func() {
		close(s.closed)
		d := s.driver
		d.mu.Lock()
		defer d.mu.Unlock()
		if e, err := s.entry(); err == nil {
			e.session = nil
			e.tell()
			d.tidy(s.key)
		}
	})
	return nil
}
