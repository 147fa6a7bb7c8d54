package devicetest

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// testSuccession: a device whose configuration changes is opened anew before or after the old session is closed; neither the
// new session nor a neighbour on the same bus may notice.
func testSuccession(t *testing.T, s Subject) {
	neighbour := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	old := Open(t, s.Driver, s.Config)
	for i := range 10 {
		next := Open(t, s.Driver, s.Config)
		if err := old.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for who, session := range map[string]device.Session{"the new session": next, "a neighbour": neighbour} {
			if err := readAll(t.Context(), session, points); err != nil {
				t.Fatalf("%s, after %d successions: %v", who, i, err)
			}
		}
		old = next
	}
}

// testBatch: the same points many times in one batch are all served, and a driver that keeps plans keeps few of them.
func testBatch(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	few := Compile(t, s.Driver, s.Read...)
	var many []device.Point
	for len(many) < 200 {
		many = append(many, few...)
	}
	for n := len(many); n > 0; n -= 7 { // each another batch
		if err := readAll(t.Context(), session, many[:n]); err != nil {
			t.Fatalf("a batch of %d points: %v", n, err)
		}
	}
}

// floodLimit is how much memory a peer that floods may cost.
const floodLimit = 4 << 20

// testFlood: a device that sends without end costs its own values and a bounded amount of memory, and calls return in time.
func testFlood(t *testing.T, s Subject) {
	if s.Flood == nil {
		return // there is nothing to flood: the driver has no peer of its own
	}
	session := Open(t, s.Driver, s.Config)
	points := Compile(t, s.Driver, s.Read...)
	if err := readAll(t.Context(), session, points); err != nil {
		t.Fatal(err)
	}
	before := heap()
	s.Flood()
	values := make([]device.Value, len(points))
	const patience = 40 * time.Millisecond
	for range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		start := time.Now()
		err := session.Read(ctx, points, values)
		if took := time.Since(start); took > patience+grace {
			t.Errorf("a call returned %v after a context of %v", took, patience)
		}
		cancel()
		for i, v := range values {
			if err != nil && v.Quality == device.Good {
				t.Errorf("%s of a flooding device is good: %s", points[i], v.Text())
			}
		}
		time.Sleep(patience / 4)
	}
	if after := heap(); after > before+floodLimit {
		t.Errorf("a flooding device cost %d KiB of memory", (after-before)>>10)
	}
	s.Revive()
	expectRecovery(t, s, session, points)
}

// heap is what is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
