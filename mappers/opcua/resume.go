package opcua

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/channel"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// errForgotten means that the server has a session no more, or does not want to go on with it.
var errForgotten = errors.New("the server does not go on with the session")

// resume activates the session on a new channel, after the old one has ended (Part 4, section 5.6.3), and gets what the server published
// and nobody received. Its subscriptions go on: what they queued meanwhile comes with the next publishing.
func (c *client) resume(ctx context.Context) error {
	e := c.endpoint
	sec, server, err := e.security(ctx)
	if err != nil {
		return err
	}
	dialCtx, cancel := context.WithTimeout(ctx, e.config.timeout)
	defer cancel()
	ch, err := channel.Dial(dialCtx, e.options(sec))
	if err != nil {
		return err
	}
	c.security = sec
	if err = c.activate(ctx, ch, server); err != nil && !errors.Is(err, device.ErrUnreachable) || lostSession(err) {
		err = fmt.Errorf("%w: %w", errForgotten, err)
	}
	if err == nil {
		err = c.catchUp(ctx, ch)
	}
	if err != nil {
		c.stumbles++
		ch.Abort(err)
		ch.Close()
		return err
	}
	e.known = server
	c.channel.Store(ch)
	signal(c.subs.wake)
	e.driver.log.Info("OPC UA connection is back, with the session that it had", "server", e.config.String())
	return nil
}

// maxRepublished limits how many messages of one subscription are asked for again.
const maxRepublished = 1000

// catchUp takes what came on the old channel and was not looked at yet, and then what the server sent and did not arrive.
func (c *client) catchUp(ctx context.Context, ch *channel.Channel) error {
	s := &c.subs
	for left := true; left; {
		select {
		case r := <-s.replies:
			if r.Err == nil {
				c.published(ctx, r)
			}
		default:
			left = false
		}
	}
	s.outstanding = 0
	s.mu.Lock()
	subs := make([]*serverSub, 0, len(s.byID))
	for _, sub := range s.byID {
		sub.heard, sub.flushed = time.Now(), make(chan struct{})
		subs = append(subs, sub)
	}
	s.mu.Unlock()
	for _, sub := range subs {
		if err := c.republish(ctx, ch, sub); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.resumed = time.Now()
	s.mu.Unlock()
	return nil
}

// republish asks for the messages that follow the last one that came, one by one (Part 4, section 5.13.6). The error means that the server
// could not be asked. What it does not have any more shows in the numbers of what it publishes next.
func (c *client) republish(ctx context.Context, ch *channel.Channel, sub *serverSub) error {
	for range maxRepublished {
		got, err := c.callOn(ctx, ch, &ua.RepublishRequest{SubscriptionID: sub.id, RetransmitSequenceNumber: max(sub.next, 1)})
		var code ua.StatusCode
		switch {
		case errors.As(err, &code) && !lostSession(err):
			if code == ua.StatusBadSubscriptionIDInvalid || code == ua.StatusBadNoSubscription {
				c.subs.forget(sub)
			}
			return nil
		case err != nil:
			return err
		}
		res, ok := got.(*uabin.RepublishResponse)
		if !ok || res.Message.KeepAlive {
			return nil
		}
		c.take(sub, &res.Message)
	}
	return nil
}

// queuedWithin is how long after a session was resumed reads wait for what its server had queued. A subscription with nothing to tell may be silent for a whole
// publishing interval, and some servers leave one on the old channel.
const queuedWithin = 2 * time.Second

// awaitQueued waits, after the session was resumed, until all has come that the server had queued: what is read then is newer than that, and does not get in front of it. It waits
// until most after the resumption at the latest, however many read.
func (s *subscriptions) awaitQueued(ctx context.Context, lost <-chan struct{}, most time.Duration) {
	var pending []chan struct{}
	s.mu.Lock()
	left := most - time.Since(s.resumed)
	for _, sub := range s.byID {
		if sub.flushed != nil && left > 0 {
			pending = append(pending, sub.flushed)
		}
	}
	s.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	enough := time.NewTimer(left)
	defer enough.Stop()
	for _, flushed := range pending {
		select {
		case <-flushed:
		case <-enough.C:
			return
		case <-lost:
			return
		case <-ctx.Done():
			return
		}
	}
}

// relink waits until the subscriptions of a watch have published once since the session was resumed, and then reads the points that
// did not change: that they did not is known only now. The first thing that is published may be a sign of life, and what was queued the next.
func (c *client) relink(ctx context.Context, w *watch, most int, link *channel.Channel) error {
	for _, sub := range w.items.subs {
		c.subs.mu.Lock()
		flushed, gone := sub.flushed, sub.gone
		c.subs.mu.Unlock()
		if gone {
			return errItems
		}
		if flushed == nil {
			continue
		}
		silent := time.NewTimer(sub.silence / 2)
		defer silent.Stop()
		select {
		case <-flushed:
			if c.subs.isGone(sub) {
				return errItems
			}
		case <-silent.C: // some servers activate the session on another channel, and leave its subscriptions on the old one
			c.subs.forget(sub)
			return errItems
		case <-ctx.Done():
			return ctx.Err()
		case <-link.Done():
			return c.endpoint.lost(link.Err())
		case <-w.resub:
			return errItems
		}
	}
	for _, sub := range w.items.subs {
		if !sleep(ctx, sub.revised) {
			return ctx.Err()
		}
	}
	which, points := w.doubted()
	if len(points) == 0 {
		return nil
	}
	values := make([]device.Value, len(points))
	if err := c.read(ctx, points, values, most); err != nil {
		return err
	}
	for k, i := range which {
		w.confirm(i, values[k])
	}
	return nil
}

// doubted are the points that have had no value since the gap.
func (w *watch) doubted() (which []int, points []*point) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, doubt := range w.doubt {
		if doubt {
			which, points = append(which, i), append(points, w.points[i])
		}
	}
	return which, points
}

// confirm delivers what was read of a point, unless something newer has come.
func (w *watch) confirm(i int, v device.Value) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.doubt != nil && w.doubt[i] {
		w.tell(i, v)
	}
}
