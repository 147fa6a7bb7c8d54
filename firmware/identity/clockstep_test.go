//go:build clockstep

// Compiled with a package time whose wall clock can be set (hil-tests/rig/clockstep); hil-tests/clock runs these tests.

package identity

import (
	"testing"
	"time"
)

// TestClockStep: once a relay's clock is known, setting the gateway's makes no certificate older or younger.
func TestClockStep(t *testing.T) {
	defer time.SetWallClock(0)
	p := newPeer(t)
	id, dir := p.joined(t)
	r := p.renewer(dir)
	r.opts.now = time.Now
	r.Heard(p.clock)
	before := r.look(id)
	for _, seconds := range []int64{365 * 24 * 3600, -365 * 24 * 3600, 600, -600, -50 * 365 * 24 * 3600} {
		time.SetWallClock(seconds)
		if wait := r.look(id); (before - wait).Abs() > time.Minute {
			t.Errorf("clock moved by %d s: renewed in %v, was %v", seconds, wait, before)
		}
		r.Heard(p.clock)
		if got := r.Clock(id)(); got.Sub(p.clock).Abs() > time.Minute {
			t.Errorf("clock moved by %d s: relays are judged by %v, theirs is %v", seconds, got, p.clock)
		}
	}
}
