package rauc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// gateway is a machine without a working agent.
type gateway struct {
	env     bootenv.Env
	alone   bool
	peekErr error
	reboot  func(force bool) error
	forced  []bool // the restarts that were asked for
	refills int
	rotten  error
}

// run runs a Deadline in a slot for a day at most, and returns after how long it has ended or asked for a restart.
func (g *gateway) run(t *testing.T, slot bootenv.Slot) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	err := Deadline{
		Slot: slot, After: DefaultDeadline, Alone: func() bool { return g.alone }, Log: slog.New(slog.DiscardHandler),
		Peek:   func() (bootenv.Env, error) { return g.env, g.peekErr },
		Check:  func(context.Context) error { return g.rotten },
		Refill: func(s bootenv.Slot) error { g.env.SetGood(s, true); g.refills++; return nil },
		Uptime: func() time.Duration { return time.Since(began) },
		Reboot: func(_ context.Context, force bool) error {
			g.forced = append(g.forced, force)
			if g.reboot != nil {
				return g.reboot(force)
			}
			cancel()
			return nil
		},
	}.Run(ctx)
	return time.Since(began), err
}

func installed() bootenv.Env {
	e := bootenv.Default()
	e.Confirm(bootenv.A)
	e.SetPrimary(bootenv.B)
	return e
}

// TestNewSystemWithoutAnAgent boots a new system whose agent never comes up: after its tries the old one runs again.
func TestNewSystemWithoutAnAgent(t *testing.T) {
	for name, alone := range map[string]bool{"it panics": false, "it refuses its configuration": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{env: installed(), alone: alone}
				for i := range bootenv.Tries {
					var slot bootenv.Slot
					if slot, g.env = g.env.Boot(); slot != bootenv.B {
						t.Fatalf("boot %d is of slot %s", i, slot)
					}
					if took, err := g.run(t, slot); took < DefaultDeadline || took > DefaultDeadline+lookEvery || err != nil {
						t.Errorf("boot %d ended after %v, %v", i, took, err)
					}
				}
				if slot, _ := g.env.Boot(); slot != bootenv.A || len(g.forced) != bootenv.Tries || slices.Contains(g.forced, true) || g.refills != 0 {
					t.Errorf("slot %s boots then, after restarts %v and %d refills", slot, g.forced, g.refills)
				}
			})
		})
	}
}

func TestSlotsThatAreNotLeft(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gateway)
		slot   bootenv.Slot
		refill bool
	}{
		"confirmed by the agent": {func(g *gateway) { g.env.Confirm(bootenv.B) }, bootenv.B, false},
		"not provisioned":        {func(g *gateway) { g.env, g.alone = bootenv.Default(), true }, bootenv.A, true},
		"a broken configuration": {func(g *gateway) { g.env.Confirm(bootenv.A); g.alone = true }, bootenv.A, true},
		"an agent that panics":   {func(g *gateway) { g.env.Confirm(bootenv.A) }, bootenv.A, true},
		"nowhere to go back to":  {func(g *gateway) { g.env.SetGood(bootenv.A, false) }, bootenv.B, true},
		"installed, not booted":  {func(*gateway) {}, bootenv.A, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{env: installed()}
				c.change(g)
				order := g.env.Order
				if c.refill {
					g.env.Left[c.slot] = 1
				}
				took, err := g.run(t, c.slot)
				if err != nil || len(g.forced) > 0 || g.env.Left[c.slot] != bootenv.Tries || (g.refills > 0) != c.refill || g.env.Order != order {
					t.Errorf("%v, restarts %v, %d refills, %+v", err, g.forced, g.refills, g.env)
				}
				if g.alone && took > 0 {
					t.Errorf("without an agent the tries come back after %v, want at once", took)
				}
			})
		})
	}
}

// TestRottenSlotIsNotRefilled: it would restart the machine for ever.
func TestRottenSlotIsNotRefilled(t *testing.T) {
	for name, other := range map[string]int{"the other one boots": 3, "there is no other one": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{env: bootenv.Default(), alone: true, rotten: fmt.Errorf("%w: block 7", ErrRotten)}
				g.env.Confirm(bootenv.A)
				g.env.Left[bootenv.A], g.env.Left[bootenv.B] = 1, other
				_, err := g.run(t, bootenv.A)
				if (err != nil) != (other > 0) || (g.refills > 0) != (other == 0) {
					t.Errorf("%v, %d refills", err, g.refills)
				}
			})
		})
	}
}

func TestConfirmedWhileItIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{env: installed()}
		_, g.env = g.env.Boot()
		go func() {
			time.Sleep(DefaultDeadline - time.Minute - time.Second)
			g.env.Confirm(bootenv.B)
		}()
		if took, err := g.run(t, bootenv.B); took >= DefaultDeadline || err != nil || len(g.forced) > 0 {
			t.Errorf("ended after %v, %v, restarts %v", took, err, g.forced)
		}
	})
}

func TestRestartThatHangsIsForced(t *testing.T) {
	for name, first := range map[string]error{"it hangs": nil, "it fails": errors.New("connection timed out")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{env: installed()}
				ctx, cancel := context.WithCancel(t.Context())
				g.reboot = func(force bool) error {
					if force {
						cancel()
						return nil
					}
					return first
				}
				began := time.Now()
				Deadline{Slot: bootenv.B, Log: slog.New(slog.DiscardHandler), Reboot: func(_ context.Context, force bool) error {
					g.forced = append(g.forced, force)
					return g.reboot(force)
				}}.leave(ctx, g.env)
				if took := time.Since(began); !slices.Equal(g.forced, []bool{false, true}) || took < lookEvery || took > forceAfter {
					t.Errorf("restarts %v in %v", g.forced, took)
				}
			})
		})
	}
}

func TestUnreadableEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{env: installed(), peekErr: errors.New("input/output error")}
		if _, err := g.run(t, bootenv.B); err == nil || len(g.forced) > 0 {
			t.Errorf("%v, restarts %v", err, g.forced)
		}
	})
}
