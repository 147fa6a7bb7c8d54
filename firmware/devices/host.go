package devices

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// Desired is the view of what this node should run; *store.Desired implements it. Its methods do not block for long.
type Desired interface {
	Get(key wire.Key) (wire.Object, bool)
	List(kind wire.Kind) []wire.Object
}

// Watch tells that Desired has changed; *store.Watch implements it. C is signalled at least once after the last change;
// Take returns the keys that changed since the last Take.
type Watch interface {
	C() <-chan struct{}
	Take() []wire.Key
}

// Reporter takes status documents for the relay; *link.Client implements it. It never blocks, and the newest body of a key
// wins.
type Reporter interface {
	Report(key wire.Key, body []byte)
	Withdraw(key wire.Key)
}

// Recorder records Kubernetes events. It never blocks for long.
type Recorder interface {
	Event(ref wire.ObjectRef, eventType, reason, message string)
}

// TwinRecord is one record of a TwinStore. A nil Record deletes the key.
type TwinRecord struct {
	Key    string // NAMESPACE/DEVICE/PROPERTY
	Record []byte
}

// TwinStore keeps twins across restarts.
type TwinStore interface {
	// Scan calls fn for every record whose key starts with prefix.
	Scan(prefix string, fn func(key string, record []byte) error) error
	// Commit is atomic, and durable when it returns nil.
	Commit(ctx context.Context, records []TwinRecord) error
	// CommitLazy is atomic and visible at once, and becomes durable within the store's window (1 s).
	CommitLazy(records []TwinRecord) error
}

// History keeps values on the gateway. Its methods never block.
type History interface {
	Record(namespace, device, property string, v device.Value)
	// Missed says that n values of a device, older than the next one that is recorded, were lost before they came here.
	Missed(namespace, device string, n uint64)
	// Retain tells which devices there are, at the start and after devices were removed: what others left may make room first.
	Retain(has func(namespace, device string) bool)
}

// Push sends values elsewhere. Its methods never block.
type Push interface {
	// Check says what is wrong with a pushMethod that stands at path.
	Check(path string, method map[string]any) error
	// Offer takes a value of a property with a pushMethod that the history does not keep; Push reads the others there.
	Offer(namespace, device, property string, v device.Value)
}

// Options are what a Host needs. All interfaces but History and Push are required.
type Options struct {
	Drivers []device.Driver
	// Others returns the driver of a protocol that none of Drivers speaks, always the same for the same name, or nil; nil: there are none.
	Others  func(protocol string) device.Driver
	Desired Desired
	Watch   Watch
	Reports Reporter
	Events  Recorder
	Twins   TwinStore
	History History // nil: no history
	// NoHistory says why History is nil and what to do about it, for the conditions of devices that ask for one.
	NoHistory string
	Push      Push // nil: nothing is pushed
	// Ports are the serial ports of the board, which devices may name instead of a path.
	Ports []Port
	Log   *slog.Logger // nil: slog.Default()
	// Alive is called whenever the scheduler has woken all that was due, Watching whenever the host has taken over what changed of its devices; both every 15 s at the
	// least. May be nil; must not block.
	Alive, Watching func()
}

// Host runs the devices of a node.
type Host struct {
	opt     Options
	log     *slog.Logger
	drivers map[string]device.Driver // by protocol name in lower case

	mu      sync.Mutex
	workers map[wire.Key]*worker

	sched    *scheduler
	calls    callCount // driver calls under way, hanging ones included
	budget   budget    // of what reaches the store
	buffers  buffers
	burst    atomic.Int64 // values in inboxes beyond the newest of each point
	watchers atomic.Pointer[[]*watcher]
}

// Slow has devices polled at every factor-th instant of their cycles only; 1: at all. Writes, alarms' delays and subscriptions are as ever.
func (h *Host) Slow(factor int) { h.sched.stretch(factor) }

// DeviceState is one device in Status.
type DeviceState struct {
	Namespace, Name string
	Protocol        string
	State           string    // online, offline, unhealthy, unknown
	Since           time.Time // when it got into State
	Generation      int64     // of the Device that it works from
	Ready           bool
	Reason, Message string // why it is not ready
	Watched         int    // properties that come by subscription
	LastOnline      time.Time
	Properties      []PropertyState
	Alarms          []AlarmState // those that are not normal, the gravest first
}

// PropertyState is one property in Status.
type PropertyState struct {
	Name, Value, Unit string
	Quality           device.Quality
	Reason            string // why the quality is not good
	At                time.Time
	Desired, Outcome  string // the effective desired value, if there is one, and what became of it
	Origin            string // who wants it: cloud or edge
	Type              device.Type
}

// New returns a host. It fails if two drivers claim the same protocol.
func New(opt Options) (*Host, error) {
	h := &Host{opt: opt, log: opt.Log, drivers: make(map[string]device.Driver), workers: make(map[wire.Key]*worker), sched: newScheduler()}
	h.sched.alive = opt.Alive
	if h.log == nil {
		h.log = slog.Default()
	}
	for _, d := range opt.Drivers {
		for _, name := range d.Protocols() {
			name = strings.ToLower(name)
			if h.drivers[name] != nil {
				return nil, fmt.Errorf("device drivers: two drivers claim the protocol %q", name)
			}
			h.drivers[name] = d
		}
	}
	return h, nil
}

// Run polls devices until ctx ends. It returns after all sessions are closed; a driver that hangs is left behind after a
// short grace, and logged. It may be called again after it returned, but not twice at a time.
func (h *Host) Run(ctx context.Context) error {
	schedCtx, stopSched := context.WithCancel(ctx)
	schedDone := make(chan struct{})
	go func() {
		defer close(schedDone)
		h.sched.run(schedCtx)
	}()
	defer func() {
		h.stopWorkers()
		stopSched()
		<-schedDone
	}()
	h.opt.Watch.Take() // what changed until now is in the view
	view := newView(h)
	view.begin(ctx)
	var round <-chan time.Time // nil: nobody watches
	if h.opt.Watching != nil {
		tick := time.NewTicker(roundAtLeast)
		defer tick.Stop()
		round = tick.C
	}
	for {
		if h.opt.Watching != nil {
			h.opt.Watching()
		}
		var again <-chan time.Time
		if len(view.unread) > 0 {
			again = time.After(rereadAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-round:
		case <-again:
			view.reread(ctx)
		case <-h.opt.Watch.C():
			view.changed(ctx, h.opt.Watch.Take())
		}
	}
}

// Status lists the devices by namespace and name.
func (h *Host) Status() []DeviceState {
	h.mu.Lock()
	workers := slices.Collect(maps.Values(h.workers))
	h.mu.Unlock()
	out := make([]DeviceState, 0, len(workers))
	for _, w := range workers {
		if s, ok := w.snapshot(); ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b DeviceState) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// startWorker starts the actor of a device.
func (h *Host) startWorker(ctx context.Context, key wire.Key, delay time.Duration) *worker {
	w := newWorker(ctx, h, key, delay)
	h.mu.Lock()
	h.workers[key] = w
	h.mu.Unlock()
	return w
}

// endWorkers ends the actors of devices and waits for them, not for their sessions.
func (h *Host) endWorkers(keys []wire.Key) {
	h.mu.Lock()
	ended := make([]*worker, 0, len(keys))
	for _, key := range keys {
		if w := h.workers[key]; w != nil {
			ended = append(ended, w)
			delete(h.workers, key)
		}
	}
	h.mu.Unlock()
	for _, w := range ended {
		w.halt()
	}
	for _, w := range ended {
		<-w.done
	}
}

// stopWorkers ends all, and waits a bounded time for their drivers.
func (h *Host) stopWorkers() {
	h.mu.Lock()
	keys := slices.Collect(maps.Keys(h.workers))
	h.mu.Unlock()
	h.endWorkers(keys)
	if left := h.calls.wait(callGrace); left > 0 {
		h.log.Warn("drivers did not return from calls; they are left behind", "calls", left)
	}
}
