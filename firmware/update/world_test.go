package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// world is a gateway: its boot environment, two slots with systems in them, the file with the state, and the machine that it drives.
type world struct {
	t     *testing.T
	now   time.Time
	boot  time.Time
	boots int

	env     bootenv.Env
	systems map[bootenv.Slot]system
	slot    bootenv.Slot
	saved   []byte
	m       *Machine

	bundle    system // what the order's bundle holds
	bundleErr error  // of RAUC's look at it
	fetchErr  error
	fatal     bool
	installed error
	giveUpErr error
	asked     int   // RAUC, whether it is busy
	askErr    error // of that

	facts   Facts
	done    []string // actions and events, for errors
	told    []Tell
	cut     func() bool // power fails before the next action
	pending []Event
}

// system is what a slot holds.
type system struct {
	version    string
	compatible string
	boots      bool // far enough for an agent
	unhealthy  []string
	torn       bool // partly written
	rotten     bool // dm-verity restarts the machine ten minutes after the boot
}

const compatible = "skerry-test"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Unix(1e9, 0), env: bootenv.Default(), cut: func() bool { return false },
		systems: map[bootenv.Slot]system{bootenv.A: {version: "1.0", compatible: compatible, boots: true}, bootenv.B: {version: "0.9", compatible: compatible, boots: true}},
		bundle:  system{version: "1.1", compatible: compatible, boots: true},
		facts: Facts{
			Window: true, Linked: true, Working: Baseline{Pods: []string{"default/web"}, Devices: []string{"default/pump"}}, Desired: Baseline{Pods: []string{"default/web"}, Devices: []string{"default/pump"}},
		},
	}
	w.powerOn()
	return w
}

func policy() Policy {
	p := DefaultPolicy()
	p.Compatible = compatible
	return p
}

var errPower = errors.New("the power fails")

// powerOn boots until an agent runs.
func (w *world) powerOn() {
	w.t.Helper()
	for range 20 {
		w.boots++
		w.slot, w.env = w.env.Boot()
		s := w.systems[w.slot]
		if s.torn {
			w.t.Fatalf("a torn system was booted in slot %s:\n%s", w.slot, w.log())
		}
		if s.boots {
			w.boot = w.now
			w.start()
			return
		}
		w.now = w.now.Add(time.Minute)
	}
	w.t.Fatalf("no slot boots:\n%s", w.log())
}

// start starts the agent.
func (w *world) start() {
	w.t.Helper()
	var s State
	if w.saved != nil {
		if err := json.Unmarshal(w.saved, &s); err != nil {
			w.t.Fatal(err)
		}
	}
	w.pending = nil
	w.m = NewMachine(policy(), s)
	w.step(Started{Slot: w.slot, BootID: fmt.Sprint("boot-", w.boots), Version: w.systems[w.slot].version})
}

func (w *world) log() string { return strings.Join(w.done[max(0, len(w.done)-40):], "\n") }

// step gives the machine an event and does what it wants. Power may fail before each action, and in the middle of an installation.
func (w *world) step(ev Event) {
	w.t.Helper()
	w.done = append(w.done, fmt.Sprintf("%s %s [%s] %T", w.now.Format("15:04:05"), w.slot, w.m.state.Phase, ev))
	for _, a := range w.m.Step(ev, w.now) {
		if w.cut() {
			w.done = append(w.done, "-- power fails")
			w.powerOn()
			return
		}
		w.done = append(w.done, fmt.Sprintf("    %T", a))
		if err := w.act(a); err != nil {
			w.powerOn()
			return
		}
	}
}

func (w *world) act(a Action) error {
	w.t.Helper()
	switch a := a.(type) {
	case Save:
		var err error
		if w.saved, err = json.Marshal(a.State); err != nil {
			w.t.Fatal(err)
		}
	case Tell:
		w.told = append(w.told, a)
	case Fetch:
		w.pending = append(w.pending, Fetched{Path: "/bundle", Err: w.fetchErr, Fatal: w.fatal})
	case Inspect:
		w.pending = append(w.pending, Inspected{Compatible: w.bundle.compatible, Version: w.bundle.version, Err: w.bundleErr})
	case Install:
		to := w.slot.Other()
		w.env.SetGood(to, false) // as RAUC does
		w.systems[to] = system{torn: true}
		if w.cut() {
			return errPower
		}
		if w.installed != nil {
			w.pending = append(w.pending, Installed{w.installed})
			break
		}
		w.systems[to] = w.bundle
		w.env.SetPrimary(to)
		w.pending = append(w.pending, Installed{})
	case Confirm:
		if s := w.systems[a.Slot]; len(s.unhealthy) > 0 && w.facts.Up < policy().HealthTimeout {
			w.t.Errorf("a slot that is not well was confirmed: %v\n%s", s.unhealthy, w.log())
		}
		w.env.Confirm(a.Slot)
		w.pending = append(w.pending, Committed{})
	case Await:
		w.asked++
		w.pending = append(w.pending, Awaited{Env: w.env, Err: w.askErr})
	case Check:
		ev := Checked{Rotten: w.systems[w.slot].rotten, Other: w.env.Good(w.slot.Other())}
		if ev.Rotten {
			ev.Err = errors.New("block 7 is not what it was")
		}
		w.pending = append(w.pending, ev)
	case GiveUp:
		if w.giveUpErr == nil {
			w.env.SetGood(a.Slot, false)
		}
		w.pending = append(w.pending, GivenUp{w.giveUpErr})
	case Reboot:
		return errPower
	case Cancel:
		w.pending = nil
	case Discard:
	default:
		w.t.Fatalf("unknown action %T", a)
	}
	return nil
}

// tick lets ten seconds pass.
func (w *world) tick() {
	w.t.Helper()
	for len(w.pending) > 0 {
		ev := w.pending[0]
		w.pending = w.pending[1:]
		w.step(ev)
	}
	w.now = w.now.Add(10 * time.Second)
	w.facts.Up = w.now.Sub(w.boot)
	if w.systems[w.slot].rotten && w.facts.Up > 10*time.Minute {
		w.done = append(w.done, "-- dm-verity restarts the machine")
		w.powerOn()
		return
	}
	w.facts.Unhealthy = w.systems[w.slot].unhealthy
	w.step(Tick{w.facts})
}

// run lets time pass until the order has ended.
func (w *world) run(id string) State {
	w.t.Helper()
	for range 2000 {
		w.tick()
		if s := w.m.State(); s.Done == id && s.Phase == Idle && len(w.pending) == 0 {
			return s
		}
	}
	w.t.Fatalf("update %s has not ended: %+v\n%s", id, w.m.State(), w.log())
	return State{}
}

func (w *world) order(id string) *Order {
	w.facts.Want = &Order{ID: id, Bundle: "https://updates.example.org/" + id}
	return w.facts.Want
}

func (w *world) runs(version string) {
	w.t.Helper()
	if got := w.systems[w.slot].version; got != version {
		w.t.Errorf("version %s runs, want %s\n%s", got, version, w.log())
	}
	if p, ok := w.env.Primary(); !ok || w.systems[p].version != version {
		w.t.Errorf("slot %s with version %s boots next (%+v), want version %s", p, w.systems[p].version, w.env, version)
	}
}

func (w *world) saidLike(reason, text string) {
	w.t.Helper()
	if !slices.ContainsFunc(w.told, func(t Tell) bool { return t.Reason == reason && strings.Contains(t.Message, text) }) {
		w.t.Errorf("no event %s with %q in %+v", reason, text, w.told)
	}
}
