package update

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	w.order("one")
	s := w.run("one")
	w.runs("1.1")
	if w.slot != bootenv.B || s.Confirmed != bootenv.B || w.env.Confirmed != bootenv.B || w.env.Left[bootenv.B] != bootenv.Tries {
		t.Errorf("after the update: %+v, %+v", s, w.env)
	}
	w.saidLike("Updated", "version 1.1 runs in slot B and is confirmed; it was 1.0 before")
	boots := w.boots
	for range 100 {
		w.tick()
	}
	if w.boots != boots {
		t.Error("the same order was done twice")
	}
	w.bundle.version = "1.2"
	w.order("two")
	w.run("two")
	w.runs("1.2")
	if w.slot != bootenv.A {
		t.Errorf("the second update runs in slot %s", w.slot)
	}
}

func TestRollBack(t *testing.T) {
	for name, bad := range map[string]struct {
		system system
		says   string
	}{
		"does not boot": {system{version: "1.1", compatible: compatible}, "did not come up in slot B"},
		"is not well":   {system{version: "1.1", compatible: compatible, boots: true, unhealthy: []string{"store: the disk is full"}}, "store: the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.bundle = bad.system
			w.order("one")
			w.run("one")
			w.runs("1.0")
			w.saidLike("UpdateRolledBack", bad.says)
			w.saidLike("UpdateRolledBack", "goes on with version 1.0 in slot A")
			boots := w.boots
			w.order("again")
			w.run("again")
			w.saidLike("UpdateRefused", "has failed on this gateway before")
			if w.boots != boots {
				t.Error("a version that failed was installed again")
			}
			w.bundle.boots, w.bundle.unhealthy = true, nil
			w.order("retry").Retry = true
			w.run("retry")
			w.runs("1.1")
			if s := w.m.State(); s.failed("1.1") != "" {
				t.Errorf("a version that works is still remembered as failed: %+v", s.Failed)
			}
		})
	}
}

// TestWhatWorkedBefore: pods and devices that are missed roll the update back; those that somebody has removed are not missed.
func TestWhatWorkedBefore(t *testing.T) {
	w := newWorld(t)
	w.order("one")
	for w.m.State().Phase != Trying {
		w.tick()
	}
	w.facts.Working.Devices = nil
	w.run("one")
	w.runs("1.0")
	w.saidLike("UpdateRolledBack", "devices that worked before the update and do not now: default/pump")

	w = newWorld(t)
	w.order("one")
	for w.m.State().Phase != Trying {
		w.tick()
	}
	w.facts.Working, w.facts.Desired = Baseline{}, Baseline{}
	w.run("one")
	w.runs("1.1")
}

func TestWithoutCloud(t *testing.T) {
	w := newWorld(t)
	w.order("one")
	for w.m.State().Phase != Trying {
		w.tick()
	}
	w.facts.Linked = false
	at := w.now
	w.run("one")
	w.runs("1.1")
	if took := w.now.Sub(at); took < DefaultPolicy().WithoutCloud {
		t.Errorf("confirmed after %v without a relay, want %v at least", took, DefaultPolicy().WithoutCloud)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *Order)
		reason string
		says   string
	}{
		"another board":     {func(w *world, _ *Order) { w.bundle.compatible = "skerry-other" }, "UpdateRefused", "the bundle is for skerry-other, and this gateway is skerry-test"},
		"a bad signature":   {func(w *world, _ *Order) { w.bundleErr = errors.New("signature verification failed") }, "UpdateRefused", "signature verification failed"},
		"older":             {func(w *world, _ *Order) { w.bundle.version = "0.9" }, "UpdateRefused", "older than version 1.0"},
		"older, said so":    {func(_ *world, o *Order) { o.Version = "0.9" }, "UpdateRefused", "older than version 1.0"},
		"another version":   {func(_ *world, o *Order) { o.Version = "1.5" }, "UpdateRefused", "version 1.5 was ordered, and the bundle is version 1.1"},
		"no version":        {func(w *world, _ *Order) { w.bundle.version = "" }, "UpdateRefused", "has no version"},
		"not there":         {func(w *world, _ *Order) { w.fetchErr, w.fatal = errors.New("404 Not Found"), true }, "UpdateFailed", "404 Not Found"},
		"RAUC fails":        {func(w *world, _ *Order) { w.installed = errors.New("no space left on device") }, "UpdateFailed", "no space left on device"},
		"runs already":      {func(w *world, _ *Order) { w.bundle.version = "1.0" }, "", ""},
		"runs, and says so": {func(_ *world, o *Order) { o.Version = "1.0" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w, w.order("one"))
			w.run("one")
			w.runs("1.0")
			if w.boots != 1 {
				t.Errorf("the machine was restarted:\n%s", w.log())
			}
			if c.reason != "" {
				w.saidLike(c.reason, c.says)
			}
		})
	}
}

func TestDowngradeThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.bundle.version = "0.8"
	w.order("one").AllowDowngrade = true
	w.run("one")
	w.runs("0.8")
}

func TestDownloadIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.fetchErr = errors.New("connection reset")
	w.order("one")
	for range 60 {
		w.tick()
	}
	w.saidLike("UpdateDownload", "connection reset")
	if n := len(w.told); n > 3 {
		t.Errorf("%d events for one broken connection: %+v", n, w.told)
	}
	w.fetchErr = nil
	w.run("one")
	w.runs("1.1")
}

// TestWaits: for power, for the window, for pods, and all that can be withdrawn.
func TestWaits(t *testing.T) {
	for name, c := range map[string]struct {
		hold, free func(*Facts)
		phase      Phase
	}{
		"power":  {func(f *Facts) { f.Power = "runs on battery" }, func(f *Facts) { f.Power = "" }, Installing},
		"window": {func(f *Facts) { f.Window = false }, func(f *Facts) { f.Window = true }, Draining},
		"pods":   {func(f *Facts) { f.Busy = []string{"default/backup"} }, func(f *Facts) { f.Busy = nil }, Draining},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.order("one")
			c.hold(&w.facts)
			for range 60 {
				w.tick()
			}
			if s := w.m.State(); s.Phase != c.phase || w.boots != 1 {
				t.Fatalf("phase %s after %d boots, want %s", s.Phase, w.boots, c.phase)
			}
			w.facts.Want = nil
			w.run("one")
			for range 10 {
				w.tick()
			}
			w.runs("1.0")
			w.order("two")
			for range 60 {
				w.tick()
			}
			c.free(&w.facts)
			w.run("two")
			w.runs("1.1")
		})
	}
}

func TestBusyPodsAreNotWaitedForForEver(t *testing.T) {
	w := newWorld(t)
	w.facts.Busy = []string{"default/never-ends"}
	w.order("one")
	at := w.now
	w.run("one")
	w.runs("1.1")
	if took := w.now.Sub(at); took < DefaultPolicy().DrainTimeout {
		t.Errorf("a pod that must not be interrupted was after %v", took)
	}
}

// TestEveryBootIsConfirmed: each boot takes a try; a system that is well gets it back, update or not.
func TestEveryBootIsConfirmed(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		for range 20 {
			w.tick()
		}
		w.runs("1.0")
		if w.env.Left[bootenv.A] != bootenv.Tries {
			t.Fatalf("boot %d: %+v", w.boots, w.env)
		}
		w.powerOn()
	}
}

// TestNotWellButReached: a system that is not well keeps its tries if the cloud reaches it, and may be updated.
func TestNotWellButReached(t *testing.T) {
	w := newWorld(t)
	w.systems[bootenv.A] = system{version: "1.0", compatible: compatible, boots: true, unhealthy: []string{"devices: wedged"}}
	w.order("one")
	w.run("one")
	w.runs("1.1")
	if w.now.Sub(time.Unix(1e9, 0)) < DefaultPolicy().HealthTimeout {
		t.Error("the other slot was written over before the one that runs was confirmed")
	}
}

// TestPowerCuts drives updates, good and bad, and cuts the power between actions and within installations. The gateway always boots a whole system (powerOn
// fails otherwise), the order always ends, and what runs then is the new version if it is good and was not given up, else the old one.
func TestPowerCuts(t *testing.T) {
	cuts, updated, failed := 0, 0, 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t)
		left := 1 + r.IntN(6)
		w.cut = func() bool {
			if left == 0 || r.IntN(12) != 0 {
				return false
			}
			left--
			cuts++
			w.now = w.now.Add(time.Duration(r.IntN(100)) * time.Second)
			return true
		}
		switch r.IntN(4) {
		case 0:
			w.bundle.boots = false
		case 1:
			w.bundle.unhealthy = []string{"pods: wedged"}
		}
		for i := range 3 {
			id := fmt.Sprint("order-", i)
			w.bundle.version = fmt.Sprint("1.", i+1)
			w.order(id)
			w.run(id)
			for range 30 {
				w.tick()
			}
			want := w.m.State()
			if v := w.systems[w.slot].version; v == w.bundle.version {
				updated++
			} else if failed++; want.failed(w.bundle.version) == "" && w.bundle.boots && len(w.bundle.unhealthy) == 0 && len(want.Failed) == 0 {
				t.Fatalf("seed %d: version %s runs and not %s, and no failure is remembered\n%s", seed, v, w.bundle.version, w.log())
			}
			if w.env.Confirmed != w.slot || w.env.Left[w.slot] != bootenv.Tries {
				t.Fatalf("seed %d: slot %s runs, and the environment is %+v\n%s", seed, w.slot, w.env, w.log())
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	if cuts < 2000 || updated < 1000 || failed < 1000 {
		t.Errorf("%d cuts, %d updates, %d failures: the test tests too little", cuts, updated, failed)
	}
}

// TestOrderOfTheCloudIsNotRepeated: its annotation stays, and a stick comes in between.
func TestOrderOfTheCloudIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	w.order("cloud")
	w.run("cloud")
	w.bundle.version = "1.2"
	w.order("stick")
	w.facts.Here = true
	w.run("stick")
	w.runs("1.2")
	boots := w.boots
	w.bundle.version = "1.3"
	w.order("cloud")
	w.facts.Here = false
	for range 200 {
		w.tick()
	}
	if s := w.m.State(); w.boots != boots || s.Phase != Idle || s.Done != "stick" {
		t.Errorf("the cloud's order was done again: %+v", s)
	}
}
