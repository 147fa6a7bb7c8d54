//go:build clockstep

// Compiled with a package time whose wall clock can be set (hil-tests/rig/clockstep); hil-tests/clock runs these tests.

package eviction

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClockStep: neither does a grace period end early nor a condition stay longer because the clock is set.
func TestClockStep(t *testing.T) {
	const year = 365 * 24 * 3600
	for _, seconds := range []int64{year, -year, 600, -600} {
		synctest.Test(t, func(t *testing.T) {
			defer time.SetWallClock(0)
			rules := []Threshold{{Signal: Memory, Least: Amount{Percent: 10}, Grace: time.Minute}}
			s := State{Transition: 5 * time.Minute}
			step := func(left int64) Decision {
				return s.Step(rules, Observations{Memory: {Available: left, Capacity: 1000}}, time.Now())
			}
			step(50)
			time.Sleep(30 * time.Second)
			time.SetWallClock(seconds)
			if d := step(50); len(d.Due) > 0 {
				t.Errorf("clock moved by %d s: a grace period of a minute is over after 30 s", seconds)
			}
			time.Sleep(31 * time.Second)
			if d := step(50); len(d.Due) == 0 {
				t.Errorf("clock moved by %d s: a grace period of a minute is not over after 61 s", seconds)
			}
			time.SetWallClock(0)
			if d := step(500); len(d.Pressure) != 1 {
				t.Errorf("clock moved by %d s: the condition went at once", seconds)
			}
			time.Sleep(5 * time.Minute)
			if d := step(500); len(d.Pressure) != 0 {
				t.Errorf("clock moved by %d s: the condition stays", seconds)
			}
		})
	}
}
