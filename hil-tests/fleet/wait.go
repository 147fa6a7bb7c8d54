package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/link"
)

// Status is the state of an agent's link.
type Status = link.Status

// Check says whether an agent is as it should be.
type Check func(*Agent, Status) bool

// InSync: connected, and everything that the relay knew when the session began is committed.
func InSync(_ *Agent, st link.Status) bool { return st.Connected && st.InSync }

// Reported: everything that the agent has to say is acknowledged.
func Reported(_ *Agent, st link.Status) bool { return st.Connected && st.ReportsPending == 0 }

// Gone: the agent knows that it has no session.
func Gone(_ *Agent, st link.Status) bool { return !st.Connected }

// Holds returns a check for the number of objects that an agent holds.
func Holds(n int) Check {
	return func(a *Agent, _ link.Status) bool { return a.holdings.count() >= n }
}

// SyncedSince returns a check for a session that is newer than those of now and in sync.
func (f *Fleet) SyncedSince() Check {
	before := make([]uint64, len(f.agents))
	for i, a := range f.agents {
		before[i] = a.Status().Sessions
	}
	return func(a *Agent, st link.Status) bool {
		return st.Sessions > before[a.number] && st.Connected && st.InSync
	}
}

// At returns a check for an agent that is in sync at the relay of that name.
func At(relay string) Check {
	return func(a *Agent, st link.Status) bool { return InSync(a, st) && st.Relay == relay }
}

// Progress is told every other second how many agents are as they should be. It may be nil.
type Progress func(what string, ready, all int)

// Wait blocks until check holds for all of the fleet's agents. Agents that fulfilled it once are not asked again.
func (f *Fleet) Wait(ctx context.Context, what string, check Check, progress Progress) error {
	return Wait(ctx, f.agents, what, check, progress)
}

// Wait blocks until check has held for each of agents.
func Wait(ctx context.Context, agents []*Agent, what string, check Check, progress Progress) error {
	waiting := append([]*Agent(nil), agents...)
	tick := time.NewTicker(pollEvery(len(agents)))
	defer tick.Stop()
	said := time.Now()
	began := said
	for {
		left := waiting[:0]
		for _, a := range waiting {
			if !check(a, a.Status()) {
				left = append(left, a)
			}
		}
		if waiting = left; len(waiting) == 0 {
			return nil
		}
		if now := time.Now(); progress != nil && now.Sub(said) > 2*time.Second {
			said = now
			text := what
			if now.Sub(began) > patience {
				text += " (" + waiting[0].Name + ": " + describe(waiting[0].Status()) + ")"
			}
			progress(text, len(agents)-len(waiting), len(agents))
		}
		select {
		case <-ctx.Done():
			a := waiting[0]
			return fmt.Errorf("%d of %d agents are not %s: %w (%s: %s)", len(waiting), len(agents), what, context.Cause(ctx), a.Name, describe(a.Status()))
		case <-tick.C:
		}
	}
}

// patience is how long Wait waits before it tells of an agent that is late.
const patience = 10 * time.Second

// pollEvery keeps the looking below a hundredth of a core.
func pollEvery(n int) time.Duration {
	return max(5*time.Millisecond, time.Duration(n)*20*time.Microsecond)
}

func describe(st link.Status) string {
	s := fmt.Sprintf("connected %v, in sync %v, %d attempts, %d sessions, %d reports pending", st.Connected, st.InSync, st.Attempts, st.Sessions, st.ReportsPending)
	if st.LastError != "" {
		s += ", " + st.LastError
	}
	return s
}

// Rolling cuts agents one after the other, so many a second.
func Rolling(ctx context.Context, agents []*Agent, perSecond int) error {
	const step = 20 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	began, next := time.Now(), 0
	for next < len(agents) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			due := min(len(agents), int(now.Sub(began).Seconds()*float64(perSecond))+1)
			for ; next < due; next++ {
				agents[next].Cut()
			}
		}
	}
	return nil
}

// Flapping cuts all of agents every period until ctx ends.
func Flapping(ctx context.Context, agents []*Agent, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			Cut(agents)
		}
	}
}

// Steadily calls fn for one agent after the other, in turn, rate times a second until ctx ends, and returns how often.
func Steadily(ctx context.Context, agents []*Agent, rate float64, fn func(*Agent)) (calls int) {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return calls
		case now := <-tick.C:
			for due := int(now.Sub(began).Seconds() * rate); calls < due; calls++ {
				fn(agents[calls%len(agents)])
			}
		}
	}
}
