package opcua

import (
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/channel"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

const (
	// maxPublish is how many PublishRequests a server holds at most.
	maxPublish = 10
	// keepAlive is how often a subscription without changes says that it lives.
	keepAlive = 5 * time.Second
	// maxNotifications limits how many changes come in one response: 10,000 would take 2 MB of memory on their way.
	maxNotifications = 2000
)

// serverSub is one subscription at the server. Watches of any device of the endpoint with the same interval share it.
type serverSub struct {
	id       uint32
	interval time.Duration
	revised  time.Duration
	silence  time.Duration // after which it is lost
	// The fields below are guarded by subscriptions.mu.
	users   int // watches that are making items, or have some
	watches map[*watch]int
	next    uint32 // sequence number that comes next; 0 before the first one
	heard   time.Time
	gone    bool
	flushed chan struct{} // closed, and nil, once all has come that was queued when the session was resumed, or nothing can come any more
}

// flush lets those go on who wait for what was queued. The lock of the subscriptions is held.
func (sub *serverSub) flush() {
	if sub.flushed != nil {
		close(sub.flushed)
		sub.flushed = nil
	}
}

// handles are the client's handles of a watch's monitored items: base+i is that of point i.
type handles struct {
	base, n uint32
	w       *watch
}

// subscriptions are a connection's. The goroutine of the endpoint publishes; the others are any caller's.
type subscriptions struct {
	replies chan channel.Reply
	wake    chan struct{}
	making  chan struct{} // holds a token while no subscription is being made

	mu      sync.Mutex
	byTime  map[time.Duration]*serverSub
	byID    map[uint32]*serverSub
	handles []handles           // by base; they do not overlap
	next    uint32              // handle to go on with: those of a watch that ended are not used again soon
	deleted map[uint32][]uint32 // monitored items to delete, by subscription
	ended   []uint32            // subscriptions to delete
	resumed time.Time           // when the session was resumed last

	// Owned by the endpoint's goroutine.
	acks        []*ua.SubscriptionAcknowledgement
	outstanding int
	most        int
	trash       chan channel.Reply
}

func (s *subscriptions) init() {
	s.replies, s.wake, s.making = make(chan channel.Reply, 2*maxPublish), make(chan struct{}, 1), make(chan struct{}, 1)
	s.making <- struct{}{}
	s.byTime, s.byID, s.next = make(map[time.Duration]*serverSub), make(map[uint32]*serverSub), 1
	s.deleted, s.most, s.trash = make(map[uint32][]uint32), maxPublish, make(chan channel.Reply)
}

// itemSet is the monitored items of one watch.
type itemSet struct {
	c      *client
	w      *watch
	base   uint32 // handle of its first point
	subs   []*serverSub
	ids    map[*serverSub][]uint32
	failed bool // some could not be made: they are tried again
}

// use counts a watch as a user of a subscription, which the caller has reserved.
func (s *itemSet) use(sub *serverSub) { s.subs = append(s.subs, sub) }

func (s *itemSet) add(sub *serverSub, id uint32) {
	if s.ids == nil {
		s.ids = make(map[*serverSub][]uint32)
	}
	s.ids[sub] = append(s.ids[sub], id)
}

// register gives the points of a watch handles, from the one that it returns. Changes may come before the server's answer to the making of
// the items.
func (s *subscriptions) register(w *watch) (base uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint32(max(len(w.points), 1))
	base = s.next
	if base > math.MaxUint32-n {
		base = 1
	}
	at := 0
	for at < len(s.handles) && s.handles[at].base < base+n { // past those that are in the way
		if h := s.handles[at]; h.base+h.n > base {
			base = h.base + h.n
		}
		at++
	}
	s.handles = slices.Insert(s.handles, at, handles{base, n, w})
	s.next = base + n
	return base
}

func (s *subscriptions) unregister(base uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles = slices.DeleteFunc(s.handles, func(h handles) bool { return h.base == base })
}

// find returns whose handle it is; nil: nobody's. The lock is held.
func (s *subscriptions) find(handle uint32) (*watch, int) {
	at := sort.Search(len(s.handles), func(k int) bool { return s.handles[k].base > handle }) - 1
	if at < 0 || handle-s.handles[at].base >= s.handles[at].n {
		return nil, 0
	}
	return s.handles[at].w, int(handle - s.handles[at].base)
}

// drop forgets a watch's items at once, and has them deleted at the server.
func (s *subscriptions) drop(set *itemSet) {
	s.unregister(set.base)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range set.subs {
		if sub.users--; sub.watches[set.w] > 1 {
			sub.watches[set.w]--
		} else {
			delete(sub.watches, set.w)
		}
		switch {
		case sub.gone:
		case sub.users == 0:
			s.remove(sub)
			s.ended = append(s.ended, sub.id)
		default:
			s.deleted[sub.id] = append(s.deleted[sub.id], set.ids[sub]...)
		}
	}
	signal(s.wake)
}

// remove takes a subscription out of the tables. The lock is held.
func (s *subscriptions) remove(sub *serverSub) {
	sub.gone = true
	sub.flush()
	delete(s.byID, sub.id)
	delete(s.deleted, sub.id)
	if s.byTime[sub.interval] == sub {
		delete(s.byTime, sub.interval)
	}
}

// forget gives up a subscription that the server has dropped: its watches make everything anew.
func (s *subscriptions) forget(sub *serverSub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.gone {
		return
	}
	s.remove(sub)
	for w := range sub.watches {
		signal(w.resub)
	}
}

func (s *subscriptions) isGone(sub *serverSub) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sub.gone
}

// orphan has a subscription deleted that the server has and nobody here knows: the answer to its making was lost, or it was given up. While one is
// being made it may be that one.
func (s *subscriptions) orphan(id uint32) {
	select {
	case <-s.making:
		s.making <- struct{}{}
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] == nil && !slices.Contains(s.ended, id) {
		s.ended = append(s.ended, id)
	}
}

// subscription returns the subscription with an interval, reserved for the caller's watch; it is made if there is none.
func (c *client) subscription(ctx context.Context, w *watch, interval time.Duration) (*serverSub, error) {
	s := &c.subs
	select {
	case <-s.making:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { s.making <- struct{}{} }()
	s.mu.Lock()
	if sub := s.byTime[interval]; sub != nil {
		defer s.mu.Unlock()
		sub.users++
		sub.watches[w]++
		return sub, nil
	}
	s.mu.Unlock()
	alive := max(uint32(keepAlive/interval), 1)
	req := &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: float64(interval) / float64(time.Millisecond), RequestedMaxKeepAliveCount: alive,
		RequestedLifetimeCount: max(3*alive, uint32(c.endpoint.config.sessionTimeout/interval)), MaxNotificationsPerPublish: maxNotifications, PublishingEnabled: true,
	}
	got, err := c.call(ctx, req)
	if err != nil {
		return nil, err
	}
	res, ok := got.(*ua.CreateSubscriptionResponse)
	if !ok {
		return nil, errors.New("the server answers with something else")
	}
	revised := time.Duration(res.RevisedPublishingInterval * float64(time.Millisecond))
	if !(res.RevisedPublishingInterval > 0 && res.RevisedPublishingInterval < 1e9) {
		revised = interval
	}
	sub := &serverSub{id: res.SubscriptionID, interval: interval, revised: revised, watches: map[*watch]int{w: 1}, users: 1, heard: time.Now()}
	sub.silence = 2*time.Duration(min(max(res.RevisedMaxKeepAliveCount, 1), 1e6))*revised + 2*c.endpoint.config.timeout
	s.mu.Lock()
	s.byTime[interval], s.byID[sub.id] = sub, sub
	s.mu.Unlock()
	signal(s.wake)
	return sub, nil
}

// keepPublishing gives the server enough PublishRequests, deletes what nobody watches any more, and notices subscriptions
// that are silent for too long.
func (c *client) keepPublishing(ctx context.Context) {
	s := &c.subs
	if c.ch().Err() != nil {
		return // what there is to say is said when the session is resumed
	}
	s.mu.Lock()
	want := 0
	if n := len(s.byID); n > 0 {
		want = min(n+1, s.most)
	}
	var deleted map[uint32][]uint32 // never the map that others write
	if len(s.deleted) > 0 {
		deleted, s.deleted = s.deleted, make(map[uint32][]uint32)
	}
	ended := s.ended
	s.ended = nil
	var lost []*serverSub
	for _, sub := range s.byID {
		if time.Since(sub.heard) > sub.silence {
			lost = append(lost, sub)
		}
	}
	s.mu.Unlock()
	for _, sub := range lost {
		s.forget(sub)
	}
	for id, items := range deleted {
		for part := range slices.Chunk(items, c.limits.monitor) {
			c.send(ctx, &ua.DeleteMonitoredItemsRequest{SubscriptionID: id, MonitoredItemIDs: part}, s.trash)
		}
	}
	if len(ended) > 0 {
		c.send(ctx, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: ended}, s.trash)
	}
	for s.outstanding < want {
		acks := s.acks[:min(len(s.acks), 100)]
		if !c.send(ctx, &ua.PublishRequest{SubscriptionAcknowledgements: append([]*ua.SubscriptionAcknowledgement{}, acks...)}, s.replies) {
			return
		}
		s.acks = append(s.acks[:0], s.acks[len(acks):]...)
		s.outstanding++
	}
}

// send sends a request whose reply is not waited for here.
func (c *client) send(ctx context.Context, req ua.Request, to chan<- channel.Reply) bool {
	ctx, cancel := context.WithTimeout(ctx, c.endpoint.config.timeout)
	defer cancel()
	_, err := c.ch().Go(ctx, req, c.auth, to)
	return err == nil
}

// published hands out one response to a PublishRequest.
func (c *client) published(ctx context.Context, r channel.Reply) {
	s := &c.subs
	s.outstanding--
	res, ok := r.Response.(*uabin.PublishResponse)
	if r.Err != nil || !ok {
		c.notPublished(r.Err)
		return
	}
	s.mu.Lock()
	sub := s.byID[res.Subscription]
	s.mu.Unlock()
	if sub == nil {
		s.acknowledge(res.Subscription, &res.Message)
		c.distribute(res.Message.Changes)
		s.orphan(res.Subscription)
	} else if lost := c.take(sub, &res.Message); lost || res.Message.HasStatus && quality(res.Message.Status) != device.Good {
		s.forget(sub)
	} else if !res.More {
		s.mu.Lock()
		sub.flush()
		s.mu.Unlock()
	}
	c.keepPublishing(ctx)
}

// take hands out a message of a subscription. It tells whether messages before it are lost.
func (c *client) take(sub *serverSub, m *uabin.Notification) (lost bool) {
	s := &c.subs
	s.mu.Lock()
	sub.heard = time.Now()
	lost = sub.next != 0 && m.Sequence != 0 && m.Sequence != sub.next
	if sub.next = m.Sequence; !m.KeepAlive {
		if sub.next++; sub.next == 0 {
			sub.next = 1
		}
	}
	s.mu.Unlock()
	s.acknowledge(sub.id, m)
	c.distribute(m.Changes)
	return lost
}

// acknowledge notes that the server need not keep a message any more.
func (s *subscriptions) acknowledge(id uint32, m *uabin.Notification) {
	if !m.KeepAlive && len(s.acks) < 1000 {
		s.acks = append(s.acks, &ua.SubscriptionAcknowledgement{SubscriptionID: id, SequenceNumber: m.Sequence})
	}
}

// distribute gives changes to the watches.
func (c *client) distribute(changes []uabin.Change) {
	now := time.Now()
	s := &c.subs
	for part := range slices.Chunk(changes, len(room{})) {
		var to room
		s.mu.Lock()
		for k, ch := range part {
			to[k].w, to[k].i = s.find(ch.Handle)
		}
		s.mu.Unlock()
		for k, ch := range part {
			if to[k].w != nil {
				to[k].w.take(c, to[k].i, ch.Value, now)
			}
		}
	}
}

// room is for where some changes go.
type room [256]struct {
	w *watch
	i int
}

// notPublished judges why a PublishRequest failed. It is sent again with the next tick.
func (c *client) notPublished(err error) {
	s := &c.subs
	var code ua.StatusCode
	switch {
	case !errors.As(err, &code):
	case lostSession(err):
		c.ch().Abort(err)
	case code == ua.StatusBadTooManyPublishRequests:
		s.most = max(s.outstanding, 1)
	case code == ua.StatusBadNoSubscription:
		s.mu.Lock()
		all := make([]*serverSub, 0, len(s.byID))
		for _, sub := range s.byID {
			all = append(all, sub)
		}
		s.mu.Unlock()
		for _, sub := range all {
			s.forget(sub)
		}
	}
}
