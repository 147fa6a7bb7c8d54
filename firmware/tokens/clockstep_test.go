//go:build clockstep

// Compiled with a package time whose wall clock can be set (hil-tests/rig/clockstep); hil-tests/clock runs these tests.

package tokens

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClockStep: a running agent renews tokens when it would have. One that starts after the clock was set asks once at most, and then too.
func TestClockStep(t *testing.T) {
	const year = 365 * 24 * 3600
	for _, seconds := range []int64{year, -year, 600, -600, -30 * year} {
		for _, again := range []bool{false, true} {
			bubble(t, func(g *rig) {
				defer time.SetWallClock(0)
				if _, err := g.token(pod, ""); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1000 * time.Second)
				if again {
					g.stop()
				}
				time.SetWallClock(seconds)
				if again {
					g.start()
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				n := g.count()
				if n > 2 || n > 1 && !again {
					t.Errorf("clock moved by %d s, started again %v: %d requests", seconds, again, n)
				}
				if token, err := g.token(pod, ""); token == "" || err != nil {
					t.Errorf("clock moved by %d s, started again %v: %q, %v", seconds, again, token, err)
				}
				time.Sleep(3000 * time.Second)
				synctest.Wait()
				if g.count() != 2 && !again || g.count() < 2 || g.count() > n+1 {
					t.Errorf("clock moved by %d s, started again %v: %d requests after 4/5 of the token's life", seconds, again, g.count())
				}
				g.k.Take()
			})
		}
	}
}
