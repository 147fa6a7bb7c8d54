package serial

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial/frame"
)

// watch keeps the last value of each point that a device sends by itself. It is safe for concurrent use.
type watch struct {
	mu     sync.Mutex
	on     bool
	points map[string]*seen // by the point's key
	subs   map[*subscription]bool
	news   chan struct{} // closed and replaced whenever something changes

	lastFrame time.Time // when the last frame came that some point wanted
	odd       string    // the last frame that no point wanted, and why
	line      error     // why the line is not open
	window    time.Time // of the frames' limit
	frames    int
	dropped   uint64 // frames beyond the limit
	stats     frame.Stats
}

// seen is a point with its last value.
type seen struct {
	point  *point
	filter readyFilter
	value  device.Value // its Server is zero until the first one came
	asked  time.Time
}

// maxSeen bounds the points that a session remembers; edited properties leave old ones behind.
const maxSeen = 4096

func newWatch() *watch {
	return &watch{points: make(map[string]*seen), subs: make(map[*subscription]bool), news: make(chan struct{})}
}

func (w *watch) active() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.on
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = false
	w.changed()
}

// changed wakes who waits for news. The caller holds mu.
func (w *watch) changed() {
	close(w.news)
	w.news = make(chan struct{})
}

// want makes sure that a point is looked for. The caller holds mu.
func (w *watch) want(p *point, station string, now time.Time) *seen {
	e := w.points[p.key]
	if e == nil {
		if len(w.points) >= maxSeen {
			w.forgetOldest()
		}
		e = &seen{point: p, filter: p.filter.ready(station)}
		w.points[p.key] = e
	}
	e.asked = now
	return e
}

func (w *watch) forgetOldest() {
	oldest := ""
	for k, e := range w.points {
		if oldest == "" || e.asked.Before(w.points[oldest].asked) {
			oldest = k
		}
	}
	delete(w.points, oldest)
}

// received is called by the port's owner for each frame.
func (s *session) received(payload []byte) {
	m := &message{raw: s.trim(payload)}
	now := time.Now()
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.window) >= time.Second {
		w.window, w.frames = now, 0
	}
	if w.frames++; w.frames > maxFramesPerSecond {
		w.dropped++
		return
	}
	if !s.filter.passes(m) {
		w.odd = visible(m.raw) + " is not for this device (prefix, match)"
		return
	}
	wanted := false
	why := " is for none of the properties (prefix, match)"
	for _, e := range w.points {
		if !e.filter.passes(m) {
			continue
		}
		v, err := e.point.read(m)
		if isOther(err) {
			why = ": " + err.Error()
			continue
		}
		if err != nil {
			v = device.BadValue(err.Error(), now)
		}
		e.value, wanted = v.At(now), true
		for sub := range w.subs {
			sub.tell(e.point.key, e.value)
		}
	}
	if !wanted {
		w.odd = visible(m.raw) + why
		return
	}
	w.lastFrame = now
	w.changed()
}

// lineChanged tells the session that its line was opened, or why it is not open.
func (s *session) lineChanged(err error, changed bool) {
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line = err
	if err != nil && changed {
		for sub := range w.subs {
			sub.gap(err, time.Now())
		}
	}
	if err != nil {
		w.changed()
	}
}

// firstPatience is how long the first reading waits until every point was sent once: otherwise each start of the agent would report
// missing properties for a moment. It is well below what the host gives a reading.
const firstPatience = 5 * time.Second

// overhear fills in the last values. If the device was not heard of lately, it waits for it, a time-out at most.
func (s *session) overhear(ctx context.Context, indices []int, points []*point, values []device.Value) error {
	w := s.watch
	begun := !w.start(s)
	patience := s.config.timeout
	if !begun { // what a device sends by turns takes a while to be complete
		patience = max(patience, min(s.config.stale, firstPatience))
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for late := false; ; {
		w.mu.Lock()
		now := time.Now()
		fresh := !w.lastFrame.IsZero() && now.Sub(w.lastFrame) <= s.config.stale
		complete := true
		for _, i := range indices {
			e := w.want(points[i], s.config.station, now)
			values[i] = s.aged(e.value, now)
			complete = complete && !e.value.Server.IsZero()
		}
		// A point that has just become wanted is waited for once, a device that is silent at every reading.
		if late || fresh && (complete || begun) || w.line != nil && begun {
			err := s.verdict(indices, values, now)
			w.mu.Unlock()
			return err
		}
		news, lineErr := w.news, w.line
		w.mu.Unlock()
		if lineErr != nil {
			begun = true // this is what the attempt has come to
			continue
		}
		select {
		case <-news:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			for _, i := range indices {
				if values[i].Kind() == device.KindNone {
					values[i] = device.BadValue("nothing has been received yet", now)
				}
			}
			return ctx.Err()
		case <-s.ctx.Done():
			spoil(values, device.ErrClosed.Error())
			return device.ErrClosed
		}
	}
}

// start begins to listen; false if that was done before.
func (w *watch) start(s *session) bool {
	w.mu.Lock()
	first := !w.on && s.ctx.Err() == nil
	if first {
		w.on = true
		w.line = nil
	}
	w.mu.Unlock()
	if first {
		s.port.poke()
	}
	return first
}

// aged is a value with the doubt that its age casts on it. The words do not change with every second.
func (s *session) aged(v device.Value, now time.Time) device.Value {
	if v.Server.IsZero() || v.Kind() == device.KindNone {
		return v
	}
	switch age := now.Sub(v.Server); {
	case age > s.config.bad:
		return v.Doubt(device.Bad, fmt.Sprintf("the device has not sent it for more than %v", s.config.bad))
	case age > s.config.stale:
		return v.Doubt(device.Uncertain, fmt.Sprintf("the device has not sent it for more than %v", s.config.stale))
	}
	return v
}

// verdict words what is wrong with the device as a whole, and with points that never came. The caller holds the watch's mu.
func (s *session) verdict(indices []int, values []device.Value, now time.Time) error {
	w := s.watch
	var err error
	switch silent := w.lastFrame.IsZero() || now.Sub(w.lastFrame) > s.config.bad; {
	case w.line != nil:
		err = w.line
	case silent && w.odd != "":
		err = device.Unreachable("nothing usable comes on %s: %s", s.port.name, w.odd)
	case silent:
		err = s.unheard()
	}
	for _, i := range indices {
		switch {
		case w.line != nil && values[i].Kind() != device.KindNone:
			values[i] = values[i].Doubt(device.Bad, err.Error())
		case err != nil && values[i].Server.IsZero():
			values[i] = device.BadValue(err.Error(), now)
		case values[i].Server.IsZero() && w.odd != "":
			values[i] = device.BadValue("the device has not sent it yet; the last frame for nobody: "+w.odd, now)
		case values[i].Server.IsZero():
			values[i] = device.BadValue("the device has not sent it yet", now)
		}
	}
	return err
}

// unheard words silence, with what the line carried instead of frames.
func (s *session) unheard() error {
	st := s.watch.stats
	switch {
	case st.Checksum > 0:
		return device.Unreachable("all that comes on %s has a wrong checksum: check checksum, baudRate and parity", s.port.name)
	case st.TooLong > 0:
		return device.Unreachable("what comes on %s is longer than maxFrame: check framing and baudRate", s.port.name)
	case st.Garbage > 0 || st.Cut > 0:
		return device.Unreachable("what comes on %s is no frame: check framing, baudRate and parity", s.port.name)
	default:
		return device.Unreachable("nothing has been received on %s for %v: check that the device is on, its wiring and baudRate", s.port.name, min(s.config.timeout, s.config.bad))
	}
}

// count takes over what the scanner has seen.
func (w *watch) count(st frame.Stats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats = st
}
