package agent

import (
	"context"
	"time"

	"github.com/skerry/skerry/firmware/health/leds"
	"github.com/skerry/skerry/firmware/update"
)

// lightsLook is how soon the lights show a change.
const lightsLook = time.Second

// showLights keeps the board's lights as the agent is, until ctx ends.
func (a *Agent) showLights(ctx context.Context) error {
	lights := leds.Open("/", a.board.LEDs, a.log.With("part", "lights"))
	defer lights.Restore()
	tick := time.NewTicker(lightsLook)
	defer tick.Stop()
	lights.Show(leds.Look{State: leds.Starting})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			lights.Show(a.look(time.Now()))
		}
	}
}

// startingFor is how long the agent counts as starting unless a relay answers before.
const startingFor = 20 * time.Second

// look is what the lights are to show.
func (a *Agent) look(now time.Time) leds.Look {
	ok, _ := a.beats.registry.Healthy(now)
	v := leds.Look{State: leds.CutOff, Fault: !ok || a.store.Err() != nil}
	switch {
	case a.updates.updater != nil && a.updates.updater.Status().Phase != update.Idle:
		v.State = leds.Updating
	case a.link.Status().Connected:
		v.State = leds.Connected
	case now.Sub(a.started) < startingFor:
		v.State = leds.Starting
	}
	return v
}
