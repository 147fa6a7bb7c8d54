package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Registry is the liveness contract of one agent. Make it with NewRegistry. All methods may be called concurrently.
type Registry struct {
	start time.Time // of the monotonic clock that all instants count from

	mu    sync.Mutex
	beats []*Beat // in the order of registration; only grows
}

// NewRegistry returns a registry without components.
func NewRegistry() *Registry { return &Registry{start: time.Now()} }

// Component registers a part of the agent and returns its Beat. The part counts as alive from now on for within, which must be several times
// what its loop takes for a round; after that it counts as wedged unless it has given a sign of life. A critical part that is wedged has the gateway
// reset. A name that is registered already gives the Beat that there is.
func (r *Registry) Component(name string, critical bool, within time.Duration) *Beat {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.beats, func(b *Beat) bool { return b.name == name }); i >= 0 {
		return r.beats[i]
	}
	b := &Beat{registry: r, name: name, critical: critical, within: within}
	b.at.Store(r.now())
	r.beats = append(r.beats, b)
	return b
}

func (r *Registry) now() int64 { return int64(time.Since(r.start)) }

func (r *Registry) all() []*Beat {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.beats[:len(r.beats):len(r.beats)]
}

// Beat is the sign of life of one component. All methods may be called concurrently.
type Beat struct {
	registry *Registry
	name     string
	critical bool
	within   time.Duration

	at        atomic.Int64 // the last sign of life, ns since the registry's start
	resting   atomic.Bool  // nothing is expected of it
	restarted atomic.Int64 // when the supervisor started it anew last; 0: never
	failing   atomic.Pointer[failing]
}

// failing is why a component does not do its work, though its loop goes round.
type failing struct {
	err   error
	since int64
}

// Alive says that the component's own loop has done its work. It allocates nothing.
func (b *Beat) Alive() {
	b.at.Store(b.registry.now())
	if b.failing.Load() != nil {
		b.failing.Store(nil)
	}
	if b.resting.Load() {
		b.resting.Store(false)
	}
}

// Failing says that the component goes round and cannot do its work. That is no sign of life: a component that does nothing but fail for as long as it may
// be silent is wedged, with err as the reason. Nothing that a reset cannot mend should be told here (a full disk, a cable that is out).
func (b *Beat) Failing(err error) {
	old := b.failing.Load()
	f := &failing{err: err, since: b.registry.now()}
	if old != nil {
		f.since = old.since
	}
	b.failing.Store(f)
}

// Restarted says that the component has ended, and that its supervisor starts it anew. That the supervisor does is a sign of life: a reset of the gateway would do no
// more. Until the component has run for as long as it may be silent, it does not count as healthy.
func (b *Beat) Restarted(err error) {
	now := b.registry.now()
	b.at.Store(now)
	b.restarted.Store(max(now, 1))
	b.failing.Store(&failing{err: fmt.Errorf("it ended and is started again: %w", err), since: now})
}

// Rest says that nothing is expected of the component, because it was stopped in order, until its next sign of life.
func (b *Beat) Rest() { b.resting.Store(true) }

// Name returns what it was registered as.
func (b *Beat) Name() string { return b.name }

// Wedged returns since when the component has given no sign of life, and why if that is known, if that is for longer than it may. An empty reason: it is alive.
func (b *Beat) Wedged() (since time.Time, reason string) {
	return b.wedged(b.registry.now())
}

func (b *Beat) wedged(now int64) (since time.Time, reason string) {
	at := b.at.Load()
	silent := time.Duration(now - at)
	if b.resting.Load() || silent <= b.within {
		return time.Time{}, ""
	}
	since = b.registry.start.Add(time.Duration(at))
	if f := b.failing.Load(); f != nil {
		return since, fmt.Sprintf("%s has failed for %v (at most %v are allowed): %v", b.name, silent.Round(time.Second), b.within, f.err)
	}
	return since, fmt.Sprintf("%s has given no sign of life for %v (at most %v are allowed): it is stuck", b.name, silent.Round(time.Second), b.within)
}

// unwell returns why the component does not count as healthy; "" if it does.
func (b *Beat) unwell(now int64) string {
	if _, reason := b.wedged(now); reason != "" {
		return reason
	}
	if f := b.failing.Load(); f != nil {
		return fmt.Sprintf("%s fails: %v", b.name, f.err)
	}
	if at := b.restarted.Load(); at != 0 && time.Duration(now-at) <= b.within {
		return fmt.Sprintf("%s was started again %v ago", b.name, time.Duration(now-at).Round(time.Second))
	}
	return ""
}

// Healthy reports whether every component, critical or not, does its work at the instant now (of time.Now, with its monotonic reading), and what is not well, a text for each. It is
// stricter than Wedged: one that fails or was restarted a moment ago is not healthy yet.
func (r *Registry) Healthy(now time.Time) (bool, []string) {
	at := int64(now.Sub(r.start))
	var wrong []string
	for _, b := range r.all() {
		if why := b.unwell(at); why != "" {
			wrong = append(wrong, why)
		}
	}
	return len(wrong) == 0, wrong
}

// Fault is a component that is wedged.
type Fault struct {
	Component string
	Since     time.Time // its last sign of life
	Reason    string
}

// Wedged returns the critical components that are wedged; none: the watchdog may be fed. It allocates nothing in that case.
func (r *Registry) Wedged() []Fault {
	now := r.now()
	var out []Fault
	for _, b := range r.all() {
		if !b.critical {
			continue
		}
		if since, reason := b.wedged(now); reason != "" {
			out = append(out, Fault{Component: b.name, Since: since, Reason: reason})
		}
	}
	return out
}

// Forgive gives every component its whole time anew: after the whole process stood still (stopped by a signal, a machine that was suspended), silence says nothing
// about any of them.
func (r *Registry) Forgive() {
	now := r.now()
	for _, b := range r.all() {
		b.at.Store(now)
	}
}

// State is how one component is, for people.
type State struct {
	Name     string        `json:"name"`
	Critical bool          `json:"critical"`
	Within   time.Duration `json:"withinNs"`
	Silent   time.Duration `json:"silentNs"` // since its last sign of life
	Resting  bool          `json:"resting,omitempty"`
	Trouble  string        `json:"trouble,omitempty"` // why it is not healthy
}

// States returns how all components are, by name.
func (r *Registry) States() []State {
	now := r.now()
	var out []State
	for _, b := range r.all() {
		out = append(out, State{
			Name: b.name, Critical: b.critical, Within: b.within, Silent: time.Duration(now - b.at.Load()), Resting: b.resting.Load(), Trouble: b.unwell(now),
		})
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return out
}
