package devices

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// Limits of driver calls. They are far above what a driver needs by its own time-outs: they catch what went wrong in it.
const (
	callTimeout  = 10 * time.Second // the context of every driver call ends then …
	callGrace    = 2 * time.Second  // … and a call that is not back after this is given up
	restartBase  = time.Second      // back-off before a driver session is opened again
	restartLimit = time.Minute
	steadyAfter  = time.Minute // a session that lived this long starts a new back-off
	maxHanging   = 4           // calls given up that still hang, until when no session is opened any more
)

// call is one driver call under way.
type call struct {
	kind     callKind
	number   uint64        // in the order in which calls were begun
	limit    time.Duration // 0: none
	deadline time.Time
	cancel   context.CancelFunc
	batch    *batch // of a read
	items    []item // of a write
	ask      *ask
}

type callKind uint8

const (
	callOpen callKind = iota
	callRead
	callWrite
	callSubscribe
	callAsk
)

// result is a finished call.
type result struct {
	call    *call
	err     error
	session device.Session
	writes  []device.WriteResult
	answer  answer // of an ask
}

// callCount counts driver calls under way, hanging ones included.
type callCount struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n is 0, made when somebody waits
}

func (c *callCount) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *callCount) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Load returns the count.
func (c *callCount) Load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// wait waits until no call is under way, and not longer than limit. It returns how many are left.
func (c *callCount) wait(limit time.Duration) int {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return 0
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	return c.Load()
}

// begin prepares a driver call and arms the watch over it. limit 0 means that it may take any time.
func (w *worker) begin(kind callKind, limit time.Duration, now time.Time) (*call, context.Context) {
	w.begun++
	c := &call{kind: kind, number: w.begun, limit: limit}
	ctx := w.ctx
	if limit > 0 {
		ctx, c.cancel = context.WithTimeout(ctx, limit)
		c.deadline = now.Add(limit + callGrace)
		if !w.watching {
			w.watching = true
			w.host.sched.set(w, taskDeadline, c.deadline, 0)
		}
	} else {
		ctx, c.cancel = context.WithCancel(ctx)
	}
	w.calls = append(w.calls, c)
	return c, ctx
}

// start runs fn guarded, in a goroutine that posts its result. The goroutine cannot be waited for unconditionally: a driver
// that never returns is exactly what it isolates.
func (w *worker) start(c *call, fn func() result) {
	w.host.calls.add()
	go func() {
		defer w.host.calls.done()
		defer c.cancel()
		var r result
		err := guard(func() error {
			r = fn()
			return r.err
		})
		r.call, r.err = c, err
		w.post(r)
	}()
}

func (w *worker) open(now time.Time) {
	c, ctx := w.begin(callOpen, callTimeout, now)
	w.opening = c
	driver, cfg := w.plan.driver, w.plan.config
	w.start(c, func() result {
		s, err := driver.Open(ctx, cfg)
		return result{session: s, err: err}
	})
}

// finish takes over the result of a call. The result of a call that was given up, or that belongs to a session that
// was dropped meanwhile, only frees what it holds.
func (w *worker) finish(r result, now time.Time) {
	i := slices.Index(w.calls, r.call)
	if i < 0 {
		w.hanging--
		if r.session != nil {
			w.closeLater(r.session)
		}
		return
	}
	w.calls = slices.Delete(w.calls, i, i+1)
	switch r.call.kind {
	case callOpen:
		w.opening = nil
		if r.err != nil {
			w.crash(now, "the session cannot be opened: "+oneLine(r.err), r.err)
			return
		}
		w.session, w.openedAt, w.mayWrite = r.session, now, true
		w.follow()
	case callRead:
		w.reading = nil
		if !w.endsSession(r.err, now) {
			w.finishRead(r, now)
		}
	case callWrite:
		w.writing = nil
		if !w.endsSession(r.err, now) {
			w.finishWrite(r, now)
		}
	case callSubscribe:
		if !w.endsSession(r.err, now) {
			w.finishSubscribe(r, now)
		}
	case callAsk:
		w.finishAsk(r, now)
		w.endsSession(r.err, now)
	}
}

// endsSession handles the errors after which the session is not used any more.
func (w *worker) endsSession(err error, now time.Time) bool {
	var p *panicError
	switch {
	case errors.As(err, &p):
		w.crash(now, err.Error(), err)
		return true
	case errors.Is(err, device.ErrClosed):
		w.crash(now, "the driver closed the session", err)
		return true
	}
	return false
}

// giveUp abandons calls that are past their deadline and watches the others.
func (w *worker) giveUp(now time.Time) {
	var next time.Time
	for _, c := range w.calls {
		switch {
		case c.limit == 0:
		case !now.Before(c.deadline):
			w.crash(now, "the driver did not return from a call within "+(c.limit+callGrace).String(), nil)
			return
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	if !next.IsZero() {
		w.watching = true
		w.host.sched.set(w, taskDeadline, next, 0)
	}
}

// crash ends the session after a fault of the driver and arms the restart.
func (w *worker) crash(now time.Time, why string, err error) {
	if now.Sub(w.openedAt) > steadyAfter && w.session != nil {
		w.restarts = 0
	}
	w.restarts++
	delay := jitter(twin.Backoff(w.restarts, restartBase, restartLimit))
	w.retryAt = now.Add(delay)
	w.host.sched.set(w, taskRetry, w.retryAt, 0)
	w.dropSession(why)
	var p *panicError
	if errors.As(err, &p) {
		w.log.Error("driver panicked; this device's session is restarted", "err", err, "in", delay, "stack", string(p.stack))
	} else {
		w.log.Warn("driver session ended; it is restarted", "why", why, "in", delay)
	}
	if w.restarts == 1 {
		w.event(eventWarning, "DriverRestarted", why+"; the device's session is restarted alone")
	}
	w.reach, w.reachWhy = reachOffline, why
	w.doubtAll(why, now)
	w.failWaits(errors.New(why))
}

// dropSession forgets the session and the calls on it, and closes it beside the actor.
func (w *worker) dropSession(why string) {
	for _, c := range w.calls {
		c.cancel()
		w.hanging++
		if c.ask != nil {
			w.reply(c.ask, answer{err: unreachable(why)})
		}
	}
	w.calls, w.opening, w.reading, w.writing = w.calls[:0:0], nil, nil, nil
	w.unsubscribe()
	w.sub.polled, w.sub.retryAt, w.sub.failures = nil, time.Time{}, 0 // a new session may know better
	for _, g := range w.groups {
		g.batch, g.pending = nil, true // a call that was given up may still write to its batch
	}
	if w.session != nil {
		w.closeLater(w.session)
		w.session = nil
	}
	w.crashed = why
}

func (w *worker) closeLater(s device.Session) {
	w.host.calls.add()
	go func() {
		defer w.host.calls.done()
		if err := guard(s.Close); err != nil {
			w.log.Warn("closing the driver session failed", "err", err)
		}
	}()
}

// jitter spreads d over [0.75 d, 1.25 d), so that devices that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}
