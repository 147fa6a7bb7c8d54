package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/health"
)

// Feeder is a watchdog that is armed. *Device and *Systemd implement it. Its methods are called by one goroutine.
type Feeder interface {
	Feed() error
	Timeout() time.Duration
	Close(disarm bool) error
	Caveats() string
	String() string
}

// Options configure a Keeper. Wedged and Log are required.
type Options struct {
	// Feeder is closed by Run. nil: nobody resets the gateway; what is wedged is recorded all the same.
	Feeder Feeder
	// Wedged returns what is wedged, nil if nothing is.
	Wedged func() []health.Fault
	// Forgive is called after the whole process stood still, when silence says nothing. May be nil.
	Forgive func()
	// Record makes durable what is wedged, before the watchdog is no longer fed. It may block for a while; only a few seconds are waited for. May be nil.
	Record func(faults []health.Fault)
	// Recovered is told that nothing is wedged any more, though something was. May be nil.
	Recovered func()
	// Patience returns for how long a wedge is put up with before the watchdog is no longer fed; it is asked when something is found wedged. nil: not at all.
	Patience func() time.Duration
	// KeepArmed is asked when Run ends. nil: the watchdog is disarmed.
	KeepArmed func() bool
	Log       *slog.Logger
}

// State is how a keeper is, for people.
type State struct {
	Watchdog string    `json:"watchdog"`           // which; "" if there is none
	Timeout  string    `json:"timeout,omitempty"`  // how long after the last feeding it resets
	Fed      time.Time `json:"fed,omitzero"`       // when last
	Wedged   []string  `json:"wedged,omitempty"`   // why it will no longer be fed, or is not
	Starving bool      `json:"starving,omitempty"` // it is not
	Caveats  string    `json:"caveats,omitempty"`
}

// Keeper feeds a watchdog while nothing is wedged. Make it with New.
type Keeper struct {
	o     Options
	every time.Duration

	mu    sync.Mutex
	state State

	// Run's own.
	patience time.Duration // of this wedge
	since    time.Time     // when something was found wedged; zero: nothing is
	refused  bool          // the last feeding failed; said once
}

// The watchdog is fed four times in its timeout, and looked at at these intervals at most and at least.
const (
	mostEvery  = 5 * time.Second
	leastEvery = 250 * time.Millisecond
	// recordLimit is how long what is wedged may take to be recorded: it may be the disk.
	recordLimit = 5 * time.Second
)

// New returns a keeper.
func New(o Options) *Keeper {
	k := &Keeper{o: o, every: mostEvery}
	if f := o.Feeder; f != nil {
		k.every = min(mostEvery, max(leastEvery, f.Timeout()/4))
		k.state.Watchdog, k.state.Timeout, k.state.Caveats = f.String(), f.Timeout().String(), f.Caveats()
	}
	return k
}

// State returns how it is.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Run feeds until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	last := time.Now()
	for {
		k.look()
		select {
		case <-ctx.Done():
			return k.close()
		case <-tick.C:
		}
		now := time.Now()
		if late := now.Sub(last) - k.every; late > max(k.every, time.Second) && k.o.Forgive != nil {
			k.o.Log.Warn("the agent stood still: it was stopped, or the machine had no time for it", "for", late.Round(time.Millisecond))
			k.o.Forgive()
		}
		last = now
	}
}

func (k *Keeper) close() error {
	if k.o.Feeder == nil {
		return nil
	}
	keep := k.o.KeepArmed != nil && k.o.KeepArmed()
	if keep {
		k.o.Log.Info("the watchdog stays armed while the machine goes down", "watchdog", k.o.Feeder.String(), "timeout", k.o.Feeder.Timeout())
	}
	return k.o.Feeder.Close(!keep)
}

// look feeds, or not.
func (k *Keeper) look() {
	faults := k.o.Wedged()
	switch {
	case len(faults) == 0 && k.since.IsZero():
		k.feed()
	case len(faults) == 0:
		k.o.Log.Warn("nothing is wedged any more; the watchdog is fed again", "after", time.Since(k.since).Round(time.Millisecond))
		k.since = time.Time{}
		k.tell(nil, false)
		k.feed()
		if k.o.Recovered != nil {
			k.o.Recovered()
		}
	default:
		k.wedged(faults)
	}
}

func (k *Keeper) wedged(faults []health.Fault) {
	reasons := Reasons(faults)
	if k.since.IsZero() {
		k.since, k.patience = time.Now(), 0
		if k.o.Patience != nil {
			k.patience = k.o.Patience()
		}
		k.tell(reasons, false)
		k.o.Log.Error("the agent is wedged: "+strings.Join(reasons, "; ")+k.consequence(), "components", len(faults))
		k.feed() // what follows has all of the time that there is
		k.record(faults)
	}
	starving := time.Since(k.since) >= k.patience
	k.tell(reasons, starving && k.o.Feeder != nil)
	if !starving {
		k.feed()
	}
}

func (k *Keeper) consequence() string {
	switch f := k.o.Feeder; {
	case f == nil:
		return ". No watchdog is set up (watchdog.mode), so nothing restarts it: restart skerryd or the gateway"
	case k.patience > 0:
		return fmt.Sprintf(". %s is fed for %v more, because resets have not helped before", f, k.patience)
	default:
		return fmt.Sprintf(". %s is no longer fed and will act within %v", f, f.Timeout())
	}
}

// record gives the recording its time. It may hang where the disk does: then it is left behind, and the reset ends it.
func (k *Keeper) record(faults []health.Fault) {
	if k.o.Record == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.o.Record(faults)
	}()
	limit := recordLimit
	if f := k.o.Feeder; f != nil {
		limit = min(limit, f.Timeout()/2)
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		k.o.Log.Error("why the agent is wedged could not be recorded in time: the disk hangs, too", "limit", limit)
	}
}

func (k *Keeper) tell(wedged []string, starving bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Wedged, k.state.Starving = wedged, starving
}

func (k *Keeper) feed() {
	if k.o.Feeder == nil {
		return
	}
	err := k.o.Feeder.Feed()
	if err != nil && !k.refused {
		k.o.Log.Error("the watchdog could not be fed; it is tried again", "error", err)
	}
	if k.refused = err != nil; k.refused {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Fed = time.Now()
}

// Reasons are the texts of faults.
func Reasons(faults []health.Fault) []string {
	out := make([]string, 0, len(faults))
	for _, f := range faults {
		out = append(out, f.Reason)
	}
	return out
}
