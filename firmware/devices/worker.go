package devices

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/firmware/wire"
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

// worker runs one device: an actor that owns the twin and the driver session. post, due and assign may be called by
// anyone; everything else belongs to the goroutine in run.
type worker struct {
	host *Host
	key  wire.Key
	log  *slog.Logger
	stop context.CancelFunc
	done chan struct{}

	mailMu sync.Mutex
	mail   mail
	ended  bool // nobody reads mail any more
	wake   chan struct{}

	mu      sync.Mutex // guards what follows, for Status; held while the actor works, never during I/O
	plan    *plan
	twins   map[string]*propertyTwin
	groups  map[time.Duration]task // the schedule of each collectCycle in use
	nextID  task
	pending map[task]bool // groups that are due

	session    device.Session
	openedAt   time.Time
	opening    *call
	reading    *call
	writing    *call
	begun      uint64    // driver calls so far
	hanging    int       // calls given up that have not come back
	restarts   int       // in a row
	retryAt    time.Time // when to open again
	crashed    string    // why the last session ended, until a read succeeds
	watching   bool      // taskDeadline is armed
	flushing   bool      // taskFlush is armed
	reach      reachability
	reachWhy   string
	lastOnline time.Time

	staged  staged
	alarmAt time.Time // taskAlarm is armed for it

	status   statusState
	durable  []TwinRecord // to commit after the lock is released
	failures bool         // the last commit failed; logged once
}

// reachability is what the last finished read says about the device.
type reachability uint8

const (
	reachUnknown reachability = iota
	reachOnline
	reachOffline
)

// mail is what others want of the worker.
type mail struct {
	plan    *plan
	tasks   []task
	results []result
}

// call is one driver call under way.
type call struct {
	kind     callKind
	number   uint64 // in the order in which calls were begun
	deadline time.Time
	cancel   context.CancelFunc
	items    []item
	points   []device.Point
	values   []device.Value
	writes   []device.Write
}

type callKind uint8

const (
	callOpen callKind = iota
	callRead
	callWrite
)

// result is a finished call.
type result struct {
	call    *call
	err     error
	session device.Session
	writes  []device.WriteResult
}

func newWorker(h *Host, key wire.Key) *worker {
	return &worker{
		host: h, key: key, done: make(chan struct{}), wake: make(chan struct{}, 1),
		log:   h.log.With("device", key.Namespace()+"/"+key.Name()),
		twins: make(map[string]*propertyTwin), groups: make(map[time.Duration]task), nextID: taskGroup, pending: make(map[task]bool),
	}
}

func (w *worker) assign(p *plan) { w.deliver(func(m *mail) { m.plan = p }) }

// post hands in a finished call. A session that comes after the worker has ended is closed: nobody else knows of it.
func (w *worker) post(r result) {
	w.mailMu.Lock()
	ended := w.ended
	if !ended {
		w.mail.results = append(w.mail.results, r)
	}
	w.mailMu.Unlock()
	if ended && r.session != nil {
		w.closeLater(r.session)
	}
	w.poke()
}

// due is called by the scheduler; a task that is already waiting is not queued twice, so a slow device skips cycles
// instead of falling behind.
func (w *worker) due(t task) {
	w.deliver(func(m *mail) {
		if !slices.Contains(m.tasks, t) {
			m.tasks = append(m.tasks, t)
		}
	})
}

func (w *worker) deliver(change func(*mail)) {
	w.mailMu.Lock()
	change(&w.mail)
	w.mailMu.Unlock()
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run is the actor. It returns after ctx ended, the session is closed and what was not yet persisted is.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	w.load()
	for {
		select {
		case <-ctx.Done():
			w.shutdown()
			return
		case <-w.wake:
		}
		w.mailMu.Lock()
		m := w.mail
		w.mail = mail{}
		w.mailMu.Unlock()
		if err := guard(func() error {
			w.step(ctx, m, time.Now())
			return nil
		}); err != nil {
			w.survive(err)
		}
		w.commit(ctx)
	}
}

// survive goes on after a panic of the worker's own code or of a driver's String: one device must not stop the others.
func (w *worker) survive(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var p *panicError
	errors.As(err, &p)
	w.log.Error("handling this device panicked; please report it with this stack", "err", err, "stack", string(p.stack))
	now := time.Now()
	w.retryAt = now.Add(restartLimit)
	w.host.sched.set(w, taskRetry, w.retryAt, 0)
	w.dropSession("the agent failed to handle this device: " + oneLine(err))
	w.reach, w.reachWhy = reachOffline, w.crashed
	if err := guard(func() error { w.publish(now); return nil }); err != nil {
		w.log.Error("reporting that failed too", "err", err)
	}
}

func (w *worker) step(ctx context.Context, m mail, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.plan != nil {
		w.adopt(m.plan, now)
	}
	for _, r := range m.results {
		w.finish(r, now)
	}
	for _, t := range m.tasks {
		w.onTask(t, now)
	}
	w.advance(ctx, now)
	w.publish(now)
}

func (w *worker) onTask(t task, now time.Time) {
	switch t {
	case taskRetry: // advance looks at the clock
	case taskDeadline:
		w.watching = false
		w.giveUp(now)
	case taskFlush:
		w.flushing = false
		w.flush()
	case taskAlarm:
		w.alarmAt = time.Time{}
		w.tickAlarms(now)
	default:
		w.pending[t] = true
	}
}

// adopt takes over a new version of the device and touches only what it changes.
func (w *worker) adopt(p *plan, now time.Time) {
	old := w.plan
	w.plan = p
	if old == nil || !old.sameSession(p) {
		w.dropSession("")
		w.restarts, w.retryAt, w.crashed = 0, time.Time{}, ""
		w.reach, w.reachWhy = reachUnknown, ""
	}
	w.forget(p)
	w.adoptTwins(p, now)
	w.adoptStage(old, now)
	w.regroup(now)
	w.status.force = true
}

// regroup arms one schedule for each collectCycle in use, and leaves those that were running alone.
func (w *worker) regroup(now time.Time) {
	used := make(map[time.Duration]bool)
	if w.plan.driver != nil {
		for i := range w.plan.properties {
			if w.plan.properties[i].point != nil {
				used[w.plan.properties[i].collect] = true
			}
		}
	}
	for period, id := range w.groups {
		if !used[period] {
			w.host.sched.clear(w, id)
			delete(w.groups, period)
			delete(w.pending, id)
		}
	}
	for period := range used {
		id, running := w.groups[period]
		if !running {
			id = w.nextID
			w.nextID++
			w.groups[period] = id
			w.host.sched.set(w, id, now.Add(period), period)
		}
		w.pending[id] = true // something about the device changed: look now
	}
}

// advance starts what can be started.
func (w *worker) advance(ctx context.Context, now time.Time) {
	if w.plan == nil || w.plan.driver == nil {
		return
	}
	if w.session == nil {
		if w.opening == nil && w.hanging < maxHanging && !now.Before(w.retryAt) {
			w.open(ctx, now)
		}
		return
	}
	if w.writing == nil {
		w.startWrite(ctx, now)
	}
	if w.reading == nil && len(w.pending) > 0 {
		w.startRead(ctx, now)
	}
}

// begin prepares a driver call and arms the watch over it.
func (w *worker) begin(ctx context.Context, kind callKind, now time.Time) (*call, context.Context) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	w.begun++
	c := &call{kind: kind, number: w.begun, deadline: now.Add(callTimeout + callGrace), cancel: cancel}
	if !w.watching {
		w.watching = true
		w.host.sched.set(w, taskDeadline, c.deadline, 0)
	}
	return c, callCtx
}

// start runs fn guarded, in a goroutine that posts its result. The goroutine cannot be waited for unconditionally: a driver
// that never returns is exactly what it isolates.
func (w *worker) start(c *call, fn func() result) {
	w.host.calls.Add(1)
	go func() {
		defer w.host.calls.Add(-1)
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

func (w *worker) open(ctx context.Context, now time.Time) {
	c, callCtx := w.begin(ctx, callOpen, now)
	w.opening = c
	driver, cfg := w.plan.driver, w.plan.config
	w.start(c, func() result {
		s, err := driver.Open(callCtx, cfg)
		return result{session: s, err: err}
	})
}

// finish takes over the result of a call. The result of a call that was given up, or that belongs to a session that
// was dropped meanwhile, only frees what it holds.
func (w *worker) finish(r result, now time.Time) {
	switch r.call {
	case w.opening:
		w.opening = nil
		if r.err != nil {
			w.crash(now, "the session cannot be opened: "+oneLine(r.err), r.err)
			return
		}
		w.session, w.openedAt = r.session, now
	case w.reading:
		w.reading = nil
		if !w.endsSession(r.err, now) {
			w.finishRead(r, now)
		}
	case w.writing:
		w.writing = nil
		if !w.endsSession(r.err, now) {
			w.finishWrite(r, now)
		}
	default:
		w.hanging--
		if r.session != nil {
			w.closeLater(r.session)
		}
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
	for _, c := range []*call{w.opening, w.reading, w.writing} {
		switch {
		case c == nil:
		case !now.Before(c.deadline):
			w.crash(now, "the driver did not return from a call within "+(callTimeout+callGrace).String(), nil)
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
	w.doubtAll(why)
}

// dropSession forgets the session and the calls on it, and closes it beside the actor.
func (w *worker) dropSession(why string) {
	for _, c := range []**call{&w.opening, &w.reading, &w.writing} {
		if *c != nil {
			(*c).cancel()
			w.hanging++
			*c = nil
		}
	}
	if w.session != nil {
		w.closeLater(w.session)
		w.session = nil
	}
	w.crashed = why
}

func (w *worker) closeLater(s device.Session) {
	w.host.calls.Add(1)
	go func() {
		defer w.host.calls.Add(-1)
		if err := guard(s.Close); err != nil {
			w.log.Warn("closing the driver session failed", "err", err)
		}
	}()
}

// shutdown closes the session, waits a bounded time for the driver, and persists.
func (w *worker) shutdown() {
	w.host.sched.drop(w)
	w.mu.Lock()
	s := w.session
	w.session = nil
	w.flush()
	w.mu.Unlock()
	if s != nil {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_ = guard(s.Close) // nothing is left that could be done about it
		}()
		timer := time.NewTimer(callGrace)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
			w.log.Warn("the driver did not close its session; it is left behind")
		}
	}
	w.mailMu.Lock()
	w.ended = true
	left := w.mail.results
	w.mailMu.Unlock()
	for _, r := range left {
		if r.session != nil {
			w.closeLater(r.session)
		}
	}
	w.commit(context.Background())
}

// jitter spreads d over [0.75 d, 1.25 d), so that devices that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}
