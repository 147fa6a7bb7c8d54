package devicetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/mappers/device"
)

// Subject is a driver with a device for it. New is called for each case, with a device that answers.
type Subject struct {
	Driver device.Driver
	Config device.Config
	Read   []device.PointConfig // at least one; the device answers them
	Write  device.PointConfig   // can be written and read back
	Values [2]device.Value      // two values for Write
	// Kill makes the device refuse or drop everything; Revive undoes Kill, Hang and Flood.
	Kill, Revive func()
	// Hang makes the device accept connections and requests and not answer.
	Hang func()
	// Flood makes the device send without end, also unasked; nil for a driver without a peer.
	Flood func()
	// Traffic returns how many connections and writes the device has seen so far; nil if it cannot tell.
	Traffic func() (connections, writes int)
	// BadConfigs and BadVisitors are refused, naming the field.
	BadConfigs  []Bad
	BadVisitors []Bad
	// Recovery bounds how long the driver may take to notice that the device is back.
	Recovery time.Duration
}

// Bad is a configuration that must be refused.
type Bad struct {
	Name string
	Data map[string]any
	// Field is the configData field that the error must name.
	Field string
}

// grace is how long after its context a call may return.
const grace = 500 * time.Millisecond

// Run checks that a driver keeps the contract of package device.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"reads and writes", testReadWrite},
		{"bad configuration is refused, naming the field", testBad},
		{"a cancelled call returns in time", testCancel},
		{"a dead peer is an error, and its return is noticed", testReconnect},
		{"a half-dead peer does not block", testHang},
		{"concurrent use", testConcurrent},
		{"close interrupts, and can be repeated", testClose},
		{"a new session takes over, and neighbours notice nothing", testSuccession},
		{"a changed manifest touches only what changed", testChange},
		{"batches of any size", testBatch},
		{"a peer that floods is bounded", testFlood},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Registered before the subject's own clean-ups, so it runs after them.
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) })
			c.run(t, subject(t))
		})
	}
}

// readAll reads all points and fails unless every value is good.
func readAll(ctx context.Context, session device.Session, points []device.Point) error {
	values := make([]device.Value, len(points))
	if err := session.Read(ctx, points, values); err != nil {
		return err
	}
	for i, v := range values {
		if v.Quality != device.Good || v.Kind() == device.KindNone {
			return errors.New(points[i].String() + ": " + v.Quality.String() + ": " + v.Reason)
		}
		if v.Server.IsZero() {
			return errors.New(points[i].String() + ": no timestamp")
		}
	}
	return nil
}

func testReadWrite(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	if err := readAll(t.Context(), session, Compile(t, s.Driver, s.Read...)); err != nil {
		t.Fatalf("Read: %v", err)
	}
	target := Compile(t, s.Driver, s.Write)
	for _, v := range s.Values {
		res := session.Write(t.Context(), []device.Write{{Point: target[0], Value: v}})
		if len(res) != 1 || res[0].Err != nil || !res[0].Verified {
			t.Fatalf("Write(%s): %+v", v.Text(), res)
		}
		got := make([]device.Value, 1)
		if err := session.Read(t.Context(), target, got); err != nil {
			t.Fatalf("Read after Write: %v", err)
		}
		if got[0].Text() != v.Text() || res[0].Readback.Text() != v.Text() {
			t.Errorf("wrote %s, read-back %s, then read %s", v.Text(), res[0].Readback.Text(), got[0].Text())
		}
	}
	if err := session.Read(t.Context(), nil, nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func testBad(t *testing.T, s Subject) {
	if len(s.Driver.Protocols()) == 0 {
		t.Error("the driver has no protocol name")
	}
	for _, b := range s.BadConfigs {
		err := s.Driver.Check(device.Config{Device: "ns/dev", Protocol: b.Data})
		expectField(t, "Check", b, err)
		if session, err := s.Driver.Open(t.Context(), device.Config{Device: "ns/dev", Protocol: b.Data}); err == nil {
			t.Errorf("Open accepted %s", b.Name)
			_ = session.Close()
		}
	}
	for _, b := range s.BadVisitors {
		cfg := s.Write
		cfg.Path, cfg.Visitor = "spec.properties[p].visitors.configData", b.Data
		_, err := s.Driver.Compile(cfg)
		expectField(t, "Compile", b, err)
	}
}

func expectField(t *testing.T, what string, b Bad, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s accepted %s", what, b.Name)
		return
	}
	for _, fe := range device.FieldErrors(err) {
		if len(fe.Field) > len(b.Field) && fe.Field[len(fe.Field)-len(b.Field)-1:] == "."+b.Field {
			return
		}
	}
	t.Errorf("%s: %s: the error does not name field %q: %v", what, b.Name, b.Field, err)
}

func testCancel(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	s.Hang()
	defer s.Revive()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	values := make([]device.Value, len(points))
	err := session.Read(ctx, points, values)
	if err == nil {
		t.Error("Read of a hanging device returned no error")
	}
	for i, v := range values {
		if v.Quality != device.Bad || v.Reason == "" {
			t.Errorf("value %d of a failed read is %s with reason %q", i, v.Quality, v.Reason)
		}
	}
	res := session.Write(ctx, []device.Write{{Point: Compile(t, s.Driver, s.Write)[0], Value: s.Values[0]}})
	if len(res) != 1 || res[0].Err == nil {
		t.Errorf("Write with an ended context: %+v", res)
	}
	if took := time.Since(start); took > grace {
		t.Errorf("calls returned %v after a context of 30 ms", took)
	}
}

// expectRecovery waits until the device can be read again.
func expectRecovery(t *testing.T, s Subject, session device.Session, points []device.Point) {
	t.Helper()
	deadline := time.Now().Add(s.Recovery)
	for {
		err := readAll(t.Context(), session, points)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the device is back for %v, and Read says: %v", s.Recovery, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func testReconnect(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	if err := readAll(t.Context(), session, points); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	err := session.Read(t.Context(), points, make([]device.Value, len(points)))
	if !errors.Is(err, device.ErrUnreachable) {
		t.Errorf("Read of a dead device: %v; it does not wrap ErrUnreachable", err)
	}
	res := session.Write(t.Context(), []device.Write{{Point: Compile(t, s.Driver, s.Write)[0], Value: s.Values[0]}})
	if !errors.Is(res[0].Err, device.ErrUnreachable) {
		t.Errorf("Write to a dead device: %v; it does not wrap ErrUnreachable", res[0].Err)
	}
	s.Revive()
	expectRecovery(t, s, session, points)
}

func testHang(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	if err := readAll(t.Context(), session, points); err != nil {
		t.Fatal(err)
	}
	s.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := session.Read(ctx, points, make([]device.Value, len(points))); !errors.Is(err, device.ErrUnreachable) {
		t.Errorf("Read of a half-dead device: %v; it does not wrap ErrUnreachable", err)
	}
	s.Revive()
	expectRecovery(t, s, session, points)
}

func testConcurrent(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	other := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	target := Compile(t, s.Driver, s.Write)[0]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			use := session
			if i%2 == 1 {
				use = other
			}
			for range 10 {
				if err := readAll(t.Context(), use, points); err != nil {
					t.Errorf("Read: %v", err)
				}
				if i > 5 {
					// Two writers with different values: only what was accepted matters here, the other may win.
					res := use.Write(t.Context(), []device.Write{{Point: target, Value: s.Values[i%2]}})
					if err := res[0].Err; err != nil && !errors.Is(err, device.ErrNotVerified) {
						t.Errorf("Write: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func testClose(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	if err := readAll(t.Context(), session, points); err != nil {
		t.Fatal(err)
	}
	s.Hang()
	defer s.Revive()
	result := make(chan error, 1)
	go func() { result <- session.Read(t.Context(), points, make([]device.Value, len(points))) }()
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	if err := session.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-result; err == nil {
		t.Error("a Read that Close interrupted returned no error")
	}
	if took := time.Since(start); took > grace {
		t.Errorf("Close took %v", took)
	}
	if err := session.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := session.Read(t.Context(), points, make([]device.Value, len(points))); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	res := session.Write(t.Context(), []device.Write{{Point: Compile(t, s.Driver, s.Write)[0], Value: s.Values[0]}})
	if !errors.Is(res[0].Err, device.ErrClosed) {
		t.Errorf("Write after Close: %v", res[0].Err)
	}
}
