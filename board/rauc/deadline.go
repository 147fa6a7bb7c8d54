package rauc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// DefaultDeadline is how long after the boot a system on trial has to be confirmed, where no configuration says otherwise.
const DefaultDeadline = 30 * time.Minute

// Deadline watches over a trial without the agent: a new system whose agent does not stay up is left, too. It also gives a slot that was confirmed before its tries back
// where there is no agent to do so. Its fields are what it needs to know of the machine; all have to be set.
type Deadline struct {
	Slot bootenv.Slot // that runs
	// After is how long after the boot the slot has to be confirmed.
	After time.Duration
	// Alone says that no agent can run: the gateway has not been provisioned, or its configuration is refused.
	Alone func() bool
	// Peek reads the boot environment, without waiting for anybody.
	Peek func() (bootenv.Env, error)
	// Check returns an error that wraps ErrRotten if the root of the slot that runs has rotted: its tries are not given back then, as long as the other slot has some.
	Check func(ctx context.Context) error
	// Refill gives the slot its tries back, and changes nothing else.
	Refill func(bootenv.Slot) error
	// Reboot restarts the machine. It is asked gently first; force does without what hangs.
	Reboot func(ctx context.Context, force bool) error
	Uptime func() time.Duration
	Log    *slog.Logger
}

const (
	lookEvery = time.Minute
	// forceAfter is how long a restart may take until it is forced.
	forceAfter = 10 * time.Minute
)

// Run returns when the slot has all its tries, when it has given them back itself, or when ctx ends: after a restart was asked for that is how it goes. An error says
// what cannot be read or written; it is to be run again.
func (d Deadline) Run(ctx context.Context) error {
	for {
		e, err := d.Peek()
		late := d.Uptime() >= d.After
		switch {
		case err != nil:
			if late {
				return fmt.Errorf("whether slot %s is on trial cannot be read: %w", d.Slot, err)
			}
		case e.OnTrial(d.Slot):
			if late {
				d.leave(ctx, e)
				return nil
			}
		case e.Left[d.Slot] >= bootenv.Tries:
			return nil
		case late || d.Alone() && (e.Confirmed == d.Slot || e.Confirmed == ""):
			if rotten := d.Check(ctx); errors.Is(rotten, ErrRotten) && e.Left[d.Slot.Other()] > 0 {
				return fmt.Errorf("slot %s does not get its tries back, so that slot %s boots when they are used up: %w", d.Slot, d.Slot.Other(), rotten)
			}
			d.Log.Info("no agent has confirmed this boot; the slot was good before and gets its tries back", "slot", d.Slot)
			return d.Refill(d.Slot)
		}
		if !wait(ctx, lookEvery) {
			return nil
		}
	}
}

// leave restarts the machine. Each boot takes a try from the slot, so that a system on trial that never becomes well is left after the last one.
func (d Deadline) leave(ctx context.Context, e bootenv.Env) {
	d.Log.Error("the new system was not confirmed in time, and its agent has not gone back: the machine restarts", "slot", d.Slot, "after", d.After, "triesLeft", e.Left[d.Slot], "confirmed", e.Confirmed)
	for force := false; ; force = true {
		if err := d.Reboot(ctx, force); err != nil && ctx.Err() == nil {
			d.Log.Error("the machine cannot be restarted; it is tried again, by force", "error", err)
			if !wait(ctx, lookEvery) {
				return
			}
			continue
		}
		if !wait(ctx, forceAfter) {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
