package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/store/storetest"
	"github.com/skerry/skerry/firmware/wire"
)

// agent is one gateway: the real link machine over a model of its store, and a model of what stands behind it: containers,
// which survive the agent, and devices.
type agent struct {
	s       *Sim
	id      int
	node    string
	store   *storetest.Model
	machine *link.Machine
	life    int
	up      bool
	wake    time.Time
	conns   map[uint64]*conn
	deafTo  time.Time // reads nothing until then

	runtime map[string]*container // by pod UID; survives the agent
	counter uint64                // of reports: grows for ever
	events  int                   // appended to the outbox, ever
	latest  map[wire.Key]uint64   // counter of the newest report of each key
	reports map[wire.Key]bool     // keys reported on in this life
	views   map[wire.Key]*view    // decoded objects, by what is held
	disk    []func()              // the outbox's one worker: what waits
	busy    bool
	flushes bool

	streamed []*streams // of the sessions that had some

	// For the checks.
	seen    map[wire.Key]sighting
	acked   map[wire.Key]acked
	pending map[wire.Key]bool // in a commit that is not acknowledged
}

// container stands for the containers of one pod.
type container struct {
	key      wire.Key
	running  bool
	stopping bool
	gone     bool // stopped for good
	started  bool // ever
}

func (s *Sim) newAgent(id int) *agent {
	a := &agent{
		s: s, id: id, node: "gw-" + strconv.Itoa(id), store: storetest.NewModel(storetest.Limits{Items: s.world.outbox()}),
		runtime: map[string]*container{}, latest: map[wire.Key]uint64{},
		seen: map[wire.Key]sighting{}, acked: map[wire.Key]acked{}, pending: map[wire.Key]bool{},
	}
	a.store.Dropped = func(it wire.OutboxItem) { s.check.dropped(a, it) }
	a.store.Fail = func() error {
		if s.chance(s.world.SyncFail) {
			return errDisk
		}
		return nil
	}
	return a
}

var errDisk = errors.New("no space left on device")

// boot starts the agent over what is stored.
func (a *agent) boot() {
	a.life++
	a.up = true
	a.store.Open()
	a.conns, a.wake, a.disk, a.busy = map[uint64]*conn{}, time.Time{}, nil, false
	a.reports, a.views = map[wire.Key]bool{}, map[wire.Key]*view{}
	addresses := make([]string, len(a.s.relays))
	for i := range addresses { // each begins with another relay
		addresses[i] = fmt.Sprintf("relay-%d:7443", (a.id+i)%len(addresses))
	}
	a.s.note(a.node, "boot", "life "+strconv.Itoa(a.life))
	a.machine = link.NewMachine(link.Options{
		Addresses: addresses, Node: a.node, Version: "sim", Desired: a.store, Outbox: a.store,
	}, a.s.r.Uint64())
	a.report(wire.NewKey(wire.KindNode, "", a.node, ""))
	a.reconcile()
	a.step(link.Start{})
}

// crash loses the agent's memory. power says that the machine went with it: containers are gone, too, and nobody resets the
// connections.
func (a *agent) crash(power bool) {
	if !a.up {
		return
	}
	kept := a.s.chance(0.5)
	a.s.note(a.node, "crash", fmt.Sprintf("power=%v, a commit under way is kept=%v", power, kept))
	a.s.count.agentCrashes++
	a.up = false
	a.life++
	for _, n := range sortedKeys(a.conns) {
		a.conns[n].agentGone(power)
	}
	a.streamed = nil
	a.conns = map[uint64]*conn{}
	a.store.Crash(kept)
	a.s.check.afterCrash(a)
	if power {
		for _, uid := range sortedKeys(a.runtime) {
			a.runtime[uid].running = false
		}
	}
	life := a.life
	a.s.after(a.s.upTo(a.s.world.down()), func() {
		if !a.up && a.life == life {
			a.boot()
		}
	})
}

func (a *agent) deaf() bool { return a.s.now.Before(a.deafTo) }

// later runs fn in this life of the agent only.
func (a *agent) later(d time.Duration, fn func()) {
	life := a.life
	a.s.after(d, func() {
		if a.up && a.life == life {
			fn()
		}
	})
}

func (a *agent) step(ev link.Event) {
	if !a.up {
		return
	}
	acts := slices.Clone(a.machine.Step(ev, a.s.now))
	life := a.life
	for _, act := range acts {
		if a.life != life {
			return
		}
		a.do(act)
	}
	w := a.machine.Wake()
	if w.IsZero() || w.Equal(a.wake) {
		return
	}
	a.wake = w
	a.later(w.Sub(a.s.now), func() {
		if a.wake.Equal(w) {
			a.wake = time.Time{}
			a.step(link.Tick{})
		}
	})
}

func (a *agent) do(act link.Action) {
	switch t := act.(type) {
	case link.Dial:
		a.later(a.s.netDelay(), func() { a.dial(t) })
	case link.Send:
		if c := a.conns[t.Conn]; c != nil {
			c.toRelay(t.Frame)
		}
	case link.Hangup:
		if c := a.conns[t.Conn]; c != nil {
			c.streams.endAt(atAgent, fmt.Sprint(t.Why))
			c.later(&c.up, func() {
				delete(a.conns, t.Conn)
				c.agentGone(false)
			})
		}
	case link.Apply:
		a.apply(t)
	case link.ReadOutbox:
		a.work(func() { a.step(link.OutboxRead{Conn: t.Conn, Items: a.store.Pending(0, t.Limit)}) })
	case link.ForgetOutbox:
		a.work(func() {
			a.s.check.forgets(a, t.Epoch, t.Seq)
			_ = a.store.Ack(t.Epoch, t.Seq)
			a.flushSoon()
		})
	case link.StreamsUp:
		if a.s.opts.World.Streams > 0 {
			a.agentStreams(t)
		}
	case link.Streamed:
		if c := a.conns[t.Conn]; c != nil {
			if err := c.streams.receive(atAgent, t.Frame); err != nil {
				a.step(link.StreamBroke{Conn: t.Conn, Err: err})
			}
		}
	case link.Note:
		a.s.note(a.node, "note", t.Text)
	default:
		a.s.fail("action", "%s: unknown action %T", a.node, act)
	}
}

// work does one thing after the other, as the link's outbox worker.
func (a *agent) work(fn func()) {
	a.disk = append(a.disk, fn)
	if !a.busy {
		a.workOn()
	}
}

func (a *agent) workOn() {
	a.busy = len(a.disk) > 0
	if !a.busy {
		return
	}
	a.later(a.s.upTo(a.s.world.Sync), func() {
		fn := a.disk[0]
		a.disk = a.disk[1:]
		fn()
		a.workOn()
	})
}

// flushSoon ends the window of lazy writes within a second.
func (a *agent) flushSoon() {
	if !a.flushes {
		a.flushes = true
		a.s.after(time.Second, func() {
			a.flushes = false
			a.store.FlushLazy()
		})
	}
}

// apply writes and syncs a commit.
func (a *agent) apply(t link.Apply) {
	for i := range t.Commit.Put {
		a.pending[t.Commit.Put[i].Key] = true
	}
	for _, k := range t.Commit.Delete {
		a.pending[k] = true
	}
	if err := a.store.Begin(t.Commit); err != nil {
		a.later(a.s.upTo(a.s.world.Sync), func() { a.step(link.Applied{Conn: t.Conn, ID: t.Commit.ID, Err: err}) })
		return
	}
	if a.s.broken(AckBeforeSync) {
		a.later(0, func() {
			a.acknowledges(&t.Commit)
			a.step(link.Applied{Conn: t.Conn, ID: t.Commit.ID})
		})
	}
	a.later(a.s.upTo(a.s.world.Sync), func() {
		if a.s.chance(a.s.world.CrashOnApply) {
			a.crash(a.s.chance(0.5))
			return
		}
		before := a.store.Versions()
		if a.s.broken(ForgetCommit) && a.s.chance(0.02) {
			a.store.Crash(false)
			a.store.Open()
		} else {
			a.store.Finish()
		}
		a.s.count.commits++
		a.s.note(a.node, "commits", strconv.FormatUint(t.Commit.ID, 10))
		a.s.check.applied(a, t.Commit, before)
		if a.s.chance(a.s.world.CrashOnApply) {
			a.crash(a.s.chance(0.5))
			return
		}
		if !a.s.broken(AckBeforeSync) {
			a.acknowledges(&t.Commit)
			a.step(link.Applied{Conn: t.Conn, ID: t.Commit.ID})
		}
		a.reconcile()
	})
}

func (a *agent) dial(d link.Dial) {
	r := a.s.relays[0]
	for _, other := range a.s.relays {
		if d.To == other.who+":7443" {
			r = other
		}
	}
	switch {
	case r.dead || r.closing || a.s.chance(a.s.world.Refuse):
		a.step(link.Lost{Conn: d.Conn, Err: errors.New("connection refused")})
	case a.s.partitioned(a, r):
		a.later(15*time.Second, func() { a.step(link.Lost{Conn: d.Conn, Err: errors.New("no answer")}) })
	default:
		a.s.open(a, d.Conn, r)
		a.step(link.Opened{Conn: d.Conn})
	}
}

// report offers a new status document of key.
func (a *agent) report(key wire.Key) {
	a.counter++
	n := countOf(a.id, a.counter)
	a.latest[key] = n
	a.reports[key] = true
	a.step(link.Reported{Key: key, Body: a.document(key, n)})
}

// event appends one message to the outbox.
func (a *agent) event() {
	if !a.up {
		return
	}
	a.events++
	if err := a.store.Append(wire.KindOfEvent, eventBody(a.node, a.events)); err != nil {
		return // told to the caller: not accepted, not lost
	}
	a.s.count.events++
	a.step(link.OutboxChanged{})
	a.s.check.outbox(a)
}

// reconcile brings containers and reports in line with what is stored.
func (a *agent) reconcile() {
	held := map[string]bool{}
	for _, k := range a.store.Keys() {
		switch k.Kind() {
		case wire.KindPod:
			held[k.UID()] = true
			a.reconcilePod(k)
		case wire.KindDevice:
			if !a.reports[k] {
				a.report(k)
			}
		}
	}
	for _, uid := range sortedKeys(a.runtime) {
		if c := a.runtime[uid]; !held[uid] {
			c.running = false
			delete(a.runtime, uid)
			a.withdraw(c.key)
		}
	}
	for _, k := range sortedKeys(a.reports) {
		if k.Kind() == wire.KindDevice {
			if _, ok := a.store.Get(k); !ok {
				a.withdraw(k)
			}
		}
	}
}

func (a *agent) withdraw(k wire.Key) {
	if a.reports[k] {
		delete(a.reports, k)
		delete(a.latest, k)
		a.step(link.Withdrawn{Key: k})
	}
}

func (a *agent) reconcilePod(k wire.Key) {
	v := a.view(k)
	c := a.runtime[k.UID()]
	if c == nil {
		c = &container{key: k}
		a.runtime[k.UID()] = c
	}
	if c.gone && !v.deleting { // a restored cluster knows nothing of the deletion
		c.gone, c.stopping = false, false
		delete(a.reports, k) // what was reported, that it is gone, is not true any more, even if it cannot be started yet
	}
	switch {
	case c.gone:
		if !a.reports[k] {
			a.report(k)
		}
	case v.deleting:
		a.stopPod(k, c)
	case !c.running && a.startable(k, v):
		a.s.check.starts(a, k, v, c.started)
		c.running, c.started = true, true
		a.s.note(a.node, "starts", string(k))
		a.report(k)
	case !a.reports[k]:
		a.report(k)
	}
}

func (a *agent) stopPod(k wire.Key, c *container) {
	if c.stopping {
		return
	}
	c.stopping = true
	a.s.after(a.s.upTo(5*time.Second), func() {
		c.running, c.gone = false, true
		if a.up && a.runtime[k.UID()] == c {
			a.s.note(a.node, "stopped", string(k))
			a.report(k)
		}
	})
}

// startable reports whether everything that the pod cannot do without is there.
func (a *agent) startable(_ wire.Key, v *view) bool {
	for _, r := range v.refs {
		o, ok := a.store.Get(r.key)
		if ok && o.Absent && !r.optional {
			return false
		}
	}
	return true
}
