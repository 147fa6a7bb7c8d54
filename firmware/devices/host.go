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
// Take empties the set of keys that changed.
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

// History keeps values on the gateway. Record never blocks.
type History interface {
	Record(namespace, device, property string, v device.Value)
}

// Options are what a Host needs. All interfaces but History are required.
type Options struct {
	Drivers []device.Driver
	Desired Desired
	Watch   Watch
	Reports Reporter
	Events  Recorder
	Twins   TwinStore
	History History      // nil: no history
	Log     *slog.Logger // nil: slog.Default()
}

// Host runs the devices of a node.
type Host struct {
	opt     Options
	log     *slog.Logger
	drivers map[string]device.Driver // by protocol name in lower case

	mu      sync.Mutex
	workers map[wire.Key]*worker

	sched *scheduler
	calls atomic.Int64 // driver calls under way, hanging ones included
}

// DeviceState is one device in Status.
type DeviceState struct {
	Namespace, Name string
	Protocol        string
	State           string // online, offline, unhealthy, unknown
	Ready           bool
	Reason, Message string // why it is not ready
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
}

// New returns a host. It fails if two drivers claim the same protocol.
func New(opt Options) (*Host, error) {
	h := &Host{opt: opt, log: opt.Log, drivers: make(map[string]device.Driver), workers: make(map[wire.Key]*worker), sched: newScheduler()}
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
	view := newView(h)
	for {
		h.opt.Watch.Take() // what changed does not matter: all of the view is compared with what runs
		var again <-chan time.Time
		if whole := view.reconcile(ctx); !whole {
			again = time.After(rereadAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-h.opt.Watch.C():
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
func (h *Host) startWorker(ctx context.Context, key wire.Key) *worker {
	w := newWorker(h, key)
	ctx, w.stop = context.WithCancel(ctx)
	h.mu.Lock()
	h.workers[key] = w
	h.mu.Unlock()
	go w.run(ctx)
	return w
}

// stopWorker ends the actor of a device and waits for it.
func (h *Host) stopWorker(key wire.Key) {
	h.mu.Lock()
	w := h.workers[key]
	delete(h.workers, key)
	h.mu.Unlock()
	w.stop()
	<-w.done
}

func (h *Host) stopWorkers() {
	h.mu.Lock()
	workers := slices.Collect(maps.Values(h.workers))
	h.mu.Unlock()
	for _, w := range workers {
		w.stop()
	}
	for _, w := range workers {
		<-w.done
	}
	h.mu.Lock()
	clear(h.workers)
	h.mu.Unlock()
}
