package update

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/firmware/wire"
)

// bench is a gateway for an Updater: fakes of RAUC, of the download and of the boot environment.
type bench struct {
	t       *testing.T
	dir     string
	slot    bootenv.Slot
	boots   int
	running string
	down    chan struct{} // closed by Reboot

	mu   sync.Mutex
	env  bootenv.Env
	said []string
	rot  error // of the root
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, dir: filepath.Join(t.TempDir(), "updates"), slot: bootenv.A, running: "1.0", env: bootenv.Default()}
}

func (b *bench) Confirm(s bootenv.Slot) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.env.Confirm(s)
	return nil
}

func (b *bench) GiveUp(s bootenv.Slot) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.env.SetGood(s, false)
	return nil
}

func (b *bench) Read() (bootenv.Env, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.env, nil
}

func (b *bench) Busy(context.Context) (bool, string, error) { return false, "", nil }

func (b *bench) Inspect(context.Context, string) (string, string, error) {
	return compatible, "1.1", nil
}

func (b *bench) Install(_ context.Context, path string, progress func(int)) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	progress(50)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.env.SetPrimary(b.slot.Other())
	return nil
}

func (b *bench) options() Options {
	return Options{
		Policy: policy(), Dir: b.dir, Slot: b.slot, BootID: "boot" + string(rune('0'+b.boots)), Version: b.running, Slots: b, RAUC: b,
		Download: Downloader{}.Download, Fatal: Fatal,
		Check:  func(context.Context) error { return b.rot },
		Reboot: func(context.Context) error { close(b.down); return nil },
		Facts:  func() Facts { return Facts{Window: true, Linked: true} },
		Tell: func(_ bool, reason, message string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.said = append(b.said, reason+": "+message)
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

// boot runs an Updater until the machine is restarted or done says so.
func (b *bench) boot(done func(Status) bool) {
	b.t.Helper()
	b.boots++
	b.down = make(chan struct{})
	u, err := New(b.options())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error)
	go func() { ended <- u.Run(ctx) }()
	for range 1000 {
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case <-b.down:
		default:
			if !done(u.Status()) {
				continue
			}
		}
		cancel()
		if err := <-ended; err != nil {
			b.t.Fatal(err)
		}
		return
	}
	cancel()
	b.t.Fatalf("nothing happens: %+v, %v", u.Status(), <-ended)
}

func TestUpdaterFromAStick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		stick := filepath.Join(t.TempDir(), "update.raucb")
		if err := os.WriteFile(stick, make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Place(b.dir, Order{ID: "local-1", Bundle: stick}); err != nil {
			t.Fatal(err)
		}
		b.boot(func(Status) bool { return false }) // until the restart
		if p, _ := b.env.Primary(); p != bootenv.B {
			t.Fatalf("slot %s boots next", p)
		}
		b.slot, b.running = bootenv.B, "1.1"
		b.boot(func(s Status) bool { return s.Phase == Idle })
		if b.env.Confirmed != bootenv.B {
			t.Errorf("not confirmed: %+v", b.env)
		}
		if log := strings.Join(b.said, "\n"); !strings.Contains(log, "Updated: version 1.1 runs in slot B and is confirmed; it was 1.0 before") {
			t.Errorf("events:\n%s", log)
		}
		for _, name := range []string{orderFile, BundleFile} {
			if _, err := os.Stat(filepath.Join(b.dir, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", name, err)
			}
		}
	})
}

func TestUpdaterWithABadStick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if err := Place(b.dir, Order{ID: "local-1", Bundle: "/no/such/stick/update.raucb"}); err != nil {
			t.Fatal(err)
		}
		b.boot(func(s Status) bool { return s.Result != "" })
		if log := strings.Join(b.said, "\n"); !strings.Contains(log, "UpdateFailed") || !strings.Contains(log, "no such file") || !strings.Contains(log, "goes on with version 1.0 in slot A") {
			t.Errorf("events:\n%s", log)
		}
	})
}

// TestUpdaterDoesNothingThatIsNotSaved: without a durable state nothing is fetched, installed or restarted.
func TestUpdaterDoesNothingThatIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		o := b.options()
		o.Facts = func() Facts {
			return Facts{Window: true, Linked: true, Want: &Order{ID: "one", Bundle: "https://updates.example.org/x.skidx"}}
		}
		o.Download = func(context.Context, string, string, func(int)) (string, error) {
			t.Error("the download began before the state was saved")
			return "", errors.New("no")
		}
		u, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		if err := u.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "save the state of updates") {
			t.Errorf("Run gives %v", err)
		}
	})
}

func TestDamagedStateIsSetAside(t *testing.T) {
	b := newBench(t)
	u, err := New(b.options())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, stateFile)
	for _, text := range []string{"", "{", `{"phase":"Flying"}`, `{"phase":"Trying","from":"A","to":"A"}`, `{"confirmed":"Z"}`, strings.Repeat(" ", maxState+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := u.load(); err != nil || s.Phase != "" {
			t.Errorf("%.20q was read as %+v, %v", text, s, err)
		}
		if _, err := os.Stat(path + ".damaged"); err != nil {
			t.Errorf("%.20q was not set aside: %v", text, err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"phase":"Trying","from":"A","to":"B","order":{"id":"x","bundle":"/y"},"failed":[{"version":"1","reason":"r","tried":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		m := NewMachine(policy(), s)
		now := time.Unix(1e9, 0)
		m.Step(Started{Slot: bootenv.A, BootID: "x", Version: "1"}, now)
		for range 3 {
			now = now.Add(time.Minute)
			m.Step(Tick{Facts{Window: true, Want: &Order{ID: "o", Bundle: "/b"}}}, now)
		}
		if _, err := json.Marshal(m.State()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStatusOnTheWire: what the agent says is what skerryctl reads.
func TestStatusOnTheWire(t *testing.T) {
	b, err := json.Marshal(Status{
		Phase: Trying, Message: "m", Percent: 7, Slot: bootenv.B, Running: "1.1", Version: "1.2", Order: "o", Result: "r",
		Failed: []Failure{{Version: "1.0", Bundle: "b", Reason: "f", At: time.Unix(1e9, 0).UTC(), Tried: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got wire.UpdateStatus
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(b) {
		t.Errorf("%s came back as %s (%v)", b, again, err)
	}
}

// TestUpdaterTakesNoOrders: switched off, it confirms the slot that runs, and that is all.
func TestUpdaterTakesNoOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if err := Place(b.dir, Order{ID: "local-1", Bundle: "/no/such/stick/update.raucb"}); err != nil {
			t.Fatal(err)
		}
		o := b.options()
		o.Closed = true
		u, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := u.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if s := u.Status(); b.env.Confirmed != bootenv.A || s.Result != "" || s.Phase != Idle {
			t.Errorf("%+v, %+v", b.env, s)
		}
	})
}

// TestFullDiskDoesNotKeepABadSystem: the way back needs no disk.
func TestFullDiskDoesNotKeepABadSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.slot, b.down = bootenv.B, make(chan struct{})
		o := b.options()
		began := time.Now()
		o.Facts = func() Facts { return Facts{Up: time.Since(began), Unhealthy: []string{"store: the disk is full"}} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		o.Reboot = func(context.Context) error { cancel(); return nil }
		u, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		state := []byte(`{"phase":"Rebooting","from":"A","to":"B","version":"1.1","bootID":"before"}`)
		if err := os.WriteFile(filepath.Join(b.dir, stateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
		u.o.Tell = func(_ bool, reason, _ string) {
			if reason == "UpdateTrying" {
				if err := os.RemoveAll(b.dir); err != nil {
					t.Error(err)
				}
			}
		}
		if err := u.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); b.env.Good(bootenv.B) || took >= time.Hour {
			t.Errorf("after %v: %+v", took, b.env)
		}
	})
}
