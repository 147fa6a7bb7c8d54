package dmi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

func TestNoMapper(t *testing.T) {
	inWorld(t, Options{BuiltIn: []string{"modbus"}}, func(w *world) {
		w.keep(testDevice("a", "p"))
		s := w.open("a")
		v, err := w.read(s, "p")
		if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), `no mapper for protocol "weather" has registered`) || v.Quality != device.Bad {
			t.Errorf("%v, %v", v, err)
		}
		if err := w.Report(fromMapper, "default", "a", nil); !errors.Is(err, ErrStopped) {
			t.Errorf("report without a mapper: %v", err)
		}
		if w.Driver("MODBUS") != nil || w.Driver("") != nil {
			t.Error("a mapper may have a protocol that is built in")
		}
		if w.Driver("weather") != w.Driver("Weather") {
			t.Error("one protocol has two drivers: every change would open the session again")
		}
		for _, wrong := range []Registration{{}, {Name: "m"}, {Name: "m", Protocol: "a b"}, {Name: "m\n", Protocol: "x"}, {Name: "m", Protocol: strings.Repeat("x", 200)}} {
			if _, _, err := w.Register(wrong, true, nil); !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		if _, _, err := w.Register(Registration{Name: "m", Protocol: "Modbus"}, true, nil); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "built into") {
			t.Errorf("a protocol that is built in: %v", err)
		}
	})
}

// TestLife registers a mapper, and changes, writes and removes its device: never a removal and a registration for a change.
func TestLife(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.Synced()
		f := newFake()
		w.register("one", f, true)
		d, m := testDevice("a", "p", "q")
		w.keep(d, m)
		wantCalls(t, f) // not before the host has said what is wanted
		s := w.open("a", device.Write{Point: intPoint("p"), Value: device.Int(5)})
		wantCalls(t, f, "create model m-a", "register a")
		if got := f.desired("a", "p"); got != "5" {
			t.Errorf("desired value %q", got)
		}
		d.Config = map[string]any{"port": int64(8)}
		w.keep(d, m)
		wantCalls(t, f, "update a")
		w.keep(d, m)
		wantCalls(t, f)
		m.Properties[0].Maximum = "9"
		w.keep(d, Model{Namespace: m.Namespace, Name: m.Name, Properties: append([]ModelProperty(nil), m.Properties...)})
		wantCalls(t, f, "update model m-a")
		if err := s.Close(); err != nil {
			w.t.Fatal(err)
		}
		s = w.open("a", device.Write{Point: intPoint("p"), Value: device.Int(5)}) // the host opened it again
		wantCalls(t, f)
		w.Drop("default", "a")
		wantCalls(t, f, "remove a", "remove model m-a")
		_ = s.Close()
	})
}

func TestWrite(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := newFake()
		w.register("one", f, true)
		w.keep(testDevice("a", "p", "q"))
		s := w.open("a")
		synctest.Wait()
		go func() {
			time.Sleep(500 * time.Millisecond)
			w.report("a", "p", "6") // still the old one
			time.Sleep(500 * time.Millisecond)
			w.report("a", "p", "7")
		}()
		r := s.Write(w.t.Context(), []device.Write{{Point: intPoint("p"), Value: device.Int(7)}})
		if r[0].Err != nil || !r[0].Verified || r[0].Readback.Text() != "7" || f.desired("a", "p") != "7" {
			t.Errorf("%+v", r)
		}
		r = s.Write(w.t.Context(), []device.Write{{Point: intPoint("q"), Value: device.Int(1)}})
		if r[0].Err != nil || r[0].Verified || f.desired("a", "q") != "1" || f.desired("a", "p") != "7" {
			t.Errorf("not reported: %+v", r)
		}
		f.set(func() { f.refuse = "a" })
		if r = s.Write(w.t.Context(), []device.Write{{Point: intPoint("q"), Value: device.Int(2)}}); r[0].Err == nil || !strings.Contains(r[0].Err.Error(), "no such bus") {
			t.Errorf("refused: %+v", r)
		}
		f.set(func() { f.refuse, f.wedged = "", true })
		if r = s.Write(w.t.Context(), []device.Write{{Point: intPoint("q"), Value: device.Int(3)}}); !errors.Is(r[0].Err, device.ErrUnreachable) {
			t.Errorf("wedged: %+v", r)
		}
		f.set(func() { f.wedged = false })
		settle(time.Minute)
		if got := f.desired("a", "q"); got != "3" {
			t.Errorf("the value is %q once the mapper is back", got)
		}
		_ = s.Close()
	})
}

// TestWedged has one mapper that accepts calls and never answers, beside one that works.
func TestWedged(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		bad, good := newFake(), newFake()
		bad.wedged = true
		w.register("bad", bad, true)
		other := registration("good", good)
		other.Protocol = "tide"
		if _, _, err := w.Register(other, true, nil); err != nil {
			w.t.Fatal(err)
		}
		w.keep(testDevice("a", "p"))
		d, m := testDevice("b", "p")
		d.Protocol = "tide"
		w.keep(d, m)
		s := w.open("a")
		b, err := w.Driver("tide").Open(w.t.Context(), device.Config{Device: "default/b"})
		if err != nil {
			w.t.Fatal(err)
		}
		b.(*session).Follow(nil)
		wantCalls(t, good, "create model m-b", "register b")
		var heard []device.Value
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error)
		go func() {
			done <- s.Subscribe(ctx, []device.Point{intPoint("p")}, func(_ int, v device.Value) { heard = append(heard, v) })
		}()
		settle(6 * time.Second)
		_, err = w.read(s, "p")
		if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), `mapper "bad"`) || !strings.Contains(err.Error(), "CreateDeviceModel") || !strings.Contains(err.Error(), "restart it") {
			t.Errorf("%v", err)
		}
		if len(heard) == 0 || heard[len(heard)-1].Quality != device.Bad {
			t.Errorf("the subscription heard %+v", heard)
		}
		first := err.Error()
		settle(2 * time.Minute)
		if _, err := w.read(s, "p"); err == nil || err.Error() != first {
			t.Errorf("the reason changes although nothing else does: %v", err)
		}
		if n := len(bad.took()); n < 3 || n > 12 {
			t.Errorf("%d calls in two minutes", n)
		}
		w.report("b", "p", "3")
		if v, err := w.read(b.(*session), "p"); err != nil || v.Text() != "3" || v.Quality != device.Good {
			t.Errorf("the other mapper's device: %v, %v", v, err)
		}
		bad.set(func() { bad.wedged = false })
		settle(time.Minute)
		if _, err := w.read(s, "p"); err != nil {
			t.Errorf("it answers again: %v", err)
		}
		wantCalls(t, bad, "create model m-a", "register a")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the subscription ended with %v", err)
		}
		_, _ = s.Close(), b.Close()
	})
}

// TestMapperRestarts registers again: it gets everything, with what was written at the gateway.
func TestMapperRestarts(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := newFake()
		w.register("one", f, true)
		w.keep(testDevice("a", "p"))
		s := w.open("a")
		synctest.Wait()
		w.report("a", "p", "1")
		s.Write(w.t.Context(), []device.Write{{Point: intPoint("p"), Value: device.Int(9)}})
		again := newFake()
		models, devices := w.register("one", again, true)
		if len(models) != 1 || len(devices) != 1 || devices[0].Properties[0].Desired != "9" {
			t.Fatalf("%+v %+v", models, devices)
		}
		again.set(func() { again.devices["a"], again.models["default/m-a"] = devices[0], models[0] })
		wantCalls(t, again)
		if v, err := w.read(s, "p"); err != nil || v.Quality != device.Uncertain || v.Text() != "1" {
			t.Errorf("a value from before the restart: %+v, %v", v, err)
		}
		w.report("a", "p", "9")
		if v, err := w.read(s, "p"); err != nil || v.Quality != device.Good {
			t.Errorf("%+v, %v", v, err)
		}
		third := newFake()
		if models, devices := w.register("one", third, false); models != nil || devices != nil {
			t.Error("it did not want data")
		}
		wantCalls(t, third, "update model m-a", "create model m-a", "register a")
		_ = s.Close()
	})
}

// TestAgentRestarts takes over a mapper that does not register again, as KubeEdge's framework does not.
func TestAgentRestarts(t *testing.T) {
	var kept []Saved
	f := newFake()
	inWorld(t, Options{Save: func(s []Saved) error { kept = s; return nil }}, func(w *world) {
		w.register("one", f, true)
		for _, name := range []string{"a", "b", "c"} {
			w.keep(testDevice(name, "p"))
			defer w.open(name).Close() //nolint:errcheck // it is a fake's
		}
		synctest.Wait()
		f.took()
	})
	if len(kept) != 1 || len(kept[0].Devices) != 3 || kept[0].Name != "one" {
		t.Fatalf("saved: %+v", kept)
	}
	inWorld(t, Options{}, func(w *world) {
		w.Restore(kept[0], f, nil)
		w.keep(testDevice("a", "p")) // as it was; b has another property; c is gone
		w.keep(testDevice("b", "p", "q"))
		settle(time.Second)
		wantCalls(t, f)           // before the host has said what is wanted
		defer w.open("a").Close() //nolint:errcheck // it is a fake's
		defer w.open("b").Close() //nolint:errcheck // it is a fake's
		settle(time.Second)
		wantCalls(t, f, "update model m-a", "update model m-b", "update b")
		w.Synced()
		wantCalls(t, f, "remove c", "remove model m-c")
	})
}

func TestTakenAndDenied(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := newFake()
		w.register("one", f, true)
		w.keep(testDevice("a", "p"))
		s := w.open("a")
		synctest.Wait()
		if _, _, err := w.Register(registration("two", newFake()), true, nil); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), `"one"`) {
			t.Errorf("a second mapper: %v", err)
		}
		thief := registration("one", newFake())
		thief.Caller = Caller{6}
		if _, _, err := w.Register(thief, true, nil); !errors.Is(err, ErrTaken) {
			t.Errorf("another user: %v", err)
		}
		if err := w.Report(Caller{6}, "default", "a", nil); !errors.Is(err, ErrDenied) {
			t.Errorf("a report of another user: %v", err)
		}
		if err := w.Report(fromMapper, "default", "x", nil); !errors.Is(err, ErrNoDevice) {
			t.Errorf("an unknown device: %v", err)
		}
		f.set(func() { f.gone = true })
		settle(20 * time.Second)
		w.register("two", newFake(), true) // the first one is gone
		_ = s.Close()
	})
}

func TestReports(t *testing.T) {
	inWorld(t, Options{MaxReports: 100}, func(w *world) {
		w.register("one", newFake(), true)
		w.keep(testDevice("a", "p", "q"))
		s := w.open("a")
		synctest.Wait()
		var heard []string
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error)
		go func() {
			done <- s.Subscribe(ctx, []device.Point{intPoint("p"), intPoint("q")}, func(i int, v device.Value) { heard = append(heard, fmt.Sprintf("%d%s", i, v.Text())) })
		}()
		synctest.Wait()
		for i := range 200 {
			w.report("a", "p", fmt.Sprint(i))
		}
		for i, h := range heard {
			if h != fmt.Sprintf("0%d", i) {
				t.Errorf("report %d came as %q", i, h)
			}
		}
		if len(heard) != 200 {
			t.Errorf("%d reports came through", len(heard))
		}
		err := w.Report(fromMapper, "default", "a", []Twin{{Property: "p", Value: "1", Reported: true}})
		if !errors.Is(err, ErrTooMany) || !strings.Contains(err.Error(), "100 reports a second (dmi.maxReports)") {
			t.Errorf("the 201st at once: %v", err)
		}
		settle(time.Second)
		err = w.Report(fromMapper, "default", "a", []Twin{{Property: "x", Value: "1", Reported: true}, {Property: "q", Value: "8", Reported: true}, {Property: "p"}})
		if v, _ := w.read(s, "q"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"x"`) || v.Text() != "8" {
			t.Errorf("a property that there is not: %v; the other is %v", err, v)
		}
		w.report("a", "p", "many")
		if v, _ := w.read(s, "p"); v.Quality != device.Bad || !strings.Contains(v.Reason, "not an INT") {
			t.Errorf("%+v", v)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the subscription ended with %v", err)
		}
		_ = s.Close()
	})
}

func TestStates(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.register("one", newFake(), true)
		w.keep(testDevice("a", "p"))
		s := w.open("a")
		synctest.Wait()
		w.report("a", "p", "1")
		state := func(text string) error { return w.State(fromMapper, "default", "a", text) }
		if err := state("offline"); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.read(s, "p"); !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), "offline") {
			t.Errorf("offline: %v", err)
		}
		if err := state("Unhealthy"); err != nil {
			w.t.Fatal(err)
		}
		if v, err := w.read(s, "p"); err != nil || v.Quality != device.Bad || !strings.Contains(v.Reason, "unhealthy") {
			t.Errorf("unhealthy: %+v, %v", v, err)
		}
		if err := state("OK"); err != nil {
			w.t.Fatal(err)
		}
		if v, err := w.read(s, "p"); err != nil || v.Quality != device.Good {
			t.Errorf("ok: %+v, %v", v, err)
		}
		if err := state("sleepy"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "unhealthy") {
			t.Errorf("%v", err)
		}
		_ = s.Close()
	})
}

func TestLimits(t *testing.T) {
	inWorld(t, Options{MaxDevices: 2}, func(w *world) {
		f := newFake()
		w.register("one", f, true)
		sessions := map[string]*session{}
		for _, name := range []string{"a", "b", "c"} {
			w.keep(testDevice(name, "p"))
			sessions[name] = w.open(name)
			synctest.Wait()
		}
		if _, err := w.read(sessions["c"], "p"); err == nil || !strings.Contains(err.Error(), "dmi.maxDevices") {
			t.Errorf("the third device: %v", err)
		}
		w.Synced()
		w.Drop("default", "a")
		settle(time.Second)
		if _, err := w.read(sessions["c"], "p"); err != nil {
			t.Errorf("there is room: %v", err)
		}
		for _, s := range sessions {
			_ = s.Close()
		}
	})
}

// TestRoom gives what fits in the answer, and sends the rest.
func TestRoom(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		for _, name := range []string{"a", "b"} {
			w.keep(testDevice(name, "p"))
			s := w.open(name)
			defer s.Close() //nolint:errcheck // it is a fake's
		}
		f := newFake()
		models, devices, err := w.Register(registration("one", f), true, func(_ []Model, d []Device) bool { return len(d) < 2 })
		if err != nil || len(models) != 1 || len(devices) != 1 {
			t.Fatal(models, devices, err)
		}
		wantCalls(t, f, "create model m-b", "register b")
	})
}
