package devices

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// worker runs one device: an actor that owns the twins and the driver session. It has a goroutine only while there is mail. post,
// due, assign, ask and halt may be called by anyone; everything else belongs to the goroutine in drain.
type worker struct {
	host   *Host
	key    wire.Key
	log    *slog.Logger
	ctx    context.Context // of the driver's calls
	cancel context.CancelFunc
	done   chan struct{}
	delay  time.Duration // of the first contact: devices that start together do not ask together

	mailMu sync.Mutex
	mail   mail
	spare  mail // the slices of the last mail, to be used again
	active bool // a goroutine is in drain
	ended  bool // nobody reads mail any more

	mu     sync.Mutex // guards what follows, for Status; held while the actor works, never during I/O
	loaded bool
	plan   *plan
	twins  []propertyTwin        // parallel to plan.properties
	stored map[string]storedTwin // twins of properties that no plan has claimed yet
	uid    string                // of the Device that the twins belong to
	groups []*group
	nextID task

	session    device.Session
	openedAt   time.Time
	opening    *call
	reading    *call
	writing    *call
	calls      []*call      // all that are under way
	sub        subscription // what the device tells of by itself
	begun      uint64       // driver calls so far
	hanging    int          // calls given up that have not come back
	restarts   int          // in a row
	retryAt    time.Time    // when to open again
	crashed    string       // why the last session ended, until a read succeeds
	watching   bool         // taskDeadline is armed
	flushing   bool         // taskFlush is armed
	mayWrite   bool         // some desired value may be due
	wants      []int32      // properties with a desired value
	waits      []writeWait  // edge writes whose writer waits
	reach      reachability
	reachWhy   string
	lastOnline time.Time

	staged  staged
	alarmAt time.Time // taskAlarm is armed for it

	status   statusState
	dirty    []int32      // properties to store, oldest first
	durable  []TwinRecord // to commit after the lock is released
	replies  []func()     // to call after that
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
	asks    []*ask
	told    bool // the subscription has values
	halt    bool
}

func (m *mail) empty() bool {
	return m.plan == nil && len(m.tasks) == 0 && len(m.results) == 0 && len(m.asks) == 0 && !m.told && !m.halt
}

// reset empties the mail and keeps its slices.
func (m *mail) reset() {
	clear(m.results)
	clear(m.asks)
	*m = mail{tasks: m.tasks[:0], results: m.results[:0], asks: m.asks[:0]}
}

func newWorker(ctx context.Context, h *Host, key wire.Key, delay time.Duration) *worker {
	w := &worker{
		host: h, key: key, done: make(chan struct{}), delay: delay, nextID: taskGroup,
		log: h.log.With("device", key.Namespace()+"/"+key.Name()),
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

func (w *worker) assign(p *plan) { w.deliver(func(m *mail) { m.plan = p }) }

// halt ends the worker; done is closed when it has.
func (w *worker) halt() {
	w.cancel()
	w.deliver(func(m *mail) { m.halt = true })
}

// post hands in a finished call. A session that comes after the worker has ended is closed: nobody else knows of it.
func (w *worker) post(r result) {
	if !w.deliver(func(m *mail) { m.results = append(m.results, r) }) && r.session != nil {
		w.closeLater(r.session)
	}
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

// deliver changes the mail and sees to it that somebody reads it. It returns false if the worker has ended.
func (w *worker) deliver(change func(*mail)) bool {
	w.mailMu.Lock()
	if w.ended {
		w.mailMu.Unlock()
		return false
	}
	change(&w.mail)
	start := !w.active
	w.active = w.active || start
	w.mailMu.Unlock()
	if start {
		go w.drain()
	}
	return true
}

// drain is the actor. It returns when there is no mail, or after halt, when what was not yet persisted is.
func (w *worker) drain() {
	for {
		w.mailMu.Lock()
		if w.mail.empty() {
			w.active = false
			w.mailMu.Unlock()
			return
		}
		m := w.mail
		w.mail = w.spare
		w.mailMu.Unlock()
		if m.halt {
			w.shutdown(m)
			return
		}
		if err := guard(func() error {
			w.step(&m, time.Now())
			return nil
		}); err != nil {
			w.survive(err)
		}
		w.commit()
		m.reset()
		w.mailMu.Lock()
		w.spare = m
		w.mailMu.Unlock()
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

func (w *worker) step(m *mail, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.loaded {
		w.loaded = true
		w.load()
	}
	if m.plan != nil {
		w.adopt(m.plan, now)
	}
	for _, r := range m.results {
		w.finish(r, now)
	}
	if m.told {
		w.listen(now)
	}
	for _, a := range m.asks {
		w.onAsk(a, now)
	}
	for _, t := range m.tasks {
		w.onTask(t, now)
	}
	w.advance(now)
	w.publish(now)
}

func (w *worker) onTask(t task, now time.Time) {
	switch t {
	case taskRetry: // advance looks at the clock
		w.mayWrite = true
	case taskDeadline:
		w.watching = false
		w.giveUp(now)
	case taskFlush:
		w.flushing = false
		w.flush(flushTurn, now)
	case taskAlarm:
		w.alarmAt = time.Time{}
		w.tickAlarms(now)
	case taskReport:
		w.status.waiting = false
	default:
		for _, g := range w.groups {
			if g.id == t {
				g.pending = true
				w.refresh(g, now)
			}
		}
	}
}

// adopt takes over a new version of the device and touches only what it changes.
func (w *worker) adopt(p *plan, now time.Time) {
	w.listen(now) // what came under the old version, whose subscription may end here
	old := w.plan
	w.adoptTwins(p, now)
	w.plan = p
	w.judgeAll(now)
	w.adoptStage(old, now)
	if old == nil || !old.sameSession(p) {
		w.dropSession("")
		w.restarts, w.retryAt, w.crashed = 0, time.Time{}, ""
		w.reach, w.reachWhy = reachUnknown, ""
	}
	if old == nil && w.delay > 0 {
		w.retryAt = now.Add(w.delay)
		w.host.sched.set(w, taskRetry, w.retryAt, 0)
	}
	w.regroup(now)
	w.resubscribe(old)
	w.dropWaits()
	w.follow()
	w.mayWrite = true
	w.status.force, w.status.judge = true, true
}

// advance starts what can be started.
func (w *worker) advance(now time.Time) {
	if w.plan == nil || w.plan.driver == nil {
		return
	}
	if w.session == nil {
		if w.opening == nil && w.hanging < maxHanging && !now.Before(w.retryAt) {
			w.open(now)
		}
		return
	}
	if w.writing == nil && w.mayWrite {
		w.startWrite(now)
	}
	if w.reading == nil {
		w.startRead(now)
	}
	w.subscribe(now)
}

// shutdown drops the session, whose closing the host waits for, and persists. m is the mail that was not handled.
func (w *worker) shutdown(m mail) {
	defer close(w.done)
	w.mu.Lock()
	if err := guard(func() error { w.listen(time.Now()); return nil }); err != nil {
		w.log.Error("what the device told last is lost: handling it panicked", "err", err)
	}
	w.mu.Unlock()
	w.host.sched.drop(w)
	w.mailMu.Lock()
	w.ended = true
	left := append(m.results, w.mail.results...)
	asks := append(m.asks, w.mail.asks...)
	w.mailMu.Unlock()
	for _, r := range left {
		if r.session != nil {
			w.closeLater(r.session)
		}
	}
	for _, a := range asks {
		a.answer(answer{err: errEnded})
	}
	w.mu.Lock()
	w.dropSession("")
	for _, wait := range w.waits {
		w.reply(wait.ask, answer{err: errEnded})
	}
	w.waits = nil
	w.flush(len(w.dirty), time.Time{})
	w.mu.Unlock()
	w.commit()
}
