package update

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
)

// rot spoils what a slot holds.
func (w *world) rot(s bootenv.Slot) {
	sys := w.systems[s]
	sys.rotten = true
	w.systems[s] = sys
}

// TestConfirmedSlotRots: the machine ends in the other slot, and not in a restart every ten minutes.
func TestConfirmedSlotRots(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		w.tick()
	}
	if w.m.State().Confirmed != bootenv.A {
		t.Fatalf("%+v", w.m.State())
	}
	w.rot(bootenv.A)
	for range 2000 {
		w.tick()
	}
	if w.slot != bootenv.B || w.boots > 4 || w.env.Good(bootenv.A) || w.env.Confirmed != bootenv.B {
		t.Fatalf("slot %s after %d boots: %+v\n%s", w.slot, w.boots, w.env, w.log())
	}
	w.runs("0.9")
	w.saidLike("SlotRotten", "slot A has rotted, and the machine restarts into slot B: block 7")
	w.saidLike("OtherSlotBooted", "slot A was the one in use")
	w.order("one") // which mends it
	w.run("one")
	w.runs("1.1")
}

// TestBothSlotsRotten, or the other one never was good: the slot that runs is kept, and says so.
func TestRottenSlotWithoutAnother(t *testing.T) {
	w := newWorld(t)
	w.env.SetGood(bootenv.B, false)
	w.rot(bootenv.A)
	for range 50 {
		w.tick()
	}
	if w.boots != 1 || w.env.Confirmed != bootenv.A || w.env.Left[bootenv.A] != bootenv.Tries || !strings.Contains(w.m.Message(), "install an update") {
		t.Errorf("%d boots, %+v, %q", w.boots, w.env, w.m.Message())
	}
	w.saidLike("SlotRotten", "slot B has no system")
	w.order("one") // goes to the other slot
	w.run("one")
	w.runs("1.1")
}

// TestNewSystemRots between its verification and its trial.
func TestNewSystemRots(t *testing.T) {
	w := newWorld(t)
	w.bundle.rotten = true
	w.order("one")
	w.run("one")
	w.runs("1.0")
	w.saidLike("UpdateRolledBack", "what was written to slot B is not what is read: block 7")
}

// TestRotWhileDownloading: the slot is left at once, and the order goes on in the other one.
func TestRotWhileDownloading(t *testing.T) {
	w := newWorld(t)
	w.rot(bootenv.A)
	w.fetchErr = errors.New("connection reset")
	w.order("one")
	for range 20 {
		w.tick()
	}
	if w.slot != bootenv.B {
		t.Fatalf("slot %s runs\n%s", w.slot, w.log())
	}
	w.fetchErr = nil
	w.run("one")
	w.runs("1.1")
}

// TestRootThatCannotBeChecked is confirmed: what cannot be known is no reason to leave it.
func TestRootThatCannotBeChecked(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		slot bootenv.Slot
	}{
		"no such device": {errors.New("no such device"), bootenv.A},
		"rotten":         {fmt.Errorf("%w: block 7", rauc.ErrRotten), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.rot = c.err
				b.boot(func(Status) bool { return b.env.Confirmed != "" })
				if b.env.Confirmed != c.slot || b.env.Good(bootenv.A) != (c.slot == bootenv.A) {
					t.Errorf("%+v", b.env)
				}
				if said := strings.Join(b.said, "\n"); !strings.Contains(said, c.err.Error()) {
					t.Errorf("events: %s", said)
				}
			})
		})
	}
}
