package update

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// installing returns a world in which RAUC has just begun, and the agent is then started again while RAUC goes on.
func installing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.order("one")
	for w.m.State().Attempts == 0 {
		w.tick()
	}
	w.pending = nil // rauc install ended with the agent; the service goes on
	w.env.SetGood(bootenv.B, false)
	w.systems[bootenv.B] = system{torn: true}
	w.start()
	return w
}

// TestAgentRestartsWhileRAUCInstalls: the installation is waited for, and not begun a second time.
func TestAgentRestartsWhileRAUCInstalls(t *testing.T) {
	w := installing(t)
	w.tick()
	if w.asked != 1 || w.m.State().Attempts != 1 || !strings.Contains(w.m.Message(), "RAUC is waited for") {
		t.Fatalf("RAUC was asked %d times; %q, %+v", w.asked, w.m.Message(), w.m.State())
	}
	w.facts.Want = nil // withdrawn, which has to wait
	w.pending = nil    // RAUC has not come to its end
	for range 10 {
		w.tick()
	}
	if s := w.m.State(); s.Phase != Installing || s.Attempts != 1 {
		t.Fatalf("%+v while RAUC installs", s)
	}
	w.facts.Want = &Order{ID: "one", Bundle: "https://updates.example.org/one"}
	w.systems[bootenv.B] = w.bundle
	w.env.SetPrimary(bootenv.B)
	w.pending = []Event{Awaited{Env: w.env}}
	w.run("one")
	w.runs("1.1")
	if s := w.m.State(); s.failed("1.1") != "" || w.boots != 2 {
		t.Errorf("%d boots, %+v", w.boots, s)
	}
}

// TestInstallationEndedWithTheAgent: it is begun again, as often as one that the power has interrupted.
func TestInstallationEndedWithTheAgent(t *testing.T) {
	w := installing(t)
	w.run("one")
	w.runs("1.1")

	w = installing(t)
	w.m.state.Attempts = policy().InstallTries
	w.run("one")
	w.runs("1.0")
	w.saidLike("UpdateFailed", "interrupted 3 times")
	if w.env.Good(bootenv.B) || w.env.Confirmed != bootenv.A || w.env.Left[bootenv.A] != bootenv.Tries {
		t.Errorf("a slot that is partly written, and the one that runs: %+v", w.env)
	}
}

// TestRAUCDoesNotAnswer: it is asked again, and at last the slot is given up: nobody knows what it holds.
func TestRAUCDoesNotAnswer(t *testing.T) {
	w := installing(t)
	w.env.SetPrimary(bootenv.B) // as RAUC might have left it
	w.askErr = errors.New("connection refused")
	w.run("one")
	w.runs("1.0")
	w.saidLike("UpdateInstallation", "connection refused")
	w.saidLike("UpdateFailed", "cannot be known: connection refused")
	if w.asked != askTries || w.env.Good(bootenv.B) || w.env.Confirmed != bootenv.A {
		t.Errorf("asked %d times, then %+v", w.asked, w.env)
	}
}

// TestFailedInstallation: whatever RAUC has left, the system that runs is the one that boots, and the state says why.
func TestFailedInstallation(t *testing.T) {
	w := newWorld(t)
	w.installed = errors.New("no space left on device")
	w.order("one")
	s := w.run("one")
	w.runs("1.0")
	if w.env.Good(bootenv.B) || w.env.Confirmed != bootenv.A || w.env.Left[bootenv.A] != bootenv.Tries || !strings.Contains(s.Result, "no space left on device") || !strings.Contains(w.m.Message(), "no space left") {
		t.Errorf("%+v, %+v", w.env, s)
	}
}

// TestSlotCannotBeGivenUp: the machine neither restarts into the slot again and again, nor stays there and says nothing.
func TestSlotCannotBeGivenUp(t *testing.T) {
	w := newWorld(t)
	w.bundle.unhealthy = []string{"store: the disk is full"}
	w.order("one")
	w.giveUpErr = errors.New("input/output error")
	for w.m.State().Phase != RollingBack {
		w.tick()
	}
	boots := w.boots
	for range 1000 {
		w.tick()
	}
	if w.boots != boots || w.slot != bootenv.B {
		t.Fatalf("restarted %d times, in slot %s", w.boots-boots, w.slot)
	}
	for _, text := range []string{"the disk is full", "slot B cannot be given up", "tried again in 30m0s", "input/output error"} {
		if !strings.Contains(w.m.Message(), text) {
			t.Errorf("the condition says %q, want %q in it", w.m.Message(), text)
		}
	}
	w.saidLike("SlotNotGivenUp", "input/output error")
	if n := len(w.told); n > 12 {
		t.Errorf("%d events", n)
	}
	w.start() // the agent comes back, and nothing has changed
	for range 10 {
		w.tick()
	}
	if w.boots != boots || !strings.Contains(w.m.Message(), "cannot be given up") {
		t.Errorf("after the agent's restart: %d boots, %q", w.boots-boots, w.m.Message())
	}
	w.giveUpErr = nil
	w.run("one")
	w.runs("1.0")
	w.saidLike("UpdateRolledBack", "the disk is full")
}

// TestWithdrawnSlotCannotBeGivenUp: an update is not called withdrawn while it would boot.
func TestWithdrawnSlotCannotBeGivenUp(t *testing.T) {
	w := newWorld(t)
	w.facts.Window = false
	w.order("one")
	for w.m.State().Phase != Draining {
		w.tick()
	}
	w.giveUpErr = errors.New("input/output error")
	w.facts.Want, w.facts.Window = nil, true
	for range 100 {
		w.tick()
	}
	if s := w.m.State(); s.Phase != Draining || w.boots != 1 || !strings.Contains(w.m.Message(), "slot B cannot be given up") {
		t.Errorf("%d boots, %q, %+v", w.boots, w.m.Message(), s)
	}
	w.giveUpErr = nil
	w.run("one")
	w.runs("1.0")
}

// busyRAUC installs until its channel is closed.
type busyRAUC struct {
	*bench
	until <-chan struct{}
	err   error
}

func (r busyRAUC) Busy(context.Context) (bool, string, error) {
	select {
	case <-r.until:
		return false, "", r.err
	default:
		return true, "", nil
	}
}

func (r busyRAUC) Install(context.Context, string, func(int)) error {
	r.t.Error("a second installation was begun")
	return errors.New("already processing a different method")
}

// TestUpdaterWaitsForRAUC is the shell's part.
func TestUpdaterWaitsForRAUC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.down = make(chan struct{})
		until := make(chan struct{})
		o := b.options()
		o.RAUC = busyRAUC{b, until, nil}
		o.Facts = func() Facts {
			return Facts{Window: true, Linked: true, Want: &Order{ID: "one", Bundle: "/stick"}}
		}
		u, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		state := []byte(`{"phase":"Installing","order":{"id":"one","bundle":"/stick"},"from":"A","to":"B","version":"1.1","attempts":1}`)
		if err := os.WriteFile(filepath.Join(b.dir, stateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- u.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := u.Status(); s.Phase != Installing || !strings.Contains(s.Message, "RAUC is waited for") {
			t.Errorf("while RAUC installs: %+v", s)
		}
		b.mu.Lock()
		b.env.SetPrimary(bootenv.B)
		b.mu.Unlock()
		close(until)
		<-b.down // it restarts into the new system
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
