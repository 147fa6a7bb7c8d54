package opcua

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/channel"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

const (
	// defaultPublishing is for properties whose cycle is not known.
	defaultPublishing = time.Second
	// maxPublishing is the longest that publishingInterval allows; properties that are read more rarely get it.
	maxPublishing = time.Hour
	// retryItems is when monitored items that the server refused are tried again.
	retryItems = time.Minute
	// maxSlow is how many points of one watch may wait for a structure's description at a time.
	maxSlow = 1000
)

// errItems means that a watch's monitored items have to be made anew.
var errItems = errors.New("the server has dropped the subscription")

// watch is one call of Subscribe. notify is called with its lock held. It keeps no values: there may be 100,000 points.
type watch struct {
	session *session
	points  []*point
	notify  func(i int, v device.Value)
	resub   chan struct{} // has a token when the items are gone
	wake    chan struct{} // has a token when slow is not empty

	mu     sync.Mutex
	closed bool
	local  map[int]*localBand // of points whose deadband is applied here: the server refused it
	slow   map[int]uabin.DataValue
	gapped string // the reason of the gap that has been reported
	doubt  []bool // points that have had no value since; nil: there was no gap

	items *itemSet // at the client of the last connection; owned by Subscribe
}

// localBand is a deadband that the server does not apply.
type localBand struct {
	amount float64
	last   device.Value
}

// Subscribe implements device.Subscriber.
func (s *session) Subscribe(ctx context.Context, points []device.Point, notify func(i int, v device.Value)) error {
	if !s.begin() {
		return device.ErrClosed
	}
	defer s.calls.Done()
	ctx, leave := s.enter(ctx)
	defer leave()
	own, err := pointsOf(points)
	if err != nil {
		return err
	}
	if s.config.poll {
		return notSubscribable(len(points), "subscribe is false")
	}
	w := &watch{session: s, points: own, notify: notify, resub: make(chan struct{}, 1), wake: make(chan struct{}, 1), local: make(map[int]*localBand), slow: make(map[int]uabin.DataValue)}
	defer w.close()
	defer w.drop()
	c, err := s.endpoint.ready(ctx)
	for err == nil {
		err = c.watch(ctx, w, s.config.maxNodes)
		var refused *device.NotSubscribableError
		if ctx.Err() != nil || errors.As(err, &refused) {
			break
		}
		w.gap(device.Uncertain, fmt.Sprintf("%s; what changed since may be missing", reason(err)))
		c, err = s.again(ctx, w, c)
	}
	if ctx.Err() != nil {
		return s.closed(context.Cause(ctx))
	}
	return err
}

// again waits for a connection to subscribe anew.
func (s *session) again(ctx context.Context, w *watch, old *client) (*client, error) {
	for {
		c, changed, err := s.endpoint.state()
		if c != nil && (c != old || c.ch().Err() == nil) {
			// The same connection serves again, after a moment: a server that drops subscriptions must not be flooded with new ones.
			if c == old && w.items == nil && !sleep(ctx, time.Second) {
				return nil, ctx.Err()
			}
			return c, nil
		}
		if err != nil {
			w.gap(device.Bad, err.Error())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func notSubscribable(n int, why string) error {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return &device.NotSubscribableError{Points: all, Reason: why}
}

// close stops notifying: when it returns, notify is not called any more.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// gap tells that what is known of the points may not be so any more; once for each reason.
func (w *watch) gap(q device.Quality, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.gapped == why {
		return
	}
	w.gapped = why
	clear(w.slow)
	for _, band := range w.local {
		band.last = device.Value{}
	}
	if w.doubt == nil {
		w.doubt = make([]bool, len(w.points))
	}
	v := device.BadValue(why, time.Now()).Doubt(q, why)
	for i := range w.points {
		w.doubt[i] = true
		w.notify(i, v)
	}
}

// take delivers a change.
func (w *watch) take(c *client, i int, d uabin.DataValue, now time.Time) {
	if hasExtension(d.Value) && !c.structures.known(d.Value) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, ok := w.slow[i]; ok || len(w.slow) < maxSlow {
			w.slow[i] = d // the newest counts
		}
		signal(w.wake)
		return
	}
	w.deliver(i, c.value(context.Background(), w.points[i], d, now), quality(d.Status))
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// deliver notifies of a value, unless it lies within a deadband that the server does not apply.
func (w *watch) deliver(i int, v device.Value, q device.Quality) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if band := w.local[i]; band != nil {
		if q == device.Good && band.last.Quality == device.Good && numeric(v) && numeric(band.last) && math.Abs(v.AsFloat()-band.last.AsFloat()) <= band.amount {
			return
		}
		band.last = v
	}
	w.tell(i, v)
}

// tell notifies of a value. The lock is held.
func (w *watch) tell(i int, v device.Value) {
	w.gapped = ""
	if w.doubt != nil {
		w.doubt[i] = false
	}
	w.notify(i, v)
}

// drop gives the monitored items up.
func (w *watch) drop() {
	if w.items != nil {
		w.items.c.subs.drop(w.items)
		w.items = nil
	}
}

// settled forgets the doubt of a gap that is over.
func (w *watch) settled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doubt = nil
}

func numeric(v device.Value) bool {
	return v.Kind() == device.KindInt || v.Kind() == device.KindUint || v.Kind() == device.KindFloat
}

// fail reports a point that cannot be watched.
func (w *watch) fail(i int, why string) { w.deliver(i, device.BadValue(why, time.Now()), device.Bad) }

// drain delivers the values whose structures had to be asked for.
func (w *watch) drain(ctx context.Context, c *client) {
	w.mu.Lock()
	slow := w.slow
	w.slow = make(map[int]uabin.DataValue)
	w.mu.Unlock()
	for i, d := range slow {
		v := c.value(ctx, w.points[i], d, time.Now())
		if ctx.Err() != nil {
			return
		}
		w.deliver(i, v, quality(d.Status))
	}
}

// watch makes a watch's monitored items, unless the session still has them, and waits until they have to be made anew, the channel has
// ended or ctx has. It returns why.
func (c *client) watch(ctx context.Context, w *watch, most int) error {
	link := c.ch()
	err := c.follow(ctx, w, most, link)
	if link.Err() == nil || errors.Is(err, errUnfinished) || errors.Is(err, errItems) {
		w.drop() // with its channel the session has not ended: the items wait, unless the server has ended them
	}
	return err
}

// errUnfinished means that the channel ended while monitored items were being made.
var errUnfinished = errors.New("the connection was lost while monitored items were made")

func (c *client) follow(ctx context.Context, w *watch, most int, link *channel.Channel) error {
	var retry <-chan time.Time
	if w.items != nil && w.items.c == c {
		if err := c.relink(ctx, w, most, link); err != nil {
			return err
		}
	} else {
		drainSignal(w.resub)
		w.items = &itemSet{c: c, w: w, base: c.subs.register(w)}
		failed, err := c.monitor(ctx, w, w.items, most)
		if err != nil && link.Err() != nil {
			return c.unfinished(w, err)
		} else if err != nil {
			return err
		}
		w.items.failed = failed
	}
	if w.items.failed {
		t := time.NewTimer(retryItems)
		defer t.Stop()
		retry = t.C
	}
	w.settled()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-link.Done():
			return c.endpoint.lost(link.Err())
		case <-w.resub:
			return errItems
		case <-w.wake:
			w.drain(ctx, c)
		case <-retry:
			return errors.New("monitored items that the server refused are tried again")
		}
	}
}

// unfinished gives up the subscriptions of a watch whose items were being made: it is not known which the server has.
func (c *client) unfinished(w *watch, err error) error {
	for _, sub := range w.items.subs {
		c.subs.forget(sub)
		c.subs.mu.Lock()
		c.subs.ended = append(c.subs.ended, sub.id)
		c.subs.mu.Unlock()
	}
	return fmt.Errorf("%w: %w", errUnfinished, err)
}

func drainSignal(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// monitor makes a monitored item of each point. failed tells that some could not be made; these are reported with the server's
// reason.
func (c *client) monitor(ctx context.Context, w *watch, items *itemSet, most int) (failed bool, err error) {
	targets, err := c.targetsOf(ctx, w.points)
	if err != nil {
		return false, err
	}
	groups := make(map[time.Duration][]int)
	for i, t := range targets {
		if t.err != nil {
			w.fail(i, t.err.Error())
			failed = true
			continue
		}
		publishing := w.how(i).publishing
		groups[publishing] = append(groups[publishing], i)
	}
	var polled device.NotSubscribableError
	for publishing, points := range groups {
		sub, err := c.subscription(ctx, w, publishing)
		if err != nil {
			if errors.Is(err, device.ErrUnreachable) || ctx.Err() != nil {
				return failed, err
			}
			return failed, notSubscribable(len(w.points), "the server makes no subscription: "+reason(err))
		}
		items.use(sub)
		m := &monitoring{c: c, w: w, sub: sub, items: items, targets: targets, polled: &polled, size: min(most, c.limits.monitor)}
		if err := m.create(ctx, points, true); err != nil {
			return failed, err
		}
		failed = failed || m.failed
	}
	if len(polled.Points) > 0 {
		return failed, &polled
	}
	return failed, nil
}

// monitoring is the making of monitored items in one subscription.
type monitoring struct {
	c       *client
	w       *watch
	sub     *serverSub
	items   *itemSet
	targets []target
	polled  *device.NotSubscribableError
	size    int
	failed  bool
}

// create makes items in batches; those whose filter is refused are tried again without it.
func (m *monitoring) create(ctx context.Context, points []int, filtered bool) error {
	var unfiltered []int
	for len(points) > 0 {
		batch := points[:min(len(points), m.size)]
		again, err := m.send(ctx, batch, filtered)
		if tooMuch(err) && len(batch) > 1 {
			m.size = (len(batch) + 1) / 2
			continue
		}
		if err != nil {
			return err
		}
		unfiltered = append(unfiltered, again...)
		points = points[len(batch):]
	}
	if len(unfiltered) == 0 {
		return nil
	}
	return m.create(ctx, unfiltered, false)
}

func (m *monitoring) send(ctx context.Context, batch []int, filtered bool) (unfiltered []int, err error) {
	req := &ua.CreateMonitoredItemsRequest{SubscriptionID: m.sub.id, TimestampsToReturn: ua.TimestampsToReturnBoth}
	for _, i := range batch {
		h := m.w.how(i)
		p := &ua.MonitoringParameters{ClientHandle: m.items.base + uint32(i), SamplingInterval: float64(h.sampling) / float64(time.Millisecond), QueueSize: h.queue, DiscardOldest: h.oldest}
		if f := h.filter(filtered); f != nil {
			p.Filter = ua.NewExtensionObject(f)
		}
		req.ItemsToCreate = append(req.ItemsToCreate, &ua.MonitoredItemCreateRequest{
			ItemToMonitor: readValue(m.targets[i].node, ua.AttributeIDValue, m.w.points[i].extra().index), MonitoringMode: ua.MonitoringModeReporting, RequestedParameters: p,
		})
	}
	got, err := m.c.call(ctx, req)
	res, ok := got.(*ua.CreateMonitoredItemsResponse)
	if err == nil && (!ok || len(res.Results) != len(batch)) {
		err = device.Unreachable("%s: the server answers the making of %d monitored items with something else", m.c.endpoint.config.String(), len(batch))
	}
	if err != nil {
		var code ua.StatusCode
		if errors.As(err, &code) && (code == ua.StatusBadSubscriptionIDInvalid || code == ua.StatusBadNoSubscription) {
			m.c.subs.forget(m.sub)
		}
		return nil, err
	}
	for k, i := range batch {
		r := res.Results[k]
		if quality(r.StatusCode) != device.Bad {
			m.items.add(m.sub, r.MonitoredItemID)
			m.setLocal(i, !filtered)
			continue
		}
		switch {
		case filtered && refusedFilter(r.StatusCode) && m.w.how(i).filter(true) != nil:
			unfiltered = append(unfiltered, i)
		case r.StatusCode == ua.StatusBadTooManyMonitoredItems || r.StatusCode == ua.StatusBadNotSupported || r.StatusCode == ua.StatusBadServiceUnsupported:
			m.polled.Points, m.polled.Reason = append(m.polled.Points, i), statusText(r.StatusCode)
		default:
			m.w.fail(i, statusText(r.StatusCode))
			m.failed = true
		}
	}
	return unfiltered, nil
}

// setLocal says whether a point's deadband is applied here.
func (m *monitoring) setLocal(i int, local bool) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	delete(m.w.local, i)
	if h := m.w.how(i); local && h.deadband > 0 && !h.percent {
		m.w.local[i] = &localBand{amount: h.deadband}
	}
}

// how is how a point is watched.
func (w *watch) how(i int) sampling { return w.session.sampling(w.points[i]) }

func refusedFilter(code ua.StatusCode) bool {
	switch code {
	case ua.StatusBadFilterNotAllowed, ua.StatusBadMonitoredItemFilterInvalid, ua.StatusBadMonitoredItemFilterUnsupported, ua.StatusBadDeadbandFilterInvalid, ua.StatusBadTypeMismatch:
		return true
	default:
		return false
	}
}
