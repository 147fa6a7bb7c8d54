package serial

import (
	"context"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// subscription is one call of Subscribe. It is guarded by the watch's mu.
type subscription struct {
	points map[string][]int // indices by the point's key
	last   []device.Value
	notify func(i int, v device.Value)
}

// tell hands a value on.
func (sub *subscription) tell(key string, v device.Value) {
	for _, i := range sub.points[key] {
		sub.last[i] = v
		sub.notify(i, v)
	}
}

// gap tells of a line that is gone: values may have been missed.
func (sub *subscription) gap(why error, now time.Time) {
	for i, v := range sub.last {
		sub.notify(i, v.At(now).Doubt(device.Uncertain, why.Error()))
	}
}

// Subscribe implements device.Subscriber, for points that the device sends by itself.
func (s *session) Subscribe(ctx context.Context, points []device.Point, notify func(i int, v device.Value)) error {
	sub := &subscription{points: map[string][]int{}, last: make([]device.Value, len(points)), notify: notify}
	polled := &device.NotSubscribableError{Reason: "the device sends them only when it is asked"}
	for i, dp := range points {
		if p, ok := dp.(*point); !ok || s.requestOf(p) != nil {
			polled.Points = append(polled.Points, i)
		}
	}
	if len(polled.Points) > 0 {
		return polled
	}
	w := s.watch
	w.start(s)
	w.mu.Lock()
	for i, dp := range points {
		p := dp.(*point)
		w.want(p, s.config.station, time.Now())
		sub.points[p.key] = append(sub.points[p.key], i)
	}
	w.subs[sub] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, sub)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return device.ErrClosed
	}
}
